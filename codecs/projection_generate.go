package codecs

import "slices"

// cutGenerator turns a plan into the operations of a Cut. It joins fixed bytes, and ranges that stand side by side in the image.
type cutGenerator struct {
	ops     []cutOp
	literal []byte // not yet in ops
	last    *spot  // with which the last range ends, while nothing came after it
}

func (g *cutGenerator) put(b ...byte) {
	g.literal, g.last = append(g.literal, b...), nil
}

// add appends an operation, behind what is fixed before it.
func (g *cutGenerator) add(op cutOp) {
	op.literal = string(g.literal)
	g.ops, g.literal, g.last = append(g.ops, op), g.literal[:0], nil
}

// take appends the image from the begin of one spot to the end of another.
func (g *cutGenerator) take(from, to *spot) {
	if g.last != nil && g.last.next == from {
		g.ops[len(g.ops)-1].to = int32(to.number)
	} else {
		g.add(cutOp{code: cutRange, from: int32(from.number), to: int32(to.number)})
	}
	g.last = to
}

func (g *cutGenerator) end() []cutOp {
	if len(g.literal) > 0 {
		g.add(cutOp{})
	}
	return g.ops
}

// fields appends the fields of a record.
func (g *cutGenerator) fields(planned []plannedField, spots []*spot) {
	for i := range planned {
		f, at := &planned[i], spots[i]
		switch {
		case f.what == planLeft:
		case f.what == planNull:
			g.put(0)
		case f.what == planAsked:
			g.add(cutOp{code: cutField, from: int32(at.number), field: f})
		case f.isWhole(at):
			g.take(at, at)
		case len(f.branches) == 1:
			g.record(at, at.branches[0], f.branches[0].fields)
		default:
			op := cutOp{code: cutSwitch, from: int32(at.number)}
			for b := range f.branches {
				var sub cutGenerator
				switch planned := &f.branches[b]; {
				case planned.what == planNull:
					sub.put(0)
				case planned.isWhole(at.branches[b]):
					sub.take(at, at)
				default:
					sub.record(at, at.branches[b], planned.fields)
				}
				op.branches = append(op.branches, sub.end())
			}
			g.add(op)
		}
	}
}

// record appends a record that is not taken whole, with the number of its branch before it.
func (g *cutGenerator) record(at *spot, b *branchSpot, planned []plannedField) {
	first := slices.IndexFunc(planned, func(f plannedField) bool { return f.what != planLeft })
	if first < 0 || b.fields[first] == nil || b.fields[first] != b.first || !planned[first].isWhole(b.first) {
		g.put(appendVarint(nil, int64(b.out))...)
		g.fields(planned, b.fields)
		return
	}
	g.take(at, b.first) // the branch's number stands before it in the image
	g.fields(planned[first+1:], b.fields[first+1:])
}

// isWhole tells whether a field's image is what a Cut delivers, whatever the body.
func (f *plannedField) isWhole(at *spot) bool {
	switch f.what {
	case planLeft:
		return at == nil
	case planTaken:
		return true
	case planInside:
		for b := range f.branches {
			if !f.branches[b].isWhole(at.branches[b]) {
				return false
			}
		}
		return true
	}
	return false
}

func (b *plannedBranch) isWhole(at *branchSpot) bool {
	if b.what != planInside {
		return b.what == planTaken
	}
	for i := range b.fields {
		if !b.fields[i].isWhole(at.fields[i]) {
			return false
		}
	}
	return true
}

// stamp appends the root's last field.
func (g *cutGenerator) stamp(shown []*Attribute) {
	if len(shown) == 0 {
		g.put(0)
		return
	}
	sub := cutGenerator{literal: []byte{2}}
	for i := range profileAttributes {
		if !slices.Contains(shown, &profileAttributes[i]) {
			sub.put(0)
			continue
		}
		if last := len(sub.ops) - 1; len(sub.literal) == 0 && last >= 0 {
			sub.ops[last].to = int32(i)
			continue
		}
		sub.add(cutOp{code: cutShown, from: int32(i), to: int32(i)})
	}
	g.add(cutOp{code: cutStamp, branches: [][]cutOp{sub.end()}})
}
