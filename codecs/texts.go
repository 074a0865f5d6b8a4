package codecs

import (
	"fmt"
	"slices"
)

// Texts gives every value at a path that may cross one array: one Value for each element of the array, in order, with
// Absent where the element has none, so that the place in the result is the element's index; one Value for a path
// without []. A null or missing array gives none. The error wraps ErrNoPath for a path that the schema does not have or
// that crosses more than one array or a map, and is a Malformed for bad bytes.
func (s *Schema) Texts(body []byte, path string) ([]Value, error) {
	segments, err := splitPath(path)
	if err != nil {
		return nil, err
	}
	if _, err := s.Lookup(path); err != nil {
		return nil, err
	}
	if slices.Contains(segments, intoValues) || slices.Index(segments, intoItems) != lastIndex(segments, intoItems) {
		return nil, fmt.Errorf("path %q crosses more than one array, or a map: %w", bounded(path), ErrNoPath)
	}
	if len(body) > MaxBodyBytes {
		return nil, Malformed{What: "data", Err: errTooLong}
	}
	g := gatherer{reader: reader{body: body, emptyLeft: MaxEmptyItems}, many: slices.Contains(segments, intoItems)}
	if _, err := g.gather(s.root, segments, 0, 0); err != nil {
		return nil, err.malformed()
	}
	if !g.many && len(g.values) == 0 {
		g.values = append(g.values, Value{})
	}
	return g.values, nil
}

func lastIndex(segments []segment, s segment) int {
	for i := len(segments) - 1; i >= 0; i-- {
		if segments[i] == s {
			return i
		}
	}
	return -1
}

type gatherer struct {
	reader
	many   bool
	values []Value
}

// gather passes a value of type n and keeps what stands at the path below it.
func (g *gatherer) gather(n *node, path []segment, pos, depth int) (int, *badPath) {
	if n.kind == kindUnion {
		branch, pos, err := g.branch(n, pos, depth)
		if err != nil {
			return 0, err
		}
		return g.gather(branch, path, pos, depth+1)
	}
	if len(path) == 0 {
		return g.keep(n, pos, depth)
	}
	switch {
	case n.kind == kindRecord:
		for _, f := range n.fields {
			var err *badPath
			if segment(f.name) == path[0] {
				pos, err = g.gather(f.typ, path[1:], pos, depth+1)
			} else {
				pos, err = g.pass(f.typ, pos, depth+1)
			}
			if err != nil {
				return 0, err.under(segment(f.name))
			}
		}
		return pos, nil
	case n.kind == kindArray && path[0] == intoItems:
		it := items{reader: &g.reader, of: n, pos: pos, depth: depth}
		for it.next() {
			had := len(g.values)
			var err *badPath
			if it.pos, err = g.gather(n.items, path[1:], it.pos, depth+1); err != nil {
				return 0, err.under(intoItems)
			}
			if len(g.values) == had {
				g.values = append(g.values, Value{})
			}
		}
		return it.pos, it.bad
	}
	return g.pass(n, pos, depth)
}

// keep reads the value at the path's end.
func (g *gatherer) keep(n *node, pos, depth int) (int, *badPath) {
	if n.kind == kindRecord || n.kind == kindArray || n.kind == kindMap {
		after, err := g.pass(n, pos, depth)
		if err != nil {
			return 0, err
		}
		g.values = append(g.values, Value{Kind: Composite, Bytes: g.body[pos:after:after]})
		return after, nil
	}
	v, after := n.readScalar(g.body, pos)
	if after < 0 {
		return 0, bad(errScalar)
	}
	g.values = append(g.values, v)
	return after, nil
}
