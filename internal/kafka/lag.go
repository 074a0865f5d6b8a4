package kafka

import (
	"strconv"
	"time"
)

// lagEvery is how often a session tells how far behind it is.
const lagEvery = time.Second

// showLag sets how many partitions have stopped, and the lag of each input partition: how many records its log has beyond what the
// group has committed, by the end that the last fetch told (a partition whose fetches are paused shows less than it has), and how long
// ago the oldest of them that is here was written.
func (s *session) showLag(now time.Time) {
	m := s.e.cfg.Metrics
	if m == nil || now.Sub(s.lagShown) < lagEvery {
		return
	}
	s.lagShown = now
	stopped := 0
	for k, q := range s.a.queues {
		if q.stopped != nil {
			stopped++
		}
		records, age := q.lag(now)
		p := strconv.Itoa(int(k.partition))
		m.lagRecords.WithLabelValues(s.e.group, k.topic, p).Set(float64(records))
		m.lagSeconds.WithLabelValues(s.e.group, k.topic, p).Set(age.Seconds())
	}
	m.stopped.WithLabelValues(s.e.group).Set(float64(stopped))
}

// hideLag takes the session's partitions out of the metrics: another instance may have them.
func (s *session) hideLag() {
	m := s.e.cfg.Metrics
	if m == nil {
		return
	}
	for k := range s.a.queues {
		p := strconv.Itoa(int(k.partition))
		m.lagRecords.DeleteLabelValues(s.e.group, k.topic, p)
		m.lagSeconds.DeleteLabelValues(s.e.group, k.topic, p)
	}
	m.stopped.DeleteLabelValues(s.e.group)
}

// lag is what the log has beyond the committed offset, and the age of its oldest record.
func (q *queue) lag(now time.Time) (records int64, age time.Duration) {
	at := q.committed
	if len(q.records) == 0 {
		at = max(at, q.seen) // transaction markers at the end are nothing to wait for
	} else if a := now.Sub(q.records[0].Timestamp); a > 0 {
		age = a
	}
	return max(q.end-at, 0), age
}
