package tables

import (
	"context"
	"sync"
	"time"
)

// Lease asks for the tables' confirmation on behalf of all who decide. When it is lost, one of them looks for it and the
// others wait for what that one finds: a thousand readers that all looked would keep it from being found. Safe for
// concurrent use.
type Lease struct {
	tables Current
	age    time.Duration

	mu      sync.Mutex
	last    time.Time     // the confirmation that was found last
	looking chan struct{} // closed when the one who looks has found it; nil: nobody looks
}

// NewLease is for tables whose lease has that age.
func NewLease(tables Current, age time.Duration) *Lease { return &Lease{tables: tables, age: age} }

// holdAtMost bounds how long Hold waits. Under load the lease is held again within tens of milliseconds.
const holdAtMost = 2 * time.Second

// Hold gives a confirmation that leaves most of the lease's age to whoever decides on it. One that another was given is as
// good: what is read now is at least as new. The error is ErrNotCurrent or the context's.
func (l *Lease) Hold(ctx context.Context) (time.Time, error) {
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
			return time.Time{}, ErrNotCurrent
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

// look asks until the tables are confirmed, as long as somebody may be waiting.
func (l *Lease) look(found chan struct{}) {
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
