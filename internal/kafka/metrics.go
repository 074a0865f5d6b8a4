package kafka

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what engines do. Labels: group, topic and table (on the map), partition, outcome and cause (closed lists).
type Metrics struct {
	records      *prometheus.CounterVec   // civicbus_group_records_total{group}: input records whose transaction committed
	transactions *prometheus.CounterVec   // civicbus_group_transactions_total{group,outcome}: committed, aborted_{output,lease,offsets,unknown}
	duration     *prometheus.HistogramVec // civicbus_group_transaction_seconds{group}: from begin to commit
	handled      *prometheus.HistogramVec // civicbus_group_handled_seconds{group}: from when an input record was written until its transaction committed; of each partition in each transaction the oldest
	read         *prometheus.HistogramVec // civicbus_table_read_seconds{group,table}: from when a row was written until the group had it; of what is read at once the oldest, while a table is loaded none
	held         *prometheus.CounterVec   // civicbus_group_holds_total{group,cause}: times a partition was found waiting for lease or schema
	stopped      *prometheus.GaugeVec     // civicbus_group_stopped_partitions{group}: input partitions whose next record is not in the log
	lagRecords   *prometheus.GaugeVec     // civicbus_group_lag_records{group,topic,partition}: records beyond the committed offset
	lagSeconds   *prometheus.GaugeVec     // civicbus_group_lag_seconds{group,topic,partition}: age of the oldest of them
	recovery     *prometheus.GaugeVec     // civicbus_table_recovery_records{group,table}: offsets still to be read before the group can go on
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		records:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_group_records_total", Help: "Input records whose transaction committed."}, []string{"group"}),
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_group_transactions_total", Help: "Transactions by outcome."}, []string{"group", "outcome"}),
		duration:     prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "civicbus_group_transaction_seconds", Help: "Time from the begin of a transaction to its commit.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}, []string{"group"}),
		held:         prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_group_holds_total", Help: "Times a partition was found waiting, by cause."}, []string{"group", "cause"}),
	}
	latencies := prometheus.ExponentialBuckets(0.005, 2, 18) // to 11 minutes
	m.handled = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "civicbus_group_handled_seconds", Help: "Time from when an input record was written until its transaction committed; of each partition in each transaction the oldest.", Buckets: latencies}, []string{"group"})
	m.read = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "civicbus_table_read_seconds", Help: "Time from when a row was written until the group had it; of what is read at once the oldest, while a table is loaded none.", Buckets: latencies}, []string{"group", "table"})
	m.stopped = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "civicbus_group_stopped_partitions", Help: "Input partitions whose next record is not in the log any more, so that they wait for an operator."}, []string{"group"})
	m.lagRecords = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "civicbus_group_lag_records", Help: "Records of an input partition beyond what the group has committed."}, []string{"group", "topic", "partition"})
	m.lagSeconds = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "civicbus_group_lag_seconds", Help: "Age of the oldest record of an input partition that the group has not committed."}, []string{"group", "topic", "partition"})
	m.recovery = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "civicbus_table_recovery_records", Help: "Offsets of a table still to be read before the group can go on."}, []string{"group", "table"})
	reg.MustRegister(m.records, m.transactions, m.duration, m.handled, m.read, m.held, m.stopped, m.lagRecords, m.lagSeconds, m.recovery)
	return m
}

// recovering sets what remains of each table; shown remembers the tables, so that one that is done goes back to 0.
func (m *Metrics) recovering(group string, all []recovery, shown map[string]bool) {
	remaining := map[string]int64{}
	for _, r := range all {
		remaining[r.topic] += r.remaining
		shown[r.topic] = true
	}
	for topic := range shown {
		m.recovery.WithLabelValues(group, topic).Set(float64(remaining[topic]))
	}
}
