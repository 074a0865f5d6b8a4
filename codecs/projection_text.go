package codecs

import (
	"bytes"
	"encoding/json"
	"slices"
	"sort"
	"strings"
)

const (
	profileField      = "profile"
	profileFieldElse  = "civicbus_profile"
	profileRecord     = "fi.civicbus.Profile"
	profileFieldDoc   = "What civicbus knows of the subject as of this event; null where it is not permitted or not known."
	profileRecordDoc  = "What civicbus knows of the subject of an event, as of that event."
	attributeTypeText = `["null","string"]`
)

// projectedText writes the projected schema. The order of everything is the writer's, so that it depends on nothing else.
func projectedText(root *node, reach map[*node]map[*field]bool) (string, error) {
	w := schemaWriter{root: root, reach: reach, written: map[*node]bool{}, names: map[string]bool{}}
	names(root, w.names, map[*node]bool{})
	w.typ(root)
	return w.out.String(), w.err
}

// schemaWriter writes types as JSON, a named one in full where it is first used.
type schemaWriter struct {
	out       bytes.Buffer
	err       error
	root      *node
	reach     map[*node]map[*field]bool
	written   map[*node]bool
	namespace string          // of the record that is being written
	names     map[string]bool // every name and alias of a type in the writer's schema
}

func (w *schemaWriter) typ(n *node) {
	switch n.kind {
	case kindRecord, kindEnum, kindFixed:
		if w.written[n] {
			w.json(n.name)
			return
		}
		w.written[n] = true
		w.named(n)
	case kindArray, kindMap:
		key := "items"
		if n.kind == kindMap {
			key = "values"
		}
		w.out.WriteString(`{"type":"` + n.kind.String() + `"`)
		w.props(n.props, "type", key)
		w.out.WriteString(`,"` + key + `":`)
		w.item(n.items)
		w.out.WriteByte('}')
	case kindUnion:
		w.nullable(n)
	default:
		if len(n.props) <= 1 {
			w.json(n.kind.String())
			return
		}
		w.out.WriteString(`{"type":"` + n.kind.String() + `"`)
		w.props(n.props, "type")
		w.out.WriteByte('}')
	}
}

// named writes the definition of a record, an enum or a fixed.
func (w *schemaWriter) named(n *node) {
	namespace, name := "", n.name
	if at := strings.LastIndexByte(n.name, '.'); at >= 0 {
		namespace, name = n.name[:at], n.name[at+1:]
	}
	w.out.WriteString(`{"type":"` + n.kind.String() + `","name":`)
	w.json(name)
	if namespace != "" || w.namespace != "" {
		w.out.WriteString(`,"namespace":`)
		w.json(namespace)
	}
	w.props(n.props, "type", "name", "namespace", "fields")
	if n.kind == kindRecord {
		outer := w.namespace
		w.namespace = namespace
		w.fields(n)
		w.namespace = outer
	}
	w.out.WriteByte('}')
}

func (w *schemaWriter) fields(n *node) {
	w.out.WriteString(`,"fields":[`)
	first := true
	for _, f := range n.fields {
		if !w.reach[n][f] {
			continue
		}
		if !first {
			w.out.WriteByte(',')
		}
		first = false
		w.out.WriteString(`{"name":`)
		w.json(f.name)
		w.out.WriteString(`,"type":`)
		w.nullable(f.typ)
		w.out.WriteString(`,"default":null`)
		w.props(f.props, "name", "type", "default")
		w.out.WriteByte('}')
	}
	if n == w.root {
		if !first {
			w.out.WriteByte(',')
		}
		w.profile(n)
	}
	w.out.WriteByte(']')
}

// nullable writes a type as a union with null first.
func (w *schemaWriter) nullable(n *node) {
	w.out.WriteString(`["null"`)
	for _, v := range n.values() {
		w.out.WriteByte(',')
		w.typ(v)
	}
	w.out.WriteByte(']')
}

// item writes the type of an array's or a map's items: as it is, or nullable where it is a union of several.
func (w *schemaWriter) item(n *node) {
	if n.kind == kindUnion && len(n.branches) == 1 {
		n = n.branches[0]
	}
	w.typ(n)
}

// profile writes our own field under a name that the root does not use.
func (w *schemaWriter) profile(root *node) {
	taken := map[string]bool{}
	for _, f := range root.fields {
		taken[f.name] = true
		for _, alias := range texts(f.props["aliases"]) {
			taken[alias] = true
		}
	}
	field := profileField
	if taken[field] {
		field = profileFieldElse
	}
	for taken[field] {
		field += "_"
	}
	record := profileRecord
	for w.names[record] {
		record += "_"
	}
	at := strings.LastIndexByte(record, '.')
	w.out.WriteString(`{"name":`)
	w.json(field)
	w.out.WriteString(`,"type":["null",{"type":"record","name":`)
	w.json(record[at+1:])
	w.out.WriteString(`,"namespace":`)
	w.json(record[:at])
	w.out.WriteString(`,"doc":`)
	w.json(profileRecordDoc)
	w.out.WriteString(`,"fields":[`)
	for i, a := range profileAttributes {
		if i > 0 {
			w.out.WriteByte(',')
		}
		w.out.WriteString(`{"name":`)
		w.json(a.Name)
		w.out.WriteString(`,"type":` + attributeTypeText + `,"default":null,"doc":`)
		w.json(a.doc)
		w.out.WriteByte('}')
	}
	w.out.WriteString(`]}],"default":null,"doc":`)
	w.json(profileFieldDoc)
	w.out.WriteByte('}')
}

// props writes what else the writer's schema says of a type or a field: doc and aliases first, the rest by name.
func (w *schemaWriter) props(props map[string]any, but ...string) {
	keys := make([]string, 0, len(props))
	for key := range props {
		if !slices.Contains(but, key) {
			keys = append(keys, key)
		}
	}
	rank := func(key string) int { return slices.Index([]string{"aliases", "doc"}, key) }
	sort.Slice(keys, func(i, j int) bool {
		if a, b := rank(keys[i]), rank(keys[j]); a != b {
			return a > b
		}
		return keys[i] < keys[j]
	})
	for _, key := range keys {
		w.out.WriteByte(',')
		w.json(key)
		w.out.WriteByte(':')
		w.json(props[key])
	}
}

func (w *schemaWriter) json(v any) {
	text, err := json.Marshal(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.out.Write(text)
}

// names gathers the names and aliases of every type below n.
func names(n *node, into map[string]bool, seen map[*node]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	if n.name != "" {
		into[n.name] = true
		namespace := ""
		if at := strings.LastIndexByte(n.name, '.'); at >= 0 {
			namespace = n.name[:at]
		}
		for _, alias := range texts(n.props["aliases"]) {
			into[fullName(alias, namespace)] = true
		}
	}
	for _, f := range n.fields {
		names(f.typ, into, seen)
	}
	for _, b := range n.branches {
		names(b, into, seen)
	}
	if n.items != nil {
		names(n.items, into, seen)
	}
}
