package codecs

import "slices"

// cutGenerator turns a plan into the operations of a Cut. It joins fixed bytes, and ranges that stand side by side in the image.
type cutGenerator struct {
	ops   []cutOp
	fixed []byte // not yet in ops
	last  *spot  // with which the last range ends, while nothing came after it
}

func (g *cutGenerator) put(b ...byte) {
	g.fixed, g.last = append(g.fixed, b...), nil
}

// add appends an operation, behind what is fixed before it, and gives its position.
func (g *cutGenerator) add(op cutOp) int {
	if len(g.fixed) > fixedBytes {
		g.ops = append(g.ops, cutOp{code: cutLong, more: &cutMore{fixed: slices.Clone(g.fixed)}})
		g.fixed = g.fixed[:0]
	}
	op.size = uint8(copy(op.fixed[:], g.fixed))
	g.ops, g.fixed, g.last = append(g.ops, op), g.fixed[:0], nil
	return len(g.ops) - 1
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

func (g *cutGenerator) here() int32 {
	if len(g.fixed) > 0 {
		g.add(cutOp{})
	}
	g.last = nil // who comes here by another way has not taken it
	return int32(len(g.ops))
}

func (g *cutGenerator) end() []cutOp {
	g.here()
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
			g.add(cutOp{code: cutField, from: int32(at.number), more: &cutMore{field: f}})
		case f.isWhole(at):
			g.take(at, at)
		case len(f.branches) == 1:
			g.record(at, at.branches[0], f.branches[0].fields)
		default:
			g.branches(at, f.branches)
		}
	}
}

// branches appends a way for each branch of a union.
func (g *cutGenerator) branches(at *spot, planned []plannedBranch) {
	more := &cutMore{targets: make([]int32, len(planned))}
	g.add(cutOp{code: cutSwitch, from: int32(at.number), more: more})
	var gos []int
	for b := range planned {
		more.targets[b] = g.here()
		switch f := &planned[b]; {
		case f.what == planNull:
			g.put(0)
		case f.isWhole(at.branches[b]):
			g.take(at, at)
		default:
			g.record(at, at.branches[b], f.fields)
		}
		if b < len(planned)-1 {
			gos = append(gos, g.add(cutOp{code: cutGo}))
		}
	}
	end := g.here()
	for _, i := range gos {
		g.ops[i].to = end
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
	begin := g.add(cutOp{code: cutStamp})
	shows := false // the op before shows the attribute before
	for i := range profileAttributes {
		was := shows
		switch shows = slices.Contains(shown, &profileAttributes[i]); {
		case !shows:
			g.put(0)
		case was:
			g.ops[len(g.ops)-1].to = int32(i)
		default:
			g.add(cutOp{code: cutShown, from: int32(i), to: int32(i)})
		}
	}
	g.ops[begin].to = g.here()
}
