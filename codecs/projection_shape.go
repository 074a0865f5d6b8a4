package codecs

// shape is a writer's type with what becomes of it in the projected schema. Like a node it is one for all uses of a
// named type, and a cycle where the type is recursive.
type shape struct {
	of       *node
	profile  bool // the root record, which ends with the profile
	fields   []shapeField
	items    *shape
	branches []*shape
	out      []int // branch of the projected union for each branch of a union: null is 0, the others follow in order
	plain    bool  // a union of one type: as an item of an array or a map it is that type
}

// shapeField is one field of a writer's record.
type shapeField struct {
	typ  *shape
	out  bool   // it is in the projected schema
	skip []step // the way past it, and past fields before it that are not in the projected schema
}

type shaper struct {
	reach map[*node]map[*field]bool
	made  map[*node]*shape
	skips *compiler
}

func (m *shaper) shape(n *node) *shape {
	if s, ok := m.made[n]; ok {
		return s
	}
	s := &shape{of: n}
	m.made[n] = s
	switch n.kind {
	case kindRecord:
		var run []step // the way past the fields before that are not projected, which are passed in one go
		for i, f := range n.fields {
			out := m.reach[n][f]
			if out {
				run = nil
			} else if run != nil {
				s.fields[i-1].skip = nil
			}
			run = m.skips.skip(f.typ, run)
			s.fields = append(s.fields, shapeField{typ: m.shape(f.typ), out: out, skip: run})
			if out {
				run = nil
			}
		}
	case kindArray, kindMap:
		s.items = m.shape(n.items)
	case kindUnion:
		next := 1
		for _, b := range n.branches {
			s.branches = append(s.branches, m.shape(b))
			if b.kind == kindNull {
				s.out = append(s.out, 0)
				continue
			}
			s.out = append(s.out, next)
			next++
		}
		s.plain = len(n.branches) == 1
	}
	return s
}

// place is one value in the body that some path leads to or through. Below the end of a permitted path there are no
// places: everything is taken.
type place struct {
	own      int   // the path that ends here; -1: none
	below    []int // every path that ends here or below
	array    bool  // an array can stand here
	fields   []*place
	items    *place
	branches []*place
}

// placeAt lays the tree of the paths over a shape; nil where no path leads. It counts the places.
func placeAt(s *shape, w *want, count *int) *place {
	if w == nil || *count > maxProgramOps {
		return nil
	}
	p := &place{own: w.slot, array: s.of.canBeArray()}
	*count++
	if w.slot >= 0 {
		p.below = append(p.below, w.slot)
	}
	switch s.of.kind {
	case kindRecord:
		p.fields = make([]*place, len(s.fields))
		for i := range s.fields {
			p.fields[i] = p.adopt(placeAt(s.fields[i].typ, w.below[segment(s.of.fields[i].name)], count))
		}
	case kindArray:
		p.items = p.adopt(placeAt(s.items, w.below[intoItems], count))
	case kindMap:
		p.items = p.adopt(placeAt(s.items, w.below[intoValues], count))
	case kindUnion:
		p.branches = make([]*place, len(s.branches))
		for i := range s.branches {
			p.branches[i] = p.adopt(placeAt(s.branches[i], w, count))
		}
	}
	if len(p.below) == 0 {
		return nil
	}
	return p
}

// adopt takes over the paths of a place below.
func (p *place) adopt(sub *place) *place {
	if sub == nil {
		return nil
	}
	for _, path := range sub.below {
		known := false
		for _, have := range p.below {
			known = known || have == path
		}
		if !known {
			p.below = append(p.below, path)
		}
	}
	return sub
}
