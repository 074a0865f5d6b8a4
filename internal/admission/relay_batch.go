package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"civicbus/codecs"
	"civicbus/internal/flaw"
)

// resolve asks the registry for what the lanes need, before anything is begun. A lane stops at the first record that must
// wait. The tables serve only to know what to ask; Admit reads them anew. The error is the context's.
func (l *life) resolve(ctx context.Context, lanes []*lane) error {
	tables := l.cfg.Tables()
	for _, lane := range lanes {
		for i, rec := range lane.records {
			in := FromRecord(rec, organisationOf(rec.Topic))
			err := l.cfg.Resolver.Resolve(ctx, l.cfg.Door, in, tables)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, codecs.ErrUnknownSchema) && l.givenUp(in.Value) {
				in.fault("data", UnknownSchema, "the registry does not know the schema id")
				err = nil
			}
			if err != nil {
				lane.stop, lane.wait = i, l.cfg.RetryEvery
				l.cfg.Logger.Debug("inbox partition waits for the schema registry",
					"topic", lane.topic, "partition", lane.partition, "offset", rec.Offset, "error", err)
				break
			}
			lane.inputs = append(lane.inputs, in)
		}
	}
	return nil
}

// givenUp says whether the value's unknown schema id has been waited for long enough. The wait is the id's, not the
// record's: else a source with many such records would move one every ten seconds.
func (l *life) givenUp(value []byte) bool {
	id, _, err := codecs.WireID(value)
	if err != nil {
		return true
	}
	since, ok := l.unknown[id]
	if !ok {
		l.unknown[id] = time.Now()
		return false
	}
	return time.Since(since) >= l.cfg.UnknownAfter
}

// admit judges every input and gives the outputs in order. A lane stops where the tables changed since the registry was
// asked, and all stop when the transaction is full.
func (l *life) admit(ctx context.Context, lanes []*lane, tables Tables) ([]*kgo.Record, error) {
	var outputs []*kgo.Record
	size := 0
	for _, lane := range lanes {
		for i, in := range lane.inputs {
			if i == lane.stop {
				break
			}
			full := size > maxBatchBytes
			if full || !in.current(l.cfg.Door, tables) {
				lane.stop, lane.wait = i, 0
				break
			}
			traced, result := l.cfg.Door.traced(ctx, l.cfg.Tracer, in, tables, time.Now())
			records, err := l.outputs(&result)
			if err != nil {
				return nil, fmt.Errorf("write dead letter of %s/%d at %d: %w", lane.topic, lane.partition, lane.records[i].Offset, err)
			}
			for _, rec := range records {
				size += len(rec.Value)
				rec.Context = traced
			}
			outputs = append(outputs, records...)
			lane.results = append(lane.results, result)
		}
	}
	return outputs, nil
}

// outputs makes the Kafka records of a result: at least one each, so that a batch without outputs moved nothing.
func (l *life) outputs(result *Result) ([]*kgo.Record, error) {
	if result.Status != Accepted {
		rec, err := letterRecord(result, l.cfg.Letters)
		return []*kgo.Record{rec}, err
	}
	return admittedRecords(result), nil
}

// transact writes the outputs and the lanes' offsets in one transaction. committed false without an error: it was
// aborted, and the client is back at its committed offsets. An error: the client is in doubt.
func (l *life) transact(ctx context.Context, lanes []*lane, outputs []*kgo.Record, confirmed time.Time) (committed bool, err error) {
	if err := l.session.Begin(); err != nil {
		l.cfg.Metrics.dropped("begin")
		return false, fmt.Errorf("begin transaction: %w", err)
	}
	failure := l.produce(ctx, outputs)
	outcome := ""
	switch {
	case failure != nil:
		outcome = "aborted_output"
	case time.Since(confirmed) >= l.cfg.LeaseAge:
		outcome = "aborted_lease"
	}
	endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if outcome != "" {
		if _, err := l.session.End(endCtx, kgo.TryAbort); err != nil {
			l.cfg.Metrics.dropped("end")
			return false, fmt.Errorf("abort transaction: %w", err)
		}
		l.aborted(ctx, outcome, failure)
		if isFenced(failure) {
			return false, fmt.Errorf("write outputs: %w", failure)
		}
		return false, nil
	}
	committed, err = l.session.End(kgo.PreTxnCommitFnContext(endCtx, l.cut(lanes)), kgo.TryCommit)
	if err != nil {
		l.cfg.Metrics.dropped("end")
		return false, fmt.Errorf("commit transaction: %w", err)
	}
	if !committed {
		l.aborted(ctx, "aborted_group", nil)
		return false, l.positions(ctx, lanes)
	}
	l.commits++
	l.limit = min(2*l.limit, l.cfg.MaxRecords)
	l.cfg.Metrics.transaction("committed")
	for _, lane := range lanes {
		l.report(lane)
	}
	return true, nil
}

// produce writes and waits, within the broker's patience; the error is the first that any record met.
func (l *life) produce(ctx context.Context, outputs []*kgo.Record) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	var mu sync.Mutex
	var first error
	for _, rec := range outputs {
		l.session.Produce(ctx, rec, func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil && first == nil {
				first = err
			}
		})
	}
	flushErr := l.session.Client().Flush(ctx)
	mu.Lock()
	defer mu.Unlock()
	if first != nil {
		return first
	}
	return flushErr
}

// aborted counts, and gives a broker in trouble time; a batch that outlived its lease is tried again by halves.
func (l *life) aborted(ctx context.Context, outcome string, failure error) {
	l.cfg.Metrics.transaction(outcome)
	l.cfg.Logger.Warn("relay transaction aborted, its records follow again", "outcome", outcome, "error", failure)
	if outcome == "aborted_lease" {
		l.limit = max(1, l.limit/2)
		return
	}
	pause(ctx, minBackoff)
}

// cut makes the commit end where the lanes stopped, which may be short of what was polled.
func (l *life) cut(lanes []*lane) func(*kmsg.TxnOffsetCommitRequest) error {
	next := maps.Clone(l.markers)
	for _, lane := range lanes {
		if flaw.Planted(flaw.PrefixSkipped) {
			lane.stop = len(lane.records)
		}
		next[lane.place] = lane.next()
	}
	return func(req *kmsg.TxnOffsetCommitRequest) error {
		for t := range req.Topics {
			topic := &req.Topics[t]
			for p := range topic.Partitions {
				partition := &topic.Partitions[p]
				at, ok := next[place{topic.Topic, partition.Partition}]
				if !ok {
					return fmt.Errorf("commit offset of %s/%d: it is not of this poll", topic.Topic, partition.Partition)
				}
				partition.Offset, partition.LeaderEpoch = at.Offset, at.Epoch
			}
		}
		return nil
	}
}

// report counts the answers, and logs one line for a partition's dead letters: where the first stood and why, nothing of
// what it says. A line each would let a source fill the log.
func (l *life) report(lane *lane) {
	letters, first := 0, -1
	for i := range lane.results {
		result, reason := &lane.results[i], ""
		if len(result.Faults) > 0 {
			reason = result.Faults[0].Reason
		}
		l.cfg.Metrics.event("relay", result.Status, reason, len(result.Records))
		if result.Status != Accepted {
			if letters++; first < 0 {
				first = i
			}
		}
	}
	if letters > 0 {
		l.cfg.Logger.Info("inbox records became dead letters", "topic", lane.topic, "partition", lane.partition, "count", letters,
			"offset", lane.records[first].Offset, "reason", lane.results[first].Faults[0].Reason)
	}
}
