package kafka

import (
	"fmt"
	"sync"
	"time"

	"github.com/lovoo/goka/storage"
)

// controlKey stands for a changelog offset that holds no row (a transaction marker, or what compaction took away): goka's
// recovery counts records, so it is handed one. No row can have the key: it is not valid UTF-8 text of ours.
const controlKey = "\x00"

// keepClosed is how long the rows of a partition that moved away are kept for its return; see table.forget.
const keepClosed = time.Hour

// tables are the table partitions that one group or one view holds. Safe for concurrent use.
type tables struct {
	own     string // the group's own table topic; empty: none
	changed func(topic, key string, row []byte)
	seen    func(topic string, written time.Time) // as table's; nil: nobody
	packs   map[string]Pack                       // by table topic; not of own
	reader  *reader                               // where goka's messages have their rows; nil in tests
	broken  func(error)                           // told when what was read here is not what the log has (any more)

	mu    sync.RWMutex
	m     map[string]map[int32]*table
	sizes map[string]int32 // number of partitions of a topic, learnt before its tables are made
}

func newTables(own string, changed func(topic, key string, row []byte), broken func(error)) *tables {
	return &tables{own: own, changed: changed, broken: broken, m: map[string]map[int32]*table{}, sizes: map[string]int32{}}
}

// builder is goka's storage.Builder: the same table each time, with the rows it had.
func (ts *tables) builder() storage.Builder {
	return func(topic string, partition int32) (storage.Storage, error) {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		if ts.m[topic] == nil {
			ts.m[topic] = map[int32]*table{}
		}
		t := ts.m[topic][partition]
		if t == nil {
			var changed func(string, []byte)
			if ts.changed != nil {
				changed = func(key string, row []byte) { ts.changed(topic, key, row) }
			}
			t = newTable(topic, partition, topic == ts.own, changed)
			if !t.own {
				t.pack = ts.packs[topic]
			}
			if ts.seen != nil {
				t.seen = func(written time.Time) { ts.seen(topic, written) }
			}
			if ts.reader != nil {
				t.loads = func(token string) (*load, bool) { return ts.reader.rows(topic, partition, token) }
			}
			ts.m[topic][partition] = t
		}
		t.forget(keepClosed, time.Now())
		return &opened{table: t}, nil
	}
}

// size learns how many partitions a topic has.
func (ts *tables) size(topic string, n int) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.sizes[topic] = int32(n)
}

// whole lists the tables of every partition of a topic; ok is false while some of them are not held.
func (ts *tables) whole(topic string) (all []*table, ok bool) {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	for _, t := range ts.m[topic] {
		all = append(all, t)
	}
	return all, len(all) > 0 && len(all) >= int(ts.sizes[topic])
}

// starts compares where a partition's log starts with what was read here. A gap means that changes were deleted unread: a
// row that is gone from the log may still stand here. (Compaction does not move the start.)
func (ts *tables) starts(topic string, p int32, start int64) error {
	t := ts.find(topic, p)
	if t == nil || t.applied() < 0 || start <= t.applied()+1 {
		return nil
	}
	err := fmt.Errorf("read table %s/%d: it was read up to offset %d, and its log now starts at %d: it must be read anew", topic, p, t.applied(), start)
	ts.broken(err)
	return err
}

// ends compares where a partition's log ends with what was read here: a shorter log was truncated or made anew, and goka
// would go on answering from what it had. Else reading begins.
func (ts *tables) ends(topic string, p int32, end int64) error {
	t := ts.find(topic, p)
	if t == nil {
		return nil
	}
	if read := t.applied(); end <= read {
		err := fmt.Errorf("read table %s/%d: it was read up to offset %d, and its log now ends at %d: it must be read anew", topic, p, read, end)
		ts.broken(err)
		return err
	}
	t.mu.Lock()
	t.end, t.began, t.beganAt = end, time.Now(), t.offset+1
	t.mu.Unlock()
	return nil
}

func (ts *tables) find(topic string, partition int32) *table {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	return ts.m[topic][partition]
}

func (ts *tables) all(topic string) []*table {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	list := make([]*table, 0, len(ts.m[topic]))
	for _, t := range ts.m[topic] {
		list = append(list, t)
	}
	return list
}

// row returns the committed row of a key in a table held whole; nil when there is none.
func (ts *tables) row(topic, key string) []byte {
	ts.mu.RLock()
	n := ts.sizes[topic]
	ts.mu.RUnlock()
	if n == 0 {
		return nil
	}
	if t := ts.find(topic, Partition([]byte(key), n)); t != nil {
		return t.committed(key)
	}
	return nil
}

// each calls f with every committed row of a table held whole.
func (ts *tables) each(topic string, f func(key string, row []byte)) {
	for _, t := range ts.all(topic) {
		t.mu.RLock()
		keys := t.rows.keys()
		t.mu.RUnlock()
		for _, k := range keys {
			if row := t.committed(k); row != nil {
				f(k, row)
			}
		}
	}
}

// loaded counts the changelog records applied since the process started.
func (ts *tables) loaded() (n int64) {
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	for _, ps := range ts.m {
		for _, t := range ps {
			t.mu.RLock()
			n += t.loaded
			t.mu.RUnlock()
		}
	}
	return n
}
