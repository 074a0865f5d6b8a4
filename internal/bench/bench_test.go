package bench

import (
	"context"
	"os"
	"testing"
	"time"

	"civicbus/internal/embedded"
)

// small is what each benchmark is run with by the test that keeps it from rotting. Nothing is asserted on time. One that is
// missing is run elsewhere.
var small = map[string]int{"router_vs_copy": 3_000, "memory_per_million": 1_000, "router_vs_goka": 3_000, "latency_p50_vs_raw": 100, "latency_p99_vs_raw": 100, "match_100k_vs_10": 100, "project_vs_goavro": 10, "recovery_vs_leveldb": 1_000}

// cluster is the embedded one, in this process: enough to run a benchmark, not to measure with.
func cluster(t testing.TB) *embedded.Cluster {
	c, err := embedded.Start(context.Background(), embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func runSmall(t testing.TB, name string, runs, events, types int) Result {
	cfg := Config{Runs: runs, Events: events, Types: types, Say: func(text string) { t.Log(text) }}
	if !NoBroker(name) {
		c := cluster(t)
		cfg.Brokers, cfg.Registry = c.Brokers(), c.RegistryURL()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	r, err := Run(ctx, name, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// long skips a benchmark's run that .ci/run makes, and that would make the usual run of all tests longer than one waits for it.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("CIVICBUS_TEST_LONG") == "" {
		t.Skip("only with CIVICBUS_TEST_LONG")
	}
}

func TestBenchmarksRun(t *testing.T) {
	for name, events := range small {
		t.Run(name, func(t *testing.T) {
			if !NoBroker(name) {
				long(t)
				if name != "memory_per_million" { // which looks at the heap of the process
					t.Parallel() // they wait for groups most of the time
				}
			}
			r := runSmall(t, name, 1, events, 2)
			if r.Name != name || r.Unit == "" || r.Runs != 1 || r.Ours <= 0 && r.Theirs <= 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// BenchmarkRatios runs those that need no broker at their own size; with one in this process, ratios would say nothing.
func BenchmarkRatios(b *testing.B) {
	for _, one := range All() {
		if !one.NoBroker {
			continue
		}
		b.Run(one.Name, func(b *testing.B) {
			var r Result
			for range b.N {
				r = runSmall(b, one.Name, 3, one.Events, 0)
			}
			b.ReportMetric(r.Ratio, "ratio")
			b.ReportMetric(r.Ours, "ours_us")
			b.ReportMetric(r.Theirs, "theirs_us")
		})
	}
}

// TestTheCutIsGoavros compares both sides' bytes for each recipient; the benchmark does so itself before it measures.
func TestTheCutIsGoavros(t *testing.T) {
	w, err := newRecipients()
	if err != nil {
		t.Fatal(err)
	}
	sets := map[int64]bool{}
	for _, v := range w.verdicts {
		sets[v.FieldSet] = true
	}
	if len(sets) != recipients {
		t.Errorf("%d field sets of %d recipients", len(sets), recipients)
	}
}
