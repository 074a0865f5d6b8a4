//go:build synctests

package e2e

import (
	"strings"
	"testing"
	"time"

	"civicbus/internal/flaw"
)

// TestFlaws plants the flaws of the bus one at a time and wants each to be noticed. Those of the engine are tried
// in internal/kafka.
func TestFlaws(t *testing.T) {
	for _, f := range flaw.Bus() {
		t.Run(strings.ReplaceAll(f.String(), " ", "_"), func(t *testing.T) {
			for seed := uint64(1); seed <= uint64(chaosNumber("CIVICBUS_CHAOS_TRIES", 6)); seed++ {
				if res := runChaos(t, newChaosPlan(seed, 4, f)); res.wrong != "" {
					first, _, _ := strings.Cut(res.wrong, "\n")
					t.Logf("found by run %d after %s: %s", seed, res.virtual.Round(time.Second), first)
					return
				}
			}
			t.Error("not found")
		})
	}
}
