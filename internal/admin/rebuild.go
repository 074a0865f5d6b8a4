package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

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

// setOffsets sets what a stopped group reads next, of the partitions named; ErrRuns where it is not stopped.
func (c *Client) setOffsets(ctx context.Context, group string, to kadm.Offsets) error {
	err := c.admin.CommitAllOffsets(ctx, group, to)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.IllegalGeneration):
		return fmt.Errorf("%w: %w", ErrRuns, err)
	}
	return fmt.Errorf("set the offsets of group %s: %w", group, err)
}

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
	r := &Rebuild{Group: name, table: topology.TableTopic(name), inputs: kadm.Offsets{}, Expired: []string{}}
	var err error
	if r.Members, err = c.instances(ctx, name); err != nil {
		return nil, err
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
	if err := c.setOffsets(ctx, r.Group, r.inputs); err != nil {
		return err
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
