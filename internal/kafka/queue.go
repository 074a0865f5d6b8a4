package kafka

import "github.com/twmb/franz-go/pkg/kgo"

// queue holds the records of one input partition from the poll until their transaction has committed. An abort only moves
// the head back: franz-go takes everything that was polled for consumed, and rewinding it by its own idea of what was
// committed loses a held partition's records (EXACTLY_ONCE point 29). The engine's loop alone uses it.
type queue struct {
	records   []*kgo.Record
	head      int   // records before it are in the open transaction
	committed int64 // offset that the group has committed for the partition; -1: not known yet
	follows   int64 // offset after the last record handed on, the committed one before the first
	end       int64 // of the log, as the last fetch told it
	seen      int64 // offset after the last record or transaction marker that was polled
	noted     int64 // where upTo stood when it was last committed
	paused    bool  // franz-go does not fetch the partition: enough is waiting here
	stopped   error // the partition cannot go on until an operator has looked
}

func (q *queue) next() *kgo.Record {
	if q.head < len(q.records) && q.stopped == nil {
		return q.records[q.head]
	}
	return nil
}

// take moves the next record into the open transaction and returns the offset that it follows.
func (q *queue) take() (follows int64) {
	follows = q.follows
	q.follows = q.records[q.head].Offset + 1
	q.head++
	return follows
}

// upTo is where the group goes on once the open transaction has committed: behind the markers that follow its last record, when
// everything that was polled is in it.
func (q *queue) upTo() int64 {
	if q.head < len(q.records) {
		return q.follows
	}
	return max(q.follows, q.seen, q.noted)
}

// commit forgets what the transaction had.
func (q *queue) commit() {
	q.noted = q.upTo()
	if q.head == 0 {
		return
	}
	q.committed = q.follows
	clear(q.records[:q.head])
	q.records = q.records[q.head:]
	q.head = 0
}

// rewind gives back what the transaction had.
func (q *queue) rewind() {
	q.head = 0
	q.follows = q.committed
}

// replace sets the committed offset to what the broker says and drops what lies below it.
func (q *queue) replace(committed int64) {
	q.committed = committed
	n := 0
	for n < len(q.records) && q.records[n].Offset < committed {
		n++
	}
	q.records = q.records[n:]
	q.rewind()
}
