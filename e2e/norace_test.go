//go:build !race

package e2e

// slowness is how much longer everything may take.
const slowness = 1
