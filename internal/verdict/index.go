package verdict

import (
	"encoding/binary"
	"hash/maphash"
	"maps"
	"slices"
	"sync/atomic"

	"civicbus/codecs"
)

// typeIndex finds the subscriptions of one event type that an event can match, without looking at the others. A
// subscription with an equality at the top of its filter is posted under that (path, value), or under each of several
// values; all others are always candidates. An index never changes once its Snapshot is out.
type typeIndex struct {
	owner        *edit
	slots        []string // every path that a filter of the type names, by slot; it only grows, so that slots stay
	walkers      *walkers // of slots
	roles        map[string]*roleIndex
	bySubscriber tree[tree[*compiled]]
}

// roleIndex is the part of a type's subscriptions that follow one role; those that name none follow the role "", which
// stands for the type's first role, whichever that is when an event is decided.
type roleIndex struct {
	owner    *edit
	always   tree[*entry]
	postings tree[tree[*entry]] // by slot and value
	accesses []accessUse        // the slots that postings use
	mentions tree[mention]      // by slot and value: the equalities that filters have, posted under them or not
	lastID   uint32             // of mentions; none is given twice
}

// mention is an equality of some filters. It has a number by which entries name it.
type mention struct {
	uses int
	id   uint32 // from 1
}

type accessUse struct{ slot, uses int }

// entry is one subscription in one type's index.
//
// What is read of every candidate stands in the entry itself and at its begin: of 100,000 subscriptions most are in no
// cache, and a filter's nodes and constants are some ten lines of memory each.
type entry struct {
	sub       *compiled
	equal     []equality  // of the filter, beside that which it is posted under: what else must be
	fewEqual  [2]equality // behind equal, if they are few
	rest      *node       // of the filter, what neither says; nil: nothing
	access    int         // position in compiled.accesses that it is posted under; -1: always a candidate
	slots     []int       // of each path of the filter
	few       [4]int      // behind slots, if they are few
	eventType string
}

// equality says that the value at a slot is that of a mention.
type equality struct {
	slot int32
	id   uint32
}

// walkers keeps one walker for each writer schema in use.
type walkers struct {
	paths []string
	known atomic.Pointer[[]*walker]
}

const maxWalkers = 16

// of gives the walker for a schema, compiled at first use.
func (w *walkers) of(s *codecs.Schema) *walker {
	had := w.known.Load()
	if had != nil {
		for _, known := range *had {
			if known.schema == s {
				return known
			}
		}
	}
	made := newWalker(w.paths, s)
	next := []*walker{made}
	if had != nil {
		next = append(next, (*had)[:min(len(*had), maxWalkers-1)]...)
	}
	w.known.CompareAndSwap(had, &next) // lost to another goroutine: made again at the next event
	return made
}

// appendSlot begins a posting key; a literal or the key of a value follows it.
func appendSlot(dst []byte, slot int) []byte { return binary.BigEndian.AppendUint32(dst, uint32(slot)) }

// candidates appends the entries that an event with these values can match. key is scratch.
func (r *roleIndex) candidates(dst []*entry, seed maphash.Seed, values []codecs.Value, key []byte) ([]*entry, []byte) {
	if r == nil {
		return dst, key
	}
	dst = r.always.appendTo(dst)
	for _, use := range r.accesses {
		v := &values[use.slot]
		full, ok := appendKey(appendSlot(key[:0], use.slot), v.Kind, v.Int, v.Float, v.Bytes)
		key = full
		if !ok {
			continue
		}
		if posted, ok := at(r.postings, hashBytes(seed, key), key); ok {
			dst = posted.appendTo(dst)
		}
	}
	return dst, key
}

// indexing changes indexes under one edit.
type indexing struct {
	edit *edit
	seed maphash.Seed
}

func (ix *indexing) typeIndex(t *typeIndex) *typeIndex {
	switch {
	case t == nil:
		return &typeIndex{owner: ix.edit, walkers: &walkers{}, roles: map[string]*roleIndex{}}
	case t.owner == ix.edit:
		return t
	}
	c := *t
	c.owner, c.roles = ix.edit, maps.Clone(t.roles)
	return &c
}

func (ix *indexing) role(t *typeIndex, name string) *roleIndex {
	r := t.roles[name]
	switch {
	case r == nil:
		r = &roleIndex{owner: ix.edit}
	case r.owner != ix.edit:
		c := *r
		c.owner, c.accesses = ix.edit, slices.Clone(r.accesses)
		r = &c
	}
	t.roles[name] = r
	return r
}

// slotsOf gives the slots of paths, making those that are new.
func (ix *indexing) slotsOf(t *typeIndex, paths []string, slots []int) []int {
	slots = append(slots, make([]int, len(paths))...)
	for i, path := range paths {
		slot := slices.Index(t.slots, path)
		if slot < 0 {
			slot = len(t.slots)
			t.slots = append(slices.Clip(t.slots), path)
			t.walkers = &walkers{paths: t.slots}
		}
		slots[i] = slot
	}
	return slots
}

// keys calls f with the posting key of each value of an access.
func (en *entry) keys(access int, f func(key string)) {
	a := &en.sub.accesses[access]
	for i := range a.values {
		f(string(a.values[i].appendKey(appendSlot(nil, en.slots[a.path]))))
	}
}

// mention counts an entry's equalities in or out.
func (ix *indexing) mention(r *roleIndex, en *entry, by int) {
	for a := range en.sub.accesses {
		en.keys(a, func(key string) {
			h := hashText(ix.seed, key)
			m, known := at(r.mentions, h, key)
			if !known {
				r.lastID++
				m.id = r.lastID
			}
			if m.uses += by; m.uses == 0 {
				r.mentions = r.mentions.without(ix.edit, h, key)
			} else {
				r.mentions = r.mentions.with(ix.edit, h, key, m)
			}
		})
	}
}

// post puts an entry where it will be found: under that of its equalities which the fewest filters share. It is not moved
// when others come later; a choice made early is at worst as good as the numbers were then.
func (ix *indexing) post(r *roleIndex, en *entry) {
	en.access = -1
	fewest := 0
	for a := range en.sub.accesses {
		total := 0
		en.keys(a, func(key string) {
			m, _ := at(r.mentions, hashText(ix.seed, key), key)
			total += m.uses
		})
		if en.access < 0 || total < fewest {
			en.access, fewest = a, total
		}
	}
	ix.prove(r, en)
	id := en.sub.row.ID
	h := hashText(ix.seed, id)
	if en.access < 0 {
		r.always = r.always.with(ix.edit, h, id, en)
		return
	}
	en.keys(en.access, func(key string) {
		hk := hashText(ix.seed, key)
		posted, _ := at(r.postings, hk, key)
		r.postings = r.postings.with(ix.edit, hk, key, posted.with(ix.edit, h, id, en))
	})
	ix.use(r, en.slots[en.sub.accesses[en.access].path], 1)
}

// prove works out what a candidate must have beside the equality that it was found by: equalities with one value by their
// numbers, the rest of the filter as it is.
func (ix *indexing) prove(r *roleIndex, en *entry) {
	en.equal = en.fewEqual[:0]
	proved := func(n *node) bool {
		for a := range en.sub.accesses {
			access := &en.sub.accesses[a]
			if access.of != n {
				continue
			}
			if a == en.access {
				return true
			}
			if len(access.values) != 1 {
				return false
			}
			en.keys(a, func(key string) {
				m, _ := at(r.mentions, hashText(ix.seed, key), key) // it is there: this entry mentions it
				en.equal = append(en.equal, equality{int32(en.slots[access.path]), m.id})
			})
			return true
		}
		return false
	}
	en.rest = en.sub.restWithout(proved)
}

// unpost takes an entry out again.
func (ix *indexing) unpost(r *roleIndex, en *entry) {
	id := en.sub.row.ID
	h := hashText(ix.seed, id)
	if en.access < 0 {
		r.always = r.always.without(ix.edit, h, id)
		return
	}
	en.keys(en.access, func(key string) {
		hk := hashText(ix.seed, key)
		posted, _ := at(r.postings, hk, key)
		if posted = posted.without(ix.edit, h, id); posted.size == 0 {
			r.postings = r.postings.without(ix.edit, hk, key)
		} else {
			r.postings = r.postings.with(ix.edit, hk, key, posted)
		}
	})
	ix.use(r, en.slots[en.sub.accesses[en.access].path], -1)
}

func (ix *indexing) use(r *roleIndex, slot, by int) {
	i := slices.IndexFunc(r.accesses, func(u accessUse) bool { return u.slot == slot })
	if i < 0 {
		r.accesses = append(r.accesses, accessUse{slot: slot, uses: by})
		return
	}
	if r.accesses[i].uses += by; r.accesses[i].uses == 0 {
		r.accesses = slices.Delete(r.accesses, i, i+1)
	}
}
