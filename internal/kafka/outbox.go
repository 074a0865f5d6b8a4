package kafka

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// outbox collects what a transaction writes, as record batches by partition, until the producer sends them all at its end.
// Nothing is sent earlier, so a transaction that is given up before its end has cost the broker nothing and leaves no trace.
// A record is encoded when it is added: nothing of it is kept, and its memory can be used again at once.
//
// Adding is safe for concurrent use; records that one goroutine adds for one partition keep their order.
type outbox struct {
	layout *layout
	n      atomic.Int64

	mu     sync.RWMutex
	topics map[string]*outTopic
}

func newOutbox(l *layout) *outbox { return &outbox{layout: l, topics: map[string]*outTopic{}} }

// outTopic is what goes to one topic.
type outTopic struct {
	name string

	parts atomic.Pointer[[]outPart] // by partition; nil until their number is known

	mu       sync.Mutex
	unplaced []*kgo.Record // added before that; with the time of adding
}

// outPart is what goes to one partition: all batches but the last are full.
type outPart struct {
	mu      sync.Mutex
	full    []recordBatch
	open    recordBatch
	largest int // bytes of the largest record
}

// add adds a record. Its Partition and Offset are not looked at: the partition follows from the key.
func (o *outbox) add(r *kgo.Record) {
	o.n.Add(1)
	t, at := o.topic(r.Topic), time.Now().UnixMilli()
	parts := t.parts.Load()
	if parts == nil {
		if parts = t.placed(o.layout, r, at); parts == nil {
			return
		}
	}
	(*parts)[Partition(r.Key, int32(len(*parts)))].add(r, at)
}

// placed is the topic's partitions, if they are known and nothing waits for them; else the record waits.
func (t *outTopic) placed(l *layout, r *kgo.Record, at int64) *[]outPart {
	t.mu.Lock()
	defer t.mu.Unlock()
	if parts := t.parts.Load(); parts != nil {
		return parts
	}
	if n := l.partitions(t.name); n > 0 && len(t.unplaced) == 0 {
		parts := make([]outPart, n)
		t.parts.Store(&parts)
		return &parts
	}
	t.unplaced = append(t.unplaced, copied(r, at))
	return nil
}

func (o *outbox) topic(name string) *outTopic {
	o.mu.RLock()
	t := o.topics[name]
	o.mu.RUnlock()
	if t != nil {
		return t
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if t = o.topics[name]; t == nil {
		t = &outTopic{name: name}
		o.topics[name] = t
	}
	return t
}

// each calls f with every topic; f may remove it.
func (o *outbox) each(f func(t *outTopic)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range o.topics {
		f(t)
	}
}

func (p *outPart) add(r *kgo.Record, at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	size := recordSize(r)
	if p.open.n > 0 && p.open.size()+size > maxBatchBytes {
		p.full = append(p.full, p.open)
		p.open = recordBatch{}
	}
	p.open.append(r, at)
	p.largest = max(p.largest, size)
}

// copied is a record that shares no memory with r.
func copied(r *kgo.Record, at int64) *kgo.Record {
	c := &kgo.Record{Topic: r.Topic, Key: slices.Clone(r.Key), Value: slices.Clone(r.Value), Timestamp: time.UnixMilli(at)}
	for _, h := range r.Headers {
		c.Headers = append(c.Headers, kgo.RecordHeader{Key: h.Key, Value: slices.Clone(h.Value)})
	}
	return c
}

// place puts the records of a topic into its n partitions, now that their number is known.
func (t *outTopic) place(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.parts.Load() != nil {
		return
	}
	parts := make([]outPart, n)
	for _, r := range t.unplaced {
		parts[Partition(r.Key, int32(n))].add(r, r.Timestamp.UnixMilli())
	}
	t.unplaced = nil
	t.parts.Store(&parts)
}

// reset empties the box for the next transaction. What a topic that was not written to has room for is given back.
func (o *outbox) reset() {
	o.each(func(t *outTopic) {
		used := false
		if parts := t.parts.Load(); parts != nil && len(*parts) == o.layout.partitions(t.name) {
			for i := range *parts {
				p := &(*parts)[i]
				used = used || p.open.n > 0
				p.full, p.largest = nil, 0
				p.open.reset()
			}
		}
		if !used {
			delete(o.topics, t.name)
		}
	})
	o.n.Store(0)
}
