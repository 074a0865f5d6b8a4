package e2e

import (
	"testing"

	"civicbus/codecs"
)

// TestRebuild throws away all that a node holds and goes on with another one, which has nothing but the topics: every table
// is read again, what was admitted is known as a repeat, grants hold, profiles are stamped, and nothing has a second effect.
func TestRebuild(t *testing.T) {
	b := prepare(t)
	first := b.run("first")
	b.smallWorld()
	who := people(0, 30)
	var grants []*order
	for _, p := range who[:10] {
		grants = append(grants, b.grantPost(p))
	}
	b.inEffect(grants...)
	l := b.newLedger()
	l.move(granted, who[:10]...)
	l.move(ungranted, who[10:]...)
	l.audit()
	first.leave()

	second := b.run("second")
	second.ready()
	if rows := b.ends("profile-table", "consent-table"); second.Loaded() < rows {
		t.Errorf("the new node read %d table records, want at least the %d on two of its tables", second.Loaded(), rows)
	}
	var again [][]byte
	for _, e := range l.entries {
		again = append(again, moved(e.id, e.who, "9"))
	}
	b.accept(register, again...)
	repeats := func() int {
		return b.decisions.count(func(d *codecs.Decision) bool { return d.Kind == "profile" && d.Outcome == "repeat" })
	}
	b.eventually("every event published again is a repeat", func() bool { return repeats() == len(again) })
	l.move(granted, who[:10]...)
	l.move(ungranted, who[10:]...)
	l.audit()
	for _, d := range b.decisions.all() {
		if d.Kind == "router" && d.ProfileVersion != 1 && d.ProfileVersion != 2 {
			t.Errorf("stamped with version %d of the profile, want 1 before and 2 after", d.ProfileVersion)
		}
	}
	version := func() int64 { return b.tables.version("profile-table", b.subjectOf(who[0])) }
	b.eventually("the profile has its second version", func() bool { return version() >= 2 })
	if v := version(); v != 2 {
		t.Errorf("the profile stands at version %d, want 2: one for each event, none for the repeat", v)
	}
}
