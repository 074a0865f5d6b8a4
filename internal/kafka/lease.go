package kafka

import (
	"time"

	"civicbus/internal/flaw"
)

// lease is what one group, or one view, decides on (DESIGN.md 3.2). goka's joined tables and views catch up in goroutines
// of their own, and when their fetches fail they go on answering from what they have, without limit. So whoever decides may
// do so only while every table partition that it uses is confirmed current: what has been applied here reaches the last
// stable offset that the partition's leader gave in answer to a question asked at time t, and now - t < age.
//
// A reader of committed data has seen nothing at or above a last stable offset that a leader gives later, and that offset
// never goes back (KIP-207 holds it over a failover). So a decision made on a table confirmed at t has used every change
// that anybody could have read before t.
//
// The questions are the reader's own fetches: a leader answers each within age/8, with its last stable offset, also when
// there is nothing new. (A prototype asked by ListOffsets beside them: twice the requests, and no better an answer.)
type lease struct {
	age    time.Duration
	reader *reader
	tables *tables
	views  []string // table topics held whole
	joins  []string // table topics joined: the deciding partition's own number
}

// needed says whether there is anything to confirm.
func (l *lease) needed() bool { return len(l.views)+len(l.joins) > 0 }

func (l *lease) confirmed(tb *table) time.Time {
	if tb == nil {
		return time.Time{}
	}
	return l.reader.confirmed(tb.topic, tb.partition, tb.applied()+1)
}

// wholes returns the oldest confirmation among the tables held whole, which is the same for every partition that decides;
// the zero time when one of them is not confirmed at all, and now when there are none.
func (l *lease) wholes() time.Time {
	t := time.Now()
	for _, topic := range l.views {
		all, whole := l.tables.whole(topic)
		if !whole {
			return time.Time{}
		}
		for _, tb := range all {
			if c := l.confirmed(tb); c.Before(t) {
				t = c
			}
		}
	}
	return t
}

// fresh says whether partition p may decide now, and the confirmation that it would decide on.
func (l *lease) fresh(p int32) (time.Time, bool) { return l.freshFrom(l.wholes(), p) }

// freshFrom is fresh with an answer of wholes that may be a little old: what it confirmed then, it confirms still.
func (l *lease) freshFrom(t time.Time, p int32) (time.Time, bool) {
	for _, topic := range l.joins {
		if flaw.Planted(flaw.JoinUnchecked) {
			break
		}
		if c := l.confirmed(l.tables.find(topic, p)); c.Before(t) {
			t = c
		}
	}
	if flaw.Planted(flaw.LeaseUnchecked) {
		return t, true
	}
	return t, time.Since(t) < l.age
}
