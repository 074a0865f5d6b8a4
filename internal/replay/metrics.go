package replay

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what replays do. Labels are closed lists.
type Metrics struct {
	verdicts     *prometheus.CounterVec // civicbus_replay_verdicts_total{reason}: of transactions that committed
	transactions *prometheus.CounterVec // civicbus_replay_transactions_total{outcome}: committed, held, refused, unknown
	underway     prometheus.Gauge       // civicbus_replays_underway: that this process carries out
	waiting      prometheus.Gauge       // civicbus_replays_waiting: of them, those that wait because the router is behind
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		verdicts:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_replay_verdicts_total", Help: "Verdicts of replays by reason."}, []string{"reason"}),
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_replay_transactions_total", Help: "Transactions of replays by outcome."}, []string{"outcome"}),
		underway:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "civicbus_replays_underway", Help: "Replays that this process carries out."}),
		waiting:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "civicbus_replays_waiting", Help: "Replays of this process that wait because the router is behind."}),
	}
	reg.MustRegister(m.verdicts, m.transactions, m.underway, m.waiting)
	return m
}

// committed counts verdicts by reason; a nil Metrics counts nothing.
func (m *Metrics) committed(reasons map[string]int64) {
	if m == nil {
		return
	}
	m.transactions.WithLabelValues("committed").Inc()
	for reason, n := range reasons {
		m.verdicts.WithLabelValues(reason).Add(float64(n))
	}
}

func (m *Metrics) aborted(outcome string) {
	if m != nil {
		m.transactions.WithLabelValues(outcome).Inc()
	}
}

func (m *Metrics) begin(n float64) {
	if m != nil {
		m.underway.Add(n)
	}
}

func (m *Metrics) wait(n float64) {
	if m != nil {
		m.waiting.Add(n)
	}
}
