package app

import (
	"civicbus/internal/admission"
	"civicbus/internal/kafka"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a node, besides those of its engines and of admission. Labels: group, kind, outcome and what (closed lists).
type metrics struct {
	engine    *kafka.Metrics
	admission *admission.Metrics
	decisions *prometheus.CounterVec // civicbus_decisions_total{kind,outcome}: one for each event record
	restarts  *prometheus.CounterVec // civicbus_group_restarts_total{group}: times a group was started again after it failed
	journeys  *prometheus.CounterVec // civicbus_journeys_total{what}: what group journey did; a transaction that was tried again counts again
}

func newMetrics(reg *prometheus.Registry) *metrics {
	m := &metrics{
		engine:    kafka.NewMetrics(reg),
		admission: admission.NewMetrics(reg),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_decisions_total", Help: "Decisions by kind and outcome; a transaction that was tried again counts again."}, []string{"kind", "outcome"}),
		restarts:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_group_restarts_total", Help: "Times a group was started again after it failed."}, []string{"group"}),
		journeys:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_journeys_total", Help: "What group journey did: subjects notified, journeys closed, confirmations handed on, events refused by admission, inputs that had no room, rows expired."}, []string{"what"}),
	}
	reg.MustRegister(m.decisions, m.restarts, m.journeys)
	return m
}

func (m *metrics) decided(kind, outcome string) { m.decisions.WithLabelValues(kind, outcome).Inc() }
func (m *metrics) restarted(group string)       { m.restarts.WithLabelValues(group).Inc() }
func (m *metrics) journey(what string)          { m.journeys.WithLabelValues(what).Inc() }
