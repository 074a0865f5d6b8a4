package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
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

// instances lists who is a member of a group.
func (c *Client) instances(ctx context.Context, group string) ([]string, error) {
	described, err := c.describeGroups(ctx, group)
	if err != nil {
		return nil, err
	}
	all := []string{}
	for _, m := range membersOf(described[group]) {
		all = append(all, m.Instance)
	}
	return all, nil
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
