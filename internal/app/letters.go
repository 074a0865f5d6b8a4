package app

import (
	"context"
	"regexp"
	"strconv"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// letters counts the dead letters of the whole cluster by cause, as they are written, and knows which of those that are kept nobody
// has redriven. Every process that runs the keepers counts all of them, so that none is missed while one is away: take the
// greatest of them, not the sum.
type letters struct {
	node  *Node
	total *prometheus.CounterVec // civicbus_dead_letters_total{cause}: since the process has begun to watch
	last  *prometheus.GaugeVec   // civicbus_dead_letter_last_timestamp_seconds{cause}: when the newest of them was written
	count *prometheus.Desc       // civicbus_dead_letters_open{cause}: kept and not redriven
	first *prometheus.Desc       // civicbus_dead_letter_oldest_timestamp_seconds{cause}: when the oldest of those was written
	known map[string]bool        // causes that have a label
	began time.Time

	mu   sync.Mutex
	open map[letterPlace]openLetter
}

type letterPlace struct {
	partition int32
	offset    int64
}

type openLetter struct {
	cause string
	at    time.Time
}

// mostOpen bounds what is known of letters one by one, to some 30 MB; where more are open, the newest are not among them.
const mostOpen = 200_000

func newLetters(n *Node) *letters {
	l := &letters{node: n, known: map[string]bool{}, open: map[letterPlace]openLetter{}, began: time.Now(),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_dead_letters_total", Help: "Dead letters of the whole cluster by cause; each process counts all."}, []string{"cause"}),
		last:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "civicbus_dead_letter_last_timestamp_seconds", Help: "When the newest dead letter of a cause was written, in Unix time."}, []string{"cause"}),
		count: prometheus.NewDesc("civicbus_dead_letters_open", "Dead letters of the whole cluster that are kept and were not redriven.", []string{"cause"}, nil),
		first: prometheus.NewDesc("civicbus_dead_letter_oldest_timestamp_seconds", "When the oldest of them was written, in Unix time.", []string{"cause"}, nil)}
	n.cfg.Metrics.MustRegister(l.total, l.last, l)
	return l
}

// Describe is of prometheus.Collector.
func (l *letters) Describe(out chan<- *prometheus.Desc) {
	out <- l.count
	out <- l.first
}

// Collect is of prometheus.Collector.
func (l *letters) Collect(out chan<- prometheus.Metric) {
	count, first := map[string]int{}, map[string]time.Time{}
	l.mu.Lock()
	for at, o := range l.open {
		if time.Since(o.at) > topology.DeadLetters.Keep {
			delete(l.open, at)
			continue
		}
		if count[o.cause]++; count[o.cause] == 1 || o.at.Before(first[o.cause]) {
			first[o.cause] = o.at
		}
	}
	l.mu.Unlock()
	for cause, n := range count {
		out <- prometheus.MustNewConstMetric(l.count, prometheus.GaugeValue, float64(n), cause)
		out <- prometheus.MustNewConstMetric(l.first, prometheus.GaugeValue, unix(first[cause]), cause)
	}
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// run reads what is kept, and watches until the context ends.
func (l *letters) run(ctx context.Context) {
	cl, err := l.node.conn.Client(kgo.ConsumeTopics(topology.DeadLetters.Name), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		l.node.log.Error("watch dead letters", "error", err)
		return
	}
	defer cl.Close()
	for ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(l.take)
	}
}

// take takes in a dead letter, or the mark that one before it in its partition was redriven.
func (l *letters) take(r *kgo.Record) {
	if r.Value == nil {
		for _, h := range r.Headers {
			if offset, err := strconv.ParseInt(string(h.Value), 10, 64); h.Key == codecs.HeaderRedrivenLetter && err == nil {
				l.mu.Lock()
				delete(l.open, letterPlace{r.Partition, offset})
				l.mu.Unlock()
			}
		}
		return
	}
	l.node.schemas.await(r.Value)
	letter, err := l.node.records.DeadLetter.Decode(r.Value)
	cause := l.label(letter, err)
	if !r.Timestamp.Before(l.began) {
		l.total.WithLabelValues(cause).Inc()
	}
	l.last.WithLabelValues(cause).Set(unix(r.Timestamp))
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) < mostOpen {
		l.open[letterPlace{r.Partition, r.Offset}] = openLetter{cause, r.Timestamp}
	}
}

const (
	unreadableCause = "unreadable" // of a record that is no dead letter
	otherCause      = "other"      // of one cause too many
	mostCauses      = 100          // far above those of the map's groups; what is no cause must not make labels without end
)

var causeForm = regexp.MustCompile(`^[a-z][a-z_]{0,59}$`)

func (l *letters) label(letter codecs.DeadLetter, err error) string {
	switch {
	case err != nil:
		return unreadableCause
	case l.known[letter.Cause]:
	case len(l.known) >= mostCauses || !causeForm.MatchString(letter.Cause):
		return otherCause
	default:
		l.known[letter.Cause] = true
	}
	return letter.Cause
}
