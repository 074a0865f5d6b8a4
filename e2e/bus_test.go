// Package e2e runs whole stories through civicbus: on the embedded cluster by default, on the cluster that
// CIVICBUS_TEST_BROKERS and CIVICBUS_TEST_REGISTRY name otherwise. Every topic and group there must be civicbus's own.
package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/e2e/realcluster"
	"civicbus/examples"
	"civicbus/internal/admission"
	"civicbus/internal/app"
	"civicbus/internal/embedded"
	"civicbus/internal/pseudonym"
	"civicbus/internal/refdata"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// bus is a cluster with civicbus on it, and what a test does with it.
type bus struct {
	t         *testing.T
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
	log       *logBuffer

	mu    sync.Mutex
	nodes map[string]*node
	hold  func(group, topic string, partition int32) bool
	pub   *admission.Publisher
}

// within bounds every wait of the suite; nothing waits longer than it must.
const within = 60 * time.Second

// start makes a cluster, sets it up and starts one node with everything.
func start(t *testing.T, change ...func(*app.Config)) *bus {
	t.Helper()
	b := prepare(t, change...)
	b.run("a")
	return b
}

// prepare makes a cluster and sets it up, and starts nothing.
func prepare(t *testing.T, change ...func(*app.Config)) *bus {
	t.Helper()
	b := &bus{t: t, nodes: map[string]*node{}, log: &logBuffer{}}
	var out io.Writer = b.log
	if os.Getenv("CIVICBUS_TEST_LOG") != "" {
		out = io.MultiWriter(b.log, os.Stderr)
	}
	b.cfg = app.Config{BusKey: []byte("a bus key for tests, of 32 bytes or more"), LeaseAge: time.Second, Session: 6 * time.Second,
		Shape: topology.Shape{Partitions: 4}, Replicas: 1, Logger: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	b.cfg.HoldTable = func(group, topic string, p int32) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.hold != nil && b.hold(group, topic, p)
	}
	if real := realcluster.FromEnv(); real != nil {
		b.cfg.Connection.Brokers, b.cfg.Registry.URL = real.Brokers, real.Registry
		b.cfg.Shape.Compact = true
	} else {
		c, err := embedded.Start(t.Context(), embedded.Config{})
		b.must(err)
		t.Cleanup(func() { b.must(c.Close()) })
		b.cluster, b.cfg.Connection.Brokers, b.cfg.Registry.URL = c, c.Brokers(), c.RegistryURL()
	}
	for _, c := range change {
		c(&b.cfg)
	}
	b.connect()
	return b
}

func (b *bus) connect() {
	b.t.Helper()
	ctx := b.t.Context()
	var err error
	b.client, err = b.cfg.Connection.Client()
	b.must(err)
	b.t.Cleanup(b.client.Close)
	b.admin = kadm.NewClient(b.client)
	if b.cluster == nil {
		b.wipe()
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
}

// wipe deletes what an earlier test left on a real cluster: topics, groups and registry subjects that civicbus made.
func (b *bus) wipe() {
	b.t.Helper()
	ctx := b.t.Context()
	groups, err := b.admin.ListGroups(ctx)
	b.must(err)
	b.eventually("earlier groups are deleted", func() bool {
		_, _ = b.admin.DeleteGroups(ctx, groups.Groups()...)
		left, err := b.admin.ListGroups(ctx)
		return err == nil && len(left) == 0
	})
	topics, err := b.admin.ListTopics(ctx)
	b.must(err)
	_, err = b.admin.DeleteTopics(ctx, topics.Names()...)
	b.must(err)
	b.eventually("earlier topics are deleted", func() bool {
		l, err := b.admin.ListTopics(ctx)
		return err == nil && len(l) == 0
	})
}

// run starts a node; the test ends it if nobody did before.
func (b *bus) run(instance string, parts ...string) *node {
	b.t.Helper()
	cfg := b.cfg
	cfg.Instance, cfg.Parts, cfg.Metrics = instance, parts, nil
	n, err := app.Connect(b.t.Context(), cfg)
	b.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	nd := &node{Node: n, b: b, name: instance, cancel: cancel, done: make(chan error, 1)}
	go func() { nd.done <- n.Run(ctx) }()
	b.mu.Lock()
	b.nodes[instance] = nd
	b.mu.Unlock()
	b.t.Cleanup(nd.stop)
	return nd
}

type node struct {
	*app.Node
	b      *bus
	name   string
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
}

// stop ends a node in an orderly way.
func (n *node) stop() {
	n.once.Do(func() {
		n.cancel()
		select {
		case err := <-n.done:
			if err != nil {
				n.b.t.Errorf("node %s: %v", n.name, err)
			}
		case <-time.After(within):
			n.b.t.Errorf("node %s does not stop", n.name)
		}
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

// world loads the example world's schemas and reference data, and waits until all is in effect.
func (b *bus) world() *examples.World {
	b.t.Helper()
	w, err := examples.Load()
	b.must(err)
	for subject, schema := range w.Schemas {
		_, err := b.registry.Register(b.t.Context(), subject, schema)
		b.must(err)
	}
	var a []*order
	for i := range w.Organisations {
		a = append(a, b.trust(&w.Organisations[i]))
	}
	for i := range w.EventTypes {
		a = append(a, b.catalog(&w.EventTypes[i]))
	}
	b.inEffect(a...)
	a = nil
	for i := range w.Subscriptions {
		a = append(a, b.subscription("put", "operator:anna", w.Subscriptions[i]))
	}
	b.inEffect(a...)
	b.approve(w.Subscriptions)
	b.inEffect(b.consents(w.Consents...)...)
	b.publisher()
	return w
}

// approve approves what is pending, and waits until all are active and in effect.
func (b *bus) approve(subs []codecs.Subscription) {
	b.t.Helper()
	var a []*order
	for _, s := range subs {
		if r := b.row(s.ID); r.Status == "pending" {
			a = append(a, b.subscription("approve", "operator:bertil", codecs.Subscription{ID: s.ID}))
		}
	}
	b.inEffect(a...)
	for _, s := range subs {
		b.eventually("subscription "+s.ID+" is active", func() bool { return b.row(s.ID).Status == "active" })
	}
	time.Sleep(b.cfg.LeaseAge)
}

// order is a command that was sent.
type order struct {
	id, what string
}

func send[T any](b *bus, stream topology.Stream, key string, record *codecs.Record[T], cmd *T, id, what string) *order {
	b.t.Helper()
	value, err := record.Encode(cmd)
	b.must(err)
	b.must(b.client.ProduceSync(b.t.Context(), &kgo.Record{Topic: stream.Name, Key: []byte(key), Value: value}).FirstErr())
	return &order{id, what}
}

func meta(actor string) codecs.Meta {
	var id [8]byte
	_, _ = rand.Read(id[:])
	return codecs.Meta{ID: hex.EncodeToString(id[:]), Actor: actor, IssuedAt: time.Now().UnixMilli()}
}

func (b *bus) trust(o *codecs.Organisation) *order {
	m := meta("operator:anna")
	return send(b, topology.TrustCommands, o.ID, b.records.TrustCommand, &codecs.TrustCommand{Meta: m, Kind: "put", Organisation: *o}, m.ID, "put "+o.ID)
}

func (b *bus) catalog(e *codecs.EventType) *order {
	m := meta("operator:anna")
	return send(b, topology.CatalogCommands, e.Type, b.records.CatalogCommand, &codecs.CatalogCommand{Meta: m, Kind: "put", EventType: *e}, m.ID, "put "+e.Type)
}

func (b *bus) subscription(kind, actor string, s codecs.Subscription) *order {
	m := meta(actor)
	return send(b, topology.SubscriptionCommands, s.ID, b.records.SubscriptionCommand, &codecs.SubscriptionCommand{Meta: m, Kind: kind, Subscription: s, Reason: reasonOf(kind)}, m.ID, kind+" "+s.ID)
}

func reasonOf(kind string) string {
	switch kind {
	case "pause", "revoke":
		return "requested"
	}
	return ""
}

func (b *bus) consents(cs ...refdata.Consent) []*order {
	b.t.Helper()
	var all []*order
	for _, c := range cs {
		all = append(all, b.consent(b.subject(c.Subject.Scheme, c.Subject.ID), c.Command))
	}
	return all
}

func (b *bus) consent(subject string, cmd codecs.ConsentCommand) *order {
	cmd.Meta = meta("person")
	return send(b, topology.ConsentCommands, subject, b.records.ConsentCommand, &cmd, cmd.Meta.ID, cmd.Kind)
}

func (b *bus) subject(scheme, id string) string {
	b.t.Helper()
	canonical, err := pseudonym.Canonicalise(scheme, id)
	b.must(err)
	return b.keys.Subject(scheme, canonical)
}

// result waits for a command's answer.
func (b *bus) result(o *order) codecs.CommandResult {
	b.t.Helper()
	var r codecs.CommandResult
	b.eventually("an answer to "+o.what, func() (ok bool) {
		r, ok = b.results.find(func(_ string, r *codecs.CommandResult) bool { return r.CommandID == o.id })
		return ok
	})
	return r
}

// inEffect waits until the commands are accepted and acknowledged (DESIGN.md 3.2).
func (b *bus) inEffect(orders ...*order) {
	b.t.Helper()
	for _, o := range orders {
		if r := b.result(o); r.Status != "accepted" {
			b.t.Fatalf("%s: refused: %s %v", o.what, r.Reason, r.Faults)
		}
	}
	time.Sleep(b.cfg.LeaseAge)
}

// row is a subscription's row now.
func (b *bus) row(id string) codecs.Subscription {
	b.t.Helper()
	var s codecs.Subscription
	for _, r := range b.read("subscription-table") {
		if string(r.Key) == id && r.Value != nil {
			var err error
			s, err = b.records.Subscription.Decode(r.Value)
			b.must(err)
		}
	}
	return s
}

// read reads what is committed on a topic now.
func (b *bus) read(topic string) []*kgo.Record {
	b.t.Helper()
	cl, err := b.cfg.Connection.Client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	b.must(err)
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(b.t.Context(), topic)
	b.must(err)
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	ctx, cancel := context.WithTimeout(b.t.Context(), within)
	defer cancel()
	var all []*kgo.Record
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		b.must(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				all = append(all, r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return all
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

func (b *bus) publisher() *admission.Publisher {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pub == nil {
		for _, n := range b.nodes {
			p, err := n.Publisher()
			if err == nil {
				b.pub = p
				b.t.Cleanup(p.Close)
				break
			}
		}
	}
	if b.pub == nil {
		b.t.Fatal("no node can publish")
	}
	return b.pub
}

// tape records what is committed on a topic from the start on.
type tape[T any] struct {
	mu   sync.Mutex
	keys []string
	list []T
}

func record[T any](b *bus, topic string, codec *codecs.Record[T]) *tape[T] {
	b.t.Helper()
	cl, err := b.cfg.Connection.Client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond))
	b.must(err)
	tp := &tape[T]{}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, r := range cl.PollFetches(ctx).Records() {
				v, err := codec.Decode(r.Value)
				if err != nil {
					b.t.Errorf("read %s: %v", topic, err)
					continue
				}
				tp.mu.Lock()
				tp.keys, tp.list = append(tp.keys, string(r.Key)), append(tp.list, v)
				tp.mu.Unlock()
			}
		}
	}()
	b.t.Cleanup(func() { cancel(); <-done; cl.Close() })
	return tp
}

func (t *tape[T]) all() []T {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]T(nil), t.list...)
}

func (t *tape[T]) find(ok func(key string, v *T) bool) (v T, found bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.list) - 1; i >= 0; i-- {
		if ok(t.keys[i], &t.list[i]) {
			return t.list[i], true
		}
	}
	return v, false
}

func (t *tape[T]) count(ok func(*T) bool) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.list {
		if ok(&t.list[i]) {
			n++
		}
	}
	return n
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

func (l *logBuffer) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()
	return s[max(0, len(s)-n):]
}
