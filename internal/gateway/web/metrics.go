package web

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the interface. Labels are closed lists: a route's id, a status, a problem's code.
type metrics struct {
	requests *prometheus.CounterVec   // civicbus_gateway_requests_total{route,status}
	seconds  *prometheus.HistogramVec // civicbus_gateway_request_seconds{route}: until the answer was written; streams are not in it
	problems *prometheus.CounterVec   // civicbus_gateway_problems_total{code}
	streams  *prometheus.GaugeVec     // civicbus_gateway_open_streams{route}
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_gateway_requests_total", Help: "Requests by route and status."}, []string{"route", "status"}),
		seconds:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "civicbus_gateway_request_seconds", Help: "Time until the answer was written, of requests that are no streams."}, []string{"route"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_gateway_problems_total", Help: "Problems answered, by code."}, []string{"code"}),
		streams:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "civicbus_gateway_open_streams", Help: "Streams that are open."}, []string{"route"}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.seconds, m.problems, m.streams)
	}
	return m
}

func (m *metrics) answered(route string, status int, stream bool, took time.Duration) {
	if route == "" {
		route = "none"
	}
	if status == 0 {
		status = http.StatusOK
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	if !stream {
		m.seconds.WithLabelValues(route).Observe(took.Seconds())
	}
}
