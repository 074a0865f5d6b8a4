//go:build synctests

package kafka

import (
	"strings"
	"testing"
	"time"
)

// TestChaosFindsFlaws plants one defect at a time and wants the model to notice each: a harness that stays green proves nothing.
func TestChaosFindsFlaws(t *testing.T) {
	names := map[flaw]string{commitsEarly: "commits early", leaseUnchecked: "lease unchecked", leaseUncheckedLate: "lease unchecked before the commit",
		overlayKept: "overlay kept on abort", overlayEarly: "no overlay", overlayAssumed: "unknown commit taken for done", offsetsPolled: "offsets of the whole poll",
		offsetsKept: "offsets kept after an unknown commit", queueKept: "records not given back", fillerForgotten: "markers not counted",
		gateOpen: "outputs after the flush", readsUncommitted: "tables read uncommitted", memberUnnamed: "offsets of a stranger"}
	if len(names) != int(flawCount)-1 {
		t.Fatalf("%d flaws are tried of %d", len(names), flawCount-1)
	}
	for f := commitsEarly; f < flawCount; f++ {
		t.Run(strings.ReplaceAll(names[f], " ", "_"), func(t *testing.T) {
			planted = f
			defer func() { planted = noFlaw }()
			var virtual time.Duration
			for seed := uint64(1); seed <= uint64(number("CIVICBUS_CHAOS_TRIES", 12)); seed++ {
				p := newPlan(seed, 48)
				switch f {
				case leaseUncheckedLate: // a callback that takes long while the tables fall behind
					p.slow, p.focus = 10, 13
				case queueKept, overlayKept, gateOpen: // brokers that answer with errors
					p.focus = 20
				case offsetsKept, overlayAssumed: // commits that are carried out and answered with an error
					p.focus = 14
				}
				res := run(t, p)
				virtual += res.virtual
				if res.wrong != "" {
					first, _, _ := strings.Cut(res.wrong, "\n")
					t.Logf("found by run %d after %s: %s", seed, virtual.Round(time.Second), first)
					return
				}
			}
			t.Errorf("not found in %s of virtual time", virtual.Round(time.Second))
		})
	}
}
