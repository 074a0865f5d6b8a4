package codecs

import (
	"fmt"
	"slices"
	"sync"
)

// Append appends the Avro body under the projected schema, without the wire header, to dst. It copies the permitted
// values' bytes and allocates nothing but room in dst. The result is what goavro encodes: shortest numbers, one block
// an array. The error is a Malformed for bad bytes, and then dst is returned as it was.
func (p *Projection) Append(dst, body []byte, sel *Selection) ([]byte, error) {
	if len(sel.Permit) != 0 && len(sel.Permit) != len(p.paths) || len(sel.Own) != 0 && len(sel.Own) != len(p.paths) {
		return dst, fmt.Errorf("project %s: selection is for %d and %d paths, not %d", p.root.of.name, len(sel.Permit), len(sel.Own), len(p.paths))
	}
	if len(body) > MaxBodyBytes {
		return dst, Malformed{What: "data", Err: errTooLong}
	}
	c := cutters.Get().(*cutter)
	*c = cutter{
		reader: reader{body: body, emptyLeft: MaxEmptyItems},
		skips:  walker{body: body},
		dst:    dst, begin: len(dst), sel: sel, ends: p.ends,
	}
	pos, err := c.value(p.root, p.places, false, 0, 0)
	out := c.dst
	*c = cutter{}
	cutters.Put(c)
	if err != nil {
		return dst, err.malformed()
	}
	if pos != len(body) {
		return dst, Malformed{What: "data", Err: errTrailing}
	}
	return out, nil
}

// cutters saves Append its one allocation: the compiler cannot see that a cutter ends with it.
var cutters = sync.Pool{New: func() any { return new(cutter) }}

// cutter is one pass of Append. It reads every byte of what it takes as strictly as Validate, but for UTF-8.
type cutter struct {
	reader
	skips walker
	dst   []byte
	begin int // of this body in dst
	sel   *Selection
	ends  []pathEnd

	split   bool // within an element of an array that is cut: only the first array on a path is
	foreign bool // that element is another subject's
}

// permitted tells whether a path may be seen where the cutter stands.
func (c *cutter) permitted(path int) bool {
	if path >= len(c.sel.Permit) || !c.sel.Permit[path] {
		return false
	}
	return !c.own(path) || c.ends[path].cuttable && !c.foreign
}

func (c *cutter) own(path int) bool { return path < len(c.sel.Own) && c.sel.Own[path] }

// any tells whether something at or below a place is permitted.
func (c *cutter) any(at *place) bool {
	if at == nil {
		return false
	}
	for _, path := range at.below {
		if c.permitted(path) && (path != at.own || at.array || c.split || !c.own(path)) {
			return true
		}
	}
	return false
}

// whole tells whether the value at a place is taken with everything below it. An array of which only the subject's own
// element is taken is not.
func (c *cutter) whole(at *place) bool {
	return at != nil && at.own >= 0 && c.permitted(at.own) && (c.split || !c.own(at.own))
}

// value appends the value at pos, all of it or what at permits, and gives the position after it in the body.
func (c *cutter) value(s *shape, at *place, all bool, pos, depth int) (int, *badPath) {
	all = all || c.whole(at)
	switch s.of.kind {
	case kindRecord:
		return c.record(s, at, all, pos, depth)
	case kindArray, kindMap:
		return c.items(s, at, all, pos, depth)
	}
	if !all {
		return 0, bad(errNotReached)
	}
	return c.scalar(s.of, pos)
}

func (c *cutter) record(s *shape, at *place, all bool, pos, depth int) (int, *badPath) {
	if depth > MaxDepth {
		return 0, bad(errTooDeep)
	}
	for i := range s.fields {
		f := &s.fields[i]
		var below *place
		if at != nil {
			below = at.fields[i]
		}
		if !f.out || !all && !c.any(below) {
			if pos = c.skips.run(f.skip, pos, depth); pos < 0 {
				return 0, bad(errWalk).under(segment(s.of.fields[i].name))
			}
			if f.out {
				c.dst = append(c.dst, 0)
			}
			continue
		}
		var err *badPath
		if pos, err = c.nullable(f.typ, below, all, pos, depth+1); err != nil {
			return 0, err.under(segment(s.of.fields[i].name))
		}
	}
	if s.profile {
		c.profile(depth)
	}
	return pos, nil
}

// nullable appends the value of a type that is a union with null first in the projected schema: every field's, and
// that of an item which is a union.
func (c *cutter) nullable(s *shape, at *place, all bool, pos, depth int) (int, *badPath) {
	all = all || c.whole(at)
	switch s.of.kind {
	case kindNull:
		c.dst = append(c.dst, 0)
		return pos, nil
	case kindUnion:
		i, pos := readVarint(c.body, pos)
		if pos < 0 || i < 0 || i >= int64(len(s.branches)) {
			return 0, bad(errBranch)
		}
		if depth > MaxDepth {
			return 0, bad(errTooDeep)
		}
		branch := s.branches[i]
		var below *place
		if at != nil {
			below = at.branches[i]
		}
		if branch.of.kind == kindNull {
			c.dst = append(c.dst, 0)
			return pos, nil
		}
		if !all && !c.any(below) {
			c.dst = append(c.dst, 0)
			return c.pass(branch.of, pos, depth+1)
		}
		c.dst = appendVarint(c.dst, int64(s.out[i]))
		return c.value(branch, below, all, pos, depth+1)
	}
	c.dst = append(c.dst, 2) // branch 1
	return c.value(s, at, all, pos, depth)
}

// items appends an array or a map as one block.
func (c *cutter) items(s *shape, at *place, all bool, pos, depth int) (int, *badPath) {
	var below *place
	if at != nil {
		below = at.items
	}
	others := true // whether elements that are not the subject's are taken
	split := s.of.kind == kindArray && !all && !c.split && c.anyOwn(at)
	if split {
		c.split, c.foreign = true, true
		others = c.any(at)
	}
	it := items{reader: &c.reader, of: s.of, pos: pos, depth: depth}
	start, header, index := len(c.dst), 0, 0
	var expect, taken int64
	for it.next() {
		if header == 0 {
			expect = it.total
			if !others {
				expect = 1
			}
			c.dst = appendVarint(c.dst, expect)
			header = len(c.dst) - start
		}
		mine := !split || index == c.sel.Index
		index++
		if !mine && !others {
			var err *badPath
			if it.pos, err = c.pass(s.of.items, it.pos, depth+1); err != nil {
				return 0, err.under(it.segment())
			}
			continue
		}
		taken++
		if s.of.kind == kindMap {
			c.dst = append(appendVarint(c.dst, int64(len(it.key))), it.key...)
		}
		element := all
		if split {
			c.foreign = !mine
			element = c.whole(at)
		}
		var err *badPath
		if it.pos, err = c.item(s.items, below, element, it.pos, depth+1); err != nil {
			return 0, err.under(it.segment())
		}
		if len(c.dst)-c.begin > 4*MaxBodyBytes {
			return 0, bad(errTooLong)
		}
	}
	if it.bad != nil {
		return 0, it.bad
	}
	if split {
		c.split, c.foreign = false, false
	}
	if taken == 0 {
		c.dst = append(c.dst[:start], 0)
		return it.pos, nil
	}
	if taken != expect {
		c.recount(start, header, taken)
	}
	c.dst = append(c.dst, 0)
	return it.pos, nil
}

// recount corrects the count of an array that had several blocks: it was written as the first block's.
func (c *cutter) recount(start, header int, taken int64) {
	var room [10]byte
	count := appendVarint(room[:0], taken)
	c.dst = slices.Replace(c.dst, start, start+header, count...)
}

// anyOwn tells whether something permitted at or below an array is the subject's own.
func (c *cutter) anyOwn(at *place) bool {
	if at == nil {
		return false
	}
	for _, path := range at.below {
		if c.own(path) && c.permitted(path) {
			return true
		}
	}
	return false
}

// item appends one item of an array or a map.
func (c *cutter) item(s *shape, at *place, all bool, pos, depth int) (int, *badPath) {
	if s.of.kind != kindUnion {
		return c.value(s, at, all, pos, depth)
	}
	if !s.plain {
		return c.nullable(s, at, all, pos, depth)
	}
	branch, pos, err := c.branch(s.of, pos, depth)
	if err != nil || branch.kind == kindNull {
		return pos, err
	}
	var below *place
	if at != nil {
		below = at.branches[0]
	}
	return c.value(s.branches[0], below, all || c.whole(at), pos, depth+1)
}

// scalar copies one value, numbers and lengths in their shortest form.
func (c *cutter) scalar(n *node, pos int) (int, *badPath) {
	switch n.kind {
	case kindInt, kindLong, kindEnum:
		i, after := readVarint(c.body, pos)
		if after < 0 || n.kind == kindInt && i != int64(int32(i)) || n.kind == kindEnum && (i < 0 || i >= int64(len(n.symbols))) {
			return 0, bad(errScalar)
		}
		c.dst = appendVarint(c.dst, i)
		return after, nil
	case kindString, kindBytes:
		begin, end := readLength(c.body, pos)
		if begin < 0 {
			return 0, bad(errScalar)
		}
		c.dst = append(appendVarint(c.dst, int64(end-begin)), c.body[begin:end]...)
		return end, nil
	}
	_, after := n.readScalar(c.body, pos)
	if after < 0 {
		return 0, bad(errScalar)
	}
	c.dst = append(c.dst, c.body[pos:after]...)
	return after, nil
}

// profile appends the root's last field; a record of the root's type further down has none.
func (c *cutter) profile(depth int) {
	if depth > 0 || c.sel.Profile == nil {
		c.dst = append(c.dst, 0)
		return
	}
	c.dst = append(c.dst, 2)
	for i := range profileAttributes {
		text := *profileAttributes[i].of(c.sel.Profile)
		if text == "" {
			c.dst = append(c.dst, 0)
			continue
		}
		c.dst = append(appendVarint(append(c.dst, 2), int64(len(text))), text...)
	}
}
