package replay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
)

// skew is by how much the clocks of two processes may differ: a decision's time on record is its writer's.
const skew = time.Minute

// Scan fixes where a replay looks for the decisions that it goes by: for each partition of audit-decisions that it is about,
// the offsets that can hold any, up to what is there now.
func Scan(ctx context.Context, admin *kadm.Client, row *codecs.Replay) ([]codecs.OffsetRange, error) {
	starts, err := admin.ListStartOffsets(ctx, decisions)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list where %s starts: %w", decisions, err)
	}
	ends, err := admin.ListCommittedOffsets(ctx, decisions)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list where %s ends: %w", decisions, err)
	}
	at := func(millis int64) (kadm.ListedOffsets, error) {
		if millis <= 0 {
			return nil, nil
		}
		listed, err := admin.ListOffsetsAfterMilli(ctx, millis, decisions)
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("list the offsets of %s at a time: %w", decisions, err)
		}
		return listed, nil
	}
	froms, err := at(row.From - skew.Milliseconds())
	if err != nil {
		return nil, err
	}
	var tos kadm.ListedOffsets
	if row.To > 0 {
		if tos, err = at(row.To + skew.Milliseconds()); err != nil {
			return nil, err
		}
	}
	var scan []codecs.OffsetRange
	for p, start := range starts[decisions] {
		if len(row.Offsets) > 0 && !slices.ContainsFunc(row.Offsets, func(r codecs.OffsetRange) bool { return r.Partition == p }) {
			continue
		}
		end, _ := ends.Lookup(decisions, p)
		s := codecs.OffsetRange{Topic: decisions, Partition: p, From: start.Offset, To: end.Offset}
		if o, ok := froms.Lookup(decisions, p); ok {
			s.From = max(s.From, o.Offset)
		}
		if o, ok := tos.Lookup(decisions, p); ok {
			s.To = min(s.To, o.Offset)
		}
		s.To = max(s.From, s.To)
		scan = append(scan, s)
	}
	slices.SortFunc(scan, func(a, b codecs.OffsetRange) int { return int(a.Partition - b.Partition) })
	return scan, nil
}

// eventStream says whether a topic is one of the event streams.
func eventStream(topic string) bool {
	return slices.ContainsFunc(topology.EventStreams, func(s topology.Stream) bool { return s.Name == topic })
}
