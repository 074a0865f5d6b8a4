package delivery

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// cache keeps the newest deliveries that have begun to wait and were not attempted yet, up to a number of bytes. What is not
// in it is read from Kafka. Safe for concurrent use.
type cache struct {
	mu    sync.Mutex
	all   map[place]*kgo.Record
	order []place // the oldest first; some may be gone
	bytes int
}

type place struct {
	partition int32
	offset    int64
}

const cacheBytes = 16 << 20

func newCache() *cache { return &cache{all: map[place]*kgo.Record{}} }

func sizeOf(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value) + 512 // about what a record takes beside its texts
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value) + 64
	}
	return n
}

func (c *cache) put(r *kgo.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := place{r.Partition, r.Offset}
	if c.all[at] != nil { // its transaction was tried again
		return
	}
	c.all[at], c.order, c.bytes = r, append(c.order, at), c.bytes+sizeOf(r)
	drop := 0
	for ; c.bytes > cacheBytes && drop < len(c.order); drop++ {
		c.drop(c.order[drop])
	}
	c.order = c.order[drop:]
	if len(c.order) > 2*len(c.all)+1024 {
		kept := make([]place, 0, len(c.all))
		for _, p := range c.order {
			if c.all[p] != nil {
				kept = append(kept, p)
			}
		}
		c.order = kept
	}
}

// take gives a delivery once: a second attempt is far away.
func (c *cache) take(partition int32, offset int64) *kgo.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := place{partition, offset}
	r := c.all[at]
	c.drop(at)
	return r
}

func (c *cache) drop(at place) {
	if r := c.all[at]; r != nil {
		delete(c.all, at)
		c.bytes -= sizeOf(r)
	}
}
