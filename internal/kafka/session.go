package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
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
	again  *backoff      // between tries of the same records
	retry  bool          // the last transaction was aborted

	lagShown time.Time
	timers   visitor
	ticked   time.Time // when timers were last looked for
}

// errAgain ends a session that can be followed by another one in the same process.
var errAgain = errors.New("session must be set up again")

// Consume runs goka's sessions, one after another, until the context ends or the engine is drained. It returns to goka only
// then or with an error: goka waits five seconds after each return.
func (e *Engine) Consume(ctx context.Context, _ []string, h sarama.ConsumerGroupHandler) error {
	// A process that died left its transaction open, and until that is ended the coordinator tells nobody where the partitions of
	// it stand. So it is ended before they are waited for, not by the transaction timeout.
	if err := e.takeOver(ctx, nil); err != nil {
		return nil //nolint:nilerr // the context has ended
	}
	backoff := newBackoff(5 * time.Second)
	for {
		a, err := e.awaitAssignment(ctx)
		if a == nil || err != nil {
			return err
		}
		began := time.Now()
		err = e.runSession(ctx, a, h)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // goka stops the processor: what failed was stopped
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
	s := &session{e: e, a: a, claims: map[tp]chan *sarama.ConsumerMessage{}, broken: make(chan struct{}), done: make(chan struct{}), again: newBackoff(time.Second)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	defer s.cancel()
	e.mu.Lock()
	if e.assignment != a || e.draining {
		e.mu.Unlock()
		return nil
	}
	e.session = s
	e.status.Partitions, e.status.State = numbers(a.claims), "recovering"
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.session = nil
		e.status.Partitions, e.status.State = nil, "stopped"
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
	e.setState("stopping")
	quiet := time.Now()
	b := e.openBatch()
	cleanup := h.Cleanup(s)
	if b != nil {
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
		if cleanup == nil {
			cleanup = errors.New("it gave no reason")
		}
		return fmt.Errorf("goka gave up a partition of group %s: %w", e.group, cleanup) // without err: it may say "again"
	case err != nil:
		return errors.Join(err, cleanup)
	}
	return err
}

// quietLimit is a little below the 60 s after which goka's Cleanup stops waiting for a callback: whatever such a callback
// emits later must not meet another session of this engine.
const quietLimit = 55 * time.Second

// isOver says whether the session has to end: its assignment was taken away, or the engine is to stop.
func (s *session) isOver() bool {
	over, _ := s.watch()
	return over
}

// watch is isOver with the channel that closes when it may have changed.
func (s *session) watch() (over bool, changed <-chan struct{}) {
	e := s.e
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.assignment != s.a || e.draining || e.fatal != nil, e.wake
}

// whenOver calls f once the session has to end, unless stop is called before.
func (s *session) whenOver(f func()) (stop func()) {
	stopped := make(chan struct{})
	go func() {
		for {
			over, changed := s.watch()
			if over {
				f()
				return
			}
			select {
			case <-changed:
			case <-s.broken:
				f()
				return
			case <-stopped:
				return
			}
		}
	}()
	return func() { close(stopped) }
}

// setUp lets goka recover its tables; a revocation or a drain meanwhile does not wait for them.
func (s *session) setUp(h sarama.ConsumerGroupHandler) error {
	defer s.whenOver(s.cancel)()
	if err := s.e.takeOver(s.ctx, s.a); err != nil {
		return err
	}
	if err := h.Setup(s); err != nil { // brokers did not answer: the tables read so far are kept for the next try
		return fmt.Errorf("%w: %w", errAgain, err)
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
	s.e.setState("running")
	s.timers, _ = h.(visitor)
	for k, q := range s.a.queues {
		s.throttle(k, q) // a queue that was cut short while its fetches were paused
	}
	defer s.hideLag()
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

// loop makes one transaction after another while there is something to do. It returns nil when the assignment is over or
// the engine is drained, and an error when the session cannot go on.
func (s *session) loop() error {
	for {
		s.showLag(time.Now())
		if s.isOver() || s.ctx.Err() != nil || s.isBroken() { // broken: goka's Cleanup has the error
			return nil //nolint:nilerr // the session is over, which is no fault of it
		}
		if s.retry {
			s.retry = false
			s.rest()
			continue
		}
		if !s.poll(s.wait()) {
			return nil
		}
		if err := s.transact(); err != nil {
			return err
		}
		if err := s.tick(); err != nil {
			return err
		}
	}
}

// rest waits a while before the same records are tried again; the end of the session ends it.
func (s *session) rest() {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	defer s.whenOver(cancel)()
	s.again.wait(ctx)
}

// hand gives goka the next most records of a partition that may be handed on, as one message: one, or up to most where the
// group takes runs. It returns how many; 0 when the session ended or the limit passed meanwhile.
func (s *session) hand(b *batch, k tp, q *queue, most int, at time.Time, limit <-chan time.Time) int {
	head := q.head
	follows := q.take()
	for s.e.cfg.Runs && q.head-head < min(most, maxRun) && q.next() != nil && s.known(k, q) {
		q.take()
	}
	run := Run{q.records[head:q.head:q.head], follows}
	b.hand(k, run, at)
	b.prod.out.tick()
	select {
	case s.claims[k] <- s.message(run):
		return len(run.Records)
	case <-s.broken:
	case <-s.ctx.Done():
	case <-limit:
	}
	return 0
}

// message is a run as goka is given it: a record with its headers, or what stands for several.
func (s *session) message(run Run) *sarama.ConsumerMessage {
	r := run.Records[len(run.Records)-1]
	m := &sarama.ConsumerMessage{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp}
	if s.e.cfg.Runs {
		return m
	}
	m.Key, m.Value = r.Key, r.Value
	m.Headers = make([]*sarama.RecordHeader, 0, len(r.Headers)+1)
	for i := range r.Headers {
		m.Headers = append(m.Headers, &sarama.RecordHeader{Key: []byte(r.Headers[i].Key), Value: r.Headers[i].Value})
	}
	m.Headers = append(m.Headers, &sarama.RecordHeader{Key: []byte(FollowsHeader), Value: binary.BigEndian.AppendUint64(nil, uint64(run.Follows))})
	return m
}

// The rest of sarama.ConsumerGroupSession, as goka uses it.

// MarkOffset tells that goka has finished with the message before offset.
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

// Pause is goka's to call and never called: the engine pauses by itself.
func (e *Engine) Pause(map[string][]int32) {}

// Resume is never called, as Pause.
func (e *Engine) Resume(map[string][]int32) {}

// PauseAll is never called, as Pause.
func (e *Engine) PauseAll() {}

// ResumeAll is never called, as Pause.
func (e *Engine) ResumeAll() {}
