package codecs

import (
	"fmt"
	"slices"
)

// Program reads the values at a few paths out of Avro bodies of one schema, in one pass, without decoding the rest and
// without allocating. It never changes and is safe for concurrent use.
//
// It is flat: runs of numbers, of strings and of fixed sizes are one step each, nested records are part of the list,
// and only unions, arrays, maps and recursive records branch off. What is not wanted is skipped by its length alone, so
// Walk accepts bodies that Validate refuses (text that is no UTF-8, an int beyond 32 bits, bytes after the last wanted
// value); it never reads outside the body.
type Program struct {
	steps  []step
	paths  int
	copies [][2]int // slots of paths that were given twice: from, to
}

type opcode uint8

const (
	opVarints opcode = iota // skip n varints
	opBytes                 // skip n length-prefixed values
	opFixed                 // skip n bytes
	opUnion                 // read a branch, run subs[branch]
	opArray                 // skip all items by running subs[0] for each
	opMap                   // likewise, a key before each
	opCall                  // run a routine: a record that is recursive or long
	opScalar                // read a scalar of type of into slot n
	opBegin                 // slot n begins here
	opEnd                   // slot n ends here
)

type step struct {
	op   opcode
	n    int
	subs [][]step
	call *routine
	of   *node
}

// routine is the way past one record, shared by all its uses.
type routine struct{ steps []step }

// inlineSteps is the length up to which a record's steps are copied into the list: it merges runs, and stays small where
// a schema uses one type over and over.
const inlineSteps = 16

// Compile makes the program for paths without [] and {}. Walk fills one Value a path, in the order given. The error
// wraps ErrNoPath where the schema has nothing at a path, or where it crosses an array or a map.
func (s *Schema) Compile(paths ...string) (*Program, error) {
	p := &Program{paths: len(paths)}
	wants := &want{slot: -1}
	for i, path := range paths {
		segments, err := splitPath(path)
		if err != nil {
			return nil, fmt.Errorf("compile %s: %w", s.FullName(), err)
		}
		if slices.Contains(segments, intoItems) || slices.Contains(segments, intoValues) {
			return nil, fmt.Errorf("compile %s: path %q crosses an array or a map: %w", s.FullName(), bounded(path), ErrNoPath)
		}
		if _, err := s.Lookup(path); err != nil {
			return nil, fmt.Errorf("compile %s: %w", s.FullName(), err)
		}
		if first := wants.add(segments, i); first != i {
			p.copies = append(p.copies, [2]int{first, i})
		}
	}
	c := &compiler{routines: map[*node]*routine{}}
	p.steps = c.read(s.root, wants, nil)
	if c.count > maxProgramOps {
		return nil, fmt.Errorf("compile %s: program has more than %d steps", s.FullName(), maxProgramOps)
	}
	for len(p.steps) > 0 && !p.steps[len(p.steps)-1].captures() {
		p.steps = p.steps[:len(p.steps)-1] // nothing is wanted after the last step that captures
	}
	return p, nil
}

// want is the tree of the wanted paths: the slot of each, -1 for none, and what is wanted below it.
type want struct {
	slot  int
	below map[segment]*want
}

// add puts a path into the tree and gives its slot, which is another's when the path is there already.
func (w *want) add(segments []segment, slot int) int {
	for _, s := range segments {
		next := w.below[s]
		if next == nil {
			next = &want{slot: -1}
			if w.below == nil {
				w.below = map[segment]*want{}
			}
			w.below[s] = next
		}
		w = next
	}
	if w.slot < 0 {
		w.slot = slot
	}
	return w.slot
}

// compiler builds steps. Skipping a record is compiled once, whatever the number of its uses; reading is compiled along
// the wanted paths only, so that no schema makes a program explode.
type compiler struct {
	routines map[*node]*routine
	count    int
}

// read appends the steps that pass a value of type n and fill what w wants of it.
func (c *compiler) read(n *node, w *want, out []step) []step {
	if w == nil || (w.slot < 0 && w.below == nil) || c.count > maxProgramOps {
		return c.skip(n, out)
	}
	c.count++
	switch n.kind {
	case kindUnion:
		u := step{op: opUnion}
		for _, b := range n.branches {
			u.subs = append(u.subs, c.read(b, w, nil))
		}
		return append(out, u)
	case kindRecord, kindArray, kindMap:
		if w.slot >= 0 {
			out = append(out, step{op: opBegin, n: w.slot})
		}
		if n.kind == kindRecord {
			for _, f := range n.fields {
				out = c.read(f.typ, w.below[segment(f.name)], out)
			}
		} else {
			out = c.skip(n, out)
		}
		if w.slot >= 0 {
			out = append(out, step{op: opEnd, n: w.slot})
		}
		return out
	}
	if w.slot < 0 {
		return c.skip(n, out) // a branch that has nothing of what is wanted below
	}
	return append(out, step{op: opScalar, n: w.slot, of: n})
}

// skip appends the steps that pass a value of type n.
func (c *compiler) skip(n *node, out []step) []step {
	c.count++
	switch n.kind {
	case kindNull:
		return out
	case kindInt, kindLong, kindEnum:
		return run(out, opVarints, 1)
	case kindString, kindBytes:
		return run(out, opBytes, 1)
	case kindBoolean:
		return run(out, opFixed, 1)
	case kindFloat:
		return run(out, opFixed, 4)
	case kindDouble:
		return run(out, opFixed, 8)
	case kindFixed:
		if n.size == 0 {
			return out
		}
		return run(out, opFixed, n.size)
	case kindUnion:
		u := step{op: opUnion}
		for _, b := range n.branches {
			u.subs = append(u.subs, c.skip(b, nil))
		}
		return append(out, u)
	case kindArray:
		return append(out, step{op: opArray, subs: [][]step{c.skip(n.items, nil)}})
	case kindMap:
		return append(out, step{op: opMap, subs: [][]step{c.skip(n.items, nil)}})
	}
	r := c.record(n)
	if r.steps == nil || len(r.steps) > inlineSteps {
		return append(out, step{op: opCall, call: r})
	}
	for _, s := range r.steps {
		if s.op <= opFixed {
			out = run(out, s.op, s.n)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// record compiles the way past a record once. While it is being compiled its steps are nil, which tells a recursive use.
func (c *compiler) record(n *node) *routine {
	if r, ok := c.routines[n]; ok {
		return r
	}
	r := &routine{}
	c.routines[n] = r
	steps := []step{}
	for _, f := range n.fields {
		steps = c.skip(f.typ, steps)
	}
	r.steps = steps
	return r
}

// run appends a step, or makes the last one longer.
func run(out []step, op opcode, n int) []step {
	if last := len(out) - 1; last >= 0 && out[last].op == op {
		out[last].n += n
		return out
	}
	return append(out, step{op: op, n: n})
}

// captures tells whether a step, or one below it, fills a slot.
func (s step) captures() bool {
	if s.op >= opScalar {
		return true
	}
	for _, sub := range s.subs {
		for _, below := range sub {
			if below.captures() {
				return true
			}
		}
	}
	return false
}
