package codecs

import (
	"sync"
	"sync/atomic"
)

// layout is what an Original's image holds of bodies of one writer's schema: the fields that some Cut takes. It never changes;
// the next one holds more.
type layout struct {
	fields []*spot // of the root; nil: no Cut takes the field
	spots  int
	ops    []layoutOp
}

// layouts is the newest layout of a writer's schema.
type layouts struct {
	mu     sync.Mutex // for those who make the next
	newest atomic.Pointer[layout]
	shapes *shaper // every field of every type; nil: not made yet
}

// spot is one field in the image.
type spot struct {
	number int
	taken  bool // the image holds it, encoded whole
	asked  bool // the cutter wants to know where it stands in the body
	// Of a record, or of each branch of a union with records in it, where some Cut goes inside; a branch that no Cut takes
	// is nil. The image then holds the branch's number and what is taken of the branch.
	branches []*branchSpot
	next     *spot // that follows it in the image, in the same record
}

type branchSpot struct {
	out    int     // its number in the projected union; of a record by itself 1
	fields []*spot // of a record
	first  *spot   // of them in the image
}

type layoutCode uint8

const (
	laySkip   layoutCode = iota // pass what nobody takes
	laySource                   // the spot stands here in the body
	layTexts                    // so many string or bytes fields, a spot each
	layScalar                   // a field of another scalar type
	layValue                    // a field of any other type, whole
	layBegin                    // a record begins
	layEnd                      // it ends
	layUnion                    // a union: goes on with branches[that which is read]
	layBranch                   // the value of a union's branch, whole
	layStrict                   // the same value, checked alone
	layPass                     // the same value, checked and passed
)

type layoutOp struct {
	code     layoutCode
	spot     int
	count    int
	depth    int
	skip     []step
	shape    *shape
	branches [][]layoutOp
}

// with gives the newest layout, which holds what planned takes; nil if that is beyond its bounds.
func (l *layouts) with(root *node, planned []plannedField) *layout {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shapes == nil {
		all := reach{fields: map[*node]map[*field]bool{}, whole: map[*node]bool{}}
		all.all(root)
		l.shapes = &shaper{reach: all.fields, made: map[*node]*shape{}, skips: &compiler{routines: map[*node]*routine{}}}
		l.shapes.shape(root).profile = true
	}
	m := layoutMaker{shapes: l.shapes.made, skips: l.shapes.skips}
	had := l.newest.Load()
	if had == nil {
		had, m.grown = &layout{fields: make([]*spot, len(root.fields))}, true
	}
	next := &layout{fields: m.merge(had.fields, planned)}
	if !m.grown {
		return had
	}
	next.ops, _ = m.record(root, next.fields, 0, nil)
	if next.spots = m.count; next.spots > maxPlannedFields {
		return nil
	}
	l.newest.Store(next)
	return next
}

type layoutMaker struct {
	shapes map[*node]*shape
	skips  *compiler
	grown  bool
	count  int
}

// merge gives the spots of a record's fields: those that were, and those that a Cut adds (nil: none), without numbers.
func (m *layoutMaker) merge(had []*spot, planned []plannedField) []*spot {
	out := make([]*spot, max(len(had), len(planned)))
	for i := range out {
		var was *spot
		if i < len(had) {
			was = had[i]
		}
		f := &plannedField{}
		if i < len(planned) {
			f = &planned[i]
		}
		if was == nil {
			if f.what == planLeft || f.what == planNull {
				continue
			}
			was, m.grown = &spot{}, true
		}
		now := &spot{taken: was.taken || f.what == planTaken, asked: was.asked || f.what == planAsked}
		m.grown = m.grown || now.taken != was.taken || now.asked != was.asked
		for b := range max(len(was.branches), len(f.branches)) {
			var known *branchSpot
			if b < len(was.branches) {
				known = was.branches[b]
			}
			adds := &plannedBranch{what: planNull}
			if b < len(f.branches) {
				adds = &f.branches[b]
			}
			now.branches = append(now.branches, m.branch(known, adds))
		}
		out[i] = now
	}
	return out
}

func (m *layoutMaker) branch(was *branchSpot, adds *plannedBranch) *branchSpot {
	if was == nil {
		if adds.what == planNull {
			return nil
		}
		was, m.grown = &branchSpot{}, true
	}
	return &branchSpot{fields: m.merge(was.fields, adds.fields)}
}

// record numbers the spots of a record and appends the way through it, as cutter.record goes.
func (m *layoutMaker) record(n *node, fields []*spot, depth int, ops []layoutOp) (out []layoutOp, first *spot) {
	var skip []step
	var last *spot
	for i, f := range n.fields {
		var at *spot
		if i < len(fields) {
			at = fields[i]
		}
		if at == nil {
			skip = m.skips.skip(f.typ, skip)
			continue
		}
		ops, skip = passed(ops, skip, depth), nil
		at.number = m.count
		m.count++
		if at.asked {
			ops = append(ops, layoutOp{code: laySource, spot: at.number})
		}
		switch {
		case at.branches != nil:
			ops = m.inside(f.typ, at, depth+1, ops)
		case at.taken:
			ops = m.taken(f.typ, at, depth+1, ops)
		default:
			skip = m.skips.skip(f.typ, nil)
			continue
		}
		if last == nil {
			first = at
		} else {
			last.next = at
		}
		last = at
	}
	return passed(ops, skip, depth), first
}

func passed(ops []layoutOp, skip []step, depth int) []layoutOp {
	if len(skip) == 0 {
		return ops
	}
	return append(ops, layoutOp{code: laySkip, skip: skip, depth: depth})
}

// taken appends the way that takes a field whole.
func (m *layoutMaker) taken(n *node, at *spot, depth int, ops []layoutOp) []layoutOp {
	switch n.kind {
	case kindString, kindBytes:
		if last := len(ops) - 1; last >= 0 && ops[last].code == layTexts {
			ops[last].count++
			return ops
		}
		return append(ops, layoutOp{code: layTexts, spot: at.number, count: 1})
	case kindNull, kindArray, kindMap, kindUnion:
		return append(ops, layoutOp{code: layValue, spot: at.number, shape: m.shapes[n], depth: depth})
	}
	return append(ops, layoutOp{code: layScalar, spot: at.number, shape: m.shapes[n]})
}

// inside appends the way into a record, or a union with records in it.
func (m *layoutMaker) inside(n *node, at *spot, depth int, ops []layoutOp) []layoutOp {
	if n.kind == kindRecord {
		b := at.branches[0]
		b.out = 1
		ops = append(ops, layoutOp{code: layBegin, spot: at.number})
		ops, b.first = m.record(n, b.fields, depth, ops)
		return append(ops, layoutOp{code: layEnd, spot: at.number})
	}
	s := m.shapes[n]
	op := layoutOp{code: layUnion, spot: at.number, shape: s, branches: make([][]layoutOp, len(n.branches))}
	for i, branch := range n.branches {
		var way []layoutOp
		b := at.branches[i]
		switch {
		case branch.kind == kindNull:
		case b == nil:
			way = append(way, layoutOp{code: layPass, shape: s.branches[i], depth: depth + 1})
		case len(n.values()) > 1: // Append checks a branch that a selection withholds more strictly than one that it takes
			way = append(way, layoutOp{code: layStrict, shape: s.branches[i], depth: depth + 1})
		}
		if b != nil {
			b.out = s.out[i]
			switch branch.kind {
			case kindNull:
			case kindRecord:
				way, b.first = m.record(branch, b.fields, depth+1, way)
			default:
				way = append(way, layoutOp{code: layBranch, shape: s.branches[i], depth: depth + 1})
			}
		}
		op.branches[i] = way
	}
	return append(ops, op)
}
