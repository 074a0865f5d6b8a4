package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.18.0"
)

// Start is a tracer for a whole process: its spans go out by OTLP over HTTP, in batches, and what is not taken is dropped. Where
// they go, which are sampled and what the process is called is OpenTelemetry's own to say, in the environment
// (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, ...), which its libraries read; getenv reads the same. instance
// tells processes apart. stop sends what has not been sent yet.
func Start(ctx context.Context, instance string, getenv func(name string) string, log *slog.Logger) (_ *Tracer, stop func(context.Context) error, err error) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if v := getenv(name); !slices.Contains([]string{"", "http/protobuf"}, v) {
			return nil, nil, fmt.Errorf("send traces: %s is %q, want http/protobuf, which is all that civicbus speaks", name, v)
		}
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("send traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName("civicbus"), semconv.ServiceInstanceID(instance)), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("send traces: %w", err), exporter.Shutdown(ctx))
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces are lost", "error", err) }))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return New(provider), provider.Shutdown, nil
}
