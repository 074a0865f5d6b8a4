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
	topics sync.Map // topic -> *outTopic
	n      atomic.Int64
	bytes  atomic.Int64
}

// outTopic is what goes to one topic.
type outTopic struct {
	name string

	mu       sync.Mutex
	parts    []outPart     // by partition; nil until their number is known
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
	o.bytes.Add(int64(recordSize(r)))
	t := o.topic(r.Topic)
	at := time.Now().UnixMilli()
	t.mu.Lock()
	if t.parts == nil {
		if n := o.layout.partitions(r.Topic); n > 0 && len(t.unplaced) == 0 {
			t.parts = make([]outPart, n)
		} else {
			t.unplaced = append(t.unplaced, copied(r, at))
			t.mu.Unlock()
			return
		}
	}
	parts := t.parts
	t.mu.Unlock()
	parts[Partition(r.Key, int32(len(parts)))].add(r, at)
}

func (o *outbox) topic(name string) *outTopic {
	if t, ok := o.topics.Load(name); ok {
		return t.(*outTopic)
	}
	t, _ := o.topics.LoadOrStore(name, &outTopic{name: name})
	return t.(*outTopic)
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
	if t.parts == nil {
		t.parts = make([]outPart, n)
	}
	for _, r := range t.unplaced {
		t.parts[Partition(r.Key, int32(len(t.parts)))].add(r, r.Timestamp.UnixMilli())
	}
	t.unplaced = nil
}

// reset empties the box for the next transaction.
func (o *outbox) reset() {
	o.topics.Range(func(name, value any) bool {
		t := value.(*outTopic)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.unplaced = nil
		used := false
		for i := range t.parts {
			p := &t.parts[i]
			used = used || p.open.n > 0
			p.full, p.largest = nil, 0
			p.open.reset()
		}
		if !used || len(t.parts) != o.layout.partitions(t.name) {
			o.topics.Delete(name) // its room is not kept: nobody may write to it any more
		}
		return true
	})
	o.n.Store(0)
	o.bytes.Store(0)
}
