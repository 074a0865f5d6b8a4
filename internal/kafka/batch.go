package kafka

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"civicbus/internal/flaw"

	"github.com/twmb/franz-go/pkg/kgo"
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
	ctx     context.Context // of its outputs: its end frees a callback that waits for room in the producer
	cancel  context.CancelFunc

	// gate is shut once every record is finished. franz-go looks at the transaction only when a record is added: one that
	// is added between the flush and the end would join the next transaction, without an error (EXACTLY_ONCE point 8).
	gate sync.RWMutex
	shut bool

	timed   map[int32]bool // partitions whose timers run in it; nil: none
	visited atomic.Int64   // timers whose callback returned

	mu       sync.Mutex
	oldest   time.Time                 // the oldest lease confirmation that a record was handed on with; zero: none needed
	pending  map[tp]map[int64]struct{} // handed on and not yet marked; a set, so that a double or foreign mark changes nothing
	n        int                       // records in pending
	complete bool                      // the last record has been handed on
	done     chan struct{}             // closed when complete and nothing is pending
	err      error                     // first output that failed
	outputs  int
	last     map[int32]int64 // last changelog offset by partition
	late     []*kgo.Record   // see gateOpen
}

func newBatch(prod *producer, table string) *batch {
	b := &batch{prod: prod, table: table, started: time.Now(), pending: map[tp]map[int64]struct{}{}, done: make(chan struct{}), last: map[int32]int64{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// hand notes that a record is on its way to goka, decided on the confirmation at.
func (b *batch) hand(k tp, offset int64, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending[k] == nil {
		b.pending[k] = map[int64]struct{}{}
	}
	b.pending[k][offset] = struct{}{}
	b.n++
	b.decide(at)
}

// decide notes that something in the batch is decided on the confirmation at; the caller holds mu, or has the batch alone.
func (b *batch) decide(at time.Time) {
	if !at.IsZero() && (b.oldest.IsZero() || at.Before(b.oldest)) {
		b.oldest = at
	}
}

// mark notes that goka has finished with a record.
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

// shutGate refuses outputs from now on, and waits for those that are on their way into the producer.
func (b *batch) shutGate() {
	b.gate.Lock()
	b.shut = true
	b.gate.Unlock()
}

// produce adds an output to the transaction; false when the gate is shut. Its failure is the batch's: the promise that goka
// holds is kept at once, and the transaction commits only if every output was written.
func (b *batch) produce(r *kgo.Record, failed func(topic string, size int, err error)) bool {
	b.gate.RLock()
	defer b.gate.RUnlock()
	if b.shut {
		return false
	}
	b.mu.Lock()
	b.outputs++
	if flaw.Planted(flaw.GateOpen) && b.outputs%3 == 0 {
		b.late = append(b.late, r)
		b.mu.Unlock()
		return true
	}
	b.mu.Unlock()
	b.prod.client.Produce(b.ctx, r, func(r *kgo.Record, err error) {
		if err == nil && r.Topic != b.table {
			return
		}
		b.mu.Lock()
		if err != nil && b.err == nil {
			b.err = err
		}
		if last, ok := b.last[r.Partition]; err == nil && (!ok || r.Offset > last) {
			b.last[r.Partition] = r.Offset
		}
		b.mu.Unlock()
		if err != nil && failed != nil && b.ctx.Err() == nil {
			failed(r.Topic, len(r.Key)+len(r.Value), err)
		}
	})
	return true
}

// produceLate is what flaw.GateOpen does.
func (b *batch) produceLate() {
	for _, r := range b.late {
		b.prod.client.Produce(context.Background(), r, nil)
	}
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

func (b *batch) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *batch) outputCount() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outputs
}

// tableOffsets returns the last changelog offset written in each partition.
func (b *batch) tableOffsets() map[int32]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}
