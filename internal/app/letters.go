package app

import (
	"context"
	"regexp"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// letters counts the dead letters of the whole cluster by cause, as they are written. Every process that runs the keepers counts
// all of them, so that none is missed while one is away: take the greatest of them, not the sum.
type letters struct {
	node  *Node
	total *prometheus.CounterVec // civicbus_dead_letters_total{cause}: since the process has begun to watch
	last  *prometheus.GaugeVec   // civicbus_dead_letter_last_timestamp_seconds{cause}: when the newest of them was written
	known map[string]bool        // causes that have a label
}

func newLetters(n *Node) *letters {
	l := &letters{node: n, known: map[string]bool{},
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_dead_letters_total", Help: "Dead letters of the whole cluster by cause; each process counts all."}, []string{"cause"}),
		last:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "civicbus_dead_letter_last_timestamp_seconds", Help: "When the newest dead letter of a cause was written, in Unix time."}, []string{"cause"})}
	n.cfg.Metrics.MustRegister(l.total, l.last)
	return l
}

// run watches from now on until the context ends.
func (l *letters) run(ctx context.Context) {
	cl, err := l.node.conn.Client(kgo.ConsumeTopics(topology.DeadLetters.Name), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))
	if err != nil {
		l.node.log.Error("watch dead letters", "error", err)
		return
	}
	defer cl.Close()
	for ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			l.node.schemas.await(r.Value)
			letter, err := l.node.records.DeadLetter.Decode(r.Value)
			cause := l.label(letter, err)
			l.total.WithLabelValues(cause).Inc()
			l.last.WithLabelValues(cause).Set(float64(r.Timestamp.UnixMilli()) / 1000)
		})
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
