package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// FollowsHeader is added to each record on its way to goka, in this process only: the offset after the record that was
// handed on before it in its partition (8 bytes, big-endian), for the audit's proof that none is missing.
const FollowsHeader = "civicbus-follows"

// session is one stretch of goka's work on one assignment: Setup, claims, Cleanup. It ends with the assignment, when goka
// or a callback fails, and when a transaction's outcome is unknown: then the tables must be read again from the changelog.
type session struct {
	e      *Engine
	a      *assignment
	ctx    context.Context
	cancel context.CancelFunc
	claims map[tp]chan *sarama.ConsumerMessage
	broken chan struct{} // closed when a claim ended although the session goes on
	once   sync.Once
	done   chan struct{} // closed when goka's Cleanup has returned
}

// errAgain ends a session that can be followed by another one in the same process.
var errAgain = errors.New("session must be set up again")

// Consume runs goka's sessions, one after another, until the context ends or the engine is drained. It returns to goka only
// then or with an error: goka waits five seconds after each return.
func (e *Engine) Consume(ctx context.Context, _ []string, h sarama.ConsumerGroupHandler) error {
	backoff := newBackoff()
	for {
		a, err := e.awaitAssignment(ctx)
		if a == nil || err != nil {
			return err
		}
		began := time.Now()
		err = e.runSession(ctx, a, h)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
		case errors.Is(err, errAgain):
			e.log.Warn("session is set up again", "error", err)
			if time.Since(began) > 10*time.Second {
				backoff.reset()
			}
			if !backoff.wait(ctx) {
				return nil
			}
		default:
			return err
		}
	}
}

// awaitAssignment returns the current assignment once its offsets are known, or nil when the engine is to stop.
func (e *Engine) awaitAssignment(ctx context.Context) (*assignment, error) {
	for {
		e.mu.Lock()
		a, wake, stop, fatal := e.assignment, e.wake, e.draining || e.closed, e.fatal
		if a != nil && (len(a.queues) == 0 || !a.placed) {
			a = nil
		}
		e.mu.Unlock()
		if stop {
			<-ctx.Done() // goka would come back after five seconds; it is about to be stopped
			return nil, nil
		}
		if fatal != nil {
			return nil, fatal
		}
		if a != nil {
			return a, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

func (e *Engine) runSession(ctx context.Context, a *assignment, h sarama.ConsumerGroupHandler) error {
	s := &session{e: e, a: a, claims: map[tp]chan *sarama.ConsumerMessage{}, broken: make(chan struct{}), done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(ctx)
	defer s.cancel()
	e.mu.Lock()
	if e.assignment != a || e.draining {
		e.mu.Unlock()
		return nil
	}
	e.session = s
	e.lastOwned = numbers(a.claims)
	e.status = Status{Partitions: e.lastOwned, State: "recovering"}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.session = nil
		e.status.State = "stopped"
		e.mu.Unlock()
		close(s.done)
	}()

	err := s.setUp(h)
	if err == nil {
		err = s.run(h)
	} else if s.ctx.Err() != nil {
		err = nil // we stopped it ourselves
	}
	s.cancel()
	quiet := time.Now()
	cleanup := h.Cleanup(s)
	if b := e.openBatch(); b != nil {
		e.abandon(b)
	}
	for _, q := range a.queues {
		q.rewind()
	}
	e.dropOverlays()
	switch {
	case time.Since(quiet) > quietLimit:
		return fmt.Errorf("a callback of group %s did not end within %s of its session", e.group, quietLimit)
	case s.isBroken():
		return fmt.Errorf("goka gave up a partition of group %s: %w", e.group, errors.Join(cleanup, err))
	}
	return err
}

// quietLimit is a little below the 60 s after which goka's Cleanup stops waiting for a callback: whatever such a callback
// emits later must not meet another session of this engine.
const quietLimit = 55 * time.Second

// setUp lets goka recover its tables; a revocation meanwhile does not wait for them.
func (s *session) setUp(h sarama.ConsumerGroupHandler) error {
	ready := make(chan struct{})
	defer close(ready)
	go func() {
		select {
		case <-s.a.over:
			s.cancel()
		case <-ready:
		}
	}()
	if err := s.e.takeOver(s.ctx, s.a); err != nil {
		return err
	}
	if err := h.Setup(s); err != nil {
		return err
	}
	return s.ctx.Err()
}

// run gives goka its claims and makes transactions until the session ends.
func (s *session) run(h sarama.ConsumerGroupHandler) error {
	var claims sync.WaitGroup
	for k := range s.a.queues {
		s.claims[k] = make(chan *sarama.ConsumerMessage)
	}
	for k, ch := range s.claims {
		claims.Add(1)
		go func() {
			defer claims.Done()
			err := h.ConsumeClaim(s, &claim{k, ch})
			if s.ctx.Err() == nil {
				s.once.Do(func() { close(s.broken) })
				if err != nil {
					s.e.report(err)
				}
			}
		}()
	}
	s.e.mu.Lock()
	s.e.status.State = "running"
	s.e.mu.Unlock()
	err := s.loop()
	s.cancel()
	claims.Wait()
	return err
}

func (s *session) isBroken() bool {
	select {
	case <-s.broken:
		return true
	default:
		return false
	}
}

// takeOver makes sure of a producer, whose making ends any transaction that a predecessor left open, and then asks the
// broker for the committed offsets, which are the truth after an end whose outcome was unknown.
func (e *Engine) takeOver(ctx context.Context, a *assignment) error {
	e.mu.Lock()
	prod := e.prod
	e.mu.Unlock()
	if prod != nil {
		return nil
	}
	backoff := newBackoff()
	for {
		p, err := newProducer(ctx, e.cfg.Connection, e.group, e.group+"."+e.cfg.Instance, e.cfg.TxnTimeout, e.cfg.Interval)
		if err == nil {
			if err = e.replaceOffsets(ctx, a); err == nil {
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

// loop makes one transaction after another while there is something to do. It returns nil when the assignment is over or
// the engine is drained, and an error when the session cannot go on.
func (s *session) loop() error {
	e := s.e
	for {
		e.mu.Lock()
		stop := e.assignment != s.a || e.draining
		e.mu.Unlock()
		if stop || s.ctx.Err() != nil {
			return nil
		}
		if s.isBroken() {
			return nil // goka's Cleanup has the error
		}
		if !s.poll(s.wait()) {
			return nil
		}
		if err := s.transact(); err != nil {
			return err
		}
	}
}

// wait is how long a poll may wait for new records: not at all while some can be handed on, a moment while some are held.
func (s *session) wait() time.Duration {
	w := 500 * time.Millisecond
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
	over := make(chan struct{})
	defer close(over)
	go func() { // a revocation or a drain ends the wait
		e.mu.Lock()
		wake := e.wake
		changed := e.assignment != s.a || e.draining
		e.mu.Unlock()
		if changed {
			cancel()
			return
		}
		select {
		case <-wake:
			cancel()
		case <-s.broken:
			cancel()
		case <-over:
		}
	}()
	fetches := e.consume.PollRecords(ctx, 4*e.cfg.MaxRecords)
	return s.enqueue(fetches)
}

func (s *session) enqueue(fetches kgo.Fetches) bool {
	e := s.e
	if fetches.IsClientClosed() {
		return false
	}
	fetches.EachError(func(topic string, partition int32, err error) {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return
		}
		q := s.a.queues[tp{topic, partition}]
		if q != nil && q.stopped == nil && errors.Is(err, kerr.OffsetOutOfRange) {
			q.stopped = err
			e.log.Error("partition stopped: its committed offset is not in the log any more; record the gap, then set the group's offset", "topic", topic, "partition", partition, "offset", q.committed)
			return
		}
		e.log.Warn("fetch: retrying", "topic", topic, "partition", partition, "error", err)
	})
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		k := tp{p.Topic, p.Partition}
		q := s.a.queues[k]
		if q == nil {
			return
		}
		for _, r := range p.Records {
			if n := len(q.records); (n == 0 && r.Offset >= q.follows) || (n > 0 && r.Offset > q.records[n-1].Offset) {
				q.records = append(q.records, r)
			}
		}
		s.throttle(k, q)
	})
	return true
}

// throttle stops fetching a partition whose records wait, and goes on when they have been handled.
func (s *session) throttle(k tp, q *queue) {
	part := map[string][]int32{k.topic: {k.partition}}
	switch waiting := len(q.records); {
	case !q.paused && waiting > 8*s.e.cfg.MaxRecords:
		q.paused = true
		s.e.consume.PauseFetchPartitions(part)
	case q.paused && waiting < 2*s.e.cfg.MaxRecords:
		q.paused = false
		s.e.consume.ResumeFetchPartitions(part)
	}
}

// hand gives goka one record; false when the session ended meanwhile.
func (s *session) hand(b *batch, k tp, q *queue, at time.Time) bool {
	r := q.next()
	follows := q.take()
	b.hand(k, r.Offset, at)
	m := &sarama.ConsumerMessage{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp}
	m.Headers = make([]*sarama.RecordHeader, 0, len(r.Headers)+1)
	for i := range r.Headers {
		m.Headers = append(m.Headers, &sarama.RecordHeader{Key: []byte(r.Headers[i].Key), Value: r.Headers[i].Value})
	}
	m.Headers = append(m.Headers, &sarama.RecordHeader{Key: []byte(FollowsHeader), Value: binary.BigEndian.AppendUint64(nil, uint64(follows))})
	select {
	case s.claims[k] <- m:
		return true
	case <-s.broken:
	case <-s.ctx.Done():
	}
	return false
}

// The rest of sarama.ConsumerGroupSession, as goka uses it.

// MarkOffset tells that goka has finished with the record before offset.
func (s *session) MarkOffset(topic string, partition int32, offset int64, _ string) {
	if b := s.e.openBatch(); b != nil {
		b.mark(tp{topic, partition}, offset-1)
	}
}

func (s *session) MarkMessage(m *sarama.ConsumerMessage, meta string) {
	s.MarkOffset(m.Topic, m.Partition, m.Offset+1, meta)
}
func (s *session) Claims() map[string][]int32               { return s.a.claims }
func (s *session) MemberID() string                         { return s.e.cfg.Instance }
func (s *session) GenerationID() int32                      { return 0 }
func (s *session) Context() context.Context                 { return s.ctx }
func (s *session) Commit()                                  {}
func (s *session) ResetOffset(string, int32, int64, string) {}

type claim struct {
	k  tp
	ch chan *sarama.ConsumerMessage
}

func (c *claim) Topic() string                            { return c.k.topic }
func (c *claim) Partition() int32                         { return c.k.partition }
func (c *claim) InitialOffset() int64                     { return 0 }
func (c *claim) HighWaterMarkOffset() int64               { return 0 }
func (c *claim) Messages() <-chan *sarama.ConsumerMessage { return c.ch }

// The rest of sarama.ConsumerGroup, as goka uses it.

// Errors carries what ended a claim.
func (e *Engine) Errors() <-chan error { return e.errs }

func (e *Engine) report(err error) {
	select {
	case e.errs <- err:
	default:
		e.log.Error("claim ended", "error", err)
	}
}

func (e *Engine) Pause(map[string][]int32)  {}
func (e *Engine) Resume(map[string][]int32) {}
func (e *Engine) PauseAll()                 {}
func (e *Engine) ResumeAll()                {}
