//go:build synctests

package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// stuckAfter is how old an input may be while nothing is broken.
const stuckAfter = 30 * time.Second

// result of one run.
type result struct {
	wrong   string // empty: everything held
	dump    string // what is known of a run that failed
	virtual time.Duration
	outputs int
	tally   map[string]int
}

// run lets chaos loose in virtual time. It ends at the first breach.
func run(t *testing.T, p plan) (res result) {
	synctest.Test(t, func(t *testing.T) {
		c := newChaos(t, p)
		for i := 0; i < p.events && !c.model.broken(); i++ {
			if i%8 == 7 {
				c.calmDown(fmt.Sprintf("after %d events", i))
				continue
			}
			time.Sleep(100*time.Millisecond + time.Duration(c.rng.Int64N(int64(p.gap))))
			c.strike(c.rng.IntN(len(c.nodes)))
			c.supervise()
		}
		if !c.model.broken() {
			c.settle()
		}
		res = result{wrong: c.model.report(), virtual: time.Since(c.model.began), outputs: c.model.outputs, tally: c.counts()}
		if res.wrong != "" {
			res.dump = c.dump()
		}
		c.shutDown()
	})
	return res
}

// Strikes, by the number that is drawn for each, for a plan that has one in view.
const (
	strikeHold  = 13
	strikeLie   = 14
	strikeSlow  = 15
	strikeFault = 21
)

// strike is one event.
func (c *chaos) strike(i int) {
	n := c.nodes[i]
	pause := func(most time.Duration) time.Duration { return time.Duration(c.rng.Int64N(int64(most))) }
	x := c.rng.IntN(22)
	if c.focus >= 0 && c.rng.IntN(2) == 0 {
		x = c.focus
	}
	switch {
	case x < 6: // a machine dies: nothing it sends arrives any more; its process may run on for a while
		c.event("kill", "%s", n.id)
		n.nic.set(cut)
		if c.rng.IntN(3) == 0 {
			time.Sleep(pause(15 * time.Second))
		}
		n.cancel()
		c.zombies = append(c.zombies, n)
		time.Sleep(pause(5 * time.Second))
		c.nodes[i] = c.boot(n.id)
	case x < 8: // a rolling restart
		c.event("stop", "%s", n.id)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		n.engine.Drain(ctx)
		cancel()
		n.cancel()
		select {
		case err := <-n.done:
			n.ended = true
			if err != nil {
				c.event("stop error", "%s: %.300s", n.id, err)
			}
		case <-time.After(3 * time.Minute):
			c.model.note("%s did not stop within three minutes", n.id)
		}
		c.nodes[i] = c.boot(n.id)
	case x < 11: // an outage: the process lives, others may take over, and it comes back
		d := pause(2 * time.Second)
		if c.rng.IntN(2) == 0 {
			d = pause(30 * time.Second)
		}
		state := []nicState{cut, hole}[c.rng.IntN(2)]
		c.event("outage", "%s %s %d", n.id, d, state)
		n.nic.set(state)
		time.Sleep(d)
		n.nic.set(up)
	case x < 13: // scale out and in
		c.event("scale", "")
		extra := c.boot("x")
		time.Sleep(pause(15 * time.Second))
		if c.rng.IntN(2) == 0 {
			extra.nic.set(cut)
			extra.cancel()
			c.zombies = append(c.zombies, extra)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		extra.engine.Drain(ctx)
		cancel()
		extra.cancel()
		c.zombies = append(c.zombies, extra)
		time.Sleep(time.Second)
		_ = Leave(context.Background(), c.calm, chaosGroup, "x")
	case x < 14: // a node's lookups fall behind
		table := []string{chaosRules, chaosGrant}[c.rng.IntN(2)]
		c.event("hold", "%s %s", n.id, table)
		n.hold(table, true)
		time.Sleep(pause(6 * time.Second))
		n.hold(table, false)
	case x < 15:
		c.event("lie", "%s", n.id)
		n.nic.lieOnce()
	case x < 16:
		c.event("slow", "%s", n.id)
		n.nic.set(slow)
		time.Sleep(pause(15 * time.Second))
		n.nic.set(up)
	case x < 17 && c.brokers > 1:
		c.event("move", "")
		if c.rng.IntN(2) == 0 {
			c.cluster.RehashCoordinators()
		} else {
			c.cluster.ShufflePartitionLeaders()
		}
	default:
		c.inject()
	}
}

// inject makes brokers answer some requests with errors that real brokers give.
func (c *chaos) inject() {
	coordinator := []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress}
	kinds := []struct {
		key  kmsg.Key
		errs []*kerr.Error
		top  bool
	}{
		{kmsg.Produce, []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.RequestTimedOut}, false},
		{kmsg.Fetch, []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownLeaderEpoch}, false},
		{kmsg.TxnOffsetCommit, append(coordinator, kerr.UnstableOffsetCommit, kerr.UnknownServerError), false},
		{kmsg.EndTxn, append(coordinator, kerr.ConcurrentTransactions, kerr.RequestTimedOut, kerr.UnknownServerError), true},
		{kmsg.Heartbeat, append(coordinator, kerr.RebalanceInProgress), true},
		{kmsg.OffsetFetch, append(coordinator, kerr.UnstableOffsetCommit), false},
		{kmsg.FindCoordinator, coordinator, false},
		{kmsg.AddPartitionsToTxn, append(coordinator, kerr.ConcurrentTransactions), false},
		{kmsg.InitProducerID, append(coordinator, kerr.ConcurrentTransactions), true},
		{kmsg.JoinGroup, coordinator, true},
		{kmsg.SyncGroup, append(coordinator, kerr.RebalanceInProgress), true},
		{kmsg.ListOffsets, []*kerr.Error{kerr.NotLeaderForPartition, kerr.OffsetNotAvailable}, false},
	}
	k := kinds[c.rng.IntN(len(kinds))]
	f := kfake.Fault{Keys: []kmsg.Key{k.key}, Err: k.errs[c.rng.IntN(len(k.errs))], Count: 1 + c.rng.IntN(6), TopLevel: k.top}
	if k.key == kmsg.Produce { // the inputs and rules of the model are not what is tried
		f.Topic = []string{chaosOut, chaosTable}[c.rng.IntN(2)]
	}
	c.event("fault", "%s %s %d times", k.key.Name(), f.Err.Message, f.Count)
	c.cluster.Fault(f)
}

// supervise starts what ended by itself, as the process around it would.
func (c *chaos) supervise() {
	for i, n := range c.nodes {
		if err, ended := n.end(); ended {
			c.event("died", "%s: %.300s", n.id, fmt.Sprint(err))
			c.nodes[i] = c.boot(n.id)
		}
	}
}

// calmDown leaves the cluster alone until it has caught up: everything older than stuckAfter must be done then.
func (c *chaos) calmDown(when string) {
	_ = Leave(context.Background(), c.calm, chaosGroup, "x") // kfake never times a member out that died while it joined
	for began := time.Now(); time.Since(began) < 2*time.Minute; {
		time.Sleep(5 * time.Second)
		c.supervise()
		c.unstick()
		if age, _ := c.model.oldest(); age < 5*time.Second || c.model.broken() {
			return
		}
	}
	if age, id := c.model.oldest(); age > stuckAfter {
		c.model.note("%s, two minutes after the last fault: %s is stuck since %s", when, id, age)
	}
}

// unstick makes up for the broker: each join puts off the end of kfake's rebalance (Kafka's it does not), so members that
// wait for one that died while it joined can time out and join again in turn, for ever. They are told to leave: whoever
// lives joins anew. An engine that holds a rebalance up by itself is not helped by this.
func (c *chaos) unstick() {
	g := c.cluster.GroupInfo(chaosGroup)
	if g == nil || g.State != "PreparingRebalance" {
		c.waiting = 0
		return
	}
	if c.waiting++; c.waiting < 8 {
		return
	}
	c.waiting = 0
	c.event("unstick", "")
	for _, n := range c.nodes {
		_ = Leave(context.Background(), c.calm, chaosGroup, n.id)
	}
}

// settle ends the inputs, moves every partition once, and compares everything with the model.
func (c *chaos) settle() {
	_ = Leave(context.Background(), c.calm, chaosGroup, "x")
	extra := c.boot("last") // kfake keeps a member that died while it joined, until the next rebalance
	time.Sleep(20 * time.Second)
	c.supervise()
	c.nodes = append(c.nodes, extra)
	c.stop()
	c.done.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.read(chaosOut, func(r *kgo.Record) {}, ctx) // an independent reader that sees what is left
	want := c.model.counts()
	for range 24 {
		time.Sleep(5 * time.Second)
		c.supervise()
		c.unstick()
	}
	outputs, table := map[string]int{}, map[string]int{}
	c.drain(chaosOut, func(r *kgo.Record) { outputs[string(r.Key)]++ })
	c.drain(chaosTable, func(r *kgo.Record) {
		if r.Value == nil {
			delete(table, string(r.Key))
			return
		}
		table[string(r.Key)] = int(binary.BigEndian.Uint64(r.Value))
	})
	held := map[int32]string{}
	for _, n := range c.nodes {
		st := n.engine.Status()
		if !st.Ready() {
			c.model.note("%s is not ready at the end: %+v", n.id, st)
		}
		for _, p := range st.Partitions {
			if other := held[p]; other != "" {
				c.model.note("partition %d is held by %s and %s", p, other, n.id)
			}
			held[p] = n.id
			t := n.engine.tables.find(chaosTable, p)
			for k, count := range want {
				if Partition([]byte(k), chaosParts) != p {
					continue
				}
				if row := t.committed(k); len(row) != 8 || int(binary.BigEndian.Uint64(row)) != count {
					c.model.note("%s has %x for %s, want %d", n.id, row, k, count)
				}
			}
		}
	}
	for p := range int32(chaosParts) {
		if held[p] == "" {
			c.model.note("partition %d is held by nobody", p)
		}
	}
	for k, n := range want {
		if outputs[k] != n || table[k] != n {
			c.model.note("key %s: %d inputs, %d outputs, count %d in the table", k, n, outputs[k], table[k])
		}
	}
}

// drain reads a topic once from its start to its committed end.
func (c *chaos) drain(topic string, f func(*kgo.Record)) {
	cl := c.client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(500*time.Millisecond))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(f)
	}
}

// shutDown ends every goroutine of the run.
func (c *chaos) shutDown() {
	c.stop()
	c.done.Wait()
	for _, n := range append(c.nodes, c.zombies...) {
		n.hold("", false)
		n.nic.set(cut)
		n.cancel()
		if !n.ended {
			if err := <-n.done; err != nil {
				c.event("ended", "%s: %.300s", n.id, err)
			}
		}
	}
	c.admin.Close()
	time.Sleep(3 * time.Minute) // what was dropped in the background
	c.cluster.Close()
	time.Sleep(time.Minute)
}

// counts adds what the engines counted to the events.
func (c *chaos) counts() map[string]int {
	families, err := c.metrics.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "civicbus_group_transactions_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "outcome" {
					c.tally[l.GetValue()] += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return c.tally
}

// dump is what one wants to know of a failed run.
func (c *chaos) dump() string {
	var b strings.Builder
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	offsets, err := c.admin.FetchOffsets(ctx, chaosGroup)
	fmt.Fprintf(&b, "plan %+v\noffsets (error %v):\n", c.plan, err)
	for _, topic := range []string{chaosIn, chaosOut, chaosTable, chaosRules, chaosGrant} {
		for p := range int32(chaosParts) {
			committed, _ := offsets.Lookup(topic, p)
			if i := c.cluster.PartitionInfo(topic, p); i != nil {
				fmt.Fprintf(&b, "  %s/%d committed %d %+v\n", topic, p, committed.At, *i)
			}
		}
	}
	transactions, err := c.admin.ListTransactions(ctx, nil, nil)
	fmt.Fprintf(&b, "transactions %v (error %v)\n", transactions, err)
	if g := c.cluster.GroupInfo(chaosGroup); g != nil {
		fmt.Fprintf(&b, "group %+v\n", *g)
	}
	for _, n := range c.nodes {
		e := n.engine
		st := e.Status()
		e.mu.Lock()
		fmt.Fprintf(&b, "%s %+v assigned %v session %v batch %v producer %v fatal %v\n", n.id, st, e.assignment != nil, e.session != nil, e.openBatch() != nil, e.prod != nil, e.fatal)
		e.mu.Unlock()
	}
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return b.String() + strings.Join(c.log.lines, "\n")
}

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// TestChaos runs CIVICBUS_CHAOS_RUNS plans (4) from the seed CIVICBUS_CHAOS_SEED (1) on, CIVICBUS_CHAOS_EVENTS (48) events each.
// What is known of a failed run is written to CIVICBUS_CHAOS_DUMP, if that names a directory.
func TestChaos(t *testing.T) {
	total := result{tally: map[string]int{}}
	seed, runs := number("CIVICBUS_CHAOS_SEED", 1), number("CIVICBUS_CHAOS_RUNS", 4)
	for s := seed; s < seed+runs; s++ {
		began := time.Now()
		res := run(t, newPlan(uint64(s), number("CIVICBUS_CHAOS_EVENTS", 48)))
		t.Logf("seed %d: %s in %s, %d outputs, %v", s, res.virtual.Round(time.Second), time.Since(began).Round(time.Millisecond), res.outputs, res.tally)
		if res.wrong != "" {
			t.Errorf("seed %d:\n%s", s, res.wrong)
			if dir := os.Getenv("CIVICBUS_CHAOS_DUMP"); dir != "" {
				if err := os.WriteFile(fmt.Sprintf("%s/seed-%d.txt", dir, s), []byte(res.wrong+"\n"+res.dump), 0o600); err != nil {
					t.Error(err)
				}
			}
		}
		total.virtual += res.virtual
		total.outputs += res.outputs
		for k, n := range res.tally {
			total.tally[k] += n
		}
	}
	t.Logf("all: %s of virtual time, %d outputs, %v", total.virtual.Round(time.Second), total.outputs, total.tally)
}
