package delivery

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	"civicbus/codecs"
	"civicbus/internal/flaw"
)

// Outcomes of a report. Closed list.
const (
	Delivered  = "delivered"   // answered with 2xx
	Failed     = "failed"      // not, or not at all: tried again by the schedule
	Gone       = "gone"        // answered with 410: as failed, and the subscription is paused
	Denied     = "denied"      // not permitted any more: nothing was sent, and nothing ever will be
	Unreadable = "malformed"   // nobody can tell what it is
	Expired    = "not_kept"    // its record is not kept any more
	Overdue    = "out_of_time" // its receiver could not be tried for longer than all attempts take
)

// Causes of the dead letters of this group, beside those of every record that cannot be read. Closed list.
const (
	Undeliverable = "undeliverable_webhook" // after the last attempt
	QueueFull     = "retry_queue_full"      // too many wait about one subject
	NotKept       = "not_kept"
)

// Reasons for which the bus pauses a subscription here.
const (
	PausedGone = "undeliverable_gone"       // its receiver answered 410
	PausedFull = "undeliverable_queue_full" // too many of its deliveries wait
)

// waits are the times between attempts: the schedule of Standard Webhooks 1.0.0 ("Deliverability and reliability").
var waits = [...]time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour}

// MaxAttempts is how often a delivery is attempted.
const MaxAttempts = int32(len(waits)) + 1

// maxRetryAfter bounds what a receiver can ask for.
const maxRetryAfter = 24 * time.Hour

// Wait is the time from an attempt, numbered from 1, to the next: the schedule's, and up to a tenth more, so that what failed
// together is not tried together. The part is told by the delivery and the attempt alone: whoever reckons it again gets the same.
func Wait(deliveryID string, attempt int32) time.Duration {
	at := min(max(attempt, 1), int32(len(waits)))
	wait := waits[at-1]
	h := fnv.New64a()
	_, _ = h.Write(strconv.AppendInt([]byte(deliveryID+"/"), int64(attempt), 10)) // a hash never fails
	const parts = 1 << 16
	part := int64(binary.BigEndian.Uint16(h.Sum(nil)[:2]))
	return wait + time.Duration(int64(wait/10)*part/parts)
}

// Enqueue is the row with one more delivery that waits. Where the row is full, the newest delivery of the subscription that has
// most in it leaves, be it this one: a dead receiver costs its own subscription, never another's. It changes nothing of the
// row that it is given.
func Enqueue(row codecs.DeliveryRow, one codecs.WaitingDelivery) (next codecs.DeliveryRow, left *codecs.WaitingDelivery) {
	next.Waiting = append(slices.Clone(row.Waiting), one)
	if len(next.Waiting) <= codecs.MaxWaiting {
		return next, nil
	}
	counts := map[string]int{}
	most := one.Subscription
	for _, w := range next.Waiting {
		counts[w.Subscription]++
	}
	for _, w := range next.Waiting { // in order, so that what is told twice is the same
		if counts[w.Subscription] > counts[most] {
			most = w.Subscription
		}
	}
	for i := len(next.Waiting) - 1; ; i-- {
		if next.Waiting[i].Subscription == most {
			out := next.Waiting[i]
			next.Waiting = slices.Delete(next.Waiting, i, i+1)
			return next, &out
		}
	}
}

// Consequence is what else follows from a report.
type Consequence struct {
	Known bool                   // the report is about a delivery that waits, and about its next attempt
	Was   codecs.WaitingDelivery // that delivery, with the attempt
	Bury  string                 // cause of a dead letter; empty: none
	Pause string                 // reason to pause the subscription; empty: none
}

// Settle is the row after a report. One that comes again, or late, changes nothing.
func Settle(row codecs.DeliveryRow, report *codecs.DeliveryReport) (codecs.DeliveryRow, Consequence) {
	i := slices.IndexFunc(row.Waiting, func(w codecs.WaitingDelivery) bool {
		return w.Offset == report.Offset && w.Subscription == report.Subscription
	})
	if i < 0 || row.Waiting[i].Attempts+1 != report.Attempt && !flaw.Planted(flaw.ReportTwice) {
		return row, Consequence{}
	}
	c := Consequence{Known: true, Was: row.Waiting[i]}
	next := codecs.DeliveryRow{Waiting: slices.Clone(row.Waiting)}
	switch report.Outcome {
	case Delivered, Failed, Gone:
		c.Was.Attempts, c.Was.Last = report.Attempt, report.At
		if c.Was.First == 0 {
			c.Was.First = report.At
		}
	}
	switch report.Outcome {
	case Failed, Gone:
		if report.Outcome == Gone {
			c.Pause = PausedGone
		}
		if flaw.Planted(flaw.RetryForgotten) {
			break
		}
		if report.Attempt >= MaxAttempts {
			c.Bury = Undeliverable
			break
		}
		asked := min(max(time.Duration(report.RetryAfter)*time.Millisecond, 0), maxRetryAfter)
		c.Was.Due = report.At + report.Millis + max(Wait(report.DeliveryID, report.Attempt), asked).Milliseconds()
		next.Waiting[i] = c.Was
		return next, c
	case Overdue:
		c.Bury = Undeliverable
	case Expired:
		c.Bury = NotKept
	case Unreadable:
		c.Bury = Unreadable
	}
	next.Waiting = slices.Delete(next.Waiting, i, i+1)
	return next, c
}

// MaxAge is how long a delivery may wait before it is Overdue: twice what its attempts take, since civicbus itself may have been
// down, and the breaker of its receiver open. Its record is kept for longer (topology.WebhookDeliveries).
const MaxAge = 7 * 24 * time.Hour
