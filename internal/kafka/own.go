package kafka

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// OwnRow returns a row of the group's own table in a partition that this member has, as the open transaction has it; nil
// when there is none. goka's context gives a callback the row of its record's own key alone; this is for what belongs to
// the partition as a whole. An error says that the partition is not open (any more): nothing may be concluded then.
func (e *Engine) OwnRow(partition int32, key string) ([]byte, error) {
	t := e.tables.find(e.table, partition)
	if t == nil {
		return nil, fmt.Errorf("read %s/%d: %w", e.table, partition, errTableClosed)
	}
	return t.Get(key)
}

// SetOwnRow writes such a row in the transaction of the record that the calling callback handles: an abort drops it with
// everything else. The key must belong to the partition, or its row would be recovered elsewhere.
func (e *Engine) SetOwnRow(partition int32, key string, row []byte) error {
	e.tables.mu.RLock()
	n := e.tables.sizes[e.table]
	e.tables.mu.RUnlock()
	if n > 0 && Partition([]byte(key), n) != partition {
		return fmt.Errorf("write %s/%d: the key belongs to another partition", e.table, partition)
	}
	t := e.tables.find(e.table, partition)
	if t == nil {
		return fmt.Errorf("write %s/%d: %w", e.table, partition, errTableClosed)
	}
	if err := t.Set(key, row); err != nil {
		return err
	}
	e.Produce(&kgo.Record{Topic: e.table, Key: []byte(key), Value: row})
	return nil
}
