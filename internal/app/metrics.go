package app

import (
	"civicbus/internal/admission"
	"civicbus/internal/kafka"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a node, besides those of its engines and of admission. Labels: group, kind and outcome (closed lists).
type metrics struct {
	engine    *kafka.Metrics
	admission *admission.Metrics
	decisions *prometheus.CounterVec // civicbus_decisions_total{kind,outcome}: one for each event record
	restarts  *prometheus.CounterVec // civicbus_group_restarts_total{group}: times a group was started again after it failed
}

func newMetrics(reg *prometheus.Registry) *metrics {
	m := &metrics{
		engine:    kafka.NewMetrics(reg),
		admission: admission.NewMetrics(reg),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_decisions_total", Help: "Decisions by kind and outcome; a transaction that was tried again counts again."}, []string{"kind", "outcome"}),
		restarts:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_group_restarts_total", Help: "Times a group was started again after it failed."}, []string{"group"}),
	}
	reg.MustRegister(m.decisions, m.restarts)
	return m
}

func (m *metrics) decided(kind, outcome string) { m.decisions.WithLabelValues(kind, outcome).Inc() }
func (m *metrics) restarted(group string)       { m.restarts.WithLabelValues(group).Inc() }
