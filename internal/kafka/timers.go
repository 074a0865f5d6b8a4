package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/lovoo/goka"
)

const timerVisit = "timer"

// Timer is the edge of a graph whose callback runs for each key that GroupConfig.Due names. It runs like any callback: it may
// read and write the row of its key and emit, and what it does becomes visible in one transaction, or not at all; then the
// key is still due. It is called in the order in which Due gives the keys of a partition, with no record of the partition
// in hand. The row may be gone by then.
func Timer(callback func(goka.Context)) goka.Edge {
	return goka.Visitor(timerVisit, func(ctx goka.Context, meta any) {
		callback(ctx)
		if b, ok := meta.(*batch); ok { // not reached when the callback failed: goka tells its caller nothing of that
			b.visited.Add(1)
		}
	})
}

// visitor is the part of goka's processor that runs timers.
type visitor interface {
	VisitAll(ctx context.Context, name string, meta any) error
}

// tick runs what is due in a transaction of its own, between two of input records. The engine answers goka's walk over the
// table with the keys that are due, and no others: a table of millions is not walked every second.
func (s *session) tick() error {
	e := s.e
	if e.cfg.Due == nil || s.timers == nil || e.table == "" || time.Since(s.ticked) < e.cfg.Tick {
		return nil
	}
	s.ticked = time.Now()
	n := 0
	due, confirmed := map[int32][]string{}, map[int32]time.Time{}
	for _, p := range numbers(s.a.claims) {
		at, ok := e.lease.fresh(p)
		if !ok || n >= e.cfg.MaxRecords {
			continue
		}
		if keys := e.cfg.Due(p, e.cfg.MaxRecords-n); len(keys) > 0 {
			due[p], confirmed[p] = keys, at
			n += len(keys)
		}
	}
	if n == 0 {
		return nil
	}
	if n >= e.cfg.MaxRecords {
		s.ticked = time.Time{} // there may be more
	}
	b, err := s.begin()
	if err != nil {
		return err
	}
	b.timed = map[int32]bool{}
	for p := range due {
		b.timed[p] = true
		if e.lease.needed() {
			b.decide(confirmed[p])
		}
	}
	if err := s.visit(b, due); err != nil || b.visited.Load() != int64(n) || s.ctx.Err() != nil {
		select { // a callback failed: its partition is about to say so
		case <-s.broken:
		case <-s.ctx.Done():
		case <-time.After(time.Second):
		}
		return errors.Join(errStopped, err)
	}
	b.seal()
	return s.end(b)
}

// visit lets goka call the timers' callbacks and waits for them.
func (s *session) visit(b *batch, due map[int32][]string) error {
	e := s.e
	for _, t := range e.tables.all(e.table) {
		t.visit(append([]string{}, due[t.partition]...))
		defer t.visit(nil)
	}
	ctx, cancel := context.WithTimeout(s.ctx, e.callbackLimit())
	defer cancel()
	return s.timers.VisitAll(ctx, timerVisit, b)
}
