//go:build synctests

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"civicbus/internal/flaw"
	"civicbus/internal/kafka"
	"civicbus/topology"
)

const (
	chaosPeople = 8
	chaosStuck  = 30 * time.Second // how old an undecided event may be while nothing is broken
)

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

// breach notes what must not be.
func (c *chaosRun) breach(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wrong) < 20 {
		c.wrong = append(c.wrong, fmt.Sprintf("%s: ", time.Since(c.began).Round(time.Millisecond))+fmt.Sprintf(format, args...))
	}
}

func (c *chaosRun) broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.wrong) > 0
}

// runChaos plants a flaw once the world is set up, and strikes. It ends at the first breach.
func runChaos(t *testing.T, p chaosPlan) (res chaosResult) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 9, 1, 8, 0, 0, 0, time.UTC))) // a bubble begins in 2000, before the example world's certificates
		c := startChaos(t, p)
		flaw.Plant(p.planted)
		defer flaw.Plant(flaw.None)
		ctx, stop := context.WithCancel(context.Background())
		c.stop = stop
		c.work.Add(4)
		go c.publish(ctx)
		go c.write(ctx)
		go c.command(ctx, 3, c.person)
		go c.command(ctx, 6, c.authority)
		for i := 0; i < p.strikes && !c.broken(); i++ {
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
		res = chaosResult{wrong: strings.Join(c.wrong, "\n"), virtual: time.Since(c.began), events: len(c.model.events), tally: c.tally}
		if res.wrong != "" {
			res.dump = c.dump()
		}
	})
	return res
}

// undecided is the age of the oldest event that has no decision yet, and its id.
func (c *chaosRun) undecided() (age time.Duration, id string) {
	done := map[string]bool{}
	for _, d := range c.b.decisions.all() {
		done[d.LifeEventID] = done[d.LifeEventID] || d.Kind == "router"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for life, e := range c.model.events {
		if a := time.Since(e.at); !done[life] && a > age {
			age, id = a, e.id
		}
	}
	return age, id
}

// calm leaves the bus alone until it has caught up: nothing may be stuck then.
func (c *chaosRun) calm(when string) {
	c.heal()
	waiting := map[string]int{}
	for began := time.Now(); time.Since(began) < 2*time.Minute; {
		time.Sleep(5 * time.Second)
		c.unstick(waiting)
		if age, _ := c.undecided(); age < 5*time.Second || c.broken() {
			return
		}
	}
	if age, id := c.undecided(); age > chaosStuck {
		c.breach("%s: two minutes after the last fault %s is undecided since %s", when, id, age)
	}
}

// chaosGroups are the consumer groups of a node.
func chaosGroups() []string {
	all := []string{"relay"}
	for _, g := range topology.Groups {
		all = append(all, g.Name)
	}
	return all
}

// unstick ends a rebalance that kfake, unlike Kafka, can put off for ever: everyone is made to leave, and who lives joins anew.
func (c *chaosRun) unstick(waiting map[string]int) {
	for _, g := range chaosGroups() {
		info := c.kafka.GroupInfo(g)
		if info == nil || info.State != "PreparingRebalance" {
			waiting[g] = 0
			continue
		}
		if waiting[g]++; waiting[g] < 8 {
			continue
		}
		waiting[g] = 0
		c.tally["unstick"]++
		for _, n := range c.nodes {
			_ = kafka.Leave(context.Background(), c.b.cfg.Connection, g, n.id)
		}
	}
}

// settle waits until every event is decided and no group has anything left to handle.
func (c *chaosRun) settle() {
	waiting := map[string]int{}
	left := ""
	for range 36 {
		time.Sleep(5 * time.Second)
		c.unstick(waiting)
		lags, err := c.operator.Lag(context.Background())
		if left = ""; err != nil {
			left = err.Error()
		}
		for _, l := range lags {
			if l.Records > 0 {
				left += fmt.Sprintf(" %s has %d records of %s/%d left, from %d on;", l.Group, l.Records, l.Topic, l.Partition, l.Committed)
			}
		}
		if age, _ := c.undecided(); age == 0 && left == "" {
			return
		}
	}
	if age, id := c.undecided(); age > 0 {
		c.breach("LOST at the end: %s is undecided since %s", id, age)
	}
	if left != "" {
		c.breach("STUCK at the end:%s", left)
	}
}

// dump is what one wants to know of a failed run.
func (c *chaosRun) dump() string {
	var s strings.Builder
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	fmt.Fprintf(&s, "plan %+v\n", c.chaosPlan)
	for _, name := range chaosGroups() {
		offsets, err := c.b.admin.FetchOffsets(ctx, name)
		fmt.Fprintf(&s, "group %s (error %v) %+v\n", name, err, c.kafka.GroupInfo(name))
		topics := []string{topology.InboxTopicName(register)}
		if g, ok := topology.GroupByName(name); ok {
			topics = nil
			for _, in := range g.Consumes() {
				topics = append(topics, in.Name)
			}
		}
		for _, topic := range topics {
			for p := range c.b.cfg.Shape.Partitions {
				committed, _ := offsets.Lookup(topic, p)
				if i := c.kafka.PartitionInfo(topic, p); i != nil {
					fmt.Fprintf(&s, "  %s/%d committed %d %+v\n", topic, p, committed.At, *i)
				}
			}
		}
	}
	transactions, err := c.b.admin.ListTransactions(ctx, nil, nil)
	fmt.Fprintf(&s, "transactions %v (error %v)\n", transactions, err)
	for _, n := range c.nodes {
		n.mu.Lock()
		if n.node != nil {
			fmt.Fprintf(&s, "%s %+v\n", n.id, n.node.Status())
		}
		n.mu.Unlock()
	}
	return s.String() + c.b.log.tail(100_000)
}

// TestChaos lets chaos loose on the whole bus: CIVICBUS_CHAOS_RUNS seeds from CIVICBUS_CHAOS_SEED on, CIVICBUS_CHAOS_EVENTS
// strikes each. What is known of a failed run is written to CIVICBUS_CHAOS_DUMP, if that names a directory.
func TestChaos(t *testing.T) {
	seed, runs := chaosNumber("CIVICBUS_CHAOS_SEED", 1), chaosNumber("CIVICBUS_CHAOS_RUNS", 2)
	total := chaosResult{tally: map[string]int{}}
	for s := seed; s < seed+runs; s++ {
		began := time.Now()
		res := runChaos(t, newChaosPlan(uint64(s), chaosNumber("CIVICBUS_CHAOS_EVENTS", 18), flaw.None))
		t.Logf("seed %d: %s of virtual time in %s, %d events, %v", s, res.virtual.Round(time.Second), time.Since(began).Round(time.Millisecond), res.events, res.tally)
		total.virtual, total.events = total.virtual+res.virtual, total.events+res.events
		for what, n := range maps.All(res.tally) {
			total.tally[what] += n
		}
		if res.wrong == "" {
			continue
		}
		t.Errorf("seed %d:\n%s", s, res.wrong)
		if dir := os.Getenv("CIVICBUS_CHAOS_DUMP"); dir != "" {
			if err := os.WriteFile(fmt.Sprintf("%s/bus-%d.txt", dir, s), []byte(res.wrong+"\n"+res.dump), 0o600); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("all: %s of virtual time, %d events, %v", total.virtual.Round(time.Second), total.events, total.tally)
}

// TestChaosModelIsSmall keeps the model readable: at most 60 lines.
func TestChaosModelIsSmall(t *testing.T) {
	text, err := os.ReadFile("chaos_model_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte("\n")); n > 60 {
		t.Errorf("the model has %d lines", n)
	}
}
