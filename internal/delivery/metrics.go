package delivery

import (
	"sync/atomic"
	"time"

	"civicbus/codecs"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Metrics counts what senders do. Labels: outcome and cause (closed lists), state (of a breaker).
type Metrics struct {
	attempts *prometheus.CounterVec // civicbus_webhook_attempts_total{outcome,cause}: attempts, and what came of them
	took     prometheus.Histogram   // civicbus_webhook_attempt_seconds: of an attempt
	waited   prometheus.Histogram   // civicbus_webhook_delivery_seconds: from when a delivery began to wait until it was taken
	event    prometheus.Histogram   // civicbus_event_webhook_seconds: from when admission let an event in until a receiver took its delivery; not of what was redriven or replayed
	letters  *prometheus.CounterVec // civicbus_webhook_dead_letters_total{cause}: deliveries that became dead letters
	waiting  *prometheus.Desc       // civicbus_webhook_waiting_deliveries: in the partitions that this process holds
	oldest   *prometheus.Desc       // civicbus_webhook_oldest_waiting_seconds: how long the oldest of them has waited; 0: none waits
	breakers *prometheus.Desc       // civicbus_webhook_breakers{state}: receivers that this process has tried

	sender atomic.Pointer[Sender] // nil while none runs
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_webhook_attempts_total", Help: "Attempts to deliver to webhooks, by what came of them."}, []string{"outcome", "cause"}),
		took:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "civicbus_webhook_attempt_seconds", Help: "Time that an attempt took.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 16)}),
		waited:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "civicbus_webhook_delivery_seconds", Help: "Time from when a delivery began to wait until its receiver took it.", Buckets: prometheus.ExponentialBuckets(0.005, 4, 13)}),
		event:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "civicbus_event_webhook_seconds", Help: "Time from when admission let an event in until a webhook took its delivery; not of what was redriven or replayed.", Buckets: prometheus.ExponentialBuckets(0.005, 4, 13)}),
		letters:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_webhook_dead_letters_total", Help: "Webhook deliveries that became dead letters; a transaction that was tried again counts again."}, []string{"cause"}),
		waiting:  prometheus.NewDesc("civicbus_webhook_waiting_deliveries", "Webhook deliveries that wait in the partitions of this process.", nil, nil),
		oldest:   prometheus.NewDesc("civicbus_webhook_oldest_waiting_seconds", "How long the oldest of them has waited.", nil, nil),
		breakers: prometheus.NewDesc("civicbus_webhook_breakers", "Webhooks by the state of their breaker.", []string{"state"}, nil),
	}
	reg.MustRegister(m.attempts, m.took, m.waited, m.event, m.letters, m)
	return m
}

// Describe is of prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.waiting
	out <- m.oldest
	out <- m.breakers
}

// Collect is of prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	waiting, oldest, states := 0, time.Duration(0), map[string]int{}
	if s := m.sender.Load(); s != nil {
		waiting, oldest, states = s.backlog()
	}
	out <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(waiting))
	out <- prometheus.MustNewConstMetric(m.oldest, prometheus.GaugeValue, oldest.Seconds())
	for _, state := range []string{BreakerClosed, BreakerHalfOpen, BreakerOpen} {
		out <- prometheus.MustNewConstMetric(m.breakers, prometheus.GaugeValue, float64(states[state]), state)
	}
}

// backlog is what waits, how long the oldest has, and how many receivers there are by the state of their breaker.
func (q *queue) backlog() (waiting int, oldest time.Duration, states map[string]int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.s.cfg.Now()
	for _, r := range q.rows {
		waiting += len(r.waiting)
		for i := range r.waiting {
			oldest = max(oldest, now.Sub(time.UnixMilli(r.waiting[i].Since)))
		}
	}
	states = map[string]int{}
	for _, e := range q.ends {
		states[e.state(now)]++
	}
	return waiting, oldest, states
}

// Buried counts a dead letter; m may be nil.
func (m *Metrics) Buried(cause string) {
	if m != nil {
		m.letters.WithLabelValues(cause).Inc()
	}
}

func (m *Metrics) watch(s *Sender) {
	if m != nil {
		m.sender.Store(s)
	}
}

func (m *Metrics) attempted(r *codecs.DeliveryReport) {
	if m != nil {
		m.attempts.WithLabelValues(r.Outcome, r.Cause).Inc()
		m.took.Observe(float64(r.Millis) / 1000)
	}
}

// delivered measures a delivery that was taken just now.
func (m *Metrics) delivered(r *kgo.Record, since, now time.Time) {
	if m == nil {
		return
	}
	m.waited.Observe(now.Sub(since).Seconds())
	if at, ok := codecs.RecordedAt(len(r.Headers), func(i int) (string, []byte) { return r.Headers[i].Key, r.Headers[i].Value }); ok {
		m.event.Observe(max(0, now.Sub(at).Seconds()))
	}
}
