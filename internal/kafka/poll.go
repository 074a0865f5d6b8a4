package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// wait is how long a poll may wait for new records: not at all while some can be handed on, a moment while some are held.
func (s *session) wait() time.Duration {
	w := 500 * time.Millisecond
	if s.e.cfg.Due != nil {
		w = min(w, max(s.e.cfg.Tick-time.Since(s.ticked), 0))
	}
	for _, q := range s.a.queues {
		if q.next() != nil {
			w = min(w, s.e.cfg.LeaseAge/50)
		}
	}
	return w
}

// poll fills the queues; false when the client was closed.
func (s *session) poll(wait time.Duration) bool {
	e := s.e
	ctx, cancel := context.WithTimeout(s.ctx, wait)
	defer cancel()
	defer s.whenOver(cancel)()
	fetches := e.consume.PollRecords(ctx, 4*e.cfg.MaxRecords)
	return s.enqueue(fetches)
}

func (s *session) enqueue(fetches kgo.Fetches) bool {
	e := s.e
	if fetches.IsClientClosed() {
		return false
	}
	fetches.EachError(func(topic string, partition int32, err error) {
		var group *kgo.ErrGroupSession // logged where it happened: groupErrors
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.As(err, &group) {
			return
		}
		if s.stop(tp{topic, partition}, err) {
			return
		}
		e.log.Warn("fetch: retrying", "topic", topic, "partition", partition, "error", err)
	})
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		k := tp{p.Topic, p.Partition}
		q := s.a.queues[k]
		if q == nil || q.stopped != nil {
			return
		}
		q.end = p.HighWatermark
		for _, r := range p.Records {
			q.seen = r.Offset + 1
			if r.Attrs.IsControl() {
				continue
			}
			if n := len(q.records); (n == 0 && r.Offset >= q.follows) || (n > 0 && r.Offset > q.records[n-1].Offset) {
				q.records = append(q.records, r)
			}
		}
		s.throttle(k, q)
	})
	return true
}

// stop takes a partition out of service when records that the group has not handled yet are not in the log any more: by
// retention, or cut off by an unclean election. No offset is made up: an operator records the gap.
func (s *session) stop(k tp, err error) bool {
	q := s.a.queues[k]
	var cut *kgo.ErrDataLoss
	if q == nil || q.stopped == nil && !errors.Is(err, kerr.OffsetOutOfRange) && !errors.As(err, &cut) {
		return false
	}
	if q.stopped != nil {
		return true
	}
	e := s.e
	q.stopped = err
	e.mu.Lock()
	e.status.Stopped++
	e.mu.Unlock()
	e.consume.PauseFetchPartitions(map[string][]int32{k.topic: {k.partition}})
	e.log.Error("partition stopped: what the group has to read next is not in the log; stop the group, see civicbus groups gaps", "topic", k.topic, "partition", k.partition, "offset", q.committed, "error", err)
	return true
}

// throttle stops fetching a partition whose records wait, and goes on when they have been handled.
func (s *session) throttle(k tp, q *queue) {
	part := map[string][]int32{k.topic: {k.partition}}
	switch waiting := len(q.records); {
	case q.stopped != nil:
	case !q.paused && waiting > 8*s.e.cfg.MaxRecords:
		q.paused = true
		s.e.consume.PauseFetchPartitions(part)
	case q.paused && waiting < 2*s.e.cfg.MaxRecords:
		q.paused = false
		s.e.consume.ResumeFetchPartitions(part)
	}
}
