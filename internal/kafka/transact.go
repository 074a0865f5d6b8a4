package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"civicbus/internal/flaw"

	"github.com/twmb/franz-go/pkg/kerr"
)

// transact hands records to goka for at most the configured interval, waits until it has finished with them, and commits
// their outputs, table writes and offsets as one Kafka transaction. nil: committed, or aborted so that the same records can
// be tried again at once. An error ends the session.
func (s *session) transact() error {
	e := s.e
	if !s.anyReady() {
		return nil
	}
	b, err := s.begin()
	if err != nil {
		return err
	}
	limit := time.NewTimer(e.callbackLimit())
	defer limit.Stop()
	whole := s.fill(b, limit.C)
	b.seal()
	if !whole || !s.finished(b, limit.C) {
		if k, offset, stuck := b.stuck(); stuck && s.ctx.Err() == nil && !s.isBroken() {
			e.log.Error("callback takes longer than a transaction may", "topic", k.topic, "partition", k.partition, "offset", offset)
		}
		return errStopped // the batch stays open until goka is quiet: what it still emits must not join another transaction
	}
	return s.end(b)
}

// begin opens a transaction.
func (s *session) begin() (*batch, error) {
	e := s.e
	e.mu.Lock()
	prod := e.prod
	e.mu.Unlock()
	if prod == nil {
		return nil, fmt.Errorf("%w: no producer", errAgain)
	}
	b := newBatch(prod, e.table)
	prod.out.tick()
	e.setBatch(b)
	return b, nil
}

// callbackLimit is how long after its begin a transaction waits for callbacks: the rest of its timeout is for its end.
func (e *Engine) callbackLimit() time.Duration { return e.cfg.TxnTimeout - e.cfg.TxnTimeout/5 }

// errStopped ends a session whose batch goka did not finish; Cleanup tells why.
var errStopped = fmt.Errorf("%w: a batch was not finished", errAgain)

// fill hands on what is ready, and what becomes ready within the interval; false when the session ended meanwhile, or goka
// takes no more records before the limit. Slow callbacks make small transactions: goka takes few records in advance.
func (s *session) fill(b *batch, limit <-chan time.Time) bool {
	e := s.e
	n := 0
	enough := func() bool { return n >= e.cfg.MaxRecords || (n > 0 && time.Since(b.started) >= e.cfg.Interval) }
	for {
		before := n
		wholes := e.lease.wholes()
		for k, q := range s.a.queues {
			if enough() || q.next() == nil {
				continue
			}
			at, ok := s.leased(k, wholes)
			for ok && !enough() && q.next() != nil && s.known(k, q) {
				handed := s.hand(b, k, q, e.cfg.MaxRecords-n, at, limit)
				if handed == 0 {
					return false
				}
				n += handed
				ok = !e.lease.needed() || flaw.Planted(flaw.LeaseUnchecked) || time.Since(at) < e.cfg.LeaseAge
			}
		}
		if n == before || enough() {
			return true
		}
		if !s.enqueue(e.consume.PollRecords(nil, e.cfg.MaxRecords)) { //nolint:staticcheck // nil means: only what is buffered
			return true
		}
	}
}

func (s *session) anyReady() bool {
	var wholes time.Time // looked for once, and only if there is anything to decide
	for k, q := range s.a.queues {
		if q.next() == nil {
			continue
		}
		if wholes.IsZero() {
			wholes = s.e.lease.wholes()
		}
		if _, ok := s.leased(k, wholes); ok && s.known(k, q) {
			return true
		}
	}
	return false
}

// leased says whether a partition may decide now, and the confirmation it would decide on; the zero time when it needs none.
func (s *session) leased(k tp, wholes time.Time) (at time.Time, ok bool) {
	e := s.e
	if !e.lease.needed() {
		return time.Time{}, true
	}
	if at, ok = e.lease.freshFrom(wholes, k.partition); !ok {
		e.held(k, "lease")
	}
	return at, ok
}

// known says whether everything is here that the next record of a partition needs.
func (s *session) known(k tp, q *queue) bool {
	if s.e.cfg.Ready == nil || s.e.cfg.Ready(q.next()) {
		return true
	}
	s.e.held(k, "schema")
	return false
}

// finished waits until goka has finished with the batch; false when it did not before the limit.
func (s *session) finished(b *batch, limit <-chan time.Time) bool {
	if flaw.Planted(flaw.CommitsEarly) {
		return true
	}
	select {
	case <-b.done:
		// A callback that ran while the session was being stopped may have been told that a table is empty.
		return s.ctx.Err() == nil
	case <-s.broken:
	case <-s.ctx.Done():
	case <-limit:
	}
	return false
}

// end commits the batch, or aborts it and gives its records back.
func (s *session) end(b *batch) error {
	e := s.e
	b.shut.Store(true)
	ctx, cancel := context.WithDeadline(context.Background(), b.started.Add(e.cfg.TxnTimeout))
	err := b.flush(ctx)
	cancel()
	if refused := (*refusedOutput)(nil); errors.As(err, &refused) {
		return s.failed(b, err)
	}
	if err != nil {
		return s.lost(b, fmt.Errorf("write the outputs: %w", err))
	}
	if age := b.age(); age >= e.cfg.LeaseAge {
		return s.abort(b, "lease", fmt.Errorf("the tables were last confirmed %s ago, want less than %s", age.Round(time.Millisecond), e.cfg.LeaseAge))
	}
	offsets, notes := s.offsets(b)
	who := s.a.member
	ctx, cancel = context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	if !b.wrote.Load() { // nothing to be atomic with
		if err := b.prod.commitOffsets(ctx, who, offsets, notes); err != nil {
			s.giveBack(b, "offsets", err)
			return s.refused(err)
		}
		s.committed(b)
		return nil
	}
	if err := b.prod.addOffsets(ctx, who, offsets, notes); err != nil {
		if aerr := s.abort(b, "offsets", err); aerr != nil {
			return aerr
		}
		return s.refused(err)
	}
	if b.age() >= e.cfg.LeaseAge {
		return s.abort(b, "lease", errors.New("the offsets took longer than the lease"))
	}
	if err := b.prod.commit(); err != nil {
		return s.lost(b, fmt.Errorf("commit transaction: %w", err))
	}
	s.committed(b)
	return nil
}

func (s *session) committed(b *batch) {
	e := s.e
	e.applyOverlays(b)
	n := 0
	for k, q := range s.a.queues {
		n += q.head
		if q.head > 0 {
			e.handled(q.records[:q.head], b.started)
		}
		q.commit()
		s.throttle(k, q)
	}
	e.setBatch(nil)
	s.again.reset()
	e.committedBatch(n, time.Since(b.started))
}

// failed aborts a transaction of which an output could not be written, and changes the producer: what a partition of a topic
// that was deleted and made anew knows of the old one's sequence numbers is nothing.
func (s *session) failed(b *batch, err error) error {
	if s.e.cfg.Failed != nil {
		for _, r := range refusals(err) {
			s.e.cfg.Failed(r.topic, r.size, r.err)
		}
	}
	if fenced(err) {
		return s.lost(b, fmt.Errorf("write the outputs: %w", err))
	}
	if err := s.abort(b, "output", err); err != nil {
		return err
	}
	s.e.dropProducer()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	defer s.whenOver(cancel)()
	if err := s.e.takeOver(ctx, s.a); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// abort ends the transaction without its outputs; its records are tried again.
func (s *session) abort(b *batch, cause string, why error) error {
	if err := b.prod.abort(); err != nil {
		return s.lost(b, fmt.Errorf("abort transaction (%s: %w): %w", cause, why, err))
	}
	s.giveBack(b, cause, why)
	return nil
}

// giveBack takes back what a batch that was not committed had, for another try after a pause.
func (s *session) giveBack(b *batch, cause string, why error) {
	s.e.log.Warn("transaction aborted, its records are tried again", "cause", cause, "error", why)
	s.e.aborted(cause)
	for _, q := range s.a.queues {
		if !flaw.Planted(flaw.QueueKept) {
			q.rewind()
		}
	}
	s.e.dropOverlays()
	s.e.setBatch(nil)
	s.retry = true
}

// lost drops the producer after an end whose outcome is unknown. The next session takes the truth from the broker.
func (s *session) lost(b *batch, err error) error {
	e := s.e
	e.aborted("unknown")
	slow := false
	if b != nil {
		if flaw.Planted(flaw.OverlayAssumed) {
			e.applyOverlays(b)
		}
		slow = time.Since(b.started) > e.cfg.TxnTimeout // the coordinator has fenced us itself, to abort what took too long
		e.abandon(b)
	} else {
		e.dropProducer()
	}
	if fenced(err) && !slow {
		if ferr := e.fencedAgain(err); ferr != nil {
			return ferr
		}
	}
	return fmt.Errorf("%w: %w", errAgain, err)
}

// refused tells what a refused commit of offsets means: the coordinator knows another generation, so a revocation is on
// its way; anything else is tried again.
func (s *session) refused(err error) error {
	switch {
	case errors.Is(err, kerr.FencedInstanceID):
		return s.e.fencedAgain(err)
	case errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.RebalanceInProgress):
		select {
		case <-s.a.over:
		case <-s.ctx.Done():
		case <-time.After(s.e.cfg.Session / 10): // the next heartbeat learns it
		}
	}
	return nil
}

func (e *Engine) openBatch() *batch { return e.batch.Load() }

func (e *Engine) setBatch(b *batch) { e.batch.Store(b) }

// abandon gives up a batch together with its producer: whatever is still emitted for it goes to a closed client.
func (e *Engine) abandon(b *batch) {
	e.batch.CompareAndSwap(b, nil)
	e.dropProducer()
	e.dropOverlays()
}

func (e *Engine) dropProducer() {
	e.mu.Lock()
	p := e.prod
	e.prod = nil
	e.mu.Unlock()
	if p != nil {
		p.drop()
	}
}

// applyOverlays makes a committed batch's writes to the group's table part of its rows.
func (e *Engine) applyOverlays(b *batch) {
	last := b.tableOffsets()
	for _, t := range e.tables.all(e.table) {
		if l, ok := last[t.partition]; ok {
			t.apply(l)
		}
	}
}

func (e *Engine) dropOverlays() {
	if e.table != "" && !flaw.Planted(flaw.OverlayKept) {
		for _, t := range e.tables.all(e.table) {
			t.drop()
		}
	}
}

// fencedAgain counts take-overs of our transactional id or instance id; two live instances with one id would fence each
// other for ever, so the fourth within a minute is an error that ends the processor.
func (e *Engine) fencedAgain(err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	recent := e.fencings[:0]
	for _, t := range e.fencings {
		if now.Sub(t) < time.Minute {
			recent = append(recent, t)
		}
	}
	e.fencings = append(recent, now)
	if len(e.fencings) > 3 {
		return fmt.Errorf("instance %q of group %s was fenced %d times within a minute: is another process running under the same instance id? %w", e.cfg.Instance, e.group, len(e.fencings), err)
	}
	return nil
}
