package kafka

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// outbox collects what a transaction writes, as record batches by partition, until the producer sends them all at its end.
// Nothing is sent earlier, so a transaction that is given up before its end has cost the broker nothing and leaves no trace.
// A record is encoded when it is added: nothing of it is kept, and its memory can be used again at once.
//
// Adding is safe for concurrent use; records that one goroutine adds for one partition keep their order.
type outbox struct {
	layout *layout
	now    atomic.Int64 // milliseconds since 1970: the time of what is added

	topics atomic.Pointer[map[string]*outTopic] // never changed, but replaced
	mu     sync.Mutex                           // of who replaces it
}

func newOutbox(l *layout) *outbox {
	o := &outbox{layout: l}
	o.topics.Store(&map[string]*outTopic{})
	o.tick()
	return o
}

// tick sets the time of what is added from here on.
func (o *outbox) tick() { o.now.Store(time.Now().UnixMilli()) }

// outTopic is what goes to one topic.
type outTopic struct {
	name string

	parts atomic.Pointer[[]outPart] // by partition; nil until their number is known

	mu       sync.Mutex
	unplaced []Output // added before that
}

// outPart is what goes to one partition: all batches but the last are full.
type outPart struct {
	mu      sync.Mutex
	full    []recordBatch
	open    recordBatch
	largest int // bytes of the largest record
}

// add adds an output, unless shut is true: false then. Whoever makes shut true and then looks at the box, finds in it all that
// was added. The partition follows from the key.
func (o *outbox) add(r *Output, shut *atomic.Bool) bool {
	t := o.topic(r.Topic)
	parts := t.parts.Load()
	if parts == nil {
		var added bool
		if parts, added = t.placed(o.layout, r, shut); parts == nil {
			return added
		}
	}
	return (*parts)[Partition(r.Key, int32(len(*parts)))].add(r, o.now.Load(), shut)
}

// placed is the topic's partitions, if they are known and nothing waits for them; else the output is kept until they are.
func (t *outTopic) placed(l *layout, r *Output, shut *atomic.Bool) (parts *[]outPart, added bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if parts = t.parts.Load(); parts != nil {
		return parts, false
	}
	if shut.Load() {
		return nil, false
	}
	if n := l.partitions(t.name); n > 0 && len(t.unplaced) == 0 {
		made := make([]outPart, n)
		t.parts.Store(&made)
		return &made, false
	}
	t.unplaced = append(t.unplaced, r.copied())
	return nil, true
}

func (o *outbox) topic(name string) *outTopic {
	if t := (*o.topics.Load())[name]; t != nil {
		return t
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	all := *o.topics.Load()
	t := all[name]
	if t == nil {
		t = &outTopic{name: strings.Clone(name)}
		all = maps.Clone(all)
		all[t.name] = t
		o.topics.Store(&all)
	}
	return t
}

func (p *outPart) add(r *Output, at int64, shut *atomic.Bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if shut.Load() {
		return false
	}
	size := r.size()
	if p.open.n > 0 && p.open.size()+size > maxBatchBytes {
		p.full = append(p.full, p.open)
		p.open = recordBatch{}
	}
	p.open.append(r, at)
	p.largest = max(p.largest, size)
	return true
}

// copied is an output that shares no memory with o.
func (o *Output) copied() Output {
	return Output{strings.Clone(o.Topic), slices.Clone(o.Key), slices.Clone(o.Value), slices.Clone(o.Headers), o.Count}
}

// place puts what waits for it into the topic's n partitions, now that their number is known.
func (t *outTopic) place(n int, at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.parts.Load() != nil {
		return
	}
	parts := make([]outPart, n)
	var open atomic.Bool
	for i := range t.unplaced {
		r := &t.unplaced[i]
		parts[Partition(r.Key, int32(n))].add(r, at, &open)
	}
	t.unplaced = nil
	t.parts.Store(&parts)
}

// waits says whether outputs wait for the number of the topic's partitions.
func (t *outTopic) waits() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.unplaced) > 0
}

// empty says whether nothing was added.
func (o *outbox) empty() bool {
	for _, t := range *o.topics.Load() {
		if t.waits() {
			return false
		}
		if parts := t.parts.Load(); parts != nil {
			for i := range *parts {
				if (*parts)[i].used() {
					return false
				}
			}
		}
	}
	return true
}

func (p *outPart) used() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open.n > 0
}

// reset empties the box for the next transaction. The room of topics that were not written to is given back.
func (o *outbox) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := map[string]*outTopic{}
	for name, t := range *o.topics.Load() {
		parts := t.parts.Load()
		if parts == nil || len(*parts) != o.layout.partitions(name) {
			continue
		}
		used := false
		for i := range *parts {
			used = (*parts)[i].reset() || used
		}
		if used {
			kept[name] = t
		}
	}
	if len(kept) != len(*o.topics.Load()) {
		o.topics.Store(&kept)
	}
}

// reset empties the partition and says whether there was anything.
func (p *outPart) reset() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	used := p.open.n > 0
	p.full, p.largest = nil, 0
	p.open.reset()
	return used
}
