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
	for {
		got, err := stableOffsets(ctx, cl, e.group, a.claims)
		if errors.Is(err, kerr.UnstableOffsetCommit) {
			select {
			case <-time.After(20 * time.Millisecond):
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
		for k, q := range a.queues {
			switch o, ok := got[k]; {
			case !ok:
				return fmt.Errorf("fetch the committed offset of %s/%d: no answer", k.topic, k.partition)
			case o >= 0:
				q.replace(o)
			}
		}
		return nil
	}
}

func stableOffsets(ctx context.Context, cl *kgo.Client, group string, claims map[string][]int32) (map[tp]int64, error) {
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
	out := map[tp]int64{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("fetch the committed offset of %s/%d: %w", t.Topic, p.Partition, err)
			}
			out[tp{t.Topic, p.Partition}] = p.Offset
		}
	}
	return out, nil
}

// offsets are those after what was handed on, for the partitions that the batch touched. Where only timers ran they are the
// committed ones: committing them again is what refuses a member that has lost the partition.
func (s *session) offsets(b *batch) map[string]map[int32]int64 {
	m := map[string]map[int32]int64{}
	for k, q := range s.a.queues {
		if q.head == 0 && !b.timed[k.partition] {
			continue
		}
		if m[k.topic] == nil {
			m[k.topic] = map[int32]int64{}
		}
		m[k.topic][k.partition] = q.follows
		if flaw.Planted(flaw.OffsetsPolled) {
			m[k.topic][k.partition] = q.records[len(q.records)-1].Offset + 1
		}
	}
	return m
}
