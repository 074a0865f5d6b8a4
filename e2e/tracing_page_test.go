package e2e

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/e2e/realcluster"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// TestTracingPage does what docs/tracing.md says, block by block, beside a collector that knows what it was sent.
func TestTracingPage(t *testing.T) {
	if realcluster.FromEnv() != nil {
		t.Skip("the page is about the embedded cluster")
	}
	for _, needed := range []string{"sh", "curl"} {
		if !installed(needed) {
			t.Skipf("the page's blocks need %s, and there is none", needed)
		}
	}
	t.Parallel()
	var mu sync.Mutex
	sent := map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		var body io.Reader = q.Body
		if q.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(q.Body)
		}
		raw, err := io.ReadAll(body)
		request := new(collector.ExportTraceServiceRequest)
		if err != nil || proto.Unmarshal(raw, request) != nil {
			t.Errorf("what the collector is sent cannot be read: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, r := range request.GetResourceSpans() {
			for _, s := range r.GetScopeSpans() {
				for _, span := range s.GetSpans() {
					sent[hex.EncodeToString(span.GetTraceId())+" "+span.GetName()] = true
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	r := newTour(t)
	r.build()
	r.file = "docs/tracing.md"
	r.address["127.0.0.1:4318"] = strings.TrimPrefix(server.URL, "http://")
	r.env = append(r.env, "OTEL_BSP_SCHEDULE_DELAY=50")
	if ran := r.follow(document(t, r.file)); ran != 4 {
		t.Errorf("%d blocks of the page were run", ran)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, name := range []string{"admission", "admitted publish", "admitted process", "life.address process"} {
		for deadline := time.Now().Add(within); ; <-tick.C {
			mu.Lock()
			there := sent["0af7651916cd43dd8448eb211c80319c "+name]
			mu.Unlock()
			if there {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the collector has no %s: %v", name, sent)
			}
		}
	}
}
