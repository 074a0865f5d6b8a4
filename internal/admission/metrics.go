package admission

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what admission does. Labels are closed lists.
type Metrics struct {
	events       *prometheus.CounterVec // civicbus_admission_events_total{via,outcome}: via relay or publisher; outcome accepted, held, unavailable, or a refusal's first reason
	records      *prometheus.CounterVec // civicbus_admission_records_total{via}: records written to admitted
	transactions *prometheus.CounterVec // civicbus_relay_transactions_total{outcome}: committed, aborted_{output,lease,group}
	lives        *prometheus.CounterVec // civicbus_relay_clients_dropped_total{cause}: begin, end, fenced, other
	waiting      prometheus.Gauge       // civicbus_relay_held_partitions: inbox partitions that wait for the registry
	stopped      prometheus.Gauge       // civicbus_relay_stopped_partitions: inbox partitions whose next offset is gone
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &Metrics{
		events:       counter("civicbus_admission_events_total", "Events judged, by way in and outcome.", "via", "outcome"),
		records:      counter("civicbus_admission_records_total", "Records written to admitted.", "via"),
		transactions: counter("civicbus_relay_transactions_total", "Relay transactions by outcome.", "outcome"),
		lives:        counter("civicbus_relay_clients_dropped_total", "Relay clients given up, by cause.", "cause"),
		waiting:      gauge("civicbus_relay_held_partitions", "Inbox partitions that wait for the schema registry."),
		stopped:      gauge("civicbus_relay_stopped_partitions", "Inbox partitions whose next offset is out of range."),
	}
	reg.MustRegister(m.events, m.records, m.transactions, m.lives, m.waiting, m.stopped)
	return m
}

// event counts one answer; a nil Metrics counts nothing.
func (m *Metrics) event(via string, status Status, reason string, records int) {
	if m == nil {
		return
	}
	outcome := string(status)
	if status == Refused {
		outcome = reason
	}
	m.events.WithLabelValues(via, outcome).Inc()
	m.records.WithLabelValues(via).Add(float64(records))
}

func (m *Metrics) transaction(outcome string) {
	if m != nil {
		m.transactions.WithLabelValues(outcome).Inc()
	}
}

func (m *Metrics) dropped(cause string) {
	if m != nil {
		m.lives.WithLabelValues(cause).Inc()
	}
}

func (m *Metrics) partitions(waiting, stopped int) {
	if m != nil {
		m.waiting.Set(float64(waiting))
		m.stopped.Set(float64(stopped))
	}
}
