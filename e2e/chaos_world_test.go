//go:build synctests

package e2e

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/embedded"
	"civicbus/internal/flaw"
	"civicbus/internal/kafka"
	"civicbus/topology"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// chaosPlan is what one run does. The same seed gives the same plan, though not the same run.
type chaosPlan struct {
	seed           uint64
	strikes        int
	nodes, brokers int
	planted        flaw.Flaw
	focus          int // the only strike; -1: all of them
}

func newChaosPlan(seed uint64, strikes int, planted flaw.Flaw) chaosPlan {
	r := rand.New(rand.NewPCG(seed, 4))
	p := chaosPlan{seed: seed, strikes: strikes, nodes: 2 + r.IntN(2), brokers: 1 + r.IntN(3), planted: planted, focus: -1}
	if planted != flaw.None {
		p.nodes, p.brokers = 2, 1
	}
	switch planted {
	case flaw.AckEarly: // a table that is read late while a change is acknowledged at once
		p.focus = strikeHold
	case flaw.ChainInMemory: // transactions that fail
		p.focus = strikeFault
	case flaw.PrefixSkipped: // what an event needs is out of reach
		p.focus = strikeRegistry
	}
	return p
}

// chaosRun is the whole bus in virtual time: nodes with every group, the relay and the keepers, on machines with clocks of
// their own; a calm door; and what is noted of them.
type chaosRun struct {
	chaosPlan
	b        *bus
	rng      *rand.Rand
	net      *kfake.VirtualNetwork
	kafka    *kfake.Cluster
	registry chaosRegistry
	nodes    []*chaosNode
	gone     []*chaosNode
	clocks   map[string]*chaosClock // by instance
	door     *app.Node
	operator *admin.Client
	moves    codecs.EventType // the catalog's row of moves
	stop     context.CancelFunc
	work     sync.WaitGroup
	tally    map[string]int
	faults   []*kfake.FaultHandle
	began    time.Time

	mu           sync.Mutex
	model        chaosModel
	skews        []time.Duration  // that any clock ever had
	versions     map[string]int64 // that a row must have, by table and key
	unregistered bool             // the machines cannot reach the registry
	wrong        []string
}

// everyTable is held when all of them are.
const everyTable = "*"

// chaosNode is one process.
type chaosNode struct {
	id     string
	link   *chaosLink
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	node *app.Node
	held string // the table that its groups do not read; empty: none
}

// chaosClock is a machine's wall clock, which can be set; it goes on over restarts of its processes.
type chaosClock struct {
	mu   sync.Mutex
	skew time.Duration
}

func (c *chaosClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.skew)
}

func (c *chaosClock) set(skew time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew = skew
}

func startChaos(t *testing.T, p chaosPlan) *chaosRun {
	c := &chaosRun{chaosPlan: p, rng: rand.New(rand.NewPCG(p.seed, 1)), net: &kfake.VirtualNetwork{}, tally: map[string]int{}, clocks: map[string]*chaosClock{}, began: time.Now(),
		skews: []time.Duration{0}, versions: map[string]int64{}, model: chaosModel{changes: map[string][]chaosChange{}, events: map[string]*chaosEvent{}}}
	b := &bus{t: t, root: t, nodes: map[string]*node{}, log: &logBuffer{}}
	c.b = b
	c.startBrokers()
	t.Cleanup(c.shutDown)
	still := newLink(c.net)
	c.registry = chaosRegistry{still, embedded.RegistryHandler()}
	b.cfg = app.Config{BusKey: []byte("a bus key for tests, of 32 bytes or more"), AuditKey: []byte("an audit key for tests, of 32 bytes or more"), LeaseAge: time.Second, Session: 6 * time.Second,
		Shape: topology.Shape{Partitions: 2}, Replicas: 1, Heads: 20 * time.Second, Logger: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Connection: kafka.Connection{Brokers: c.kafka.ListenAddrs(), Options: []kgo.Opt{kgo.Dialer(still.dial)}},
		Registry:   codecs.RegistryConfig{URL: "http://registry", Transport: c.registry}}
	b.connect()
	for i := range p.nodes {
		c.nodes = append(c.nodes, c.boot("n"+strconv.Itoa(i)))
	}
	c.door = b.run("door", app.PartKeepers, app.PartHeads).Node
	w := b.smallWorld(func(w *examples.World) {
		for i := range w.Organisations {
			w.Organisations[i].Inbox = w.Organisations[i].ID == register
		}
	})
	c.moves = w.EventTypes[0]
	var err error
	c.operator, err = admin.Dial(context.Background(), admin.Config{Connection: b.cfg.Connection, Registry: b.cfg.Registry, BusKey: b.cfg.BusKey, Logger: b.cfg.Logger})
	b.must(err)
	t.Cleanup(c.operator.Close)
	c.known()
	return c
}

// startBrokers starts Kafka. Asked where a leader epoch ended, this one says "nowhere" as soon as an election was held behind the
// last record, which reads as lost data; Kafka says where. So here it says that nothing was cut off, which is true.
func (c *chaosRun) startBrokers() {
	ports := make([]int, c.brokers)
	for i := range ports {
		ports[i] = 20000 + i
	}
	var err error
	c.kafka, err = kfake.NewCluster(kfake.NumBrokers(c.brokers), kfake.Ports(ports...), kfake.ListenFn(c.net.Listen), kfake.GroupMinSessionTimeout(time.Second),
		kfake.BrokerConfigs(map[string]string{"min.insync.replicas": "1", "default.replication.factor": "1"}))
	c.b.must(err)
	c.kafka.ControlKey(kmsg.OffsetForLeaderEpoch.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.kafka.KeepControl()
		req := r.(*kmsg.OffsetForLeaderEpochRequest)
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
				rp.Partition, rp.LeaderEpoch, rp.EndOffset = p.Partition, p.LeaderEpoch, math.MaxInt32
				if p.CurrentLeaderEpoch < 0 {
					rp.ErrorCode = kerr.UnknownLeaderEpoch.Code
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
}

// known begins the model with what the small world put in effect.
func (c *chaosRun) known() {
	now := time.Now()
	for _, thing := range []string{"law", "trust " + post, "trust " + agency, "active " + postSub, "active " + agencySub, "there " + postSub, "there " + agencySub, "there " + insurerSub} {
		c.model.changes[thing] = []chaosChange{{holds: true, sent: now, acked: now}}
	}
	c.model.subscriptions = []string{agencySub, postSub, insurerSub}
	for key, version := range c.b.tables.newest() {
		c.versions[key[0]+" "+key[1]] = version
	}
}

// boot starts a process from nothing; it tries until it is connected.
func (c *chaosRun) boot(id string) *chaosNode {
	ctx, cancel := context.WithCancel(context.Background())
	n := &chaosNode{id: id, link: newLink(c.net), cancel: cancel, done: make(chan struct{})}
	if c.clocks[id] == nil {
		c.clocks[id] = &chaosClock{}
	}
	cfg := c.b.cfg
	cfg.Connection.Options = []kgo.Opt{kgo.Dialer(n.link.dial)}
	cfg.Registry.Transport = chaosRegistry{n.link, c.registry.handler}
	cfg.Instance, cfg.Now = id, c.clocks[id].now
	cfg.Parts = []string{app.PartRelay, app.PartKeepers}
	for _, g := range topology.Groups {
		cfg.Parts = append(cfg.Parts, g.Name)
	}
	cfg.HoldTable = func(_, topic string, _ int32) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.held == topic || n.held == everyTable
	}
	go func() {
		defer close(n.done)
		for ctx.Err() == nil {
			cfg.Metrics = prometheus.NewRegistry()
			node, err := app.Connect(ctx, cfg)
			if err != nil {
				c.b.pass(time.Second)
				continue
			}
			n.mu.Lock()
			n.node = node
			n.mu.Unlock()
			if err := node.Run(ctx); ctx.Err() == nil {
				c.b.cfg.Logger.Error("process ended by itself and is started again", "instance", id, "error", err)
			}
		}
	}()
	return n
}

func (n *chaosNode) hold(table string) {
	n.mu.Lock()
	n.held = table
	n.mu.Unlock()
}

// shutDown ends every goroutine of the run, after the cleanups of the test.
func (c *chaosRun) shutDown() {
	for _, n := range append(c.nodes, c.gone...) {
		n.hold("")
		n.cancel()
	}
	for _, n := range append(c.nodes, c.gone...) {
		<-n.done
	}
	time.Sleep(3 * time.Minute) // what was dropped in the background
	c.kafka.Close()
	time.Sleep(time.Minute)
}
