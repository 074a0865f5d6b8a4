package kafka

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"civicbus/internal/flaw"
)

type tp struct {
	topic     string
	partition int32
}

// batch is one transaction: the records handed to goka, and what became of their outputs. Safe for concurrent use.
type batch struct {
	prod    *producer
	table   string // the group's own table topic
	started time.Time

	// shut is true once every record is finished: what is added after the flush would join the next transaction, without an
	// error (EXACTLY_ONCE point 8).
	shut atomic.Bool

	timed   map[int32]bool // partitions whose timers run in it; nil: none
	visited atomic.Int64   // timers whose callback returned
	wrote   atomic.Bool    // something was added

	mu       sync.Mutex
	oldest   time.Time            // the oldest lease confirmation that a record was handed on with; zero: none needed
	pending  map[tp]map[int64]Run // handed on and not yet marked, by the last offset; a double or foreign mark changes nothing
	n        int                  // runs in pending
	complete bool                 // the last record has been handed on
	done     chan struct{}        // closed when complete and nothing is pending
	last     map[int32]int64      // last changelog offset by partition
	late     []Output             // what flaw.GateOpen adds after the flush
}

func newBatch(prod *producer, table string) *batch {
	return &batch{prod: prod, table: table, started: time.Now(), pending: map[tp]map[int64]Run{}, done: make(chan struct{}), last: map[int32]int64{}}
}

// hand notes that records are on their way to goka, decided on the confirmation at.
func (b *batch) hand(k tp, run Run, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending[k] == nil {
		b.pending[k] = map[int64]Run{}
	}
	b.pending[k][run.Records[len(run.Records)-1].Offset] = run
	b.n++
	b.decide(at)
}

// decide notes that something in the batch is decided on the confirmation at; the caller holds mu, or has the batch alone.
func (b *batch) decide(at time.Time) {
	if !at.IsZero() && (b.oldest.IsZero() || at.Before(b.oldest)) {
		b.oldest = at
	}
}

// mark notes that goka has finished with a run, by its last offset.
func (b *batch) mark(k tp, offset int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.pending[k][offset]; !ok {
		return
	}
	delete(b.pending[k], offset)
	b.n--
	b.check()
}

// seal says that the last record has been handed on: the batch is done when nothing is pending.
func (b *batch) seal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complete = true
	b.check()
}

func (b *batch) check() {
	if b.complete && b.n == 0 {
		select {
		case <-b.done:
		default:
			close(b.done)
		}
	}
}

// stuck lists a record that goka has not finished with; ok is false when there is none.
func (b *batch) stuck() (k tp, offset int64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, offsets := range b.pending {
		for o := range offsets {
			return k, o, true
		}
	}
	return tp{}, 0, false
}

// produce adds an output to the transaction; false when the batch is shut. Nothing of the output is kept.
func (b *batch) produce(r *Output) bool {
	if !b.wrote.Load() {
		b.wrote.Store(true)
	}
	if flaw.Planted(flaw.GateOpen) && Partition(r.Value, 3) == 0 {
		b.mu.Lock()
		b.late = append(b.late, r.copied())
		b.mu.Unlock()
		return true
	}
	return b.prod.out.add(r, &b.shut)
}

// flush writes the outputs, as far as the transaction lets anybody see them.
func (b *batch) flush(ctx context.Context) error {
	err := b.prod.flush(ctx, func(topic string, partition int32, last int64) {
		if topic == b.table {
			b.last[partition] = last
		}
	})
	for i := range b.late {
		b.prod.out.add(&b.late[i], new(atomic.Bool))
	}
	return err
}

// age is how old the oldest confirmation is that a record was handed on with; 0 when none was needed.
func (b *batch) age() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.oldest.IsZero() || flaw.Planted(flaw.LeaseUnchecked) || flaw.Planted(flaw.LeaseUncheckedLate) {
		return 0
	}
	return time.Since(b.oldest)
}

// tableOffsets returns the last changelog offset written in each partition, once the outputs are.
func (b *batch) tableOffsets() map[int32]int64 {
	return b.last
}
