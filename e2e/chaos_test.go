//go:build synctests

package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admission"
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

const (
	chaosPeople = 8
	chaosStuck  = 30 * time.Second // how old an undecided event may be while nothing is broken
)

// chaosRun is the whole bus in virtual time: nodes with every group, a calm door, and what is noted of them.
type chaosRun struct {
	b        *bus
	rng      *rand.Rand
	net      *kfake.VirtualNetwork
	kafka    *kfake.Cluster
	registry chaosRegistry
	nodes    []*chaosNode
	gone     []*chaosNode
	door     *app.Node
	stop     context.CancelFunc
	work     sync.WaitGroup
	tally    map[string]int

	mu    sync.Mutex
	model chaosModel
	wrong []string
}

type chaosNode struct {
	id     string
	link   *chaosLink
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	node *app.Node
	held string // the table that its groups do not read; empty: none
}

type chaosResult struct {
	wrong, dump string
	virtual     time.Duration
	events      int
	tally       map[string]int
}

func chaosNumber(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

func (c *chaosRun) breach(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wrong) < 20 {
		c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
	}
}

func (c *chaosRun) broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.wrong) > 0
}

// runChaos plants a flaw once the world is set up, and strikes so many times.
func runChaos(t *testing.T, seed uint64, strikes int, planted flaw.Flaw) (res chaosResult) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 9, 1, 8, 0, 0, 0, time.UTC))) // a bubble begins in 2000, before the example world's certificates
		began := time.Now()
		c := startChaos(t, seed)
		flaw.Plant(planted)
		defer flaw.Plant(flaw.None)
		ctx, stop := context.WithCancel(context.Background())
		c.stop = stop
		c.work.Add(2)
		go c.publish(ctx, seed)
		go c.command(ctx, seed)
		for i := 0; i < strikes && !c.broken(); i++ {
			if i%6 == 5 {
				c.calm(fmt.Sprintf("after %d strikes", i))
				continue
			}
			time.Sleep(time.Duration(c.rng.Int64N(int64(4 * time.Second))))
			c.strike()
		}
		if !c.broken() {
			c.calm("at the end")
		}
		stop()
		c.work.Wait()
		if !c.broken() {
			c.settle()
		}
		if !c.broken() {
			c.check()
		}
		res = chaosResult{wrong: strings.Join(c.wrong, "\n"), virtual: time.Since(began), events: len(c.model.events), tally: c.tally}
		if res.wrong != "" {
			res.dump = c.dump()
		}
	})
	return res
}

func startChaos(t *testing.T, seed uint64) *chaosRun {
	c := &chaosRun{rng: rand.New(rand.NewPCG(seed, 1)), net: &kfake.VirtualNetwork{}, tally: map[string]int{},
		model: chaosModel{changes: map[string][]chaosChange{}, events: map[string]chaosEvent{}}}
	b := &bus{t: t, root: t, nodes: map[string]*node{}, log: &logBuffer{}}
	c.b = b
	var err error
	c.kafka, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(20000), kfake.ListenFn(c.net.Listen), kfake.GroupMinSessionTimeout(time.Second),
		kfake.BrokerConfigs(map[string]string{"min.insync.replicas": "1", "default.replication.factor": "1"}))
	b.must(err)
	t.Cleanup(c.shutDown)
	still := newLink(c.net)
	c.registry = chaosRegistry{still, embedded.RegistryHandler()}
	b.cfg = app.Config{BusKey: []byte("a bus key for tests, of 32 bytes or more"), AuditKey: []byte("an audit key for tests, of 32 bytes or more"), LeaseAge: time.Second, Session: 6 * time.Second,
		Shape: topology.Shape{Partitions: 2}, Replicas: 1, Logger: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Connection: kafka.Connection{Brokers: c.kafka.ListenAddrs(), Options: []kgo.Opt{kgo.Dialer(still.dial)}},
		Registry:   codecs.RegistryConfig{URL: "http://registry", Transport: c.registry}}
	b.connect()
	for i := range 2 {
		c.nodes = append(c.nodes, c.boot("n"+strconv.Itoa(i)))
	}
	door := b.run("door", app.PartKeepers)
	c.door = door.Node
	b.smallWorld()
	now := time.Now()
	c.model.changes[post] = []chaosChange{{true, now, now}}
	return c
}

// boot starts a process from nothing; it tries until it is connected.
func (c *chaosRun) boot(id string) *chaosNode {
	ctx, cancel := context.WithCancel(context.Background())
	n := &chaosNode{id: id, link: newLink(c.net), cancel: cancel, done: make(chan struct{})}
	cfg := c.b.cfg
	cfg.Connection.Options = []kgo.Opt{kgo.Dialer(n.link.dial)}
	cfg.Registry.Transport = chaosRegistry{n.link, c.registry.handler}
	cfg.Instance, cfg.Metrics = id, prometheus.NewRegistry()
	for _, g := range topology.Groups {
		cfg.Parts = append(cfg.Parts, g.Name)
	}
	cfg.HoldTable = func(_, topic string, _ int32) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.held == topic
	}
	go func() {
		defer close(n.done)
		for ctx.Err() == nil {
			node, err := app.Connect(ctx, cfg)
			if err != nil {
				c.b.pass(time.Second)
				continue
			}
			n.mu.Lock()
			n.node = node
			n.mu.Unlock()
			_ = node.Run(ctx) // what ended it is in the log, and the loop starts it again
		}
	}()
	return n
}

func (n *chaosNode) hold(table string) {
	n.mu.Lock()
	n.held = table
	n.mu.Unlock()
}

// publish publishes moves one after another, each until it is accepted and sometimes once more.
func (c *chaosRun) publish(ctx context.Context, seed uint64) {
	defer c.work.Done()
	rng := rand.New(rand.NewPCG(seed, 2))
	p, err := c.door.Publisher()
	if err != nil {
		c.breach("publish: %v", err)
		return
	}
	defer p.Close()
	for n := 1; ctx.Err() == nil; n++ {
		c.b.pass(time.Duration(50+rng.IntN(500)) * time.Millisecond)
		e := chaosEvent{id: "move-" + strconv.Itoa(n), who: person(rng.IntN(chaosPeople)), number: n}
		life := c.b.keys.LifeEvent(registerSite, e.id)
		for again := rng.IntN(5) == 0; ; {
			for in, err := range admission.ReadEvents(strings.NewReader(string(moved(e.id, e.who, strconv.Itoa(n)))), register) {
				if err != nil {
					c.breach("read event: %v", err)
					return
				}
				a := p.Publish(context.Background(), register, []*admission.Input{in})[0]
				if a.Status != admission.Accepted {
					c.b.pass(200 * time.Millisecond)
					continue
				}
				e.at = time.Now()
				c.mu.Lock()
				c.model.events[life] = e
				c.mu.Unlock()
			}
			if e.at.IsZero() {
				continue
			}
			if !again {
				break
			}
			again = false
		}
	}
}

// command grants, withdraws, suspends and resumes, one command after another, and notes when each was acknowledged.
func (c *chaosRun) command(ctx context.Context, seed uint64) {
	defer c.work.Done()
	rng := rand.New(rand.NewPCG(seed, 3))
	for ctx.Err() == nil {
		c.b.pass(time.Duration(rng.IntN(1500)) * time.Millisecond)
		key := person(rng.IntN(chaosPeople))
		if rng.IntN(4) == 0 {
			key = post
		}
		holds := true
		c.mu.Lock()
		if all := c.model.changes[key]; len(all) > 0 {
			holds = !all[len(all)-1].holds
		}
		at := len(c.model.changes[key])
		c.model.changes[key] = append(c.model.changes[key], chaosChange{holds: holds, sent: time.Now()})
		c.mu.Unlock()
		o := c.send(key, holds, at)
		var version int64
		if !c.until(4*time.Minute, func() bool {
			r, ok := c.b.results.find(func(_ string, r *codecs.CommandResult) bool { return r.CommandID == o.id })
			if ok && r.Status != "accepted" {
				c.breach("%s was refused: %s", o.what, r.Reason)
			}
			version = r.Version
			return ok && c.b.tables.version(o.table, o.key) >= version
		}) {
			c.breach("%s is not in effect after four minutes", o.what)
			return
		}
		time.Sleep(c.b.cfg.LeaseAge)
		c.acknowledge(key, at)
	}
}

func (c *chaosRun) acknowledge(key string, at int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := &c.model.changes[key][at]; h.acked.IsZero() {
		h.acked = time.Now()
	}
}

// send grants under an id of its own each time: one that was withdrawn is not given again.
func (c *chaosRun) send(key string, holds bool, n int) *order {
	switch {
	case key == post && holds:
		return c.b.trust("resume", codecs.Organisation{ID: post})
	case key == post:
		return c.b.trust("suspend", codecs.Organisation{ID: post})
	case holds:
		return c.b.consent(c.b.subjectOf(key), codecs.ConsentCommand{Kind: "grant", Grant: codecs.Grant{ID: "g" + strconv.Itoa(n), Recipient: post, Purpose: postPurpose,
			Scopes: []string{"contact-address"}, Notice: "https://posti.fi/privacy", Language: "fi", Method: "posti.fi"}})
	}
	return c.b.consent(c.b.subjectOf(key), codecs.ConsentCommand{Kind: "withdraw", Grant: codecs.Grant{Recipient: post, Purpose: postPurpose}})
}

func (c *chaosRun) until(most time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(most); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// strike is one fault.
func (c *chaosRun) strike() {
	i := c.rng.IntN(len(c.nodes))
	n := c.nodes[i]
	switch x := c.rng.IntN(10); {
	case x < 3: // a machine dies; its process may run on for a while
		c.tally["kill"]++
		n.link.set(true)
		time.Sleep(time.Duration(c.rng.Int64N(int64(8 * time.Second))))
		n.cancel()
		c.gone = append(c.gone, n)
		c.nodes[i] = c.boot(n.id)
	case x < 4: // an orderly restart
		c.tally["stop"]++
		n.cancel()
		<-n.done
		c.nodes[i] = c.boot(n.id)
	case x < 6:
		c.tally["cut"]++
		n.link.set(true)
		time.Sleep(time.Duration(c.rng.Int64N(int64(15 * time.Second))))
		n.link.set(false)
	case x < 8:
		c.tally["hold"]++
		n.hold([]string{"consent-table", "trust-table"}[c.rng.IntN(2)])
		time.Sleep(time.Duration(c.rng.Int64N(int64(6 * time.Second))))
		n.hold("")
	default:
		c.inject()
	}
}

// inject makes the broker answer some requests with errors that real brokers give.
func (c *chaosRun) inject() {
	c.tally["fault"]++
	coordinator := []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.NotCoordinator}
	kinds := []struct {
		key  kmsg.Key
		errs []*kerr.Error
		top  bool
	}{
		{kmsg.Produce, []*kerr.Error{kerr.NotLeaderForPartition, kerr.RequestTimedOut}, false},
		{kmsg.Fetch, []*kerr.Error{kerr.NotLeaderForPartition}, false},
		{kmsg.TxnOffsetCommit, append(coordinator, kerr.UnknownServerError), false},
		{kmsg.EndTxn, append(coordinator, kerr.ConcurrentTransactions, kerr.UnknownServerError), true},
		{kmsg.Heartbeat, append(coordinator, kerr.RebalanceInProgress), true},
		{kmsg.OffsetFetch, append(coordinator, kerr.UnstableOffsetCommit), false},
		{kmsg.FindCoordinator, coordinator, false},
		{kmsg.AddPartitionsToTxn, append(coordinator, kerr.ConcurrentTransactions), false},
		{kmsg.AddOffsetsToTxn, append(coordinator, kerr.ConcurrentTransactions), true},
		{kmsg.InitProducerID, append(coordinator, kerr.ConcurrentTransactions), true},
		{kmsg.JoinGroup, coordinator, true},
		{kmsg.SyncGroup, append(coordinator, kerr.RebalanceInProgress), true},
		{kmsg.ListOffsets, []*kerr.Error{kerr.NotLeaderForPartition}, false},
	}
	k := kinds[c.rng.IntN(len(kinds))]
	f := kfake.Fault{Keys: []kmsg.Key{k.key}, Err: k.errs[c.rng.IntN(len(k.errs))], Count: 1 + c.rng.IntN(8), TopLevel: k.top}
	if k.key == kmsg.Produce { // what the harness itself writes is not what is tried
		f.Topic = []string{"audit-decisions", "consent-table", "profile-table", "audit-log"}[c.rng.IntN(4)]
	}
	c.kafka.Fault(f)
}
