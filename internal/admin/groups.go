package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Member is one process in a group.
type Member struct {
	Instance   string  `json:"instance"` // engine.instance_id; a static member stays until its session has timed out
	Host       string  `json:"host"`
	Partitions []int32 `json:"partitions"` // numbers that it has of every input
}

// GroupState is what Kafka knows of one group.
type GroupState struct {
	Group   string        `json:"group"`
	State   string        `json:"state"` // as Kafka names it: Stable, PreparingRebalance, CompletingRebalance, Empty, Dead
	Members []Member      `json:"members"`
	Records int64         `json:"records"` // that wait on all partitions together
	Behind  time.Duration `json:"-"`       // age of the first that waits
	Seconds float64       `json:"seconds"` // Behind
}

// everyGroup is every group of the map, and the relay.
func everyGroup() []string {
	names := make([]string, 0, len(topology.Groups)+1)
	for _, g := range topology.Groups {
		names = append(names, g.Name)
	}
	return append(names, "relay")
}

// Groups tells of groups who is in them, and how far behind they are; no name means every group of the map and the relay.
func (c *Client) Groups(ctx context.Context, names ...string) ([]GroupState, error) {
	if len(names) == 0 {
		names = everyGroup()
	}
	described, err := c.describeGroups(ctx, names...)
	if err != nil {
		return nil, err
	}
	lags, err := c.Lag(ctx, names...)
	if err != nil {
		return nil, err
	}
	all := make([]GroupState, 0, len(names))
	for _, name := range names {
		g := described[name]
		s := GroupState{Group: name, State: g.State, Members: membersOf(g)}
		if s.State == "" {
			s.State = "Dead"
		}
		for _, l := range lags {
			if l.Group == name {
				s.Records += l.Records
				s.Behind = max(s.Behind, l.Behind)
			}
		}
		s.Seconds = s.Behind.Seconds()
		all = append(all, s)
	}
	return all, nil
}

// describeGroups asks Kafka for groups; one that never was is not in the answer.
func (c *Client) describeGroups(ctx context.Context, names ...string) (kadm.DescribedGroups, error) {
	all, err := c.admin.DescribeGroups(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("describe the groups: %w", err)
	}
	for name, g := range all {
		if g.Err != nil && !errors.Is(g.Err, kerr.GroupIDNotFound) {
			return nil, fmt.Errorf("describe group %s: %w", name, g.Err)
		}
	}
	return all, nil
}

// membersOf lists a group's members by instance.
func membersOf(g kadm.DescribedGroup) []Member {
	members := make([]Member, 0, len(g.Members))
	for i := range g.Members {
		m := &g.Members[i]
		out := Member{Host: m.ClientHost, Partitions: []int32{}}
		if m.InstanceID != nil {
			out.Instance = *m.InstanceID
		}
		if a, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range a.Topics {
				out.Partitions = append(out.Partitions, t.Partitions...)
			}
			slices.Sort(out.Partitions)
			out.Partitions = slices.Compact(out.Partitions)
		}
		members = append(members, out)
	}
	sort.Slice(members, func(i, j int) bool { return members[i].Instance < members[j].Instance })
	return members
}

// Leaving is what a drain does in one group.
type Leaving struct {
	Group      string  `json:"group"`
	Partitions []int32 `json:"partitions"` // that others get
	Others     int     `json:"others"`     // members that stay
}

// PlanDrain lists the groups that an instance is a member of.
func (c *Client) PlanDrain(ctx context.Context, instance string) ([]Leaving, error) {
	described, err := c.describeGroups(ctx, everyGroup()...)
	if err != nil {
		return nil, err
	}
	var all []Leaving
	for _, name := range everyGroup() {
		members := membersOf(described[name])
		for _, m := range members {
			if m.Instance == instance && instance != "" {
				all = append(all, Leaving{name, m.Partitions, len(members) - 1})
			}
		}
	}
	return all, nil
}

// Drain ends an instance's membership of groups for good: its partitions go to the others at once, in place of when its session
// times out. The instance must have been stopped; one that still runs would come back.
func (c *Client) Drain(ctx context.Context, instance string, plan []Leaving) error {
	for _, l := range plan {
		answers, err := c.admin.LeaveGroup(ctx, kadm.LeaveGroup(l.Group).InstanceIDs(instance).Reason("drained by an operator"))
		if err == nil {
			err = answers.Error()
		}
		if err != nil && !errors.Is(err, kerr.UnknownMemberID) { // gone meanwhile
			return fmt.Errorf("take %s out of group %s: %w", instance, l.Group, err)
		}
	}
	return nil
}

// notRebuilt says of each group why its table cannot be made again out of its inputs; a group that is not named can.
var notRebuilt = map[string]string{
	topology.Catalog.Name:      answersAgain,
	topology.Trust.Name:        answersAgain,
	topology.Subscription.Name: answersAgain,
	topology.Consent.Name:      answersAgain,
	topology.Replay.Name:       answersAgain,
	topology.Profile.Name:      "it would publish every admitted event again, and admitted is kept for 7 days alone",
	topology.Router.Name:       "it owns no table; what it has delivered is sent again by civicbus replay",
	topology.Audit.Name:        "its log is a chain: entries would be written a second time",
}

const answersAgain = "every command would be carried out on today's state and answered a second time; its table topic is the record, kept for ever"

var (
	// ErrNotRebuilt says that a group's table cannot be made again out of its inputs.
	ErrNotRebuilt = errors.New("the table of this group cannot be rebuilt")
	// ErrRuns says that a group still has members.
	ErrRuns = errors.New("the group still runs")
)

// Rebuild is how a group's table is made again out of what is kept of its inputs.
type Rebuild struct {
	Group   string   `json:"group"`
	Rows    int      `json:"rows"`    // of the table, which are dropped
	Records int64    `json:"records"` // offsets of the inputs that are read again
	Expired []string `json:"expired"` // inputs of which not everything is kept any more: what expired does not count again
	Members []string `json:"members"` // instances that still run; the group must be stopped first

	table  string
	keys   []rowAt
	inputs kadm.Offsets
}

type rowAt struct {
	key       string
	partition int32
}

// PlanRebuild looks at what rebuilding a group's table takes; ErrNotRebuilt names why a group cannot be.
func (c *Client) PlanRebuild(ctx context.Context, name string) (*Rebuild, error) {
	g, ok := topology.GroupByName(name)
	switch why := notRebuilt[name]; {
	case !ok:
		return nil, fmt.Errorf("%w: there is no group %q on the map", ErrNotRebuilt, name)
	case why != "":
		return nil, fmt.Errorf("%w: %s: %s", ErrNotRebuilt, name, why)
	case len(g.Out)+len(g.OutEach) > 0 || g.Table == "":
		return nil, fmt.Errorf("%w: %s: it writes more than its table", ErrNotRebuilt, name)
	}
	r := &Rebuild{Group: name, table: topology.TableTopic(name), inputs: kadm.Offsets{}, Expired: []string{}, Members: []string{}}
	described, err := c.describeGroups(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, m := range membersOf(described[name]) {
		r.Members = append(r.Members, m.Instance)
	}
	rows := map[rowAt]bool{}
	spans, err := c.whole(ctx, r.table)
	if err != nil {
		return nil, err
	}
	for _, s := range spans {
		for rec, err := range c.read(ctx, s) {
			if err != nil {
				return nil, err
			}
			if at := (rowAt{string(rec.Key), s.partition}); rec.Value == nil {
				delete(rows, at)
			} else {
				rows[at] = true
			}
		}
	}
	for at := range rows {
		r.keys = append(r.keys, at)
	}
	r.Rows = len(r.keys)
	for _, in := range g.In {
		spans, err := c.whole(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		for _, s := range spans {
			r.Records += s.to - s.from
			r.inputs.AddOffset(s.topic, s.partition, s.from, -1)
			if s.from > 0 && !slices.Contains(r.Expired, s.topic) {
				r.Expired = append(r.Expired, s.topic)
			}
		}
	}
	if g.Loop.Name != "" { // what is on its way to the rows that are dropped comes again from the inputs
		spans, err := c.whole(ctx, g.Loop.Name)
		if err != nil {
			return nil, err
		}
		for _, s := range spans {
			r.inputs.AddOffset(s.topic, s.partition, s.to, -1)
		}
	}
	return r, nil
}

// Rebuild drops the rows of a group's table and makes the group begin its inputs anew, when it is started again. The group must
// be stopped: ErrRuns. Done twice it does no harm.
func (c *Client) Rebuild(ctx context.Context, r *Rebuild) error {
	if len(r.Members) > 0 {
		return fmt.Errorf("%w: stop %s, or drain it when it is stopped", ErrRuns, strings.Join(r.Members, ", "))
	}
	// The offsets first: Kafka refuses them while somebody is a member, and then nothing was dropped.
	if err := c.admin.CommitAllOffsets(ctx, r.Group, r.inputs); err != nil {
		if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.IllegalGeneration) {
			return fmt.Errorf("%w: %w", ErrRuns, err)
		}
		return fmt.Errorf("set the offsets of group %s: %w", r.Group, err)
	}
	producer, err := c.cfg.Connection.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer producer.Close()
	gone := make([]*kgo.Record, 0, len(r.keys))
	for _, at := range r.keys {
		gone = append(gone, &kgo.Record{Topic: r.table, Partition: at.partition, Key: []byte(at.key)})
	}
	if err := producer.ProduceSync(ctx, gone...).FirstErr(); err != nil {
		return fmt.Errorf("drop the rows of %s: %w", r.table, err)
	}
	return nil
}
