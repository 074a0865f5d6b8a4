// Package tracingtest is an OpenTelemetry collector for tests.
package tracingtest

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Collector takes spans by OTLP over HTTP, and keeps them.
type Collector struct {
	URL string

	mu   sync.Mutex
	sent []*spans.ResourceSpans
}

// Start starts a collector; the end of the test stops it.
func Start(t testing.TB) *Collector {
	t.Helper()
	c := new(Collector)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if err := c.take(q); err != nil || q.URL.Path != "/v1/traces" {
			t.Errorf("%s: what the collector is sent cannot be read: %v", q.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

func (c *Collector) take(q *http.Request) (err error) {
	var body io.Reader = q.Body
	if q.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(q.Body); err != nil {
			return err
		}
	}
	raw, err := io.ReadAll(body)
	request := new(collector.ExportTraceServiceRequest)
	if err == nil {
		err = proto.Unmarshal(raw, request)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, request.GetResourceSpans()...)
	return err
}

// Sent is what it was sent so far.
func (c *Collector) Sent() []*spans.ResourceSpans {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.sent)
}

// Has says whether it was sent a span of a name in a trace.
func (c *Collector) Has(trace []byte, name string) bool {
	for _, r := range c.Sent() {
		for _, s := range r.GetScopeSpans() {
			if slices.ContainsFunc(s.GetSpans(), func(s *spans.Span) bool { return s.GetName() == name && slices.Equal(s.GetTraceId(), trace) }) {
				return true
			}
		}
	}
	return false
}
