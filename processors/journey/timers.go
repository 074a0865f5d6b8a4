package journey

import (
	"container/heap"
	"slices"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
)

// Timers knows when each row is due, from the rows themselves as they are committed: so a restart forgets none. Safe for
// concurrent use.
type Timers struct {
	rows       *codecs.Record[codecs.Journey]
	now        func() time.Time
	partitions int32

	mu    sync.Mutex
	due   map[string]int64 // by key
	heaps map[int32]*entries
}

// NewTimers makes one that knows no row yet.
func NewTimers(rows *codecs.Record[codecs.Journey], now func() time.Time, partitions int32) *Timers {
	return &Timers{rows: rows, now: now, partitions: partitions, due: map[string]int64{}, heaps: map[int32]*entries{}}
}

// Changed is told of a committed row; nil: it is gone. One that cannot be decoded is due at once, and then deleted.
func (t *Timers) Changed(key string, row []byte) {
	at := int64(0)
	if row != nil {
		r, err := t.rows.Decode(row)
		if at = r.Due; err != nil {
			at = 1
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if at == 0 {
		delete(t.due, key)
		return
	}
	if t.due[key] == at {
		return
	}
	t.due[key] = at
	p := kafka.PartitionOf(key, t.partitions)
	if t.heaps[p] == nil {
		t.heaps[p] = new(entries)
	}
	heap.Push(t.heaps[p], entry{at, key})
}

// Due names the keys of a partition that are due, the earliest first, at most so many. They stay due until their rows change.
func (t *Timers) Due(partition int32, most int) (keys []string) {
	now := t.now().UnixMilli()
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.heaps[partition]
	if h == nil {
		return nil
	}
	var again []entry
	for len(keys) < most && h.Len() > 0 && (*h)[0].at <= now {
		e := heap.Pop(h).(entry)
		if t.due[e.key] == e.at && !slices.Contains(again, e) { // else its row has changed since
			keys, again = append(keys, e.key), append(again, e)
		}
	}
	for _, e := range again {
		heap.Push(h, e)
	}
	return keys
}

type entry struct {
	at  int64
	key string
}

// entries is a heap, the earliest first.
type entries []entry

func (e entries) Len() int           { return len(e) }
func (e entries) Less(i, j int) bool { return e[i].at < e[j].at }
func (e entries) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }

// Push is heap.Interface's.
func (e *entries) Push(x any) { *e = append(*e, x.(entry)) }

// Pop is heap.Interface's.
func (e *entries) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}
