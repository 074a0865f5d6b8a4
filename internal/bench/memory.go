package bench

import (
	"context"
	"runtime"

	"civicbus/internal/kafka"
)

// memoryPerMillion reads a table of consents, a grant a row, as a router does, packed, and tells by how much that grew the live heap,
// in megabytes (10^6 bytes) for a million rows; the dictionaries are in it. There is nothing to compare it with.
func memoryPerMillion(ctx context.Context, c Config) (Result, error) {
	const table = "bench-memory-table"
	conn := kafka.Connection{Brokers: c.Brokers}
	if _, err := c.makeTable(ctx, conn, table); err != nil {
		return Result{}, err
	}
	var used []float64
	for range c.Runs {
		grown, err := grownBy(ctx, conn, table, recoveryKey(c.Events-1))
		if err != nil {
			return Result{}, err
		}
		used = append(used, float64(grown)/float64(c.Events))
	}
	return Result{Name: "memory_per_million", Ours: median(used), Unit: "MB", Runs: c.Runs}, nil
}

func grownBy(ctx context.Context, conn kafka.Connection, table, last string) (int64, error) {
	before := liveHeap()
	var grown int64
	err := recovered(ctx, conn, table, last, true, func() { grown = liveHeap() - before })
	return grown, err
}

// liveHeap is what is reachable; the second collection frees what the first one's finalizers let go.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
