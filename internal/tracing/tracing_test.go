package tracing

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/tracing/tracingtest"

	"github.com/twmb/franz-go/pkg/kgo"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
	sampled = "00-" + traceID + "-" + spanID + "-01"
	passed  = "00-" + traceID + "-" + spanID + "-00" // not sampled
	secret  = "010184-900X"
)

func record(traceparent string) *kgo.Record {
	return &kgo.Record{Topic: "life.birth", Partition: 3, Offset: 7, Key: []byte("k1." + secret), Value: []byte(secret), Headers: []kgo.RecordHeader{
		{Key: "ce_subject", Value: []byte(secret)}, {Key: codecs.HeaderTrace, Value: []byte(traceparent)}, {Key: "tracestate", Value: []byte("fi=" + secret)}}}
}

func recorded(t *testing.T) (*Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	return New(provider), spans
}

func TestSpans(t *testing.T) {
	tracer, spans := recorded(t)
	began := time.Now().Add(-time.Second)
	tracer.Handled("router", []*kgo.Record{record(sampled), record(passed), record(""), record("00-" + secret + "-01")}, began)
	tracer.Attempted(record(sampled), Attempt{Subscription: "sub", Number: 2, Status: 503, Outcome: "failed", Cause: "status", Began: began, Failed: true})
	tracer.Attempted(nil, Attempt{Outcome: "not_kept"})
	_, end := tracer.Admitting(t.Context(), sampled, "dvv.fi")
	end("refused", "type_not_allowed", "")
	all := spans.GetSpans()
	var got []string
	for _, s := range all {
		got = append(got, fmt.Sprintf("%s %s %s", s.Name, s.SpanKind, s.Status.Description))
		if s.SpanContext.TraceID().String() != traceID || s.Parent.SpanID().String() != spanID {
			t.Errorf("%s is of trace %s, below %s", s.Name, s.SpanContext.TraceID(), s.Parent.SpanID())
		}
	}
	if want := "[life.birth process consumer  webhook attempt client failed admission server ]"; fmt.Sprint(got) != want {
		t.Errorf("spans %q, want %q", fmt.Sprint(got), want)
	}
	if s := all[0]; !s.StartTime.Equal(began) || !s.EndTime.After(began) {
		t.Errorf("from %s to %s, want from %s to now", s.StartTime, s.EndTime, began)
	}
	if text := fmt.Sprintf("%+v", all); strings.Contains(text, secret) {
		t.Errorf("a span tells of a person: %s", text)
	}
}

// TestProducing goes through kotel's own hooks: the record gets the trace of its context, and no span its key.
func TestProducing(t *testing.T) {
	tracer, spans := recorded(t)
	ctx, end := tracer.Admitting(t.Context(), sampled, "dvv.fi")
	end("accepted", "", "fi.test.birth")
	r := record("")
	r.Headers, r.Context = nil, ctx
	p := producing{tracer.publisher()}
	p.OnProduceRecordBuffered(r)
	p.OnProduceRecordUnbuffered(r, nil)
	all := spans.GetSpans()
	if len(all) != 2 || all[1].Name != "life.birth publish" || all[1].Parent.SpanID() != all[0].SpanContext.SpanID() {
		t.Fatalf("spans %+v", all)
	}
	if want := "00-" + traceID + "-" + all[1].SpanContext.SpanID().String() + "-01"; len(r.Headers) != 1 || string(r.Headers[0].Value) != want {
		t.Errorf("headers %v, want the trace %s alone", r.Headers, want)
	}
	if text := fmt.Sprintf("%+v", all); strings.Contains(text, secret) {
		t.Errorf("a span tells of a person: %s", text)
	}
}

// TestOff: without a tracer nothing is done, and nothing allocated.
func TestOff(t *testing.T) {
	var off *Tracer
	if opts := off.Producing(); opts != nil {
		t.Errorf("%d options", len(opts))
	}
	records := []*kgo.Record{record(sampled)}
	if n := testing.AllocsPerRun(100, func() {
		off.Handled("router", records, time.Time{})
		off.Attempted(records[0], Attempt{})
		_, end := off.Admitting(context.Background(), sampled, "dvv.fi")
		end("accepted", "", "")
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestStart sends to a collector, as OpenTelemetry's environment says.
func TestStart(t *testing.T) {
	collector := tracingtest.Start(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_SERVICE_NAME", "bus of a test")
	log := slog.New(slog.DiscardHandler)
	tracer, stop, err := Start(t.Context(), "node-1", os.Getenv, log)
	if err != nil {
		t.Fatal(err)
	}
	tracer.Handled("router", []*kgo.Record{record(sampled)}, time.Now())
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id, _ := hex.DecodeString(traceID); !collector.Has(id, "life.birth process") {
		t.Fatalf("sent %v", collector.Sent())
	}
	about := map[string]string{}
	for _, a := range collector.Sent()[0].GetResource().GetAttributes() {
		about[a.GetKey()] = a.GetValue().GetStringValue()
	}
	if about["service.name"] != "bus of a test" || about["service.instance.id"] != "node-1" {
		t.Errorf("about %v", about)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	if _, _, err := Start(t.Context(), "node-1", os.Getenv, log); err == nil || !strings.Contains(err.Error(), "http/protobuf") {
		t.Errorf("a protocol that is not spoken: %v", err)
	}
}
