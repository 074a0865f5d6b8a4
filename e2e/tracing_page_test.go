package e2e

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"civicbus/e2e/realcluster"
	"civicbus/internal/tracing/tracingtest"
)

// TestTracingPage does what docs/tracing.md says, block by block, beside a collector, which then has what the page says.
func TestTracingPage(t *testing.T) {
	long(t)
	if realcluster.FromEnv() != nil {
		t.Skip("the page is about the embedded cluster")
	}
	for _, needed := range []string{"sh", "curl"} {
		if !installed(needed) {
			t.Skipf("the page's blocks need %s, and there is none", needed)
		}
	}
	t.Parallel()
	collector := tracingtest.Start(t)
	r := newTour(t)
	r.build()
	r.file = "docs/tracing.md"
	r.address["127.0.0.1:4318"] = strings.TrimPrefix(collector.URL, "http://")
	r.env = append(r.env, "OTEL_BSP_SCHEDULE_DELAY=50")
	if ran := r.follow(document(t, r.file)); ran != 4 {
		t.Errorf("%d blocks of the page were run", ran)
	}
	trace, err := hex.DecodeString("0af7651916cd43dd8448eb211c80319c")
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(within)
	for _, name := range []string{"admission", "admitted publish", "admitted process", "life.address process"} {
		for ; !collector.Has(trace, name); <-tick.C {
			if time.Now().After(deadline) {
				t.Fatalf("the collector has no %s: %v", name, collector.Sent())
			}
		}
	}
}
