package feed

import (
	"context"
	"sync"
	"time"
)

// lease asks for the tables' confirmation on behalf of all who decide. When it is lost, one of them looks for it and the
// others wait for what that one finds: a thousand readers that all looked would keep it from being found. Safe for
// concurrent use.
type lease struct {
	tables Tables
	age    time.Duration

	mu      sync.Mutex
	last    time.Time     // the confirmation that was found last
	looking chan struct{} // closed when the one who looks has found it; nil: nobody looks
}

func newLease(tables Tables, age time.Duration) *lease { return &lease{tables: tables, age: age} }

// hold gives a confirmation that leaves most of the lease's age to whoever decides on it. One that another was given is as
// good: what is read now is at least as new.
func (l *lease) hold(ctx context.Context) (time.Time, error) {
	limit := time.NewTimer(holdAtMost)
	defer limit.Stop()
	for {
		l.mu.Lock()
		if time.Since(l.last) < l.age/4 {
			defer l.mu.Unlock()
			return l.last, nil
		}
		found := l.looking
		if found == nil {
			if t, ok := l.tables.Fresh(); ok {
				l.last = t
				l.mu.Unlock()
				return t, nil
			}
			found = make(chan struct{})
			l.looking = found
			go l.look(found)
		}
		l.mu.Unlock()
		select {
		case <-found:
		case <-limit.C:
			return time.Time{}, ended(NotCurrent, "the tables that are decided on are not confirmed current")
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

// look asks until the tables are confirmed, as long as somebody may be waiting.
func (l *lease) look(found chan struct{}) {
	tick := time.NewTicker(max(l.age/25, time.Millisecond))
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < 2*holdAtMost; <-tick.C {
		if t, ok := l.tables.Fresh(); ok {
			l.mu.Lock()
			l.last = t
			l.mu.Unlock()
			break
		}
	}
	l.mu.Lock()
	l.looking = nil
	l.mu.Unlock()
	close(found)
}
