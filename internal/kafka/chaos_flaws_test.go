//go:build synctests

package kafka

import (
	"strings"
	"testing"
	"time"

	"civicbus/internal/flaw"
)

// TestFlaws plants one defect of the engine at a time and wants the model to notice each: a harness that stays green
// proves nothing. Those of the bus are tried in e2e.
func TestFlaws(t *testing.T) {
	for _, f := range flaw.Engine() {
		t.Run(strings.ReplaceAll(f.String(), " ", "_"), func(t *testing.T) {
			flaw.Plant(f)
			defer flaw.Plant(flaw.None)
			var virtual time.Duration
			for seed := uint64(1); seed <= uint64(number("CIVICBUS_CHAOS_TRIES", 12)); seed++ {
				res := run(t, focused(newPlan(seed, 48), f))
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

// focused makes a plan strike more often where a flaw would show.
func focused(p plan, f flaw.Flaw) plan {
	switch f {
	case flaw.LeaseUncheckedLate: // a callback that takes long while the tables fall behind
		p.slow, p.focus = 10, strikeHold
	case flaw.LeaseFromAnswer: // answers that are long on their way
		p.focus = strikeSlow
	case flaw.JoinUnchecked:
		p.focus = strikeHold
	case flaw.QueueKept, flaw.OverlayKept, flaw.GateOpen: // brokers that answer with errors
		p.focus = strikeFault
	case flaw.OffsetsKept, flaw.OverlayAssumed: // commits that are carried out and answered with an error
		p.focus = strikeLie
	case flaw.RecoveredKept: // sessions that begin anew in one process, and aborts
		p.nodes, p.focus = 2, strikeLie
	}
	return p
}
