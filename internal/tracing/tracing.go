// Package tracing makes OpenTelemetry spans of events on their way through civicbus: their admission, each group that handles
// them, each attempt at a webhook. Everything that a span says is in this file.
//
// Its rules:
//   - A trace is continued by a W3C traceparent, in the header of a record on a topic inside the bus. What was handled in a
//     transaction becomes spans once that has committed.
//   - A span names topics, partitions, offsets, groups, organisations, subscriptions, event types of the catalog and reasons of
//     closed lists. No key, no subject by whatever name, no id of an event, no text of one, no URL.
//   - Nothing of a trace leaves for a subscriber: two of them could tell by it that they were told of one event, and so join the
//     people whom their pseudonyms keep apart (DESIGN.md 3.7).
//   - Of what comes from outside only the traceparent is taken: its tracestate is text of somebody else's.
//   - A nil *Tracer makes no spans and writes no header.
package tracing

import (
	"context"
	"errors"
	"time"

	"civicbus/codecs"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kotel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.18.0" // kotel's
	"go.opentelemetry.io/otel/trace"
)

// Tracer makes spans. It is safe for concurrent use.
type Tracer struct {
	provider trace.TracerProvider
	tracer   trace.Tracer
}

// New is a tracer whose spans go to a provider.
func New(provider trace.TracerProvider) *Tracer {
	return &Tracer{provider, provider.Tracer("civicbus")}
}

// Producing makes a client write a span for each record that it produces, in the trace of the record's context, and that trace
// into the record's header. What it consumes gets none.
func (t *Tracer) Producing() []kgo.Opt {
	if t == nil {
		return nil
	}
	return []kgo.Opt{kgo.WithHooks(producing{t.publisher()})}
}

func (t *Tracer) publisher() *kotel.Tracer {
	return kotel.NewTracer(kotel.TracerProvider(t.provider), kotel.TracerPropagator(parent{}), kotel.KeyFormatter(keyless))
}

var errKey = errors.New("a key may be a subject")

// keyless keeps keys out of spans, where kotel would write each.
func keyless(*kgo.Record) (string, error) { return "", errKey }

// producing is the half of kotel's tracer that is about what is produced: it would make a span of each record that is fetched too,
// as often as it is fetched.
type producing struct{ spans *kotel.Tracer }

func (p producing) OnProduceRecordBuffered(r *kgo.Record) { p.spans.OnProduceRecordBuffered(r) }
func (p producing) OnProduceRecordUnbuffered(r *kgo.Record, err error) {
	p.spans.OnProduceRecordUnbuffered(r, err)
}

// Admitting begins the span of one event's admission, in the trace that the traceparent names; a new one where it names none.
// Call end once, with what became of the event: its status, the reason of a refusal, and, of an accepted one alone, its type.
func (t *Tracer) Admitting(ctx context.Context, traceparent, organisation string) (_ context.Context, end func(status, reason, eventType string)) {
	if t == nil {
		return ctx, func(string, string, string) {}
	}
	ctx = parent{}.Extract(ctx, propagation.MapCarrier{codecs.HeaderTrace: traceparent})
	ctx, span := t.tracer.Start(ctx, "admission", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("civicbus.organisation", organisation)))
	return ctx, func(status, reason, eventType string) {
		span.SetAttributes(attribute.String("civicbus.status", status))
		if reason != "" {
			span.SetAttributes(attribute.String("civicbus.reason", reason))
		}
		if eventType != "" {
			span.SetAttributes(attribute.String("civicbus.event_type", eventType))
		}
		span.End()
	}
}

// Handled makes spans of records that a group has handled in a transaction which began at a time and has just committed. A record
// without a trace, or whose trace is not sampled, gets none.
func (t *Tracer) Handled(group string, records []*kgo.Record, began time.Time) {
	if t == nil {
		return
	}
	for _, r := range records {
		t.done(r, r.Topic+" process", trace.SpanKindConsumer, began, "", semconv.MessagingSystemKey.String("kafka"), semconv.MessagingOperationProcess,
			semconv.MessagingSourceName(r.Topic), semconv.MessagingKafkaSourcePartition(int(r.Partition)), semconv.MessagingKafkaMessageOffsetKey.Int64(r.Offset),
			semconv.MessagingKafkaConsumerGroupKey.String(group))
	}
}

// Attempt is an attempt at a webhook.
type Attempt struct {
	Subscription   string
	Number, Status int    // Status is that of the receiver's answer; 0: there was none
	Outcome, Cause string // of closed lists
	Began          time.Time
	Failed         bool
}

// Attempted makes the span of an attempt at a delivery that has just ended. The delivery may be nil, where it is not kept any more.
func (t *Tracer) Attempted(r *kgo.Record, a Attempt) {
	if t == nil || r == nil {
		return
	}
	failed := ""
	if a.Failed {
		failed = a.Outcome
	}
	t.done(r, "webhook attempt", trace.SpanKindClient, a.Began, failed, attribute.String("civicbus.subscription", a.Subscription), attribute.Int("civicbus.attempt", a.Number),
		attribute.String("civicbus.outcome", a.Outcome), attribute.String("civicbus.cause", a.Cause), attribute.Int("http.response.status_code", a.Status))
}

// done makes a span, in the trace of a record, of something that began at a time and ends now; failed says of what, empty: of nothing.
func (t *Tracer) done(r *kgo.Record, name string, kind trace.SpanKind, began time.Time, failed string, attributes ...attribute.KeyValue) {
	ctx := parent{}.Extract(context.Background(), kotel.NewRecordCarrier(r))
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return
	}
	_, span := t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(began), trace.WithAttributes(attributes...))
	if failed != "" {
		span.SetStatus(codes.Error, failed)
	}
	span.End()
}

// parent is W3C Trace Context without its tracestate.
type parent struct{}

func (parent) Inject(ctx context.Context, c propagation.TextMapCarrier) {
	propagation.TraceContext{}.Inject(ctx, only{c})
}

func (parent) Extract(ctx context.Context, c propagation.TextMapCarrier) context.Context {
	return propagation.TraceContext{}.Extract(ctx, only{c})
}

func (parent) Fields() []string { return []string{codecs.HeaderTrace} }

// only shows of a carrier the traceparent.
type only struct{ propagation.TextMapCarrier }

func (o only) Get(key string) string {
	if key != codecs.HeaderTrace {
		return ""
	}
	return o.TextMapCarrier.Get(key)
}

func (o only) Set(key, value string) {
	if key == codecs.HeaderTrace {
		o.TextMapCarrier.Set(key, value)
	}
}
