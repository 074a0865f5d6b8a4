package web

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Limit is how many requests are let through within a window; they come back evenly over it. It is each instance's own: the
// limit of a gateway of n instances is n times that.
type Limit struct {
	Requests int
	Window   time.Duration
}

// maxBuckets bounds the memory of a limiter. Who has not asked for a whole window is forgotten first, and is then as good as
// new anyway.
const maxBuckets = 100_000

// limiter is a token bucket for each caller, kept as the time at which it would be full again (GCRA).
type limiter struct {
	policy string
	limit  Limit
	each   time.Duration // in which one request comes back
	now    func() time.Time

	mu   sync.Mutex
	full map[string]time.Time
}

func newLimiter(policy string, l Limit, now func() time.Time) *limiter {
	return &limiter{policy: policy, limit: l, each: max(1, l.Window/time.Duration(l.Requests)), now: now, full: map[string]time.Time{}}
}

// take takes one request of a caller and tells what is left in the headers RateLimit and RateLimit-Policy
// (draft-ietf-httpapi-ratelimit-headers). A caller without any left is refused with 429 and Retry-After.
func (l *limiter) take(caller string, h http.Header) error {
	now := l.now()
	l.mu.Lock()
	full := l.full[caller]
	if full.Before(now) {
		full = now
	}
	next := full.Add(l.each)
	ok := next.Sub(now) <= l.limit.Window
	if ok {
		l.full[caller] = next
		full = next
	}
	l.sweep(now)
	l.mu.Unlock()
	left := max(0, int((l.limit.Window-full.Sub(now))/l.each))
	h.Set("RateLimit-Policy", fmt.Sprintf(`"%s";q=%d;w=%d`, l.policy, l.limit.Requests, int(l.limit.Window.Seconds())))
	h.Set("RateLimit", fmt.Sprintf(`"%s";r=%d;t=%d`, l.policy, left, seconds(full.Sub(now))))
	if !ok {
		wait := next.Sub(now) - l.limit.Window
		return refuse(http.StatusTooManyRequests, "too_many_requests", "more requests than this client may make", http.Header{"Retry-After": {strconv.Itoa(max(1, seconds(wait)))}})
	}
	return nil
}

// sweep forgets who is as good as new when there are too many, and everybody when that does not help.
func (l *limiter) sweep(now time.Time) {
	if len(l.full) <= maxBuckets {
		return
	}
	for caller, full := range l.full {
		if !full.After(now) {
			delete(l.full, caller)
		}
	}
	if len(l.full) > maxBuckets {
		clear(l.full)
	}
}

func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
