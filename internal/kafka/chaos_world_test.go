//go:build synctests

package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	chaosParts = 4
	chaosKeys  = 40
	chaosIn    = "in"
	chaosOut   = "out"
	chaosGroup = "counter"
	chaosTable = "counter-table"
	chaosRules = "rules-table"  // looked up
	chaosGrant = "grants-table" // joined
)

// plan is what one run does; the same seed gives the same plan, though not the same run.
type plan struct {
	seed    uint64
	nodes   int
	brokers int
	events  int
	records int           // most in a transaction
	tick    time.Duration // between two bursts of inputs
	gap     time.Duration // longest time between two events
	slow    int           // of 200 callbacks, so many take 1.2 s
	focus   int           // every other event is this one of strike; -1: none
}

func newPlan(seed uint64, events int) plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := plan{seed: seed, nodes: 1 + r.IntN(3), brokers: 1 + r.IntN(3), events: events, records: []int{1, 7, 50, 1000}[r.IntN(4)],
		tick: time.Duration(100+r.IntN(400)) * time.Millisecond, gap: []time.Duration{3 * time.Second, 8 * time.Second, 20 * time.Second}[r.IntN(3)], slow: max(r.IntN(3)-1, 0), focus: -1}
	if p.records == 1 { // what one node can do then must be more than it is given
		p.tick, p.slow = p.tick+400*time.Millisecond, 0
	}
	return p
}

// chaos is a cluster, the nodes of one group on it, what they are given, and the model of what they must do with it.
type chaos struct {
	plan
	t       *testing.T
	rng     *rand.Rand
	net     *kfake.VirtualNetwork
	cluster *kfake.Cluster
	addrs   []string
	model   *model
	metrics *prometheus.Registry
	engines *Metrics
	admin   *kadm.Client
	calm    Connection // over a network without faults

	nodes   []*chaosNode
	zombies []*chaosNode
	log     ring
	tally   map[string]int
	waiting int // times that a rebalance was found waiting: see unstick
	stop    context.CancelFunc
	done    sync.WaitGroup
}

type chaosNode struct {
	id     string
	nic    *nic
	engine *Engine
	cancel context.CancelFunc
	done   chan error
	ended  bool

	mu    sync.Mutex
	held  bool
	table string // what is held
}

// ring keeps the last lines of what happened, for a run that fails.
type ring struct {
	mu    sync.Mutex
	lines []string
}

func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, strings.TrimSpace(string(p)))
	if len(r.lines) > 1500 {
		r.lines = append([]string(nil), r.lines[500:]...)
	}
	return len(p), nil
}

func (c *chaos) event(what, format string, args ...any) {
	c.tally[what]++
	fmt.Fprintf(&c.log, "%s EVENT %s %s", time.Since(c.model.began).Round(time.Millisecond), what, fmt.Sprintf(format, args...))
}

func newChaos(t *testing.T, p plan) *chaos {
	c := &chaos{plan: p, t: t, rng: rand.New(rand.NewPCG(p.seed, 2)), net: &kfake.VirtualNetwork{}, tally: map[string]int{}}
	var err error
	ports := make([]int, p.brokers)
	for i := range ports {
		ports[i] = 20000 + i
	}
	c.cluster, err = kfake.NewCluster(kfake.NumBrokers(p.brokers), kfake.Ports(ports...), kfake.ListenFn(c.net.Listen), kfake.SeedTopics(chaosParts, chaosIn, chaosOut, chaosTable, chaosRules, chaosGrant))
	if err != nil {
		t.Fatal(err)
	}
	c.addrs = c.cluster.ListenAddrs()
	c.calm = Connection{Brokers: c.addrs, Options: []kgo.Opt{kgo.Dialer(newNIC(c.net, p.seed).dial)}}
	cl := c.client()
	c.admin = kadm.NewClient(cl)
	c.model = newModel(time.Second)
	c.metrics = prometheus.NewRegistry()
	c.engines = NewMetrics(c.metrics)
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	c.writeRules(ctx)
	for i := range p.nodes {
		c.nodes = append(c.nodes, c.boot("n"+strconv.Itoa(i)))
	}
	for _, table := range []string{chaosRules, chaosGrant} {
		c.read(table, func(r *kgo.Record) {
			v, _ := strconv.Atoi(string(r.Value))
			c.model.rule(string(r.Key), v)
		}, ctx)
	}
	c.read(chaosOut, func(r *kgo.Record) { c.model.output(string(r.Key), string(r.Value), r.Offset) }, ctx)
	c.done.Add(1)
	go c.publish(ctx)
	return c
}

func (c *chaos) client(opts ...kgo.Opt) *kgo.Client {
	cl, err := c.calm.Client(opts...)
	if err != nil {
		c.t.Fatal(err)
	}
	return cl
}

func (c *chaos) read(topic string, f func(*kgo.Record), ctx context.Context) {
	cl := c.client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(500*time.Millisecond))
	c.done.Add(1)
	go func() {
		defer c.done.Done()
		defer cl.Close()
		for ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(f)
		}
	}()
}

// publish sends inputs one after another, so that their order in the log is the model's.
func (c *chaos) publish(ctx context.Context) {
	defer c.done.Done()
	cl := c.client(kgo.DefaultProduceTopic(chaosIn))
	defer cl.Close()
	rng := rand.New(rand.NewPCG(c.seed, 3))
	for n := 0; ; {
		select {
		case <-time.After(c.tick):
		case <-ctx.Done():
			return
		}
		for range 1 + rng.IntN(8) {
			key, id := "k"+strconv.Itoa(rng.IntN(chaosKeys)), "m"+strconv.Itoa(n)
			n++
			c.model.publish(key, id)
			if err := cl.ProduceSync(context.Background(), &kgo.Record{Key: []byte(key), Value: []byte(id)}).FirstErr(); err != nil {
				c.model.note("the input itself could not be written: %v", err)
				return
			}
		}
	}
}

// writeRules writes a new version of the rule and of some grants every second or so, and now and then one that it aborts.
func (c *chaos) writeRules(ctx context.Context) {
	rng := rand.New(rand.NewPCG(c.seed, 4))
	write := func(cl *kgo.Client, v int) error {
		if err := cl.BeginTransaction(); err != nil {
			return err
		}
		rs := []*kgo.Record{{Topic: chaosRules, Key: []byte("rule"), Value: []byte(strconv.Itoa(v))}}
		for range 5 {
			rs = append(rs, &kgo.Record{Topic: chaosGrant, Key: []byte("k" + strconv.Itoa(rng.IntN(chaosKeys))), Value: []byte(strconv.Itoa(v))})
		}
		if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
			return err
		}
		if v >= poison {
			return cl.EndTransaction(ctx, kgo.TryAbort)
		}
		return cl.EndTransaction(ctx, kgo.TryCommit)
	}
	first := make(chan struct{})
	c.done.Add(1)
	go func() {
		defer c.done.Done()
		var cl *kgo.Client
		for v := 1; ctx.Err() == nil; {
			if cl == nil {
				cl = c.client(kgo.TransactionalID("rules"), kgo.TransactionTimeout(5*time.Second))
			}
			at := v
			if v > 1 && rng.IntN(3) == 0 {
				at += poison
			}
			if err := write(cl, at); err != nil { // it may have been written all the same, so the number is used up
				cl.Close()
				cl = nil
			}
			if v == 1 {
				close(first)
			}
			v++
			select {
			case <-time.After(time.Duration(200+rng.IntN(1500)) * time.Millisecond):
			case <-ctx.Done():
			}
		}
		if cl != nil {
			cl.Close()
		}
	}()
	<-first
}

// boot starts a process from nothing.
func (c *chaos) boot(id string) *chaosNode {
	n := &chaosNode{id: id, nic: newNIC(c.net, c.rng.Uint64()), done: make(chan error, 1)}
	slowly := rand.New(rand.NewPCG(c.seed, c.rng.Uint64()))
	var mu sync.Mutex
	graph := goka.DefineGroup(chaosGroup,
		goka.Input(chaosIn, new(codec.Bytes), func(ctx goka.Context, msg any) {
			mu.Lock()
			x := slowly.IntN(200)
			mu.Unlock()
			if x < c.slow {
				time.Sleep(1200 * time.Millisecond)
			} else if x < 10 {
				time.Sleep(time.Duration(x) * time.Millisecond)
			}
			decided := time.Now()
			rule, _ := ctx.Lookup(chaosRules, "rule").([]byte)
			var count uint64
			if b, ok := ctx.Value().([]byte); ok {
				count = binary.BigEndian.Uint64(b)
			}
			count++
			ctx.SetValue(binary.BigEndian.AppendUint64(nil, count))
			grant, _ := ctx.Join(chaosGrant).([]byte)
			r, _ := strconv.Atoi(string(rule))
			g, _ := strconv.Atoi(string(grant))
			ctx.Emit(chaosOut, ctx.Key(), fmt.Appendf(nil, "%s %d %d %d %d %s", msg, count, r, g, decided.UnixNano(), id))
		}),
		goka.Lookup(chaosRules, new(codec.Bytes)), goka.Join(chaosGrant, new(codec.Bytes)), goka.Output(chaosOut, new(codec.Bytes)), goka.Persist(new(codec.Bytes)))
	engine, err := NewEngine(GroupConfig{
		Connection: Connection{Brokers: c.addrs, Options: []kgo.Opt{kgo.Dialer(n.nic.dial)}},
		Graph:      graph, Instance: id, LeaseAge: c.model.age, Session: 6 * time.Second, MaxRecords: c.records, Metrics: c.engines,
		Logger: slog.New(slog.NewTextHandler(&c.log, &slog.HandlerOptions{Level: slog.LevelInfo})).With("node", id),
		HoldTable: func(topic string, _ int32) bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.held && topic == n.table
		}})
	if err != nil {
		c.t.Fatal(err)
	}
	n.engine = engine
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() {
		p, err := goka.NewProcessor(nil, graph, engine.Options()...)
		if err == nil {
			err = p.Run(ctx)
		}
		n.done <- errors.Join(err, engine.Close())
	}()
	return n
}

func (n *chaosNode) hold(table string, on bool) {
	n.mu.Lock()
	n.held, n.table = on, table
	n.mu.Unlock()
}

// end waits until the node's processor has ended, and is quick if it had.
func (n *chaosNode) end() (err error, ended bool) {
	if n.ended {
		return nil, true
	}
	select {
	case err = <-n.done:
		n.ended = true
		return err, true
	default:
		return nil, false
	}
}
