package delivery

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/leave"
	"civicbus/internal/tables"
	"civicbus/internal/tracing"
	"civicbus/internal/verdict"

	"github.com/twmb/franz-go/pkg/kgo"
)

// attempt is one attempt at one delivery that waits.
type attempt struct {
	s        *Sender
	subject  string
	waits    codecs.WaitingDelivery
	sub      *codecs.Subscription // as of the last decision
	record   *kgo.Record
	delivery *leave.Delivery
	written  *leave.Entry // the decision that is on record; nil: none
	on       *conn        // to the receiver; nil: not yet
	begun    time.Time
	report   codecs.DeliveryReport
}

const (
	againSoon  = 100 * time.Millisecond // after the tables were not confirmed current
	againLater = time.Second            // after something was out of reach
	staleMost  = 5                      // how often an attempt is decided anew because the lease ran out before it could begin
)

// errLater says that nothing was attempted: the delivery stays as it is, and is looked at again a little later.
var errLater = errors.New("nothing was attempted")

// try attempts a delivery and reports what came of it. told is nil when nothing was attempted; then it is due again at again.
func (s *Sender) try(ctx context.Context, subject string, partition int32, w codecs.WaitingDelivery) (t *told, again time.Time) {
	a := &attempt{s: s, subject: subject, waits: w, begun: s.cfg.Now()}
	a.report = codecs.DeliveryReport{Offset: w.Offset, Subscription: w.Subscription, Attempt: w.Attempts + 1, At: codecs.Millis(a.begun)}
	err := a.run(ctx, partition)
	if a.on != nil {
		s.web.transport.put(a.on)
	}
	if a.sub != nil {
		s.with(a.sub, func(e *endpoint, _ time.Time) { e.probing = false })
	}
	if err != nil {
		wait := againLater
		if errors.Is(err, tables.ErrNotCurrent) {
			wait = againSoon
		}
		if ctx.Err() == nil && !errors.Is(err, errLater) && !errors.Is(err, tables.ErrNotCurrent) {
			s.cfg.Logger.Warn("attempt a delivery: tried again soon", "subscription", w.Subscription, "partition", partition, "offset", w.Offset, "error", err)
		}
		return nil, s.cfg.Now().Add(wait)
	}
	o := &s.cfg.Outcomes
	last := a.report.Attempt >= s.cfg.Attempts
	final := a.report.Outcome != o.Failed && a.report.Outcome != o.Gone || last
	if a.record != nil && final && a.report.Outcome != o.Delivered && a.report.Outcome != o.Denied { // it is for the dead letters
		a.report.Value = a.record.Value
		for _, h := range a.record.Headers {
			a.report.Headers = append(a.report.Headers, codecs.Header{Key: h.Key, Value: h.Value})
		}
	}
	a.report.Millis = max(0, s.cfg.Now().Sub(a.begun).Milliseconds())
	if err := s.report(ctx, subject, &a.report); err != nil {
		if ctx.Err() == nil {
			s.cfg.Logger.Error("report an attempt: it is made again", "subscription", w.Subscription, "error", err)
		}
		return nil, s.cfg.Now().Add(againLater)
	}
	a.measure()
	return &told{a.report.Attempt, final}, time.Time{}
}

// measure tells those who watch of an attempt that was reported.
func (a *attempt) measure() {
	s, r := a.s, &a.report
	delivered := r.Outcome == s.cfg.Outcomes.Delivered
	s.cfg.Metrics.attempted(r)
	if delivered {
		s.cfg.Metrics.delivered(a.record, time.UnixMilli(a.waits.Since), s.cfg.Now())
	}
	s.cfg.Tracer.Attempted(a.record, tracing.Attempt{Subscription: r.Subscription, Number: int(r.Attempt), Status: int(r.Status), Outcome: r.Outcome, Cause: r.Cause,
		Began: a.begun, Failed: !delivered})
}

// run attempts the delivery and fills the report. An error says that nothing was attempted.
func (a *attempt) run(ctx context.Context, partition int32) error {
	s, o := a.s, &a.s.cfg.Outcomes
	var err error
	switch a.record, err = s.record(ctx, partition, a.waits.Offset); {
	case errors.Is(err, errNotThere):
		a.report.Outcome = o.Expired
		return nil
	case err != nil:
		return err
	}
	snap := s.cfg.Tables.Snapshot()
	if a.sub = snap.Subscription(a.waits.Subscription); a.sub == nil {
		if _, snap, err = s.exit.Now(ctx); err != nil { // it may just have been made
			return err
		}
		if a.sub = snap.Subscription(a.waits.Subscription); a.sub == nil {
			a.report.Outcome = o.Unreadable
			return nil
		}
	}
	if a.delivery, err = s.exit.Prepare(ctx, snap, a.sub, a.record); err != nil {
		return err
	}
	a.report.DeliveryID, _ = leave.Header(a.record, codecs.HeaderID)
	a.report.EventType, _ = leave.Header(a.record, codecs.HeaderType)
	for range staleMost {
		done, err := a.once(ctx)
		if done || err != nil {
			return err
		}
	}
	return tables.ErrNotCurrent
}

// once decides and, if it may, sends; done is false when the decision became too old before it could be used.
func (a *attempt) once(ctx context.Context) (done bool, err error) {
	s, o := a.s, &a.s.cfg.Outcomes
	confirmed, snap, err := s.exit.Now(ctx)
	if err != nil {
		return false, err
	}
	if a.sub = snap.Subscription(a.waits.Subscription); a.sub == nil || paused(a.sub) {
		return false, errLater
	}
	a.report.Subscriber, a.report.Purpose = a.sub.Subscriber, a.sub.Purpose
	thin := a.sub.Delivery.Thin
	permit, on := s.exit.Decide(snap, a.sub, a.delivery, thin, s.cfg.Now())
	if flaw.Planted(flaw.AttemptUndecided) && permit == nil {
		permit = &verdict.Verdict{Sub: a.sub, Permit: true}
	}
	var event leave.Event
	if permit != nil {
		ref, _ := leave.Header(a.record, codecs.HeaderDataRef)
		if event, err = s.exit.Event(snap, a.delivery, permit, thin, ref); err != nil {
			on.Unreadable()
			permit = nil
		}
	}
	if permit == nil {
		if err := s.exit.Write(ctx, on); err != nil {
			return false, err
		}
		if a.report.Outcome = o.Unreadable; len(on.Decision.Verdicts) > 0 {
			a.report.Outcome, a.report.Cause = o.Denied, on.Decision.Verdicts[0].Reason
		}
		return true, nil
	}
	if a.sub.Delivery.Kind != "webhook" || s.cfg.Now().Sub(time.UnixMilli(a.waits.Since)) > s.cfg.MaxAge {
		a.report.Outcome = o.Overdue // it has no receiver any more, or has had none for too long
		return true, nil
	}
	u, err := parseSink(a.sub.Delivery.Sink, s.cfg.Development)
	if err == nil && a.on == nil {
		err = a.connect(ctx, u, false)
	}
	if err != nil {
		return a.failed(ctx, err)
	}
	if !s.exit.Current(confirmed) {
		return false, nil
	}
	if a.written == nil || !a.written.Same(&on) {
		if err := s.exit.Write(ctx, on); err != nil {
			return false, err
		}
		a.written = &on
	}
	return a.send(ctx, u, &event, func() bool { return s.exit.Current(confirmed) })
}

// connect gives the attempt a connection, and makes sure of the receiver's permission.
func (a *attempt) connect(ctx context.Context, u *url.URL, fresh bool) error {
	s := a.s
	allowed := false
	s.with(a.sub, func(e *endpoint, now time.Time) { allowed = e.allowed.After(now) })
	if !allowed {
		rate, err := s.web.handshake(ctx, u)
		if err != nil {
			return err
		}
		s.with(a.sub, func(e *endpoint, now time.Time) { e.permitted(now, rate) })
	}
	var err error
	a.on, err = s.web.transport.connect(ctx, u, fresh)
	return err
}

// send makes the exchange and classes the answer. done is false when it was held back, or when the connection had been closed.
func (a *attempt) send(ctx context.Context, u *url.URL, event *leave.Event, may func() bool) (done bool, err error) {
	s, o := a.s, &a.s.cfg.Outcomes
	now := s.cfg.Now()
	r, err := s.web.request(ctx, u, a.sub, event, now)
	if err != nil {
		return a.failed(ctx, err)
	}
	on := a.on
	a.on = nil // exchange takes it
	got, err := s.web.transport.exchange(ctx, on, r, may)
	switch {
	case errors.Is(err, errHeld):
		return false, nil
	case errors.Is(err, errStale):
		if err := a.connect(ctx, u, true); err != nil {
			return a.failed(ctx, err)
		}
		return false, nil
	case err != nil:
		return a.failed(ctx, err)
	}
	a.report.Status = int32(got.status)
	asked := retryAfter(got.header, now)
	s.with(a.sub, func(e *endpoint, now time.Time) {
		switch got.status {
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			e.slow(now, asked)
		}
		if got.status >= 500 || got.status == http.StatusTooManyRequests {
			e.failed(now)
		} else {
			e.answered()
		}
		if got.status == http.StatusUnauthorized || got.status == http.StatusForbidden || got.status == http.StatusMethodNotAllowed {
			e.allowed = time.Time{} // it may have changed its mind
		}
	})
	switch {
	case got.status >= 200 && got.status < 300:
		a.report.Outcome = o.Delivered
		return true, nil
	case got.status == http.StatusGone:
		a.report.Outcome, a.report.Cause = o.Gone, CauseStatus
	case got.status >= 300 && got.status < 400:
		a.report.Outcome, a.report.Cause = o.Failed, CauseRedirect
	default:
		a.report.Outcome, a.report.Cause = o.Failed, CauseStatus
	}
	a.report.RetryAfter = asked.Milliseconds()
	return true, nil
}

// failed takes note of an attempt that nobody answered. One that this process itself cut short, since it ends, was none.
func (a *attempt) failed(ctx context.Context, why error) (done bool, err error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	a.s.with(a.sub, func(e *endpoint, now time.Time) { e.failed(now) })
	a.report.Outcome, a.report.Cause = a.s.cfg.Outcomes.Failed, causeOf(why)
	return true, nil
}
