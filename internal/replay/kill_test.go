package replay_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/app"
	"civicbus/internal/gateway/gatewaytest"
	"civicbus/internal/replay"
	"civicbus/internal/tables"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// killsVariable says how many times a replay is killed; without it a few times, and the other tests are shorter too.
const killsVariable = "CIVICBUS_TEST_REPLAY_KILLS"

// process is one process's network: after so many writes it is cut for good, whatever it was in the middle of.
type process struct {
	mu    sync.Mutex
	left  int // writes until the cut; negative: none comes
	dead  bool
	died  chan struct{}
	conns []net.Conn
}

var errDead = errors.New("the process is dead")

func newProcess(writes int) *process { return &process{left: writes, died: make(chan struct{})} }

// dies says after how many more writes the process dies.
func (p *process) dies(writes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = writes
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

func (p *process) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		_ = c.Close()
		return nil, errDead
	}
	p.conns = append(p.conns, c)
	return &wire{c, p}, nil
}

type wire struct {
	net.Conn
	p *process
}

// Write is the last one that comes through, or half of one, when the process dies.
func (w *wire) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if w.p.dead {
		return 0, errDead
	}
	if w.p.left--; w.p.left != 0 {
		return w.Conn.Write(b)
	}
	if rand.IntN(2) == 0 {
		_, _ = w.Conn.Write(b) // it arrives, and its answer does not
	} else {
		_, _ = w.Conn.Write(b[:len(b)/2])
	}
	w.p.dead = true
	for _, c := range w.p.conns {
		_ = c.Close()
	}
	close(w.p.died)
	return 0, errDead
}

// TestKilledAtRandomMoments: whoever carries a replay out is cut off the network at a random write, again and again, and
// another goes on. Each delivery comes once, with the id that it had; nothing comes that is not permitted.
func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	kills := 3
	if text := os.Getenv(killsVariable); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	without := func(c *app.Config) { // nobody carries replays out but this test
		for _, p := range app.Parts() {
			if p != topology.Replay.Name && p != app.PartGateway && p != app.PartAccess && p != topology.Delivery.Name {
				c.Parts = append(c.Parts, p)
			}
		}
	}
	const people = 10
	events := 4 + 2*kills
	b := newBus(t, 2, people, events, without)
	const withdrawn = 3
	for p := range withdrawn {
		b.Consent(gatewaytest.Withdraw(p, gatewaytest.Subscriber(0)))
	}
	gone := map[string]bool{}
	for p := range withdrawn {
		sealed, err := b.Keys.For(gatewaytest.Subscriber(0)).Seal(b.Subject(p))
		b.Must(err)
		gone[sealed] = true
	}
	want := map[string]int{}
	for _, r := range b.once[topicOf(0)] {
		if !gone[header(r, codecs.HeaderSubject)] {
			want[header(r, codecs.HeaderID)] = 1
		}
	}
	row := codecs.Replay{ID: "killed", Version: 2, Subscriber: gatewaytest.Subscriber(0), Subscription: gatewaytest.Subscription(0), Rate: 50, Status: "running", StartedAt: codecs.Millis(time.Now())}
	var err error
	row.Scan, err = replay.Scan(t.Context(), b.Admin.Kafka(), &row)
	b.Must(err)
	value, err := b.Records.Replay.Encode(&row)
	b.Must(err)
	client, err := b.Config.Connection.Client()
	b.Must(err)
	defer client.Close()
	b.Must(client.ProduceSync(t.Context(), &kgo.Record{Topic: topology.TableTopic(topology.Replay.Name), Key: []byte(row.ID), Value: value}).FirstErr())

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	run := func(p *process) {
		cfg := b.config()
		cfg.Connection.Options = append(cfg.Connection.Options, kgo.Dialer(p.dial))
		world, err := tables.NewWorld(cfg.Connection, cfg.Registry, cfg.Records, cfg.Age, slog.New(slog.DiscardHandler))
		if p.isDead() { // already
			return
		}
		b.Must(err)
		running.Go(func() { world.Run(ctx) })
		r, err := replay.NewRunner(replay.RunnerConfig{Config: cfg, Tables: world})
		if p.isDead() {
			return
		}
		b.Must(err)
		running.Go(func() { _ = r.Run(ctx) }) // a dead one goes on believing that it is alive
	}
	progress := func() replay.Progress {
		p, err := replay.ProgressOf(context.Background(), b.Admin.Kafka(), &row)
		b.Must(err)
		return p
	}
	killed, undone := 0, 0
	for ; killed < kills; killed++ {
		p, before := newProcess(20+rand.IntN(200)), progress()
		if inside := killed%4 != 0; inside { // after it has sent something, and so in the middle of a transaction or between two
			p.dies(-1)
			run(p)
			b.Eventually("something is sent", func() bool { return progress().Verdicts > before.Verdicts })
			p.dies(1 + rand.IntN(40))
		} else { // while it takes over, reads and learns
			run(p)
		}
		select {
		case <-p.died:
		case <-time.After(30 * time.Second):
			t.Fatalf("process %d did not die; progress %+v", killed, progress())
		}
		if at := progress(); at.Looked < at.Total {
			undone++
		}
	}
	run(newProcess(-1))
	b.Eventually("the replay is done", func() bool {
		p := progress()
		return p.Looked == p.Total
	})
	t.Logf("killed %d times, %d before the end", killed, undone)
	if undone < kills*3/4 {
		t.Error("it was not killed in the middle often enough")
	}
	again := b.deliveries(0, true)
	if got := ids(again); !maps.Equal(got, want) {
		missing, more := 0, 0
		for id := range want {
			if got[id] == 0 {
				missing++
			}
		}
		for id, n := range got {
			more += n - want[id]
		}
		t.Errorf("%d deliveries of %d: %d missing, %d too many or not permitted", len(again), len(want), missing, more)
	}
	order := map[string][]string{}
	for _, r := range b.once[topicOf(0)] {
		if s := header(r, codecs.HeaderSubject); !gone[s] {
			order[s] = append(order[s], header(r, codecs.HeaderID))
		}
	}
	for _, r := range again {
		s := header(r, codecs.HeaderSubject)
		if len(order[s]) == 0 || order[s][0] != header(r, codecs.HeaderID) {
			t.Fatalf("subject %s is out of order", s)
		}
		order[s] = order[s][1:]
	}
	decisions := b.Decisions("replay")
	if len(decisions) != people*events {
		t.Errorf("%d decisions, want %d", len(decisions), people*events)
	}
	if p := progress(); p.Verdicts != int64(people*events) || p.Sent != int64(len(want)) || count(p.Counts, "grant_withdrawn") != int64(withdrawn*events) {
		t.Errorf("progress %+v", p)
	}
	if other := b.deliveries(1, true); len(other) != 0 {
		t.Errorf("%d deliveries to somebody else", len(other))
	}
}
