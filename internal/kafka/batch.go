package kafka

import (
	"context"
	"sync"
	"time"

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
	oldest  time.Time // the oldest lease confirmation that a record was handed on with; zero: none needed

	mu       sync.Mutex
	pending  map[tp]map[int64]struct{} // handed on and not yet marked; a set, so that a double or foreign mark changes nothing
	n        int                       // records in pending
	complete bool                      // the last record has been handed on
	done     chan struct{}             // closed when complete and nothing is pending
	err      error                     // first output that failed
	outputs  int
	last     map[int32]int64 // last changelog offset by partition
}

func newBatch(prod *producer, table string) *batch {
	return &batch{prod: prod, table: table, started: time.Now(), pending: map[tp]map[int64]struct{}{}, done: make(chan struct{}), last: map[int32]int64{}}
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

// produce adds an output to the transaction. Its failure is the batch's: the promise that goka holds is kept at once, and
// the transaction commits only if every output was written.
func (b *batch) produce(r *kgo.Record, failed func(topic string, size int, err error)) {
	b.mu.Lock()
	b.outputs++
	b.mu.Unlock()
	b.prod.client.Produce(context.Background(), r, func(r *kgo.Record, err error) {
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
		if err != nil && failed != nil {
			failed(r.Topic, len(r.Key)+len(r.Value), err)
		}
	})
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
