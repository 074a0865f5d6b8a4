package verdict

import (
	"hash/maphash"
	"math/bits"
)

// tree is a persistent map from text to V: a hash trie of 32-way branches. A change copies the branches on the path to the
// key, about log32(n) of them, and leaves every older tree as it was, so that a Snapshot of 100,000 subscriptions
// takes one more without copying the others. (A Go map would have to be copied whole; a map behind a lock would let a
// decision see half a change.) The zero tree is empty. Hashes come from the caller: one seed a Snapshot.
type tree[V any] struct {
	root *branch[V]
	size int
}

// edit is the licence to change branches in place: those made under the same edit, which no other tree has seen.
// It must not have size zero, or two edits could share an address.
type edit struct{ _ byte }

type branch[V any] struct {
	owner *edit
	used  uint32    // which of 32 places hold a twig; unused at the lowest level
	twigs []twig[V] // one for each bit of used, in order; at the lowest level a plain list
}

type twig[V any] struct {
	below *branch[V] // nil: an entry
	hash  uint64
	key   string
	value V
}

const (
	treeBits  = 5
	treeDepth = 60 / treeBits // levels taken from the hash; below them keys of equal hash stand in a list
)

func hashText(seed maphash.Seed, key string) uint64  { return maphash.String(seed, key) }
func hashBytes(seed maphash.Seed, key []byte) uint64 { return maphash.Bytes(seed, key) }

// at answers the value of key; key may be bytes or text, and is not kept.
func at[V any, K string | []byte](t tree[V], hash uint64, key K) (value V, found bool) {
	b := t.root
	for level := 0; b != nil; level++ {
		if level == treeDepth {
			for i := range b.twigs {
				if b.twigs[i].key == string(key) {
					return b.twigs[i].value, true
				}
			}
			return value, false
		}
		bit := uint32(1) << (hash >> (level * treeBits) & 31)
		if b.used&bit == 0 {
			return value, false
		}
		tw := &b.twigs[bits.OnesCount32(b.used&(bit-1))]
		if tw.below == nil {
			if tw.hash == hash && tw.key == string(key) {
				return tw.value, true
			}
			return value, false
		}
		b = tw.below
	}
	return value, false
}

// with answers the tree that also holds key; e owns the branches that may be changed in place.
func (t tree[V]) with(e *edit, hash uint64, key string, value V) tree[V] {
	root, added := t.root.put(e, 0, twig[V]{hash: hash, key: key, value: value})
	if added {
		t.size++
	}
	t.root = root
	return t
}

// without answers the tree that does not hold key.
func (t tree[V]) without(e *edit, hash uint64, key string) tree[V] {
	if _, found := at(t, hash, key); !found {
		return t
	}
	t.root = t.root.drop(e, 0, hash, key)
	t.size--
	return t
}

// appendTo appends every value, in no order that means anything.
func (t tree[V]) appendTo(dst []V) []V { return t.root.appendTo(dst) }

func (b *branch[V]) appendTo(dst []V) []V {
	if b == nil {
		return dst
	}
	for i := range b.twigs {
		if below := b.twigs[i].below; below != nil {
			dst = below.appendTo(dst)
		} else {
			dst = append(dst, b.twigs[i].value)
		}
	}
	return dst
}

// own answers b itself if e made it, else a copy that e owns.
func (b *branch[V]) own(e *edit) *branch[V] {
	if b == nil {
		return &branch[V]{owner: e}
	}
	if b.owner == e {
		return b
	}
	twigs := make([]twig[V], len(b.twigs), len(b.twigs)+1)
	copy(twigs, b.twigs)
	return &branch[V]{owner: e, used: b.used, twigs: twigs}
}

func (b *branch[V]) put(e *edit, level int, entry twig[V]) (*branch[V], bool) {
	b = b.own(e)
	if level == treeDepth {
		for i := range b.twigs {
			if b.twigs[i].key == entry.key {
				b.twigs[i] = entry
				return b, false
			}
		}
		b.twigs = append(b.twigs, entry)
		return b, true
	}
	bit := uint32(1) << (entry.hash >> (level * treeBits) & 31)
	i := bits.OnesCount32(b.used & (bit - 1))
	if b.used&bit == 0 {
		b.used |= bit
		b.twigs = append(b.twigs, twig[V]{})
		copy(b.twigs[i+1:], b.twigs[i:])
		b.twigs[i] = entry
		return b, true
	}
	tw := &b.twigs[i]
	switch {
	case tw.below != nil:
		below, added := tw.below.put(e, level+1, entry)
		tw.below = below
		return b, added
	case tw.key == entry.key:
		*tw = entry
		return b, false
	}
	below, _ := (*branch[V])(nil).put(e, level+1, *tw)
	below, _ = below.put(e, level+1, entry)
	*tw = twig[V]{below: below}
	return b, true
}

// drop takes out a key that is there; nil: nothing is left.
func (b *branch[V]) drop(e *edit, level int, hash uint64, key string) *branch[V] {
	b = b.own(e)
	i := 0
	if level == treeDepth {
		for b.twigs[i].key != key {
			i++
		}
	} else {
		bit := uint32(1) << (hash >> (level * treeBits) & 31)
		i = bits.OnesCount32(b.used & (bit - 1))
		if tw := &b.twigs[i]; tw.below != nil {
			if tw.below = tw.below.drop(e, level+1, hash, key); tw.below != nil {
				return b
			}
		}
		b.used &^= bit
	}
	b.twigs = append(b.twigs[:i], b.twigs[i+1:]...)
	if len(b.twigs) == 0 {
		return nil
	}
	return b
}
