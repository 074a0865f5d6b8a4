package kafka

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unsafe"

	"civicbus/internal/flaw"

	"github.com/lovoo/goka/storage"
	"github.com/twmb/franz-go/pkg/kgo"
)

// table holds the rows of one partition of one table topic in memory, behind goka's storage.Storage.
//
// Committed rows live as long as the process: goka closes its storage at every rebalance and opens it again, and then reads
// from the changelog only what came since. Writes of a group to its own table stand in an overlay until the engine says
// that their transaction committed (apply) or did not (drop). So the rows may be behind the changelog, never ahead of it.
//
// It is safe for concurrent use.
type table struct {
	topic     string
	partition int32
	own       bool // the group's own table: writes after recovery go to the overlay

	mu        sync.RWMutex
	rows      *arena
	offset    int64             // of the last changelog record applied; -1: none
	overlay   map[string][]byte // a nil value is a deletion
	recovered bool
	due       []string // what the next iterators go over instead of every key: see timers.go
	open      bool
	session   int // counts Open
	closedAt  time.Time
	loaded    int64                            // changelog records applied since the process started: what a rebalance re-reads shows here
	end       int64                            // where the log ended when goka last began to read it
	began     time.Time                        // and when that was
	beganAt   int64                            // and what had been read then
	changed   func(key string, row []byte)     // told when a committed row changed, before pack or after, nil: it is gone; may be nil
	pack      Pack                             // what is kept of a row; nil: all of it. Never of the group's own table
	packed    []byte                           // room for it, guarded by mu
	seen      func(written time.Time)          // told of the oldest of rows that were read at once, after the table was loaded; may be nil
	loads     func(token string) (*load, bool) // what is behind a message of the reader's; nil in tests
}

// Pack appends to dst what is kept of a row of a table that a group joins or looks up but does not own, or that a view holds;
// whoever reads the table gets that. It must tell by itself what it cannot read, and must not block. What it appends may
// be empty, but a row stays a row: only a tombstone removes one. It may be called by many goroutines at once.
type Pack func(dst, row []byte) []byte

var errTableClosed = errors.New("table is closed: its partition is no longer assigned to this session")

func newTable(topic string, partition int32, own bool, changed func(string, []byte)) *table {
	return &table{topic: topic, partition: partition, own: own, rows: newArena(), offset: -1, changed: changed}
}

// opened is a table as one session of goka's has it. It exists for one thing: goka calls MarkRecovered in a goroutine that it
// does not wait for when the session is cancelled, and in the next session, which is loading, that would turn what is read
// from the changelog into uncommitted writes.
type opened struct {
	*table
	session int
}

// Open begins a session of goka's with the table.
func (o *opened) Open() error {
	t := o.table
	t.mu.Lock()
	defer t.mu.Unlock()
	t.session++
	o.session = t.session
	t.open, t.recovered = true, flaw.Planted(flaw.RecoveredKept) && t.recovered
	t.overlay = nil
	return nil
}

// MarkRecovered ends the loading of a group's own table: writes go to the overlay from here on.
func (o *opened) MarkRecovered() error {
	t := o.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session == o.session {
		t.recovered = true
	}
	return nil
}

// Close ends the session; committed rows stay.
func (t *table) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = false
	t.closedAt = time.Now()
	t.overlay = nil
	return nil
}

// forget drops all rows when the table has been closed for longer than keep: Kafka may by then have compacted away
// tombstones that were never read here, and a deleted row would live again (delete.retention.ms is a day by default).
func (t *table) forget(keep time.Duration, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open && !t.closedAt.IsZero() && now.Sub(t.closedAt) > keep {
		t.rows, t.offset, t.closedAt = newArena(), -1, time.Time{}
	}
}

// Has says whether the key has a row.
func (t *table) Has(key string) (bool, error) {
	v, err := t.Get(key)
	return v != nil, err
}

// Get returns the row, the group's own uncommitted write included; nil when there is none. The bytes are never changed.
func (t *table) Get(key string) ([]byte, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.open {
		return nil, fmt.Errorf("read %s/%d: %w", t.topic, t.partition, errTableClosed)
	}
	if v, ok := t.overlay[key]; ok {
		return v, nil
	}
	v, _ := t.rows.get(key)
	return v, nil
}

// committed returns the row as the changelog has it, also between sessions.
func (t *table) committed(key string) []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	v, _ := t.rows.get(key)
	return v
}

// Set writes a row: into the overlay for a group's own recovered table, else into the rows.
func (t *table) Set(key string, value []byte) error {
	if value == nil {
		return fmt.Errorf("write %s/%d: a row cannot be nil", t.topic, t.partition)
	}
	return t.write(key, value)
}

// Delete removes a row; or, under the key of a message of the reader's, it applies the rows behind it.
func (t *table) Delete(key string) error {
	if len(key) <= len(controlKey) || key[:len(controlKey)] != controlKey || t.loads == nil {
		return t.write(key, nil)
	}
	if l, ok := t.loads(key); ok {
		defer l.slabs.free()
		return t.load(l.records)
	}
	t.mu.RLock()
	read := t.own && t.recovered
	t.mu.RUnlock()
	if read {
		return t.write(key, nil) // a callback's, about a record with a strange key
	}
	return fmt.Errorf("write %s/%d: the rows that were read are gone", t.topic, t.partition)
}

// load applies a run of changelog records. It is goka's goroutine that does it, where it would apply one.
func (t *table) load(records []*kgo.Record) error {
	var oldest time.Time
	for _, r := range records {
		if r.Attrs.IsControl() {
			continue
		}
		if oldest.IsZero() {
			oldest = r.Timestamp
		}
		key := unsafe.String(unsafe.SliceData(r.Key), len(r.Key)) // the arena copies it; whoever else gets it may keep it
		if t.own || t.changed != nil {
			key = string(r.Key)
		}
		if err := t.write(key, r.Value); err != nil {
			return err
		}
	}
	t.mu.Lock()
	t.loaded += int64(max(0, len(records)-1)) // and one, when goka sets the offset
	recovered := t.recovered
	t.mu.Unlock()
	if recovered && t.seen != nil && !oldest.IsZero() {
		t.seen(oldest)
	}
	return nil
}

func (t *table) write(key string, value []byte) error {
	if t.pack != nil && t.changed != nil && key != controlKey {
		t.changed(key, value) // first: it may wait for what pack needs
	}
	t.mu.Lock()
	if !t.open {
		t.mu.Unlock()
		return fmt.Errorf("write %s/%d: %w", t.topic, t.partition, errTableClosed)
	}
	if t.own && t.recovered && !flaw.Planted(flaw.OverlayEarly) {
		if t.overlay == nil {
			t.overlay = map[string][]byte{}
		}
		t.overlay[key] = value
		t.mu.Unlock()
		return nil
	}
	if key != controlKey {
		t.rows.set(key, t.kept(value))
	}
	t.mu.Unlock()
	if t.changed != nil && t.pack == nil && key != controlKey {
		t.changed(key, value)
	}
	return nil
}

// kept is what the arena is to take of a row; the caller holds mu.
func (t *table) kept(row []byte) []byte {
	if t.pack == nil || row == nil {
		return row
	}
	t.packed = t.pack(append(t.packed[:0], 0), row) // a byte before it, so that an empty one is not nil
	return t.packed[1:]
}

// apply makes the overlay part of the rows; last is the changelog offset of its last record, -1 for none.
func (t *table) apply(last int64) {
	t.mu.Lock()
	overlay := t.overlay
	t.overlay = nil
	for k, v := range overlay {
		t.rows.set(k, v)
	}
	if last > t.offset {
		t.offset = last
	}
	t.mu.Unlock()
	if t.changed != nil {
		for k, v := range overlay {
			t.changed(k, v)
		}
	}
}

// drop forgets the overlay.
func (t *table) drop() {
	t.mu.Lock()
	t.overlay = nil
	t.mu.Unlock()
}

// GetOffset returns the offset of the last changelog record applied, or def.
func (t *table) GetOffset(def int64) (int64, error) {
	if o := t.applied(); o >= 0 {
		return o, nil
	}
	return def, nil
}

// SetOffset records that the changelog has been applied up to and with this offset. goka calls it while it loads and
// catches up; for a group's own writes the engine does it at commit.
func (t *table) SetOffset(offset int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open {
		return fmt.Errorf("write %s/%d: %w", t.topic, t.partition, errTableClosed)
	}
	t.loaded++
	if offset > t.offset {
		t.offset = offset
	}
	return nil
}

func (t *table) applied() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.offset
}

// Iterator goes over the keys that had a row when it was made, the overlay included, in order; the rows are read as they are
// when they are asked for.
func (t *table) Iterator() (storage.Iterator, error) { return t.IteratorWithRange(nil, nil) }

// IteratorWithRange goes over the keys in [start, limit); nil is unbounded.
func (t *table) IteratorWithRange(start, limit []byte) (storage.Iterator, error) {
	t.mu.RLock()
	keys := t.due
	if keys == nil {
		keys = t.keys()
	}
	t.mu.RUnlock()
	from, to := 0, len(keys)
	for from < to && start != nil && keys[from] < string(start) {
		from++
	}
	for to > from && limit != nil && keys[to-1] >= string(limit) {
		to--
	}
	return &tableIterator{t: t, keys: keys[from:to], at: -1}, nil
}

// visit makes the next iterators go over keys; with none of them over nothing, with nil over every key again.
func (t *table) visit(keys []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.due = keys
}

// keys lists the keys that have a row, the overlay included, sorted; the caller holds mu.
func (t *table) keys() []string {
	keys := t.rows.keys()
	if len(t.overlay) == 0 {
		return keys
	}
	keys = slices.DeleteFunc(keys, func(k string) bool { _, written := t.overlay[k]; return written })
	for k, v := range t.overlay {
		if v != nil {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

type tableIterator struct {
	t    *table
	keys []string
	at   int
}

func (i *tableIterator) Next() bool {
	i.at++
	return i.at < len(i.keys)
}
func (i *tableIterator) Err() error             { return nil }
func (i *tableIterator) Key() []byte            { return []byte(i.keys[i.at]) }
func (i *tableIterator) Value() ([]byte, error) { return i.t.Get(i.keys[i.at]) }
func (i *tableIterator) Release()               { i.keys = nil }
func (i *tableIterator) Seek(key []byte) bool {
	for i.at = -1; i.at+1 < len(i.keys); i.at++ {
		if i.keys[i.at+1] >= string(key) {
			return true
		}
	}
	return false
}
