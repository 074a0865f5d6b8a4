//go:build synctests

package e2e

import (
	"bytes"
	"context"
	"maps"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/audit"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// check holds what is committed against the model.
func (c *chaosRun) check() {
	permitted := c.decided()
	c.deliveries(permitted)
	c.people()
	c.rows()
	c.audited()
	for _, l := range c.b.letters.all() {
		c.breach("a dead letter: %s of %s %s/%d at %d: %s", l.Cause, l.Group, l.Topic, l.Partition, l.Offset, l.Detail)
	}
}

// moments are the times at which a decision can have been made by a clock that somebody had: it was written right after.
func (c *chaosRun) moments(d *codecs.Decision, written time.Time) (at []time.Time) {
	for _, skew := range c.skews {
		if t := time.UnixMilli(d.DecidedAt).Add(-skew); !t.After(written) && written.Sub(t) < 6*time.Second {
			at = append(at, t)
		}
	}
	return at
}

// decided judges every decision, and answers what they permitted, by delivery id. Each event has one decision by the router, and
// each of its records that was admitted beside the first has one by profile, as a repeat.
func (c *chaosRun) decided() map[string]*chaosEvent {
	b := c.b
	permitted, router, repeats, admitted := map[string]*chaosEvent{}, map[string]int{}, map[string]int{}, map[string]int{}
	counts := map[string][2]int64{} // permits and denials by subscription
	for _, r := range b.read(topology.Admitted.Name) {
		admitted[b.keys.LifeEvent(header(r.Headers, codecs.HeaderSource), header(r.Headers, codecs.HeaderID))]++
	}
	for _, r := range b.read(topology.Decisions.Name) {
		d, err := b.records.Decision.Decode(r.Value)
		b.must(err)
		e, ok := c.model.events[d.LifeEventID]
		switch {
		case !ok || string(r.Key) != b.subjectOf(e.who):
			c.breach("%s/%d at %d: a decision of no event, or not of its subject: %s %s", d.Topic, d.Partition, d.Offset, d.Kind, d.Outcome)
			continue
		case d.Kind == "profile" && d.Outcome == "repeat":
			repeats[d.LifeEventID]++
			continue
		case d.Kind != "router" || d.Outcome != "decided":
			c.breach("%s/%d at %d: %s is %s by %s", d.Topic, d.Partition, d.Offset, e.id, d.Outcome, d.Kind)
			continue
		}
		router[d.LifeEventID]++
		for id, permit := range c.judge(e, &d, r) {
			n := counts[id]
			if permit {
				n[0]++
				permitted[b.keys.Delivery(registerSite, e.id, b.subjectOf(e.who), id)] = e
			} else {
				n[1]++
			}
			counts[id] = n
		}
	}
	for life, e := range c.model.events {
		if router[life] != 1 || repeats[life] != admitted[life]-1 {
			c.breach("%s: admitted %d times, decided %d times, a repeat %d times", e.id, admitted[life], router[life], repeats[life])
		}
	}
	c.counted(counts)
	return permitted
}

// judge holds the verdicts of one decision against the model, and answers them.
func (c *chaosRun) judge(e *chaosEvent, d *codecs.Decision, r *kgo.Record) map[string]bool {
	verdicts := map[string]bool{}
	reasons := map[string]string{}
	for _, v := range d.Verdicts {
		if _, twice := verdicts[v.Subscription]; twice {
			c.breach("%s: two verdicts for %s", e.id, v.Subscription)
		}
		verdicts[v.Subscription], reasons[v.Subscription] = v.Permit, v.Reason
	}
	clock := time.UnixMilli(d.DecidedAt)
	moments := c.moments(d, r.Timestamp)
	if len(moments) == 0 {
		c.breach("%s was decided at %s and written at %s, which fits no clock", e.id, clock, r.Timestamp)
	}
	known := map[string]bool{}
	for _, id := range c.model.subscriptions {
		var permit, deny, none bool
		for _, at := range moments {
			p, d, n := c.model.verdict(id, e.who, at, clock)
			permit, deny, none = permit || p, deny || d, none || n
		}
		known[id] = true
		switch got, there := verdicts[id]; {
		case !there && !none:
			c.breach("LOST: %s has no verdict for %s", e.id, id)
		case there && got && !permit:
			c.breach("LEAK: %s for %s: permitted (%s), which is not lawful", e.id, id, reasons[id])
		case there && !got && !deny:
			c.breach("LOST: %s for %s: denied (%s), which is not lawful", e.id, id, reasons[id])
		}
	}
	for id := range verdicts {
		if !known[id] {
			c.breach("%s: a verdict for %s, which nobody asked for", e.id, id)
		}
	}
	return verdicts
}

// deliveries compares what was delivered with what was permitted: each once, with the right fields, in the order of its subject's
// events, under a pseudonym that no other subscriber sees.
func (c *chaosRun) deliveries(permitted map[string]*chaosEvent) {
	times, seenBy, newest := map[string]int{}, map[string]string{}, map[[3]string]int{}
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
		if other, seen := seenBy[string(r.Key)]; seen && other != r.Topic {
			c.breach("LEAK: %s and %s see a subject under one pseudonym", other, r.Topic)
		}
		seenBy[string(r.Key)] = r.Topic
		line := [3]string{header(r.Headers, codecs.HeaderSubscription), e.who, e.way}
		if e.number < newest[line] {
			c.breach("%s/%d at %d: ORDER: %s after number %d", r.Topic, r.Partition, r.Offset, e.id, newest[line])
		}
		newest[line] = e.number
	}
	for id, e := range permitted {
		if times[id] == 0 {
			c.breach("LOST: %s was permitted and not delivered", e.id)
		}
	}
}

// counted compares the usage table: each verdict has been counted once.
func (c *chaosRun) counted(counts map[string][2]int64) {
	rows, err := admin.Usage.All(context.Background(), c.operator)
	c.b.must(err)
	for id, want := range counts {
		denied := int64(0)
		for _, d := range rows[id].Denied {
			denied += d.Count
		}
		if rows[id].Delivered != want[0] || denied != want[1] || rows[id].Repeated != 0 {
			c.breach("usage-table: %s: %d delivered, %d again, %d denied, want %d and %d", id, rows[id].Delivered, rows[id].Repeated, denied, want[0], want[1])
		}
	}
}

// people compares the rows of persons: each grant, objection and restriction is as its last command left it, and each profile
// has counted each event once.
func (c *chaosRun) people() {
	events := map[string]int64{}
	for _, e := range c.model.events {
		events[e.who]++
	}
	for i := range chaosPeople {
		who := person(i)
		given, grants := 0, 0
		for _, change := range c.model.changes["grant "+who] {
			if change.holds {
				grants++
			}
		}
		if key := "consent-table " + c.b.subjectOf(who); c.versions[key] > 0 {
			row, err := c.b.records.Consents.Decode(c.b.tables.row("consent-table", c.b.subjectOf(who)))
			for _, g := range row.Grants {
				if g.State == "given" {
					given++
				}
			}
			is := [3]bool{given == 1, len(row.Objections) == 1, row.Restriction == "protected"}
			want := [3]bool{c.last("grant " + who), c.last("objection " + postSub + " " + who), c.last("restriction " + who)}
			if err != nil || len(row.Grants) != grants || given > 1 || is != want || row.Version != c.versions[key] {
				c.breach("consent-table: person %d: %d of %d grants are given; grant, objection, restriction: %v at version %d, error %v; want %d and %v at version %d", i, given, len(row.Grants), is, row.Version, err, grants, want, c.versions[key])
			}
		}
		if events[who] == 0 {
			continue
		}
		row, err := c.b.records.Profile.Decode(c.b.tables.row("profile-table", c.b.subjectOf(who)))
		if err != nil || row.Version != events[who] || len(row.Seen) != int(min(events[who], codecs.MaxSeen)) {
			c.breach("profile-table: person %d: version %d, %d seen, error %v, want %d", i, row.Version, len(row.Seen), err, events[who])
		}
	}
}

// rows compares the rows of organisations, types and subscriptions with what was commanded.
func (c *chaosRun) rows() {
	for key, want := range c.versions {
		table, name, _ := strings.Cut(key, " ")
		version := c.b.tables.version(table, name)
		if strings.HasPrefix(name, postSub+"-") && version == want+1 {
			continue // activated by civicbus itself
		}
		if table != "profile-table" && version != want {
			c.breach("%s: %s is at version %d, want %d", table, name, version, want)
		}
	}
	for _, id := range []string{post, agency} {
		row, err := c.b.records.Organisation.Decode(c.b.tables.row("trust-table", id))
		if active := row.Status == "active"; err != nil || active != c.last("trust "+id) {
			c.breach("trust-table: %s is %s, error %v", id, row.Status, err)
		}
	}
	for _, id := range c.model.subscriptions {
		if active := c.b.row(id).Status == "active"; active != (c.last("active "+id) || id == insurerSub) {
			c.breach("subscription-table: %s is %s", id, c.b.row(id).Status)
		}
	}
	row, err := c.b.records.EventType.Decode(c.b.tables.row("catalog-table", moveType))
	if law := len(row.Rules) == len(c.moves.Rules); err != nil || law != c.last("law") {
		c.breach("catalog-table: %d rules, error %v", len(row.Rules), err)
	}
}

// audited verifies the audit log, its signed heads included.
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

// newest gives the newest version of each row, by table and key.
func (t *tableTape) newest() map[[2]string]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.versions)
}
