package access

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what a Keeper does. Labels: what and change (closed lists).
type Metrics struct {
	changes   *prometheus.CounterVec // civicbus_access_changes_total{what,change}: differences carried out
	failures  prometheus.Counter     // civicbus_access_failures_total: looks that did not end well
	different prometheus.Gauge       // civicbus_access_differences: found at the last look, users to be issued not counted
	unissued  prometheus.Gauge       // civicbus_access_users_missing: organisations with rights and no user, at the last look
	warnings  prometheus.Gauge       // civicbus_access_warnings: what opens topics to others, at the last look
}

// NewMetrics registers the metrics; nil: nowhere.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		changes:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_access_changes_total", Help: "Differences in Kafka users, rights and quotas that were carried out."}, []string{"what", "change"}),
		failures:  prometheus.NewCounter(prometheus.CounterOpts{Name: "civicbus_access_failures_total", Help: "Times that access to Kafka could not be looked at or changed."}),
		different: prometheus.NewGauge(prometheus.GaugeOpts{Name: "civicbus_access_differences", Help: "Differences between wanted and actual access at the last look."}),
		unissued:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "civicbus_access_users_missing", Help: "Organisations that have rights on Kafka and no user yet."}),
		warnings:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "civicbus_access_warnings", Help: "Settings of the cluster that open organisations' topics to others."}),
	}
	if reg != nil {
		reg.MustRegister(m.changes, m.failures, m.different, m.unissued, m.warnings)
	}
	return m
}

func (m *Metrics) saw(p Plan) {
	todo := len(p.todo())
	m.different.Set(float64(todo))
	m.unissued.Set(float64(len(p.Differences) - todo))
	m.warnings.Set(float64(len(p.Warnings)))
}
