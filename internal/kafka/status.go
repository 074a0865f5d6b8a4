package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Status is what an engine is doing, for readiness and for operators.
type Status struct {
	Group      string
	State      string  // stopped, idle (no partitions), recovering, running or stopping
	Partitions []int32 // partition numbers held
	Leased     bool    // the tables of every held partition are confirmed within the lease age
	Stopped    int     // input partitions that wait for an operator
	LastCommit time.Time
	Recovery   Recovery // zero when every table is read to where its log ended
}

// Ready says whether the instance does its work: recovered, and its lease held. An instance without partitions is ready.
func (s Status) Ready() bool {
	return (s.State == "running" && s.Leased || s.State == "idle") && s.Stopped == 0
}

// Status reports the engine's state now.
func (e *Engine) Status() Status {
	e.mu.Lock()
	st := e.status
	if e.session == nil && e.assignment != nil && len(e.assignment.queues) == 0 {
		st.State = "idle"
	}
	if e.session == nil && e.assignment == nil {
		st.State = "stopped"
	}
	e.mu.Unlock()
	st.Group = e.group
	st.Recovery = sum(e.tables.recoveries(), time.Now())
	st.Leased = true
	for _, p := range st.Partitions {
		if _, ok := e.lease.fresh(p); !ok && e.lease.needed() {
			st.Leased = false
		}
	}
	return st
}

func (e *Engine) setState(state string) {
	e.mu.Lock()
	e.status.State = state
	e.mu.Unlock()
}

func (e *Engine) committedBatch(records int, took time.Duration) {
	e.mu.Lock()
	e.status.LastCommit = time.Now()
	e.mu.Unlock()
	if m := e.cfg.Metrics; m != nil {
		m.records.WithLabelValues(e.group).Add(float64(records))
		m.transactions.WithLabelValues(e.group, "committed").Inc()
		m.duration.WithLabelValues(e.group).Observe(took.Seconds())
	}
}

// handled is told of records of one input partition whose transaction has committed. Of them the oldest is measured.
func (e *Engine) handled(records []*kgo.Record, began time.Time) {
	if m := e.cfg.Metrics; m != nil {
		m.handled.WithLabelValues(e.group).Observe(max(0, time.Since(records[0].Timestamp).Seconds()))
	}
	if e.cfg.Committed != nil {
		e.cfg.Committed(records, began)
	}
}

func (e *Engine) aborted(cause string) {
	if m := e.cfg.Metrics; m != nil {
		m.transactions.WithLabelValues(e.group, "aborted_"+cause).Inc()
	}
}

func (e *Engine) held(k tp, cause string) {
	if m := e.cfg.Metrics; m != nil {
		m.held.WithLabelValues(e.group, cause).Inc()
	}
}

// groupErrors is told by franz-go why the group cannot be joined, which it tries again by itself.
type groupErrors struct{ e *Engine }

func (g groupErrors) OnGroupManageError(err error) {
	g.e.log.Warn("join the group: retrying", "error", err)
	if fenced(err) {
		if err := g.e.fencedAgain(err); err != nil {
			g.e.fail(err)
		}
	}
}

// backoff waits longer each time, from 50 ms on, with jitter.
type backoff struct{ next, most time.Duration }

const firstBackoff = 50 * time.Millisecond

func newBackoff(most time.Duration) *backoff { return &backoff{next: firstBackoff, most: most} }

func (b *backoff) reset() { b.next = firstBackoff }

// wait returns false when the context ended.
func (b *backoff) wait(ctx context.Context) bool {
	d := b.next/2 + rand.N(b.next/2)
	b.next = min(2*b.next, b.most)
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// gokaLogger hands goka's log lines to slog at debug: what matters of them is returned as an error or logged by the engine.
type gokaLogger struct{ log *slog.Logger }

// Printf logs one line.
func (l gokaLogger) Printf(format string, args ...any) {
	l.log.Debug("goka", "line", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Print logs one line.
func (l gokaLogger) Print(args ...any) { l.log.Debug("goka", "line", fmt.Sprint(args...)) }

// Println logs one line.
func (l gokaLogger) Println(args ...any) { l.Print(args...) }
