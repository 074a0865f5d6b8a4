package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// maxRun is the most records of one run: a callback looks at the end of its session between two runs, and a partition's
// lease is asked for once a run.
const maxRun = 256

// Run is what goka handles as one message in a group with GroupConfig.Runs: records of one input partition that follow one
// another, and the offset after the record before them, which is what the first of them follows; each of the others follows
// the one before it.
//
// goka costs 5 us a message and a third of that a header; a run makes it a message of hundreds of records. What goka's context
// says of a record, its key above all, is then said of none of them, so runs serve only groups that own no table and
// whose callbacks read joined tables by Joined.
type Run struct {
	Records []*kgo.Record
	Follows int64
}

// FollowedBy is the offset after the record before the i-th.
func (r Run) FollowedBy(i int) int64 {
	if i == 0 {
		return r.Follows
	}
	return r.Records[i-1].Offset + 1
}

// Run returns the records that a callback was called for, by what goka's context says of its message. It is empty when the
// session that the callback belongs to is over: nothing may be done then. The records are the engine's: they may be
// read, and kept until the callback returns.
func (e *Engine) Run(topic string, partition int32, offset int64) Run {
	if b := e.openBatch(); b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.pending[tp{topic, partition}][offset]
	}
	return Run{}
}

// Joined returns a key's row in a partition of a joined table, as goka's Join answers for a message of that key and
// partition; nil when there is none. An error says that the table is not open (any more): nothing may be concluded then.
// The bytes are never changed.
func (e *Engine) Joined(table string, partition int32, key string) ([]byte, error) {
	t := e.tables.find(table, partition)
	if t == nil {
		return nil, fmt.Errorf("read %s/%d: %w", table, partition, errTableClosed)
	}
	return t.Get(key)
}
