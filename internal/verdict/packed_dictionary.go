package verdict

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

// Bounds of the dictionaries. A country has some thousands of organisations, each with a few purposes and sets of scopes.
// Whoever sends others by the million makes rows longer, and takes at most about 50 MB for them.
const (
	maxTerms = 1 << 16
	maxTerm  = 256 // bytes of a grant's terms that are worth a place
	maxTexts = 1 << 16
	maxText  = 128 // bytes of a text that is
)

// dictionary gives each text, or each grant's terms, a number, once and for ever. What it has had for a while is found without
// a lock. Safe for concurrent use.
type dictionary[V any] struct {
	most   int
	values atomic.Pointer[[]V]               // by number - 1; what is published is never written again
	known  atomic.Pointer[map[string]uint32] // numbers, as they were when it was published; never written

	mu      sync.Mutex
	numbers map[string]uint32
	misses  int // keys that were looked for in numbers since known was published
}

func newDictionary[V any](most int) *dictionary[V] {
	d := &dictionary[V]{most: most, numbers: map[string]uint32{}}
	d.values.Store(new([]V))
	d.known.Store(&map[string]uint32{})
	return d
}

// number gives a key's number, from 1; a new key is entered with the value that is made of a copy of it. 0: there is no
// room. The key itself is not kept.
func (d *dictionary[V]) number(key string, made func(own string) V) uint32 {
	known := *d.known.Load()
	if n, ok := known[key]; ok || len(known) >= d.most {
		return n
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.numbers[key]
	if !ok && len(d.numbers) < d.most {
		own := strings.Clone(key)
		values := append(*d.values.Load(), made(own)) // beyond the end of what readers have
		d.values.Store(&values)
		n = uint32(len(values))
		d.numbers[own] = n
	}
	if d.misses++; d.misses > len(d.numbers) {
		published := maps.Clone(d.numbers) // pays for itself by the misses before
		d.known.Store(&published)
		d.misses = 0
	}
	return n
}

// value gives what has a number.
func (d *dictionary[V]) value(number uint64) (v V, ok bool) {
	values := *d.values.Load()
	if number-1 >= uint64(len(values)) {
		return v, false
	}
	return values[number-1], true
}
