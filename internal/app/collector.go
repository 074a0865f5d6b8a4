package app

import (
	"math"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"sync"
)

// heapFloor is the heap size below which the collector is not run: 256 MB.
//
// What a node keeps for long are tables, without a pointer in them, and next to nothing else; what it allocates are the
// records that come in. By Go's default it would collect each time that as much as the little it keeps has come in, many
// times a second, which costs a fifth of the router's time.
const heapFloor = 256 << 20

// collectSeldom keeps the garbage collector from running while the heap is small, for as long as the node runs: then release
// puts things back. Above the floor, and where the operator has set GOGC or GOMEMLIMIT, nothing is changed. Nodes of one
// process may overlap.
func collectSeldom() (release func()) {
	nodes.Lock()
	defer nodes.Unlock()
	if nodes.running == 0 {
		nodes.leave = tuned()
	}
	if nodes.leave {
		return func() {}
	}
	if nodes.running++; nodes.running == 1 {
		afterCollection()
	}
	return func() {
		nodes.Lock()
		defer nodes.Unlock()
		if nodes.running--; nodes.running == 0 {
			debug.SetGCPercent(defaultPercent)
		}
	}
}

// tuned says whether the operator has set when to collect.
func tuned() bool {
	set := []runtimemetrics.Sample{{Name: "/gc/gogc:percent"}, {Name: "/gc/gomemlimit:bytes"}}
	runtimemetrics.Read(set)
	return set[0].Value.Uint64() != defaultPercent || set[1].Value.Uint64() != math.MaxInt64
}

// defaultPercent is Go's default for GOGC.
const defaultPercent = 100

// nodes are those of this process that run.
var nodes struct {
	sync.Mutex
	running int
	leave   bool // the operator has set it
}

// afterCollection sets when the next collection is due, and is called again after it: an object that nothing holds is
// finalized once a cycle. The caller holds nodes.
func afterCollection() {
	live := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	runtimemetrics.Read(live)
	percent := defaultPercent
	if kept := live[0].Value.Uint64(); kept < heapFloor/2 {
		percent = int(heapFloor/max(kept, 1<<20))*100 - 100
	}
	debug.SetGCPercent(percent)
	runtime.SetFinalizer(new([16]byte), func(*[16]byte) {
		nodes.Lock()
		defer nodes.Unlock()
		if nodes.running > 0 {
			afterCollection()
		}
	})
}
