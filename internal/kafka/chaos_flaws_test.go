//go:build synctests

package kafka

import (
	"strings"
	"testing"
	"time"

	"civicbus/internal/flaw"
)

// TestChaosFindsFlaws plants one defect at a time and wants the model to notice each: a harness that stays green proves nothing.
func TestChaosFindsFlaws(t *testing.T) {
	names := map[flaw.Flaw]string{flaw.CommitsEarly: "commits early", flaw.LeaseUnchecked: "lease unchecked", flaw.LeaseUncheckedLate: "lease unchecked before the commit",
		flaw.OverlayKept: "overlay kept on abort", flaw.OverlayEarly: "no overlay", flaw.OverlayAssumed: "unknown commit taken for done", flaw.OffsetsPolled: "offsets of the whole poll",
		flaw.OffsetsKept: "offsets kept after an unknown commit", flaw.QueueKept: "records not given back", flaw.FillerForgotten: "markers not counted",
		flaw.GateOpen: "outputs after the flush", flaw.ReadsUncommitted: "tables read uncommitted", flaw.MemberUnnamed: "offsets of a stranger"}
	if len(names) != int(flaw.EngineCount)-1 {
		t.Fatalf("%d flaws are tried of %d", len(names), flaw.EngineCount-1)
	}
	for f := flaw.CommitsEarly; f < flaw.EngineCount; f++ {
		t.Run(strings.ReplaceAll(names[f], " ", "_"), func(t *testing.T) {
			flaw.Plant(f)
			defer flaw.Plant(flaw.None)
			var virtual time.Duration
			for seed := uint64(1); seed <= uint64(number("CIVICBUS_CHAOS_TRIES", 12)); seed++ {
				p := newPlan(seed, 48)
				switch f {
				case flaw.LeaseUncheckedLate: // a callback that takes long while the tables fall behind
					p.slow, p.focus = 10, 13
				case flaw.QueueKept, flaw.OverlayKept, flaw.GateOpen: // brokers that answer with errors
					p.focus = 20
				case flaw.OffsetsKept, flaw.OverlayAssumed: // commits that are carried out and answered with an error
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
