//go:build race

package bench

// raced: the race detector makes a node too slow to keep the lease of a cluster in use, so that every decision is held.
const raced = true
