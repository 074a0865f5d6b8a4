package admission

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"civicbus/codecs"
)

// bus is an in-process Kafka with the world around it.
type bus struct {
	*world
	t       *testing.T
	cluster *kfake.Cluster
	client  *kgo.Client
	letters *codecs.Record[codecs.DeadLetter]
	lease   *testLease
	flaky   *flakySchemas
	log     *logged

	mu      sync.Mutex
	inboxes []string
}

func newBus(t *testing.T, opts ...kfake.Opt) *bus {
	t.Helper()
	cluster, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1),
		kfake.SeedTopics(2, "inbox.dvv.fi", "inbox.prh.fi"), kfake.SeedTopics(4, AdmittedTopic), kfake.SeedTopics(1, DeadLettersTopic))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	var b *bus
	t.Cleanup(func() {
		if holdsAny(b.log.text.String()) {
			t.Error("a national id was logged")
		}
	})
	b = &bus{world: newWorld(t), t: t, cluster: cluster, letters: boundLetters(t), lease: newLease(), log: &logged{}, inboxes: []string{"dvv.fi", "prh.fi"}}
	b.flaky = &flakySchemas{Schemas: b.registry}
	b.resolver = NewResolver(b.flaky, nil)
	b.door.Belongs = b.resolver.Belongs
	b.client, err = kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.Close)
	return b
}

// testLease is fresh, or confirmed too long ago, or lost, as the test says.
type testLease struct {
	mu   sync.Mutex
	age  time.Duration // of the confirmation
	lost bool
	turn chan struct{} // closed at each change
	used atomic.Int64
}

func newLease() *testLease { return &testLease{turn: make(chan struct{})} }

func (l *testLease) Fresh() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used.Add(1)
	return time.Now().Add(-l.age), !l.lost
}

func (l *testLease) Wait(ctx context.Context) error {
	for {
		l.mu.Lock()
		lost, turn := l.lost, l.turn
		l.mu.Unlock()
		if !lost {
			return ctx.Err()
		}
		select {
		case <-turn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *testLease) set(lost bool, age time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost, l.age = lost, age
	close(l.turn)
	l.turn = make(chan struct{})
}

// flakySchemas is a registry that can be out of reach.
type flakySchemas struct {
	Schemas
	down   atomic.Bool
	hidden atomic.Int32 // a schema id that is out of reach alone
	asked  atomic.Int64
}

var errDown = fmt.Errorf("connection refused")

func (f *flakySchemas) Cached(id int32) (*codecs.Schema, bool) {
	if f.down.Load() || f.hidden.Load() == id {
		return nil, false
	}
	return f.Schemas.Cached(id)
}

func (f *flakySchemas) Load(ctx context.Context, id int32) (*codecs.Schema, error) {
	f.asked.Add(1)
	if f.down.Load() || f.hidden.Load() == id {
		return nil, errDown
	}
	return f.Schemas.Load(ctx, id)
}

func (f *flakySchemas) Latest(ctx context.Context, s string) (*codecs.Schema, error) {
	if f.down.Load() {
		return nil, errDown
	}
	return f.Schemas.Latest(ctx, s)
}

func (f *flakySchemas) Versions(ctx context.Context, s string) ([]*codecs.Schema, error) {
	if f.down.Load() {
		return nil, errDown
	}
	return f.Schemas.Versions(ctx, s)
}

// wires is a network that can be cut: what is open breaks, what is dialled fails.
type wires struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (w *wires) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return nil, io.ErrClosedPipe
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err == nil {
		w.conns = append(w.conns, conn)
	}
	return conn, err
}

// sever breaks what is open; for good says whether new connections fail too.
func (w *wires) sever(forGood bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = w.cut || forGood
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// mend lets new connections through again.
func (w *wires) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}

// logged keeps what is logged, for tests that wait for it or look for what must not be there.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) holds(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// running is a relay at work.
type running struct {
	stop  func() error // and waits for the end
	wires *wires
}

func (b *bus) relay(instance string, change ...func(*RelayConfig)) *running {
	b.t.Helper()
	w := &wires{}
	cfg := RelayConfig{
		Options:  []kgo.Opt{kgo.SeedBrokers(b.cluster.ListenAddrs()...), kgo.Dialer(w.dial), kgo.RequestRetries(5), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond })},
		Instance: instance, Door: b.door, Resolver: b.resolver, Tables: b.tables, Lease: b.lease, Letters: b.letters,
		Inboxes:     func() []string { b.mu.Lock(); defer b.mu.Unlock(); return slices.Clone(b.inboxes) },
		LeaseAge:    5 * time.Second, // the machine that tests run on may be slow; the lease has its own test
		TopicsEvery: 50 * time.Millisecond, RetryEvery: 50 * time.Millisecond, UnknownAfter: time.Second, Session: 6 * time.Second,
		Logger: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&cfg)
	}
	r, err := NewRelay(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	var result error
	run := &running{wires: w, stop: func() error {
		once.Do(func() { cancel(); result = <-done })
		return result
	}}
	b.t.Cleanup(func() { _ = run.stop() })
	return run
}

// send writes one record into an inbox, after those before it.
func (b *bus) send(topic string, partition int32, in *Input) {
	b.t.Helper()
	rec := &kgo.Record{Topic: topic, Partition: partition, Value: in.Value}
	for _, name := range sortedNames(in.Attributes) {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "ce_" + name, Value: []byte(in.Attributes[name])})
	}
	if err := b.client.ProduceSync(context.Background(), rec).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bus) births(partition int32, from, to int) {
	b.t.Helper()
	for i := from; i < to; i++ {
		in := b.birth(b.t, child, mother)
		in.Attributes["id"] = fmt.Sprintf("p%d-%d", partition, i)
		b.send("inbox.dvv.fi", partition, in)
	}
}

// committed reads a topic from its start until it holds n committed records, or fails after 30 s.
func (b *bus) committed(topic string, n int) []*kgo.Record {
	b.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.cluster.ListenAddrs()...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		b.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			b.t.Fatalf("%s holds %d committed records after 30 s, want %d", topic, len(records), n)
		}
		fetches.EachRecord(func(r *kgo.Record) { records = append(records, r) })
	}
	return records
}

// all reads every committed record of a topic; whoever writes it has stopped.
func (b *bus) all(topic string) []*kgo.Record {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ends, err := kadm.NewClient(b.client).ListEndOffsets(ctx, topic)
	if err != nil {
		b.t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.cluster.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		b.t.Fatal(err)
	}
	defer cl.Close()
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	var records []*kgo.Record
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			b.t.Fatalf("%s cannot be read to its end: a transaction is open, %v", topic, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return records
}

func recordHeader(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// onceInOrder checks that every birth p{partition}-{0..n-1} is there once for each of its two subjects, and in order.
func (b *bus) onceInOrder(records []*kgo.Record, partitions, n int) {
	b.t.Helper()
	next := map[string]int{} // by subject and inbox partition
	for _, r := range records {
		id := recordHeader(r, "ce_id")
		var p, i int
		if _, err := fmt.Sscanf(id, "p%d-%d", &p, &i); err != nil {
			b.t.Fatalf("unexpected event %q", id)
		}
		lane := string(r.Key) + "/" + fmt.Sprint(p)
		if i != next[lane] {
			b.t.Fatalf("inbox partition %d: event %d follows where %d should", p, i, next[lane])
		}
		next[lane]++
	}
	if len(next) != 2*partitions {
		b.t.Fatalf("events of %d lanes, want %d", len(next), 2*partitions)
	}
	for lane, got := range next {
		if got != n {
			b.t.Errorf("%s: %d events, want %d", lane[strings.IndexByte(lane, '/')+1:], got, n)
		}
	}
}

// until waits for what has no signal of its own.
func (b *bus) until(what string, done func() bool) {
	b.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	give := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-give:
			b.t.Fatal("not within 30 s: " + what)
		}
	}
}
