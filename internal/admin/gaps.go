package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Gap is where a group has stopped: what it has to read next of an input is not in its log.
type Gap struct {
	Group     string   `json:"group"`
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Next      int64    `json:"next"`    // offset that the group has to read next
	First     int64    `json:"first"`   // the first that is kept
	End       int64    `json:"end"`     // the one after the last
	Reason    string   `json:"reason"`  // expired, recreated or cut; empty: recreated or cut, which only who knows what happened can tell
	Members   []string `json:"members"` // instances that still run; the group must be stopped first
}

// ErrGapReason says that a gap's reason is not known, or cannot be the one that was named.
var ErrGapReason = errors.New("the reason of the gap")

// to is where the group goes on, and the offset after the last of the gap itself.
func (g *Gap) to() (on, end int64) {
	switch g.Reason {
	case codecs.GapExpired:
		return g.First, g.First
	case codecs.GapRecreated:
		return g.First, g.Next
	}
	return g.End, g.Next
}

// Gaps lists the gaps of groups, by group, topic and partition; no name means every group of the map and the relay. beyond is the
// reason of gaps whose next offset lies behind the end of its log, where that is known: recreated or cut.
func (c *Client) Gaps(ctx context.Context, beyond string, groups ...string) ([]Gap, error) {
	if beyond != "" && beyond != codecs.GapRecreated && beyond != codecs.GapCut {
		return nil, fmt.Errorf("%w is %q, want %s or %s", ErrGapReason, beyond, codecs.GapRecreated, codecs.GapCut)
	}
	for _, name := range groups {
		if !slices.Contains(everyGroup(), name) {
			return nil, fmt.Errorf("there is no group %q, want some of %s", name, strings.Join(everyGroup(), ", "))
		}
	}
	lags, err := c.Lag(ctx, groups...)
	if err != nil {
		return nil, err
	}
	all := []Gap{}
	members := map[string][]string{}
	for _, l := range lags {
		g := Gap{Group: l.Group, Topic: l.Topic, Partition: l.Partition, Next: l.Committed, First: l.First, End: l.Stable}
		switch {
		case g.Next < 0: // the group begins where the log does
			continue
		case l.upTo < g.First:
			g.Reason = codecs.GapExpired
		case g.Next > g.End:
			g.Reason = beyond
		default:
			continue
		}
		if members[g.Group] == nil {
			if members[g.Group], err = c.instances(ctx, g.Group); err != nil {
				return nil, err
			}
		}
		g.Members = members[g.Group]
		all = append(all, g)
	}
	return all, nil
}

// CloseGaps puts gaps on record, as an actor's, and then lets their groups go on after them, when they are started again. Nothing is done
// unless every group is stopped (ErrRuns) and every reason is known (ErrGapReason). An error between the two leaves gaps on record that
// are still there: done again it does no harm.
func (c *Client) CloseGaps(ctx context.Context, actor string, gaps []Gap) error {
	for i := range gaps {
		switch g := &gaps[i]; {
		case len(g.Members) > 0:
			return fmt.Errorf("%w: %s: stop %s, or drain it when it is stopped", ErrRuns, g.Group, strings.Join(g.Members, ", "))
		case g.Reason == "":
			return fmt.Errorf("%w of group %s in %s/%d is not known: its next offset %d lies behind the end, %d; say %s or %s", ErrGapReason, g.Group, g.Topic, g.Partition,
				g.Next, g.End, codecs.GapRecreated, codecs.GapCut)
		}
	}
	records, err := c.Records(ctx)
	if err != nil {
		return err
	}
	spans, err := c.whole(ctx, topology.CommandResults.Name)
	if err != nil {
		return err
	}
	offsets := map[string]kadm.Offsets{}
	entries := make([]*kgo.Record, 0, len(gaps))
	for i := range gaps {
		g := &gaps[i]
		on, end := g.to()
		value, err := records.CommandResult.Encode(&codecs.CommandResult{CommandID: fmt.Sprintf("gap-%s-%s-%d-%d", g.Group, g.Topic, g.Partition, g.Next), Stream: g.Group, Kind: codecs.KindGap,
			Actor: actor, Status: Accepted, Reason: g.Reason, At: codecs.Millis(time.Now()), Topic: g.Topic, Partition: g.Partition, Follows: g.Next, Offset: end - 1})
		if err != nil {
			return fmt.Errorf("put a gap on record: %w", err)
		}
		entries = append(entries, &kgo.Record{Topic: topology.CommandResults.Name, Partition: g.Partition % int32(len(spans)), Value: value})
		of := offsets[g.Group]
		if of == nil {
			of = kadm.Offsets{}
			offsets[g.Group] = of
		}
		of.AddOffset(g.Topic, g.Partition, on, -1)
	}
	producer, err := c.cfg.Connection.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer producer.Close()
	if err := producer.ProduceSync(ctx, entries...).FirstErr(); err != nil {
		return fmt.Errorf("put gaps on record: %w", err)
	}
	for group, to := range offsets {
		if err := c.setOffsets(ctx, group, to); err != nil {
			return err
		}
	}
	return nil
}
