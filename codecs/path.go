package codecs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Paths have one grammar everywhere: "data" is the root, ".name" goes to a field, "[]" into the items of an array, "{}"
// into the values of a map. A path covers everything below it. Unions are transparent: a path goes through each branch
// that has what follows.

// ErrNoPath says that a schema has no value at a path, or that the path is none.
var ErrNoPath = errors.New("no such path")

// MaxPathSteps bounds the length of a path, which a recursive type alone would not.
const MaxPathSteps = 64

// segment is one step of a path: a field's name, or one of the two below.
type segment string

const (
	intoItems  segment = "[]"
	intoValues segment = "{}"
)

// splitPath takes a path that begins with "data" apart.
func splitPath(path string) ([]segment, error) {
	rest, ok := strings.CutPrefix(path, "data")
	if !ok {
		return nil, fmt.Errorf("path %q does not begin with data: %w", bounded(path), ErrNoPath)
	}
	var out []segment
	for rest != "" {
		if len(out) == MaxPathSteps {
			return nil, fmt.Errorf("path %q has more than %d steps: %w", bounded(path), MaxPathSteps, ErrNoPath)
		}
		switch {
		case strings.HasPrefix(rest, "[]"), strings.HasPrefix(rest, "{}"):
			out, rest = append(out, segment(rest[:2])), rest[2:]
		case rest[0] == '.':
			end := strings.IndexAny(rest[1:], ".[{")
			if end < 0 {
				end = len(rest) - 1
			}
			if end == 0 {
				return nil, fmt.Errorf("path %q has an empty step: %w", bounded(path), ErrNoPath)
			}
			out, rest = append(out, segment(rest[1:1+end])), rest[1+end:]
		default:
			return nil, fmt.Errorf("path %q: expected a dot, [] or {} before %q: %w", bounded(path), bounded(rest), ErrNoPath)
		}
	}
	return out, nil
}

func joinPath(segments []segment) string {
	var b strings.Builder
	b.WriteString("data")
	for _, s := range segments {
		if s != intoItems && s != intoValues {
			b.WriteByte('.')
		}
		b.WriteString(string(s))
	}
	return b.String()
}

// step gives what follows a segment from a type: nil where it does not fit. The field is that which was crossed.
func (n *node) step(s segment) (next []*node, fields []*field) {
	for _, v := range n.values() {
		switch {
		case s == intoItems:
			if v.kind == kindArray {
				next = append(next, v.items)
			}
		case s == intoValues:
			if v.kind == kindMap {
				next = append(next, v.items)
			}
		default:
			if f := v.field(string(s)); f != nil {
				next, fields = append(next, f.typ), append(fields, f)
			}
		}
	}
	return next, fields
}

// FieldInfo tells what stands at a path and what the schema says about who may see it.
type FieldInfo struct {
	Type           string   // Avro type without null: string, long, record, array, ...; union where several remain
	Logical        string   // logical type, such as timestamp-millis; empty: none
	Symbols        []string // of an enum
	Nullable       bool     // the value, or something above it, can be null
	Many           bool     // the path crosses an array or a map
	Scopes         []string // civicbus.scopes of the field, or of the nearest field above that has them; nil: none
	Classification string   // civicbus.classification, likewise
	Owner          string   // civicbus.owner, likewise
}

// Properties of an Avro field by which a schema itself carries permission data.
const (
	ScopesProperty         = "civicbus.scopes"
	ClassificationProperty = "civicbus.classification"
	OwnerProperty          = "civicbus.owner"
)

// Lookup tells what stands at a path. The error wraps ErrNoPath. Where a path goes through several branches of a union
// whose annotations differ, there are no scopes: what is not clear is not shared.
func (s *Schema) Lookup(path string) (FieldInfo, error) {
	segments, err := splitPath(path)
	if err != nil {
		return FieldInfo{}, err
	}
	var info FieldInfo
	at := []*node{s.root}
	for _, seg := range segments {
		var next []*node
		var fields []*field
		for _, n := range at {
			nodes, crossed := n.step(seg)
			if n.kind == kindUnion && len(nodes) < len(n.branches) {
				info.Nullable = true // another branch has no such value
			}
			next, fields = append(next, nodes...), append(fields, crossed...)
		}
		if len(next) == 0 {
			return FieldInfo{}, fmt.Errorf("path %q: nothing at %q: %w", bounded(path), bounded(string(seg)), ErrNoPath)
		}
		if len(next) > maxProgramOps {
			return FieldInfo{}, fmt.Errorf("path %q goes through too many branches: %w", bounded(path), ErrNoPath)
		}
		info.Many = info.Many || seg == intoItems || seg == intoValues
		info.annotate(fields)
		at = distinct(next)
	}
	info.describe(at)
	return info, nil
}

// annotate takes over what the fields of one step say.
func (i *FieldInfo) annotate(fields []*field) {
	base := *i
	for n, f := range fields {
		said := base
		if scopes, ok := f.props[ScopesProperty]; ok {
			said.Scopes = texts(scopes)
		}
		if c, ok := f.props[ClassificationProperty].(string); ok {
			said.Classification = c
		}
		if o, ok := f.props[OwnerProperty].(string); ok {
			said.Owner = o
		}
		if n > 0 && (!slices.Equal(said.Scopes, i.Scopes) || said.Owner != i.Owner || said.Classification != i.Classification) {
			said.Scopes = nil
		}
		i.Scopes, i.Classification, i.Owner = said.Scopes, said.Classification, said.Owner
	}
}

func texts(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, x := range list {
		if text, ok := x.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// describe fills in the type from what can stand at the path.
func (i *FieldInfo) describe(at []*node) {
	var values []*node
	for _, n := range at {
		i.Nullable = i.Nullable || n.kind == kindNull || n.kind == kindUnion && n.nullBranch() >= 0
		values = append(values, n.values()...)
	}
	values = distinct(values)
	switch {
	case len(values) == 0:
		i.Type = "null"
		return
	case len(values) > 1 && !sameType(values):
		i.Type = "union"
		return
	}
	i.Type, i.Logical = values[0].kind.String(), values[0].logical
	for _, symbol := range values[0].symbols {
		i.Symbols = append(i.Symbols, string(symbol))
	}
}

// sameType tells whether unnamed types of several branches are one and the same.
func sameType(nodes []*node) bool {
	for _, n := range nodes {
		if n.kind != nodes[0].kind || n.logical != nodes[0].logical || n.kind >= kindRecord {
			return false
		}
	}
	return true
}

func distinct(nodes []*node) []*node {
	var out []*node
	for _, n := range nodes {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// Leaves lists the path of every field, those of records and arrays included, in the schema's order, "data" first. A
// recursive type is followed once; the list ends at 20,000 paths, or where they take 8 MiB.
func (s *Schema) Leaves() []string {
	out := []string{"data"}
	seen := map[string]bool{"data": true}
	left := maxAddressedBytes
	var visit func(n *node, path string, above []*node)
	visit = func(n *node, path string, above []*node) {
		for _, v := range n.values() {
			if slices.Contains(above, v) || len(out) >= maxAddressedPaths || left < 0 || len(above) >= MaxPathSteps {
				continue
			}
			below := append(slices.Clone(above), v)
			switch v.kind {
			case kindArray:
				visit(v.items, path+string(intoItems), below)
			case kindMap:
				visit(v.items, path+string(intoValues), below)
			case kindRecord:
				for _, f := range v.fields {
					p := path + "." + f.name
					if left -= len(p); left < 0 {
						return
					}
					if !seen[p] && len(out) < maxAddressedPaths {
						seen[p] = true
						out = append(out, p)
					}
					visit(f.typ, p, below)
				}
			}
		}
	}
	visit(s.root, "data", nil)
	return out
}
