package bench

import (
	"context"
	"errors"
	"runtime"
	"time"

	"civicbus/internal/kafka"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// memoryPerMillion reads a table of consents, a grant a row, and tells by how much that grew the live heap, in megabytes
// (10^6 bytes) for a million rows. There is nothing to compare it with.
func memoryPerMillion(ctx context.Context, c Config) (Result, error) {
	const table = "bench-memory-table"
	conn := kafka.Connection{Brokers: c.Brokers}
	cl, err := conn.Client(kgo.ProducerBatchMaxBytes(900_000), kgo.MaxBufferedRecords(50_000), kgo.ProducerLinger(20*time.Millisecond))
	if err != nil {
		return Result{}, err
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 8, 1, nil, table); err != nil {
		return Result{}, err
	}
	if _, err := fill(ctx, cl, table, c.Events); err != nil {
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
	v, err := kafka.NewView(conn, 500*time.Millisecond, quiet(), nil, table)
	if err != nil {
		return 0, err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- v.Run(running) }()
	err = v.Wait(ctx)
	grown := liveHeap() - before
	if err == nil && v.Row(table, last) == nil {
		err = errors.New("recovered without the last row")
	}
	stop()
	return grown, errors.Join(err, <-done)
}

// liveHeap is what is reachable; the second collection frees what the first one's finalizers let go.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
