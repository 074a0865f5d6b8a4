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
	"github.com/twmb/franz-go/pkg/kmsg"
)

// span is a part of one partition: the offsets [from, to).
type span struct {
	topic     string
	partition int32
	from, to  int64
}

// place is where a topic's partitions lie.
type place struct {
	id      [16]byte
	leaders map[int32]int32
}

const (
	fetchBytes   = 4 << 20
	lookAgain    = 100 * time.Millisecond // after an answer that says to look elsewhere
	lookAtMost   = 50
	fetchTimeout = 10 * time.Second
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

// read gives the committed records of a span in order. An error is the last thing that comes.
//
// It fetches by itself: a consuming client never says that it has passed offsets that hold no record (markers, aborted
// data, what compaction took), so a span that ends in such would never be known to be over.
func (c *Client) read(ctx context.Context, s span) iter.Seq2[*kgo.Record, error] {
	return func(yield func(*kgo.Record, error) bool) {
		next, tries := s.from, 0
		for next < s.to {
			records, after, err := c.fetch(ctx, s, next)
			if err != nil {
				if tries++; tries < lookAtMost && elsewhere(err) && pause(ctx, lookAgain) {
					c.forget(s.topic)
					continue
				}
				yield(nil, fmt.Errorf("read %s/%d at offset %d: %w", s.topic, s.partition, next, err))
				return
			}
			tries = 0
			for _, r := range records {
				if r.Offset >= s.to {
					return
				}
				if !yield(r, nil) {
					return
				}
			}
			next = after
		}
	}
}

// elsewhere says whether an error may pass by looking for the leader again.
func elsewhere(err error) bool {
	return kerr.IsRetriable(err) || errors.Is(err, kerr.UnknownTopicID) || !errors.As(err, new(*kerr.Error)) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// fetch asks the leader once. What was deleted since the span was made is passed over.
func (c *Client) fetch(ctx context.Context, s span, at int64) ([]*kgo.Record, int64, error) {
	where, err := c.locate(ctx, s.topic)
	if err != nil {
		return nil, 0, err
	}
	leader, ok := where.leaders[s.partition]
	if !ok {
		return nil, 0, kerr.UnknownTopicOrPartition
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MinBytes, req.MaxBytes, req.MaxWaitMillis = -1, 1, fetchBytes, 100
	req.IsolationLevel, req.SessionEpoch = 1, -1 // read_committed; no fetch session
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = s.partition, at, fetchBytes
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID, topic.Partitions = s.topic, where.id, []kmsg.FetchRequestTopicPartition{part}
	req.Topics = append(req.Topics, topic)
	asked, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	answer, err := c.kafka.Broker(int(leader)).Request(asked, req)
	if err != nil {
		return nil, 0, err
	}
	res := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(res.ErrorCode); err != nil {
		return nil, 0, err
	}
	if len(res.Topics) != 1 || len(res.Topics[0].Partitions) != 1 {
		return nil, at, nil
	}
	got := &res.Topics[0].Partitions[0]
	switch err := kerr.ErrorForCode(got.ErrorCode); {
	case errors.Is(err, kerr.OffsetOutOfRange) && got.LogStartOffset > at:
		return nil, got.LogStartOffset, nil
	case errors.Is(err, kerr.OffsetOutOfRange):
		return c.deleted(ctx, s, at)
	case err != nil:
		return nil, 0, err
	}
	parsed, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: at,
		IsolationLevel: kgo.ReadCommitted(), Topic: s.topic, Partition: s.partition}, got, kgo.DefaultDecompressor(), nil)
	return parsed.Records, next, parsed.Err
}

// deleted asks where the partition begins now.
func (c *Client) deleted(ctx context.Context, s span, at int64) ([]*kgo.Record, int64, error) {
	starts, err := c.admin.ListStartOffsets(ctx, s.topic)
	if err != nil {
		return nil, 0, err
	}
	if o, ok := starts.Lookup(s.topic, s.partition); ok && o.Err == nil && o.Offset > at {
		return nil, o.Offset, nil
	}
	return nil, 0, kerr.OffsetOutOfRange
}

func (c *Client) locate(ctx context.Context, topic string) (place, error) {
	c.mu.Lock()
	known, ok := c.topicIDs[topic]
	c.mu.Unlock()
	if ok {
		return known, nil
	}
	meta, err := c.admin.Metadata(ctx, topic)
	if err != nil {
		return place{}, err
	}
	t := meta.Topics[topic]
	if t.Err != nil {
		return place{}, t.Err
	}
	known = place{id: t.ID, leaders: map[int32]int32{}}
	for p, d := range t.Partitions {
		if d.Leader >= 0 {
			known.leaders[p] = d.Leader
		}
	}
	c.mu.Lock()
	c.topicIDs[topic] = known
	c.mu.Unlock()
	return known, nil
}

func (c *Client) forget(topic string) {
	c.mu.Lock()
	delete(c.topicIDs, topic)
	c.mu.Unlock()
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
