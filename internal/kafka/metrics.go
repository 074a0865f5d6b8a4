package kafka

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what engines do. Labels: group (on the map), outcome and cause (closed lists).
type Metrics struct {
	records      *prometheus.CounterVec   // civicbus_group_records_total{group}: input records whose transaction committed
	transactions *prometheus.CounterVec   // civicbus_group_transactions_total{group,outcome}: committed, aborted_{output,lease,offsets,unknown}
	duration     *prometheus.HistogramVec // civicbus_group_transaction_seconds{group}: from begin to commit
	held         *prometheus.CounterVec   // civicbus_group_holds_total{group,cause}: times a partition was found waiting for lease or schema
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		records:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_group_records_total", Help: "Input records whose transaction committed."}, []string{"group"}),
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_group_transactions_total", Help: "Transactions by outcome."}, []string{"group", "outcome"}),
		duration:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "civicbus_group_transaction_seconds", Help: "Time from the begin of a transaction to its commit.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}, []string{"group"}),
		held:         prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_group_holds_total", Help: "Times a partition was found waiting, by cause."}, []string{"group", "cause"}),
	}
	reg.MustRegister(m.records, m.transactions, m.duration, m.held)
	return m
}
