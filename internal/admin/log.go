package admin

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sort"
	"time"

	"civicbus/internal/kafka"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// span is a part of one partition: the offsets [from, to).
type span struct {
	topic     string
	partition int32
	from, to  int64
}

const (
	fetchBytes = 4 << 20 // asked of a partition at once
	lookAgain  = 100 * time.Millisecond
)

// whole gives what a topic holds now, by partition: from its first offset to its last stable one.
func (c *Client) whole(ctx context.Context, topic string) ([]span, error) {
	starts, err := c.admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("list the offsets of %s: %w", topic, err)
	}
	return c.upToStable(ctx, topic, starts)
}

// upToStable completes begins of partitions with the last stable offsets.
func (c *Client) upToStable(ctx context.Context, topic string, starts kadm.ListedOffsets) ([]span, error) {
	ends, err := c.admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("list the offsets of %s: %w", topic, err)
	}
	var spans []span
	for p, start := range starts[topic] {
		end := ends[topic][p]
		if err := errors.Join(start.Err, end.Err); err != nil {
			if errors.Is(err, kerr.UnknownTopicOrPartition) {
				return nil, fmt.Errorf("read %s: %w", topic, ErrNoTopic)
			}
			return nil, fmt.Errorf("list the offsets of %s/%d: %w", topic, p, err)
		}
		spans = append(spans, span{topic, p, start.Offset, end.Offset})
	}
	if len(spans) == 0 {
		return nil, fmt.Errorf("read %s: %w", topic, ErrNoTopic)
	}
	sort.Slice(spans, func(i, j int) bool { return spans[i].partition < spans[j].partition })
	return spans, nil
}

// keyed is the span of the partition that a key lies in.
func (c *Client) keyed(ctx context.Context, topic, key string) (span, error) {
	spans, err := c.whole(ctx, topic)
	if err != nil {
		return span{}, err
	}
	return spans[kafka.Partition([]byte(key), int32(len(spans)))], nil
}

// lastOf gives the newest value of a key on a topic; nil when there is none, or it is a tombstone.
func (c *Client) lastOf(ctx context.Context, topic, key string) ([]byte, error) {
	s, err := c.keyed(ctx, topic, key)
	if err != nil {
		return nil, err
	}
	var value []byte
	for r, err := range c.read(ctx, s) {
		if err != nil {
			return nil, err
		}
		if string(r.Key) == key {
			value = r.Value
		}
	}
	return value, nil
}

// read gives the committed records of a span in order; what was deleted since the span was made is passed over. An error is
// the last thing that comes.
func (c *Client) read(ctx context.Context, s span) iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		for next := s.from; next < s.to; {
			records, after, _, err := c.log.Fetch(ctx, s.topic, s.partition, next, fetchBytes)
			if errors.Is(err, kafka.ErrExpired) {
				after, err = c.log.First(ctx, s.topic, s.partition)
			}
			if err != nil {
				yield(nil, fmt.Errorf("read %s/%d at offset %d: %w", s.topic, s.partition, next, err))
				return
			}
			for _, r := range records {
				if r.Offset >= s.to {
					return
				}
				if !yield(r, nil) {
					return
				}
			}
			if after <= next && !pause(ctx, lookAgain) { // a new leader has not got there yet
				yield(nil, ctx.Err())
				return
			}
			next = max(next, after)
		}
	}
}

// merged gives the records of several spans by their timestamps; within a partition they stay in its order.
func (c *Client) merged(ctx context.Context, spans []span) iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		type head struct {
			record *kgo.Record
			next   func() (*kgo.Record, error, bool)
		}
		var heads []*head
		advance := func(h *head) (more bool, err error) {
			h.record, err, more = h.next()
			return more, err
		}
		for _, s := range spans {
			next, stop := iter.Pull2(c.read(ctx, s))
			defer stop()
			h := &head{next: next}
			more, err := advance(h)
			if err != nil {
				yield(nil, err)
				return
			}
			if more {
				heads = append(heads, h)
			}
		}
		for len(heads) > 0 {
			first := 0
			for i, h := range heads {
				if h.record.Timestamp.Before(heads[first].record.Timestamp) {
					first = i
				}
			}
			if !yield(heads[first].record, nil) {
				return
			}
			more, err := advance(heads[first])
			if err != nil {
				yield(nil, err)
				return
			}
			if !more {
				heads = append(heads[:first], heads[first+1:]...)
			}
		}
	}
}

// pause waits; false when the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
