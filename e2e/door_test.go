package e2e

import (
	"maps"
	"testing"

	"civicbus/codecs"
	"civicbus/internal/admission"
)

// TestDoor holds together what admission and the groups behind it promise a source and a subject.
func TestDoor(t *testing.T) {
	b := prepare(t)
	edge := b.run("edge", "relay", "keepers")
	work := b.run("work", groups()...)
	b.smallWorld()
	v1, err := b.registry.Latest(t.Context(), moveType)
	b.must(err)

	b.sub("a repeat has no second effect", func() {
		who := person(1)
		b.inEffect(b.grantPost(who))
		for range 3 {
			b.accept(register, moved("again", who, "1"))
		}
		b.fromSource(register, 0, "again", moveType, b.avro(v1, moveData(who, "1"))) // by the other way in, too
		life := b.keys.LifeEvent(registerSite, "again")
		of := func(kind, outcome string) int {
			return b.decisions.count(func(d *codecs.Decision) bool {
				return d.LifeEventID == life && d.Kind == kind && d.Outcome == outcome
			})
		}
		b.eventually("three repeats", func() bool { return of("profile", "repeat") == 3 })
		b.caughtUp()
		if n := of("router", "decided"); n != 1 {
			b.t.Errorf("decided %d times, want once", n)
		}
		for _, sub := range []string{agencySub, postSub} {
			n := 0
			for _, r := range b.deliveries() {
				if header(r.Headers, codecs.HeaderID) == b.keys.Delivery(registerSite, "again", b.subjectOf(who), sub) {
					n++
				}
			}
			if n != 1 {
				b.t.Errorf("%s: delivered %d times, want once", sub, n)
			}
		}
	})

	b.sub("an inbox takes what a plain client writes", func() {
		who := person(2)
		b.fromSource(register, 2, "plain", moveType, b.avro(v1, moveData(who, "7")))
		b.want(b.decision("plain", who), agencySub, "permit rule")
		r, ok := b.delivery(b.keys.Delivery(registerSite, "plain", b.subjectOf(who), agencySub))
		if !ok || b.street(r) != 7 {
			b.t.Error("it was not delivered as it was published")
		}
	})

	b.sub("what may not be published is refused or buried, by its reason", func() {
		if a := b.publish(post, moved("not-mine", person(3), "1"))[0]; a.Status != admission.Refused || a.Faults[0].Reason != admission.SourceMismatch {
			b.t.Errorf("another's source: %s %v", a.Status, a.Faults)
		}
		b.fromSource(register, 1, "not-my-type", "fi.dvv.person.birth", b.avro(v1, moveData(person(3), "1")))
		b.eventually("a dead letter", func() bool {
			_, ok := b.letters.find(func(_ string, l *codecs.DeadLetter) bool {
				return l.Group == "admission" && l.Cause == admission.UnknownType
			})
			return ok
		})
	})

	b.sub("an erasure denies at once and leaves no profile", func() {
		who := person(4)
		subject := b.subjectOf(who)
		b.inEffect(b.grantPost(who))
		b.accept(register, moved("known", who, "1"))
		b.want(b.decision("known", who), agencySub, "permit rule")
		b.eventually("the profile row", func() bool { return b.tables.row("profile-table", subject) != nil })
		b.inEffect(b.consent(subject, codecs.ConsentCommand{Kind: "erase"}))
		b.eventually("the profile row's tombstone", func() bool { return b.tables.gone("profile-table", subject) })
		row, err := b.records.Consents.Decode(b.tables.row("consent-table", subject))
		b.must(err)
		if len(row.Grants) != 0 || len(row.Objections) != 0 {
			b.t.Errorf("%d grants and %d objections are kept", len(row.Grants), len(row.Objections))
		}
		b.accept(register, moved("erased", who, "2"))
		d := b.decision("erased", who)
		for _, sub := range []string{agencySub, postSub, insurerSub} {
			b.want(d, sub, "deny restricted")
		}
	})

	b.sub("publishing works while the groups are down", func() {
		who := person(5)
		work.stop()
		b.accept(register, moved("down-http", who, "1"))
		b.fromSource(register, 0, "down-inbox", moveType, b.avro(v1, moveData(who, "2")))
		admitted := func() (n int) {
			for _, r := range b.read("admitted") {
				if string(r.Key) == b.subjectOf(who) {
					n++
				}
			}
			return n
		}
		b.eventually("both are admitted", func() bool { return admitted() == 2 })
		if _, ok := b.decided("down-http", who); ok {
			b.t.Fatal("decided with no group running")
		}
		b.run("work", groups()...)
		b.want(b.decision("down-http", who), agencySub, "permit rule")
		b.want(b.decision("down-inbox", who), agencySub, "permit rule")
	})
	b.caughtUp()

	b.sub("dead letters are counted by cause", func() {
		want := map[string]float64{}
		for _, l := range b.letters.all() {
			want[l.Cause]++
		}
		if len(want) == 0 {
			b.t.Fatal("there are no dead letters to count")
		}
		b.eventually("each cause's are counted", func() bool {
			families, err := edge.Metrics().Gather()
			b.must(err)
			got := map[string]float64{}
			for _, f := range families {
				if f.GetName() != "civicbus_dead_letters_total" {
					continue
				}
				for _, m := range f.GetMetric() {
					got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
				}
			}
			return maps.Equal(got, want)
		})
	})
}
