// Package e2e runs whole stories through civicbus: on the embedded cluster by default, on the cluster that
// CIVICBUS_TEST_BROKERS and CIVICBUS_TEST_REGISTRY name otherwise. Every topic and group there must be civicbus's own.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/e2e/realcluster"
	"civicbus/internal/admission"
	"civicbus/internal/app"
	"civicbus/internal/embedded"
	"civicbus/internal/pseudonym"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// bus is a cluster with civicbus on it, and what a test does with it.
type bus struct {
	t         *testing.T        // the subtest that runs now
	root      *testing.T        // the test that the cluster lives as long as
	cluster   *embedded.Cluster // nil on a real one
	cfg       app.Config
	keys      *pseudonym.Keys
	registry  *codecs.Registry
	records   *codecs.Records
	client    *kgo.Client
	admin     *kadm.Client
	decisions *tape[codecs.Decision]
	results   *tape[codecs.CommandResult]
	letters   *tape[codecs.DeadLetter]
	tables    *tableTape
	log       *logBuffer
	spans     *tracetest.InMemoryExporter // nil: nothing is traced

	mu    sync.Mutex
	nodes map[string]*node
	hold  func(group, topic string, partition int32) bool
	pub   *admission.Publisher
	from  *node // that pub belongs to
}

// within bounds every wait of the suite; nothing waits longer than it must.
const within = slowness * 60 * time.Second

// start makes a cluster, sets it up and starts one node with everything.
func start(t *testing.T, change ...func(*app.Config)) *bus {
	t.Helper()
	b := prepare(t, change...)
	b.run("a")
	return b
}

// prepare makes a cluster and sets it up, and starts nothing. Tests on clusters of their own run beside each other; the
// real one has one user at a time.
func prepare(t *testing.T, change ...func(*app.Config)) *bus {
	t.Helper()
	b := newBus(t)
	if real := realcluster.FromEnv(); real != nil {
		b.cfg.Connection.Brokers, b.cfg.Registry.URL = real.Brokers, real.Registry
		b.cfg.Shape.Compact = true
	} else {
		t.Parallel()
		b.embed(embedded.Config{Logger: b.cfg.Logger})
	}
	for _, c := range change {
		c(&b.cfg)
	}
	b.connect()
	return b
}

// newBus is a bus without a cluster.
func newBus(t *testing.T) *bus {
	b := &bus{t: t, root: t, nodes: map[string]*node{}, log: &logBuffer{}}
	var out io.Writer = b.log
	if os.Getenv("CIVICBUS_TEST_LOG") != "" {
		out = io.MultiWriter(b.log, os.Stderr)
	}
	b.cfg = app.Config{BusKey: []byte("a bus key for tests, of 32 bytes or more"), AuditKey: []byte("an audit key for tests, of 32 bytes or more"), LeaseAge: slowness * 400 * time.Millisecond, Session: 6 * time.Second,
		Shape: topology.Shape{Partitions: 4}, Replicas: 1, Logger: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	b.cfg.HoldTable = func(group, topic string, p int32) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.hold != nil && b.hold(group, topic, p)
	}
	return b
}

// embed starts an embedded cluster, which lives as long as the test.
func (b *bus) embed(cfg embedded.Config) {
	b.t.Helper()
	c, err := embedded.Start(b.t.Context(), cfg)
	b.must(err)
	b.t.Cleanup(func() { b.must(c.Close()) })
	b.cluster, b.cfg.Connection.Brokers, b.cfg.Registry.URL = c, c.Brokers(), c.RegistryURL()
}

func (b *bus) connect() {
	b.t.Helper()
	ctx := b.t.Context()
	var err error
	b.client, err = b.cfg.Connection.Client()
	b.must(err)
	b.t.Cleanup(b.client.Close)
	b.admin = kadm.NewClient(b.client)
	if real := realcluster.FromEnv(); b.cluster == nil && real != nil && slices.Equal(real.Brokers, b.cfg.Connection.Brokers) { // what an earlier test left
		wiping, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		b.must(real.Wipe(wiping))
	}
	_, err = app.Apply(ctx, b.cfg)
	b.must(err)
	b.keys, err = pseudonym.NewKeys(b.cfg.BusKey)
	b.must(err)
	b.registry, err = codecs.NewRegistry(b.cfg.Registry)
	b.must(err)
	b.records = codecs.NewRecords()
	b.must(b.records.Bind(ctx, b.registry))
	b.decisions = record(b, topology.Decisions.Name, b.records.Decision)
	b.results = record(b, topology.CommandResults.Name, b.records.CommandResult)
	b.letters = record(b, topology.DeadLetters.Name, b.records.DeadLetter)
	b.tables = recordTables(b)
}

// sub runs a subtest on the bus.
func (b *bus) sub(name string, f func()) {
	whole := b.t
	whole.Run(name, func(t *testing.T) {
		b.t = t
		defer func() { b.t = whole }()
		f()
	})
}

func (b *bus) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// eventually waits for a condition.
func (b *bus) eventually(what string, ok func() bool) {
	b.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			b.t.Fatalf("not within %s: %s\n%s", within, what, b.state())
		}
	}
}

// pass lets time go by where the protocol itself is a matter of time: the lease's age after a change, and how long
// something must not happen.
func (b *bus) pass(d time.Duration) {
	select {
	case <-time.After(d):
	case <-b.t.Context().Done():
	}
}

// state is what helps to understand a wait that did not end.
func (b *bus) state() string {
	var s strings.Builder
	b.mu.Lock()
	for _, n := range b.nodes {
		fmt.Fprintf(&s, "node %s: %v\n", n.name, n.Ready())
	}
	b.mu.Unlock()
	for _, l := range b.letters.all() {
		fmt.Fprintf(&s, "dead letter: %s %s %s\n", l.Cause, l.Group, l.Detail)
	}
	s.WriteString(b.log.tail(4000))
	return s.String()
}

// withhold makes groups read no more of the table partitions for which hold is true; nil: none.
func (b *bus) withhold(hold func(group, topic string, partition int32) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hold = hold
}

// publish publishes CloudEvents JSON as the organisation and returns what became of each event.
func (b *bus) publish(organisation string, events ...[]byte) []admission.Answer {
	b.t.Helper()
	var inputs []*admission.Input
	for in, err := range admission.ReadEvents(bytes.NewReader(bytes.Join(events, []byte("\n"))), organisation) {
		b.must(err)
		inputs = append(inputs, in)
	}
	return b.publisher().Publish(b.t.Context(), organisation, inputs)
}

// accept publishes and demands that all is accepted.
func (b *bus) accept(organisation string, events ...[]byte) {
	b.t.Helper()
	for i, a := range b.publish(organisation, events...) {
		if a.Status != admission.Accepted {
			b.t.Fatalf("event %d: %s %v %v", i, a.Status, a.Faults, a.Err)
		}
	}
}

func (b *bus) publisher() *admission.Publisher {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pub == nil {
		for _, n := range b.nodes {
			p, err := n.Publisher()
			if err == nil {
				b.pub, b.from = p, n
				break
			}
		}
	}
	if b.pub == nil {
		b.t.Fatal("no node can publish")
	}
	return b.pub
}

// logBuffer keeps the log, for the canary scan and for failures.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) tail(n int) string {
	s := l.String()
	return s[max(0, len(s)-n):]
}
