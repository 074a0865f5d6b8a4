package app

import (
	"time"

	"civicbus/codecs"
	"civicbus/internal/admission"
	"civicbus/internal/kafka"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// metrics of a node, besides those of its engines and of admission. Labels: group, kind, outcome and what (closed lists).
type metrics struct {
	engine    *kafka.Metrics
	admission *admission.Metrics
	decisions *prometheus.CounterVec // civicbus_decisions_total{kind,outcome}: one for each event record
	restarts  *prometheus.CounterVec // civicbus_group_restarts_total{group}: times a group was started again after it failed
	decided   prometheus.Histogram   // civicbus_event_decision_seconds: from when admission let an event in until its decision committed, and its deliveries to topics with it; of each partition in each transaction the oldest event, not of what was redriven
	journeys  *prometheus.CounterVec // civicbus_journeys_total{what}: what group journey did; a transaction that was tried again counts again
}

func newMetrics(reg *prometheus.Registry, leaseAge time.Duration) *metrics {
	m := &metrics{
		engine:    kafka.NewMetrics(reg),
		admission: admission.NewMetrics(reg),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_decisions_total", Help: "Decisions by kind and outcome; a transaction that was tried again counts again."}, []string{"kind", "outcome"}),
		restarts:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_group_restarts_total", Help: "Times a group was started again after it failed."}, []string{"group"}),
		decided:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "civicbus_event_decision_seconds", Help: "Time from when admission let an event in until its decision committed, and its deliveries to topics with it; of each partition in each transaction the oldest event, not of what was redriven.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 18)}),
		journeys:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_journeys_total", Help: "What group journey did: subjects notified, journeys closed, confirmations handed on or denied, events refused by admission, inputs that had no room, rows expired."}, []string{"what"}),
	}
	lease := prometheus.NewGauge(prometheus.GaugeOpts{Name: "civicbus_lease_seconds", Help: "The lease's age: so long after a changed row can be read, nobody decides on the one before any more."})
	lease.Set(leaseAge.Seconds())
	reg.MustRegister(m.decisions, m.decided, m.restarts, m.journeys, lease)
	return m
}

func (m *metrics) decision(kind, outcome string) { m.decisions.WithLabelValues(kind, outcome).Inc() }
func (m *metrics) restarted(group string)        { m.restarts.WithLabelValues(group).Inc() }
func (m *metrics) journey(what string)           { m.journeys.WithLabelValues(what).Inc() }

// routed measures what the router has decided of a partition in a transaction.
func (m *metrics) routed(records []*kgo.Record) {
	r := records[0]
	if at, ok := codecs.RecordedAt(len(r.Headers), func(i int) (string, []byte) { return r.Headers[i].Key, r.Headers[i].Value }); ok {
		m.decided.Observe(max(0, time.Since(at).Seconds()))
	}
}
