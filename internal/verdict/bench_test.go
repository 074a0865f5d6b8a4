package verdict

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"civicbus/codecs"
)

// crowd is a world of n subscriptions of which about five match its event, whatever n is: two or three equalities each, one in
// five in CEL with a rest that only CEL can do.
func crowd(t testing.TB, n int) *world {
	w := newWorld(t)
	w.subs = map[string]*codecs.Subscription{}
	w.consents.Grants[0].Scopes = []string{"name", "place", "health", "family", "profile.municipality", "profile.postal_code", "profile.industry"}
	w.consents.Grants[0].ValidTo = 0
	w.event.Stamp = &codecs.Attributes{Municipality: "m0", PostalCode: "p0", Industry: "i0"}
	groups := max(1, n/5)
	for i := range n {
		g := i % groups
		s := &codecs.Subscription{ID: fmt.Sprintf("sub-%06d", i), Subscriber: "kela.fi", EventTypes: []string{birthType}, Purpose: "benefit", Basis: BasisConsent,
			Scopes: []string{"name"}, Status: "active"}
		s.Filter = fmt.Sprintf(`{"data.place":"Espoo","profile.municipality":"m%d","profile.postal_code":"p%d"}`, g%300, g)
		if i/groups == 4 {
			s.Filter = fmt.Sprintf(`{"cel":"data.place == 'Espoo' && profile.postal_code in ['p%d','q%d'] && data.child.weight > 1000"}`, g, g)
		}
		w.subs[s.ID] = s
	}
	return w
}

var sizes = []int{10, 1_000, 100_000}

// BenchmarkDecide shows that the cost of a decision does not grow with the number of subscriptions. Its events go through up to
// 4,096 of the groups, so that at 100,000 the index is not in the processor's cache.
func BenchmarkDecide(b *testing.B) {
	for _, n := range sizes {
		w := crowd(b, n)
		s := w.snapshot()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			var dst []Verdict
			stamps := make([]codecs.Attributes, min(max(1, n/5), 4_096))
			for g := range stamps {
				stamps[g] = codecs.Attributes{Municipality: fmt.Sprint("m", g%300), PostalCode: fmt.Sprint("p", g)}
			}
			for i := 0; b.Loop(); i++ {
				w.event.Stamp = &stamps[i*769%len(stamps)]
				dst = s.Decide(dst[:0], w.event, w.consents, time.UnixMilli(w.now))
			}
			b.ReportMetric(float64(len(dst)), "verdicts/op")
		})
	}
}

// BenchmarkWith changes one subscription among n.
func BenchmarkWith(b *testing.B) {
	for _, n := range sizes {
		w := crowd(b, n)
		s := w.snapshot()
		one := *w.subs["sub-000003"]
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s = s.With(Changes{Subscriptions: map[string]*codecs.Subscription{one.ID: &one}})
			}
		})
	}
}

// BenchmarkLoad builds a Snapshot of n subscriptions in one change, as after a start.
func BenchmarkLoad(b *testing.B) {
	for _, n := range sizes {
		w := crowd(b, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				w.snapshot()
			}
		})
	}
}

// BenchmarkProject cuts an event for one recipient: by Project alone, and as one of 20 of a Cutting.
func BenchmarkProject(b *testing.B) {
	w := newWorld(b)
	w.only("sub-consent")
	s := w.snapshot()
	v := s.Decide(nil, w.event, w.consents, time.UnixMilli(w.now))[0]
	target, _ := s.Target("kela.fi", birthType, w.schema)
	p, err := w.schema.Projection(target.Paths)
	if err != nil {
		b.Fatal(err)
	}
	var dst []byte
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if dst, _, err = s.Project(dst[:0], w.event, &v, p); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("of20", func(b *testing.B) {
		b.ReportAllocs()
		var cutting Cutting
		for i := 0; b.Loop(); i++ {
			if i%20 == 0 {
				cutting.Begin(w.event)
			}
			if dst, _, err = cutting.Project(dst[:0], &v, p); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestDecideLooksAtFewCandidates counts instead of timing: of 20,000 subscriptions with a shared and a rare equality, those looked at
// are those posted under the rare one.
func TestDecideLooksAtFewCandidates(t *testing.T) {
	w := crowd(t, 20_000)
	s := w.snapshot()
	index, _ := at(s.indexes, hashText(s.seed, birthType), birthType)
	values := make([]codecs.Value, len(index.slots))
	if err := index.walkers.of(w.schema).read(w.event, values); err != nil {
		t.Fatal(err)
	}
	found, _ := index.roles[""].candidates(nil, s.seed, values, nil)
	matched := s.Decide(nil, w.event, w.consents, time.UnixMilli(w.now))
	if len(matched) < 3 || len(found) > 2*len(matched) {
		t.Errorf("%d candidates for %d matches", len(found), len(matched))
	}
	if r := index.roles[""]; r.always.size != 0 || len(r.accesses) > 2 {
		t.Errorf("%d are always candidates, under %d fields", r.always.size, len(r.accesses))
	}
}

// TestDecideAllocatesLittle: without CEL left over, a decision into a slice that has room allocates nothing.
func TestDecideAllocatesLittle(t *testing.T) {
	w := crowd(t, 1_000)
	for id, sub := range w.subs {
		if sub.Filter[:6] == `{"cel"` {
			delete(w.subs, id)
		}
	}
	if raceDetector {
		t.Skip("the race detector makes sync.Pool drop at random")
	}
	s := w.snapshot()
	dst := s.Decide(nil, w.event, w.consents, time.UnixMilli(w.now))
	if len(dst) == 0 {
		t.Fatal("nothing matched")
	}
	if n := testing.AllocsPerRun(200, func() { dst = s.Decide(dst[:0], w.event, w.consents, time.UnixMilli(w.now)) }); n > 1 {
		t.Errorf("%v allocations", n) // one is spared for a pool that the collector emptied
	}
}

// TestWithLeavesNothingBehind: when every subscription has gone again, in another order, the index is empty.
func TestWithLeavesNothingBehind(t *testing.T) {
	w := crowd(t, 500)
	s := w.snapshot()
	for id := range w.subs {
		s = s.With(Changes{Subscriptions: map[string]*codecs.Subscription{id: nil}})
	}
	if s.indexes.size != 0 || s.subs.size != 0 || s.leaves.tree.size != 0 {
		t.Errorf("%d indexes, %d subscriptions, %d expressions are left", s.indexes.size, s.subs.size, s.leaves.tree.size)
	}
	full := w.snapshot()
	index, _ := at(full.indexes, hashText(full.seed, birthType), birthType)
	r := index.roles[""]
	if full.leaves.tree.size != 1 {
		t.Errorf("%d expressions, want one for all", full.leaves.tree.size)
	}
	posted := 0
	for _, p := range r.postings.appendTo(nil) {
		posted += p.size
	}
	uses := 0
	for _, u := range r.accesses {
		uses += u.uses
	}
	if uses != 500 || posted != 500+100 { // one in five stands under two values
		t.Errorf("%d uses, %d posted", uses, posted)
	}
}

// TestConcurrentUse decides with many goroutines while others make the next snapshots; the race detector watches.
func TestConcurrentUse(t *testing.T) {
	w := crowd(t, 200)
	s := w.snapshot()
	want := len(s.Decide(nil, w.event, w.consents, time.UnixMilli(w.now)))
	fresh := w.snapshot() // nothing compiled yet
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			ev, next := *w.event, fresh
			for i := range 50 {
				if got := len(next.Decide(nil, &ev, w.consents, time.UnixMilli(w.now))); got != want {
					t.Errorf("%d verdicts, want %d", got, want)
				}
				id := fmt.Sprintf("sub-%06d", (g*50+i)%200)
				next = next.With(Changes{Subscriptions: map[string]*codecs.Subscription{id: w.subs[id]}})
			}
		})
	}
	wg.Wait()
}
