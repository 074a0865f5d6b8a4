package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"civicbus/internal/flaw"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// takeOver makes sure of a producer, whose making ends any transaction that a predecessor left open, and then asks the
// broker for the committed offsets, which are the truth after an end whose outcome was unknown. Without an assignment there are
// none to ask for yet. The error is the context's.
func (e *Engine) takeOver(ctx context.Context, a *assignment) error {
	e.mu.Lock()
	prod := e.prod
	e.mu.Unlock()
	if prod != nil {
		return nil
	}
	backoff := newBackoff(5 * time.Second)
	for {
		p, err := newProducer(ctx, e.cfg.Connection, e.group, e.group+"."+e.cfg.Instance, e.cfg.TxnTimeout, e.log)
		if err == nil {
			if a != nil && !flaw.Planted(flaw.OffsetsKept) {
				err = e.replaceOffsets(ctx, a)
			}
			if err == nil {
				e.mu.Lock()
				e.prod = p
				e.mu.Unlock()
				return nil
			}
			p.drop()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.log.Warn("take over the group's transactions: retrying", "error", err)
		if !backoff.wait(ctx) {
			return ctx.Err()
		}
	}
}

// replaceOffsets takes the committed offsets of an assignment from the broker, waiting until no transaction that could
// still change them is open (KIP-447).
func (e *Engine) replaceOffsets(ctx context.Context, a *assignment) error {
	cl, err := e.cfg.Connection.Client()
	if err != nil {
		return err
	}
	admin := kadm.NewClient(cl)
	defer admin.Close()
	got, err := stableOffsets(ctx, cl, e.group, a.claims)
	if err != nil {
		return err
	}
	for k, q := range a.queues {
		switch o, ok := got[k]; {
		case !ok:
			return fmt.Errorf("fetch the committed offset of %s/%d: no answer", k.topic, k.partition)
		case o.at >= 0:
			q.replace(o.at)
			q.noted = o.upTo
		}
	}
	return nil
}

// committed is an offset that a group has committed, and the one up to which it has read; -1: none.
type committed struct{ at, upTo int64 }

// A committed offset is the one after the last record that was handled, which the decisions' proof that nothing was passed over needs.
// Behind it stands the marker of the transaction that wrote that record, and where retention takes both, the offset lies before
// everything that is kept, although nothing is lost. So the metadata of a commit notes how far the group has read.

// note is the metadata of an offset. It names the offset too, so that it is worth nothing beside another one.
func note(at, upTo int64) string { return fmt.Sprintf("%d read up to %d", at, upTo) }

// ReadUpTo is the offset up to which a group has read an input, by the offset that it has committed and that commit's metadata: between
// the two there are no records. Without a note it is the offset itself.
func ReadUpTo(at int64, metadata string) int64 {
	var of, upTo int64
	if n, err := fmt.Sscanf(metadata, "%d read up to %d", &of, &upTo); n != 2 || err != nil || of != at || upTo < at {
		return at
	}
	return upTo
}

// stableOffsets asks for the committed offsets of partitions until no open transaction could change them.
func stableOffsets(ctx context.Context, cl *kgo.Client, group string, claims map[string][]int32) (map[tp]committed, error) {
	for {
		got, err := askOffsets(ctx, cl, group, claims)
		if !errors.Is(err, kerr.UnstableOffsetCommit) {
			return got, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func askOffsets(ctx context.Context, cl *kgo.Client, group string, claims map[string][]int32) (map[tp]committed, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	req.Group = group
	for topic, ps := range claims {
		t := kmsg.NewOffsetFetchRequestTopic()
		t.Topic, t.Partitions = topic, ps
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("fetch the committed offsets of group %s: %w", group, err)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, fmt.Errorf("fetch the committed offsets of group %s: %w", group, err)
	}
	out := map[tp]committed{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("fetch the committed offset of %s/%d: %w", t.Topic, p.Partition, err)
			}
			metadata := ""
			if p.Metadata != nil {
				metadata = *p.Metadata
			}
			out[tp{t.Topic, p.Partition}] = committed{p.Offset, ReadUpTo(p.Offset, metadata)}
		}
	}
	return out, nil
}

// offsets are those after what was handed on, for the partitions that the batch touched, each with a note of how far the group has read.
// Where only timers ran they are the committed ones: committing them again is what refuses a member that has lost the partition.
// Where only markers came since the last commit they are too, for the note.
func (s *session) offsets(b *batch) (at map[string]map[int32]int64, notes map[tp]string) {
	at, notes = map[string]map[int32]int64{}, map[tp]string{}
	for k, q := range s.a.queues {
		upTo := q.upTo()
		if q.head == 0 && !b.timed[k.partition] && upTo <= max(q.noted, q.follows) {
			continue
		}
		if at[k.topic] == nil {
			at[k.topic] = map[int32]int64{}
		}
		at[k.topic][k.partition] = q.follows
		if upTo > q.follows {
			notes[k] = note(q.follows, upTo)
		}
		if flaw.Planted(flaw.OffsetsPolled) && q.head > 0 {
			at[k.topic][k.partition] = q.records[len(q.records)-1].Offset + 1
		}
	}
	return at, notes
}
