//go:build synctests

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/audit"
	"civicbus/internal/flaw"
	"civicbus/internal/kafka"
	"civicbus/topology"
)

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

// unstick ends a rebalance that kfake, unlike Kafka, can put off for ever: everyone is made to leave, and who lives joins anew.
func (c *chaosRun) unstick(waiting map[string]int) {
	for _, g := range topology.Groups {
		info := c.kafka.GroupInfo(g.Name)
		if info == nil || info.State != "PreparingRebalance" {
			waiting[g.Name] = 0
			continue
		}
		if waiting[g.Name]++; waiting[g.Name] < 8 {
			continue
		}
		waiting[g.Name] = 0
		c.tally["unstick"]++
		for _, n := range c.nodes {
			_ = kafka.Leave(context.Background(), c.b.cfg.Connection, g.Name, n.id)
		}
	}
}

// settle waits until every event is decided and every group is quiet.
func (c *chaosRun) settle() {
	waiting := map[string]int{}
	for range 24 {
		time.Sleep(5 * time.Second)
		c.unstick(waiting)
		if age, _ := c.undecided(); age == 0 {
			time.Sleep(20 * time.Second)
			return
		}
	}
	age, id := c.undecided()
	c.breach("LOST at the end: %s is undecided since %s", id, age)
}

// check holds what is committed against the model.
func (c *chaosRun) check() {
	b := c.b
	permitted, decided := map[string]chaosEvent{}, map[string]int{}
	for _, r := range b.read(topology.Decisions.Name) {
		d, err := b.records.Decision.Decode(r.Value)
		if err != nil || d.Kind != "router" {
			continue
		}
		decided[d.LifeEventID]++
		e, ok := c.model.events[d.LifeEventID]
		if !ok || string(r.Key) != b.subjectOf(e.who) || d.Outcome != "decided" {
			c.breach("%s/%d at %d: a decision of no event, or not of its subject: %s", d.Topic, d.Partition, d.Offset, d.Outcome)
			continue
		}
		found := 0
		for _, v := range d.Verdicts {
			found++
			permit, deny := c.model.verdict(v.Subscription, e.who, time.UnixMilli(d.DecidedAt))
			if v.Permit && !permit {
				c.breach("LEAK: %s for %s: permitted (%s), which is not lawful", e.id, v.Subscription, v.Reason)
			}
			if !v.Permit && !deny {
				c.breach("LOST: %s for %s: denied (%s), which is not lawful", e.id, v.Subscription, v.Reason)
			}
			if v.Permit {
				permitted[b.keys.Delivery(registerSite, e.id, b.subjectOf(e.who), v.Subscription)] = e
			}
		}
		if found != 3 {
			c.breach("%s: %d verdicts, want 3", e.id, found)
		}
	}
	for life, e := range c.model.events {
		if decided[life] != 1 {
			c.breach("%s: decided %d times", e.id, decided[life])
		}
	}
	c.deliveries(permitted)
	c.tables()
	c.audited()
}

func (c *chaosRun) deliveries(permitted map[string]chaosEvent) {
	times := map[string]int{}
	for _, r := range c.b.deliveries() {
		id := header(r.Headers, codecs.HeaderID)
		e, ok := permitted[id]
		if times[id]++; !ok || times[id] > 1 {
			c.breach("%s/%d at %d: DUPLICATE or LEAK: delivery %s, %d times, permitted: %t", r.Topic, r.Partition, r.Offset, id, times[id], ok)
			continue
		}
		withheld := e.who // of scope identity, which no one grants; the rule lists it, and not the name
		if r.Topic == topology.SubscriberTopicName(agency) {
			withheld = "Venla"
		}
		if bytes.Contains(r.Value, []byte(withheld)) {
			c.breach("%s/%d at %d: LEAK: a withheld field of %s", r.Topic, r.Partition, r.Offset, e.id)
		} else if street := c.b.street(r); street != e.number {
			c.breach("%s/%d at %d: street %d is delivered as %d", r.Topic, r.Partition, r.Offset, e.number, street)
		}
	}
	for id, e := range permitted {
		if times[id] == 0 {
			c.breach("LOST: %s was permitted and not delivered", e.id)
		}
	}
}

// tables compares the rows: each grant is as its last command left it, each profile has counted each event once.
func (c *chaosRun) tables() {
	events := map[string]int64{}
	for _, e := range c.model.events {
		events[e.who]++
	}
	for i := range chaosPeople {
		who := person(i)
		if all := c.model.changes[who]; len(all) > 0 {
			want, given, grants := 0, 0, (len(all)+1)/2 // every other command grants
			if all[len(all)-1].holds {
				want = 1
			}
			row, err := c.b.records.Consents.Decode(c.b.tables.row("consent-table", c.b.subjectOf(who)))
			for _, g := range row.Grants {
				if g.State == "given" {
					given++
				}
			}
			if err != nil || len(row.Grants) != grants || given != want {
				c.breach("consent-table: person %d: %d of %d grants are given, error %v, want %d of %d", i, given, len(row.Grants), err, want, grants)
			}
		}
		if events[who] == 0 {
			continue
		}
		row, err := c.b.records.Profile.Decode(c.b.tables.row("profile-table", c.b.subjectOf(who)))
		if err != nil || row.Version != events[who] {
			c.breach("profile-table: person %d: version %d, error %v, want %d", i, row.Version, err, events[who])
		}
	}
}

// audited verifies the audit log.
func (c *chaosRun) audited() {
	keys, err := audit.NewKeys(c.b.cfg.AuditKey)
	c.b.must(err)
	l, err := audit.Open(c.b.cfg.Connection, c.b.records)
	c.b.must(err)
	defer l.Close()
	result, err := l.Verify(context.Background(), audit.Check{Keys: keys, Now: time.Now()})
	c.b.must(err)
	for _, f := range result.Findings {
		c.breach("audit: %s", f)
	}
}

// dump is what one wants to know of a failed run.
func (c *chaosRun) dump() string {
	var s strings.Builder
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, g := range topology.Groups {
		offsets, err := c.b.admin.FetchOffsets(ctx, g.Name)
		fmt.Fprintf(&s, "group %s (error %v) %+v\n", g.Name, err, c.kafka.GroupInfo(g.Name))
		for _, in := range g.Consumes() {
			for p := range c.b.cfg.Shape.Partitions {
				committed, _ := offsets.Lookup(in.Name, p)
				if i := c.kafka.PartitionInfo(in.Name, p); i != nil {
					fmt.Fprintf(&s, "  %s/%d committed %d %+v\n", in.Name, p, committed.At, *i)
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

// TestChaos lets chaos loose on the whole bus: CIVICBUS_CHAOS_RUNS seeds from CIVICBUS_CHAOS_SEED on, CIVICBUS_CHAOS_EVENTS
// strikes each. What is known of a failed run is written to CIVICBUS_CHAOS_DUMP, if that names a directory.
func TestChaos(t *testing.T) {
	seed, runs := chaosNumber("CIVICBUS_CHAOS_SEED", 1), chaosNumber("CIVICBUS_CHAOS_RUNS", 2)
	for s := seed; s < seed+runs; s++ {
		began := time.Now()
		res := runChaos(t, uint64(s), chaosNumber("CIVICBUS_CHAOS_EVENTS", 18), flaw.None)
		t.Logf("seed %d: %s of virtual time in %s, %d events, %v", s, res.virtual.Round(time.Second), time.Since(began).Round(time.Millisecond), res.events, res.tally)
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
}

// TestChaosFindsFlaws plants the flaws of the bus one at a time and wants each to be noticed. Those of the engine are tried
// in internal/kafka.
func TestChaosFindsFlaws(t *testing.T) {
	for f, name := range map[flaw.Flaw]string{flaw.TrustStale: "stale view of trust", flaw.RepeatPassed: "repeat check dropped", flaw.DeliveryByOffset: "delivery id by offset",
		flaw.BodyWhole: "withheld fields delivered", flaw.EntrySkipped: "audit entry skipped", flaw.RowTwice: "profile row written twice"} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			for seed := uint64(1); seed <= uint64(chaosNumber("CIVICBUS_CHAOS_TRIES", 4)); seed++ {
				if res := runChaos(t, seed, 6, f); res.wrong != "" {
					first, _, _ := strings.Cut(res.wrong, "\n")
					t.Logf("found by run %d after %s: %s", seed, res.virtual.Round(time.Second), first)
					return
				}
			}
			t.Error("not found")
		})
	}
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
