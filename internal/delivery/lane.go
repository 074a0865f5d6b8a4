package delivery

import (
	"container/heap"
	"context"
	"time"

	"civicbus/codecs"
)

// lane is one subscription's way to its webhook: what is due of it, in a goroutine of its own while there is anything, so that no
// receiver waits for another.
type lane struct {
	q       *queue
	id      string
	due     pairs
	busy    int // attempts under way
	running bool
	wake    chan struct{} // has room for one
}

// inFlight is how many attempts of one subscriber may be under way at once.
const inFlight = 8

// lane gives a subscription's lane; the caller holds mu.
func (q *queue) lane(subscription string) *lane {
	l := q.lanes[subscription]
	if l == nil {
		l = &lane{q: q, id: subscription, wake: make(chan struct{}, 1)}
		q.lanes[subscription] = l
	}
	return l
}

// revive starts a lane's goroutine unless it runs; the caller holds mu.
func (q *queue) revive(l *lane) {
	if l.running || q.stopping == nil || q.stopping.Err() != nil {
		return
	}
	l.running = true
	q.lanes[l.id] = l // it may have ended since the caller found it
	q.s.ended.Add(1)
	go func() {
		defer q.s.ended.Done()
		l.run(q.stopping)
	}()
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run begins attempts when they are due, until there is nothing left or the context ends.
func (l *lane) run(ctx context.Context) {
	for ctx.Err() == nil {
		p, w, wait := l.pick()
		switch {
		case p != nil:
			l.start(ctx, p, w)
			continue
		case wait < 0:
			return
		}
		timer := time.NewTimer(min(wait, l.q.s.cfg.Look)) // the clock may be set, and a subscription be resumed
		select {
		case <-l.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// pick takes the pair that may be attempted now, with its delivery, or says how long there is none; a negative time ends the lane.
func (l *lane) pick() (*pair, codecs.WaitingDelivery, time.Duration) {
	var none codecs.WaitingDelivery
	q := l.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(l.due) == 0 {
		if l.busy == 0 {
			l.running = false
			delete(q.lanes, l.id)
			return nil, none, -1
		}
		return nil, none, time.Hour
	}
	now := q.s.cfg.Now()
	if wait := l.due[0].dueAt().Sub(now); wait > 0 {
		return nil, none, wait
	}
	if sub := q.s.cfg.Tables.Snapshot().Subscription(l.id); sub != nil {
		if paused(sub) {
			return nil, none, time.Hour
		}
		if wait := q.endpoint(sub).wait(now, l.busy); wait > 0 {
			return nil, none, wait
		}
	}
	p := heap.Pop(&l.due).(*pair)
	p.busy = true
	l.busy++
	return p, p.next, 0
}

// paused says whether a subscription's deliveries are kept for later.
func paused(sub *codecs.Subscription) bool { return sub.Status == "paused" }

// start attempts a delivery once its subscriber has a slot free.
func (l *lane) start(ctx context.Context, p *pair, w codecs.WaitingDelivery) {
	q := l.q
	release := q.slot(ctx, l.id)
	if release == nil {
		q.done(p, w.Offset, nil, time.Time{})
		return
	}
	q.attempts.Add(1)
	q.s.ended.Add(1)
	go func() {
		defer q.s.ended.Done()
		defer q.attempts.Done()
		t, again := q.s.try(q.attempt, p.subject, p.partition, w)
		release()
		q.done(p, w.Offset, t, again)
	}()
}

// slot waits for one of the slots of a subscription's subscriber; nil when the context ended first.
func (q *queue) slot(ctx context.Context, subscription string) (release func()) {
	subscriber := ""
	if sub := q.s.cfg.Tables.Snapshot().Subscription(subscription); sub != nil {
		subscriber = sub.Subscriber
	}
	q.mu.Lock()
	slots := q.slots[subscriber]
	if slots == nil {
		slots = make(chan struct{}, inFlight)
		q.slots[subscriber] = slots
	}
	q.mu.Unlock()
	select {
	case slots <- struct{}{}:
		return func() { <-slots }
	case <-ctx.Done():
		return nil
	}
}
