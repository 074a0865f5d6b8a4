package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/app"
	"civicbus/internal/tracing"
	"civicbus/processors/delivery"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// TestTraces follows events by their traces: from an inbox to a subscriber's topic, and, through a receiver that fails once, to a
// webhook, and through a replay to it once more. No span tells of whom an event was, and no subscriber is told of a trace.
func TestTraces(t *testing.T) {
	const (
		published = "0af7651916cd43dd8448eb211c80319c" // by a caller whose event names it
		relayed   = "4bf92f3577b34da6a3ce929d0e0e4736" // by a Kafka client that traces
		passed    = "11111111111111111111111111111111" // whose first sender took no sample of it
	)
	spans := tracetest.NewInMemoryExporter()
	var c clock
	b := start(t, webhooks(&c), func(cfg *app.Config) {
		cfg.Tracer = tracing.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))
	})
	b.spans = spans
	t.Cleanup(func() {
		for _, trace := range []string{published, relayed, passed} {
			if t.Failed() {
				t.Logf("trace %s has %v", trace, b.traced(trace))
			}
		}
	})
	r := b.receive()
	b.smallWorld(r.hooked(postSub), func(w *examples.World) {
		for i := range w.Organisations {
			w.Organisations[i].Inbox = w.Organisations[i].ID == register
		}
	})
	who, other := person(1), person(2)
	b.inEffect(b.grantPost(who), b.grantPost(other))
	traced := func(event []byte, trace, flags string) []byte {
		return append([]byte(`{"traceparent":"00-`+trace+"-b7ad6b7169203331-"+flags+`",`), event[1:]...)
	}
	r.answers(func(taken) int { return http.StatusServiceUnavailable })
	b.accept(register, traced(moved("published", who, "1"), published, "01"), traced(moved("passed", who, "2"), passed, "00"))
	b.eventually("an attempt", func() bool { w := b.waiting(who); return len(w) == 2 && w[0].Attempts == 1 })
	r.answers(nil)
	c.forward(2 * delivery.Wait("", 1))
	b.eventually("nothing waits", func() bool { return b.waiting(who) == nil })
	b.must(b.client.ProduceSync(b.t.Context(), &kgo.Record{Topic: topology.InboxTopicName(register), Value: moved("relayed", other, "3"), Headers: []kgo.RecordHeader{
		{Key: "content-type", Value: []byte("application/cloudevents+json")}, {Key: codecs.HeaderTrace, Value: []byte("00-" + relayed + "-00f067aa0ba902b7-01")},
		{Key: "tracestate", Value: []byte("fi=" + other)}}}).FirstErr())
	b.decision("relayed", other)
	b.eventually("the receiver has what was relayed", func() bool { return len(b.takenAbout(r, post, postSub, other)) == 1 })

	way := []string{"admission", "admitted publish", "admitted process profile", "life.address process router", "webhook-deliveries process delivery"}
	b.replay("again", postSub)
	again := append(slices.Clone(way), "webhook-deliveries process delivery", "webhook attempt 204")
	for trace, want := range map[string][]string{
		published: append(slices.Clone(again), "webhook attempt 503", "webhook attempt 204"),
		relayed:   append(slices.Clone(again), "webhook attempt 204"),
		passed:    nil,
	} {
		slices.Sort(want)
		b.eventually(fmt.Sprintf("trace %s has %v", trace, want), func() bool { return slices.Equal(b.traced(trace), want) })
	}
	b.noTrace(nil, who, other, "Venla", "Mäkinen")
	for metric, labels := range map[string]map[string]string{
		"civicbus_event_decision_seconds": {}, "civicbus_event_webhook_seconds": {},
		"civicbus_group_handled_seconds": {"group": "consent"}, "civicbus_table_read_seconds": {"group": "router", "table": "consent-table"},
	} {
		if n := counted(b, b.nodes["a"], metric, func(got map[string]string) bool { return maps.Equal(got, labels) }); n == 0 {
			b.t.Errorf("%s %v has measured nothing", metric, labels)
		}
	}
	b.sub("nothing leaves", func() {
		all := b.deliveries()
		if len(all) != 3 {
			b.t.Errorf("%d deliveries on topics, want 3", len(all))
		}
		for _, d := range all {
			text := fmt.Sprintf("%s %s %s", d.Key, d.Headers, d.Value)
			for _, trace := range []string{"trace", published, relayed, passed} {
				if strings.Contains(text, trace) {
					b.t.Errorf("%s tells its reader of %s", d.Topic, trace)
				}
			}
		}
	})
}

// traced lists the spans of a trace, each of which begins below another one or comes from outside. What the relay publishes it
// may publish again, when its transaction was aborted; both are listed as one.
func (b *bus) traced(trace string) []string {
	b.t.Helper()
	var names []string
	for _, s := range b.spans.GetSpans() {
		if s.SpanContext.TraceID().String() != trace {
			continue
		}
		name := s.Name
		for _, a := range s.Attributes {
			if k := string(a.Key); k == "messaging.kafka.consumer.group" || k == "http.response.status_code" {
				name += " " + a.Value.String()
			}
		}
		names = append(names, name)
		if !s.Parent.IsValid() {
			b.t.Errorf("%s begins a trace of its own", name)
		}
	}
	slices.Sort(names)
	return slices.CompactFunc(names, func(a, b string) bool { return a == b && (a == "admission" || a == "admitted publish") })
}
