package codecs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Projection cuts bodies of one writer's schema down to the fields that one subscriber may get, and is the schema of the
// result. It never changes and is safe for concurrent use.
//
// The projected schema holds every field that the subscriber may get now, and every field in it is nullable, null first
// and by default, at every level: so that a path more or less stays FULL_TRANSITIVE, and what one event does not permit
// is simply null. Names, aliases, docs, logical types, enums and annotations are the writer's. A named type is defined
// once in a schema, so that its fields are those that any of the paths reaches, wherever it is used; where a path does
// not reach they are null. Items of arrays and maps keep their type, but a union of them gets null, for the branches
// that a path does not reach; every branch stays, since a union must not lose one. The count of an array and the keys of
// a map are seen as soon as one field below is permitted.
//
// One field more is at the root's end: the nullable record fi.civicbus.Profile, named "profile". Where the writer's root
// has a field or an alias of that name it is "civicbus_profile", with as many "_" after it as it takes; likewise the type.
type Projection struct {
	writer *parsed
	text   string
	schema *Schema
	paths  []string
	partly []string
	ends   []pathEnd
	root   *shape
	places *place
}

// pathEnd is what Selection.Own needs to know of a path.
type pathEnd struct {
	cuttable bool // it crosses an array before any map, or ends at one: that array can be cut
}

// ErrNoRecord says that a schema's root is no record, so that there is nothing to project.
var ErrNoRecord = errors.New("schema is not of a record")

// Selection says what of a body one delivery holds. Permit and Own go by Projection.Paths.
type Selection struct {
	Permit []bool // nil: nothing
	// Own marks paths of which only the subject's own element may be seen: the first array that the path crosses, or
	// ends at, is cut to element Index. Where other permitted paths below the array are not Own, its other elements stay
	// and hold those alone. An Own path without an array is not permitted: whose it is cannot be told. Nil: none is.
	Own     []bool
	Index   int         // of the subject's element
	Profile *Attributes // nil: null; an empty attribute is null
}

// Projection makes the projection for every path that the subscriber may get. Paths below profile are left to
// Selection.Profile. While a projection of the same paths is in use it is that one: subscribers with the same fields share it.
// The error wraps ErrNoPath for a path that the schema does not have, and ErrNoRecord.
func (s *Schema) Projection(paths []string) (*Projection, error) {
	if s.root.kind != kindRecord {
		return nil, fmt.Errorf("project %s: %w", s.FullName(), ErrNoRecord)
	}
	wanted := make([]string, 0, len(paths))
	for _, path := range paths {
		if path == "profile" || strings.HasPrefix(path, "profile.") {
			continue
		}
		if _, err := s.Lookup(path); err != nil {
			return nil, fmt.Errorf("project %s: %w", s.FullName(), err)
		}
		wanted = append(wanted, path)
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	if p := s.projections.find(wanted); p != nil {
		return p, nil
	}
	p, err := s.project(wanted)
	if err != nil {
		return nil, fmt.Errorf("project %s: %w", s.FullName(), err)
	}
	return s.projections.keep(p), nil
}

func (s *Schema) project(paths []string) (*Projection, error) {
	p := &Projection{writer: s.parsed, paths: paths}
	tree := &want{slot: -1}
	reach := reach{fields: map[*node]map[*field]bool{}, whole: map[*node]bool{}}
	for i, path := range p.paths {
		segments, err := splitPath(path)
		if err != nil {
			return nil, err
		}
		tree.add(segments, i)
		p.ends = append(p.ends, pathEnd{cuttable: reach.path(s.root, segments)})
	}
	shapes := &shaper{reach: reach.fields, made: map[*node]*shape{}, skips: &compiler{routines: map[*node]*routine{}}}
	p.root = shapes.shape(s.root)
	p.root.profile = true

	places := 0
	if p.places = placeAt(p.root, tree, &places); places > maxProgramOps {
		return nil, fmt.Errorf("paths lead to more than %d places", maxProgramOps)
	}
	p.partly = s.partly(p.paths)
	text, err := projectedText(s.root, reach.fields)
	if err != nil {
		return nil, err
	}
	if p.schema, err = ParseSchema(text); err != nil {
		return nil, err
	}
	p.text = text
	return p, nil
}

// JSON is the projected schema. It depends on the writer's schema and the set of paths alone.
func (p *Projection) JSON() string { return p.text }

// Schema is the projected schema, parsed; its id is 0.
func (p *Projection) Schema() *Schema { return p.schema }

// Paths lists the paths in order, each once, without those of the profile. It must not be written to.
func (p *Projection) Paths() []string { return p.paths }

// Partly lists the paths of unions of which only what has fields is reached: of ["string", Address] the paths go to the fields
// of Address, and a string, which no path names alone, becomes null. It must not be written to.
func (p *Projection) Partly() []string { return p.partly }

func (s *Schema) partly(paths []string) []string {
	var out []string
	for _, path := range paths {
		segments, err := splitPath(path)
		if err != nil {
			continue // Projection has refused it
		}
		at := []*node{s.root}
		for i, seg := range segments {
			above := joinPath(segments[:i])
			if slices.ContainsFunc(at, mixed) && !slices.Contains(paths, above) && !slices.Contains(out, above) {
				out = append(out, above)
			}
			var next []*node
			for _, n := range at {
				nodes, _ := n.step(seg)
				next = append(next, nodes...)
			}
			at = distinct(next)
		}
	}
	slices.Sort(out)
	return out
}

// mixed tells whether a type is a union of something that has fields and something, other than null, that has none.
func mixed(n *node) bool {
	with, without := false, false
	for _, v := range n.values() {
		with, without = with || v.hasFields(), without || !v.hasFields()
	}
	return with && without
}

func (n *node) hasFields() bool {
	for n.kind == kindArray || n.kind == kindMap {
		n = n.items
	}
	if n.kind == kindUnion {
		return slices.ContainsFunc(n.values(), (*node).hasFields)
	}
	return n.kind == kindRecord && len(n.fields) > 0
}

// reach is what the paths reach of each record.
type reach struct {
	fields map[*node]map[*field]bool
	whole  map[*node]bool // records that are reached with everything below them
}

// path adds what one path reaches, and tells whether an array on it, or at its end, can be cut to one element.
func (r reach) path(root *node, segments []segment) (cuttable bool) {
	at := []*node{root}
	for i, s := range segments {
		var next []*node
		for _, n := range at {
			for _, v := range n.values() {
				if f := v.field(string(s)); f != nil {
					r.add(v, f)
				}
			}
			nodes, _ := n.step(s)
			next = append(next, nodes...)
		}
		at = distinct(next)
		if s == intoItems && !slices.Contains(segments[:i], intoValues) {
			cuttable = true
		}
	}
	for _, n := range at {
		for _, v := range n.values() {
			cuttable = cuttable || v.kind == kindArray && !slices.Contains(segments, intoValues)
		}
		r.all(n)
	}
	return cuttable
}

func (r reach) add(record *node, f *field) {
	if r.fields[record] == nil {
		r.fields[record] = map[*field]bool{}
	}
	r.fields[record][f] = true
}

// all adds everything below a type.
func (r reach) all(n *node) {
	switch n.kind {
	case kindUnion:
		for _, b := range n.branches {
			r.all(b)
		}
	case kindArray, kindMap:
		r.all(n.items)
	case kindRecord:
		if r.whole[n] {
			return
		}
		r.whole[n] = true
		for _, f := range n.fields {
			r.add(n, f)
			r.all(f.typ)
		}
	}
}
