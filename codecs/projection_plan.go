package codecs

import "slices"

// plannedField is what a Cut does with one field of a record outside arrays and maps: what of Append's questions has the same
// answer for every body.
type plannedField struct {
	what     cutWhat
	branches []plannedBranch // planInside: of the record, or one for each branch of the union

	shape *shape // planAsked, and the place and the depth at which the cutter takes it
	at    *place
	all   bool
	depth int
}

type cutWhat uint8

const (
	planLeft   cutWhat = iota // not in the projected schema
	planNull                  // nothing of it is permitted
	planTaken                 // all of it, and the projected schema has all of it
	planInside                // a record, or a union with records in it
	planAsked                 // it turns on the body: the cutter takes it
)

// plannedBranch is the same for one branch: planNull, planTaken or planInside with the fields of its record.
type plannedBranch struct {
	what   cutWhat
	fields []plannedField
}

const (
	maxPlannedDepth  = 32    // records within records; with the unions between them less than MaxDepth
	maxPlannedFields = 4_096 // of one Cut, and of one layout
)

// planner asks a cutter that has no body.
type planner struct {
	cutter cutter
	open   []*shape // the records around
	count  int
}

// plan works out what a selection does with the root's fields; false: it is not for this projection, or beyond the bounds.
func (p *Projection) plan(permit, own []bool) ([]plannedField, bool) {
	if len(permit) != 0 && len(permit) != len(p.paths) || len(own) != 0 && len(own) != len(p.paths) {
		return nil, false
	}
	m := planner{cutter: cutter{sel: &Selection{Permit: permit, Own: own}, ends: p.ends}}
	fields := m.fields(p.root, p.places, m.cutter.whole(p.places), 0)
	return fields, m.count <= maxPlannedFields
}

// fields plans a record as cutter.record goes over it.
func (m *planner) fields(s *shape, at *place, all bool, depth int) []plannedField {
	m.open = append(m.open, s)
	out := make([]plannedField, len(s.fields))
	for i := range s.fields {
		f := &s.fields[i]
		var below *place
		if at != nil {
			below = at.fields[i]
		}
		if m.count++; m.count > maxPlannedFields {
			break
		}
		switch {
		case !f.out:
		case !all && !m.cutter.any(below):
			out[i].what = planNull
		default:
			out[i] = m.field(f.typ, below, all, depth+1)
		}
	}
	m.open = m.open[:len(m.open)-1]
	return out
}

// field plans a field as cutter.nullable goes over it.
func (m *planner) field(s *shape, at *place, all bool, depth int) plannedField {
	asked := plannedField{what: planAsked, shape: s, at: at, all: all, depth: depth}
	all = all || m.cutter.whole(at)
	switch {
	case s.of.kind == kindRecord:
		b, ok := m.branch(s, at, all, depth)
		if !ok {
			return asked
		}
		return plannedField{what: planInside, branches: []plannedBranch{b}}
	case s.of.kind != kindUnion || !slices.ContainsFunc(s.branches, func(b *shape) bool { return b.of.kind == kindRecord }):
		if !all {
			return asked
		}
		return plannedField{what: planTaken}
	}
	out := plannedField{what: planInside, branches: make([]plannedBranch, len(s.branches))}
	for i, branch := range s.branches {
		var below *place
		if at != nil {
			below = at.branches[i]
		}
		if branch.of.kind == kindNull {
			out.branches[i].what = planTaken
			continue
		}
		if !all && !m.cutter.any(below) {
			out.branches[i].what = planNull
			continue
		}
		b, ok := m.branch(branch, below, all, depth+1)
		if !ok {
			return asked
		}
		out.branches[i] = b
	}
	return out
}

// branch plans a value that is no union as cutter.value goes over it.
func (m *planner) branch(s *shape, at *place, all bool, depth int) (b plannedBranch, ok bool) {
	if s.of.kind != kindRecord {
		return plannedBranch{what: planTaken}, all
	}
	if slices.Contains(m.open, s) || len(m.open) >= maxPlannedDepth {
		return b, false
	}
	return plannedBranch{what: planInside, fields: m.fields(s, at, all, depth)}, true
}
