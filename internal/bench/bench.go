// Package bench measures civicbus against what a user would use instead, side by side in one run.
//
// Its rules:
//   - The broker is a process of its own, so that what is measured is the client's processor time (getrusage), in
//     microseconds an event.
//   - A figure is a ratio of two sides that did the same work in the same run, one after the other, several times; the
//     median of the runs is quoted. Two cores drift: absolute figures are shown, ratios are meant.
//   - Nothing is simulated: the router that is measured is the node that runs in production, exactly-once and lease on.
package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"syscall"
	"time"
)

// Result is one benchmark's outcome.
type Result struct {
	Name   string  `json:"name"`
	Ratio  float64 `json:"ratio"` // ours / theirs, the median of the runs
	Ours   float64 `json:"ours"`
	Theirs float64 `json:"theirs"`
	Unit   string  `json:"unit"`
	Runs   int     `json:"runs"`

	Interval float64      `json:"interval_ms,omitempty"` // latency: the longest transaction as configured, taken off ours before the ratio
	*Soak                 // of the soak alone
	Stages   []Stage      `json:"stages,omitempty"`   // of the pipeline alone
	Gateway  *GatewayRun  `json:"gateway,omitempty"`  // of the gateway alone
	Delivery *DeliveryRun `json:"delivery,omitempty"` // of delivery alone
}

// Config says where and how much to measure. The zero value of a number takes the default named there.
type Config struct {
	Brokers  []string // of a cluster for this run alone
	Registry string
	Runs     int          // 3
	Events   int          // a run; 60,000
	Types    int          // event types of the router's world, each with 50 subscriptions; 20
	Say      func(string) // progress; nil: none

	// Feed writes so many of the benchmark world's events, from a first one on, to their stream, and returns when Kafka has
	// them. It stands for the source, whose processor time must not count: its own process should do it. nil: this one does.
	Feed func(ctx context.Context, first, n int) error
	// Node runs all groups in a process of its own until stop is called, so that what they take is not the benchmark's; nil: there is
	// none, and they run in this one.
	Node    func(ctx context.Context, instance string) (stop func() error, err error)
	Profile string // a file for the processor profile of our side, of the last run; empty: none

	// Of the soak alone.
	Kills int           // 220
	For   time.Duration // 4 minutes
	Seed  uint64        // 0: a random one, which is said
}

func (c *Config) defaults() {
	if c.Runs == 0 {
		c.Runs = 3
	}
	if c.Events == 0 {
		c.Events = 60_000
	}
	if c.Types == 0 {
		c.Types = 20
	}
	if c.Feed == nil {
		c.Feed = func(ctx context.Context, first, n int) error { return Feed(ctx, *c, first, n) }
	}
	if c.Say == nil {
		c.Say = func(string) {}
	}
}

// profile starts the profile of our side; the function that it returns ends it.
func (c *Config) profile() (stop func() error, err error) {
	if c.Profile == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(c.Profile)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// Benchmark is one comparison.
type Benchmark struct {
	Name, About string
	Run         func(context.Context, Config) (Result, error)
	NoBroker    bool // it measures without a cluster
	Events      int  // its own default; 0: the common one
}

// All lists the benchmarks.
func All() []Benchmark {
	return []Benchmark{
		{Name: "router_vs_copy", About: "processor time an event: the router, five deliveries and a decision, against a blind copy of the same six records", Run: routerVsCopy},
		{Name: "router_vs_goka", About: "processor time an event: the router against a usual goka app (default client, LevelDB, goavro)", Run: routerVsGoka, Events: 40_000},
		{Name: "latency_p50_vs_raw", About: "milliseconds from event to delivery at 1,000 events/s, half of them, against a plain consume-produce loop", Run: latencyP50, Events: 20_000},
		{Name: "latency_p99_vs_raw", About: "the same, 99 of 100, of the same runs", Run: latencyP99, Events: 20_000},
		{Name: "match_100k_vs_10", About: "processor time of a decision: among 100,000 subscriptions against among 10", Run: matchHundredThousand, NoBroker: true, Events: 200_000},
		{Name: "project_vs_goavro", About: "processor time an event: cut for 20 recipients, against goavro's decoding once and encoding for each", Run: projectVsGoavro, NoBroker: true, Events: 10_000},
		{Name: "recovery_vs_leveldb", About: "seconds until a table of a million keys is recovered, against goka's default client and LevelDB", Run: recoveryVsLevelDB, Events: 1_000_000},
		{Name: "memory_per_million", About: "megabytes of memory for a million subjects' consents, a grant each; no comparison", Run: memoryPerMillion, Events: 1_000_000},
		{Name: "soak", About: "violations, no comparison: nodes killed with -9 and started again while events and commands come, held against a model", Run: soak, Events: 104_000},
		{Name: "gateway", About: "processor time and latency of publishing: over HTTP against straight to Kafka; then 1,000 WebSocket readers, ten of them stuck", Run: gatewayBench, Events: 20_000},
		{Name: "delivery", About: "milliseconds from event to webhook, 99 of 100: a hundred receivers of which one never answers, against none", Run: deliveryBench, Events: 4_000},
		{Name: "replay", About: "milliseconds from event to delivery at 1,000 events/s, 99 of 100: with replays at full speed in the same process, against without", Run: replayBench, Events: 10_000},
		{Name: "pipeline", About: "processor time an event, by stage: admission, profile, router, a subscriber's read; no comparison", Run: pipeline, Events: 40_000},
	}
}

// NoBroker tells whether a benchmark measures without a cluster.
func NoBroker(name string) bool {
	return slices.ContainsFunc(All(), func(b Benchmark) bool { return b.Name == name && b.NoBroker })
}

// Run runs one benchmark by its name.
func Run(ctx context.Context, name string, cfg Config) (Result, error) {
	for _, b := range All() {
		if b.Name == name {
			if cfg.Events == 0 {
				cfg.Events = b.Events
			}
			cfg.defaults()
			return b.Run(ctx, cfg)
		}
	}
	return Result{}, fmt.Errorf("there is no benchmark %q", name)
}

// processorTime is what this process has used so far, user and system.
func processorTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
