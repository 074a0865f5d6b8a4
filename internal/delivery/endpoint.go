package delivery

import (
	"time"

	"civicbus/codecs"
)

// endpoint is what is known of one subscription's receiver: whether it has given its permission, how much it takes, and whether
// it is worth trying. It is this process's alone and not needed to be right. Its queue's mu guards it.
type endpoint struct {
	used     time.Time
	allowed  time.Time     // until when its permission needs no asking
	spacing  time.Duration // between two deliveries, as it has asked for; 0: none
	next     time.Time     // no delivery before
	window   int           // attempts at once; grows while it answers, halves when it asks for less
	failures int           // in a row
	opened   int           // how often the breaker has opened since it answered last
	until    time.Time     // the breaker is open
	probing  bool          // one attempt is under way to see whether it can be closed
}

// endpointKey names a receiver. A subscription's own address counts, not the host: whoever shares a host with a receiver that
// fails must not be taken for it.
type endpointKey struct{ subscription, sink string }

// Bounds of an endpoint.
const (
	windowMost    = 4               // below inFlight, so that one receiver of a subscriber leaves room for another
	permittedFor  = 24 * time.Hour  // a handshake is good
	breakAfter    = 5               // failures in a row
	breakFirst    = 5 * time.Second // open for, doubled each time
	breakMost     = 5 * time.Minute //
	slowFirst     = time.Second     // after an answer that asks for less, without Retry-After
	quietMost     = time.Hour       // that Retry-After holds for all of a receiver's deliveries
	forgetAfter   = 48 * time.Hour  // a receiver that nothing went to
	forgetAtLeast = 1024            // receivers are known before any is forgotten
)

// States of a breaker. Closed list.
const (
	BreakerClosed   = "closed"
	BreakerHalfOpen = "half_open"
	BreakerOpen     = "open"
)

// endpoint gives a subscription's receiver; the caller holds mu.
func (q *queue) endpoint(sub *codecs.Subscription) *endpoint {
	now := q.s.cfg.Now()
	key := endpointKey{sub.ID, sub.Delivery.Sink}
	e := q.ends[key]
	if e == nil {
		e = &endpoint{window: windowMost}
		q.ends[key] = e
		if len(q.ends) > forgetAtLeast {
			for k, old := range q.ends {
				if k != key && now.Sub(old.used) > forgetAfter {
					delete(q.ends, k)
				}
			}
		}
	}
	e.used = now
	return e
}

// with calls f with a subscription's receiver.
func (q *queue) with(sub *codecs.Subscription, f func(e *endpoint, now time.Time)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f(q.endpoint(sub), q.s.cfg.Now())
}

// wait says how long nothing may be attempted while busy attempts are under way. Where it says 0, one more is taken to begin.
func (e *endpoint) wait(now time.Time, busy int) time.Duration {
	switch {
	case e.until.After(now):
		return e.until.Sub(now)
	case e.next.After(now):
		return e.next.Sub(now)
	case e.failures >= breakAfter && (e.probing || busy > 0), busy >= e.window:
		return time.Hour // the end of one under way wakes its lane
	}
	e.probing = e.failures >= breakAfter
	if e.spacing > 0 {
		e.next = now.Add(e.spacing)
	}
	return 0
}

// answered takes note of an answer that shows a receiver at work.
func (e *endpoint) answered() {
	e.failures, e.opened, e.probing, e.until = 0, 0, false, time.Time{}
	e.window = min(e.window+1, windowMost)
}

// failed takes note of an attempt without such an answer. When there are too many in a row the breaker opens, longer each time.
func (e *endpoint) failed(now time.Time) {
	e.failures++
	e.probing = false
	if e.failures < breakAfter || e.until.After(now) {
		return
	}
	e.until = now.Add(min(breakFirst<<min(e.opened, 10), breakMost))
	e.opened++
}

// slow takes note of a receiver that asks for less.
func (e *endpoint) slow(now time.Time, asked time.Duration) {
	e.window = max(1, e.window/2)
	quiet := max(slowFirst, min(asked, quietMost))
	if until := now.Add(quiet); until.After(e.next) {
		e.next = until
	}
}

// state is the breaker's.
func (e *endpoint) state(now time.Time) string {
	switch {
	case e.until.After(now):
		return BreakerOpen
	case e.failures >= breakAfter:
		return BreakerHalfOpen
	}
	return BreakerClosed
}

// permitted takes note of a handshake: so many deliveries a minute; 0: as many as there are.
func (e *endpoint) permitted(now time.Time, perMinute int) {
	e.allowed, e.spacing = now.Add(permittedFor), 0
	if perMinute > 0 {
		e.spacing = time.Minute / time.Duration(perMinute)
	}
}
