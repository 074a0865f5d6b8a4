//go:build race

package e2e

// slowness is how much longer everything may take: the race detector makes the whole cluster, broker and all, that much
// slower, and a lease that a busy machine cannot keep holds every decision.
const slowness = 6
