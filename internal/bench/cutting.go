package bench

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// cutting makes goavro's native map of a projected event from that of the whole event, as one who uses goavro would: it
// follows the two schemas' JSON, worked out once. It knows records, unions of null and one type, and takes arrays whole.
type cutting struct {
	branch string // goavro's name for the type in the projected schema's union; empty: the root
	union  bool   // the writer's type is a union
	fields []cutField
}

type cutField struct {
	name string
	of   *cutting // nil: not permitted
}

func newCutting(projected, writer string, permitted []string) (*cutting, error) {
	var p, w any
	if err := json.Unmarshal([]byte(projected), &p); err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(writer), &w); err != nil {
		return nil, err
	}
	c := cuts{permitted: permitted, projected: map[string]any{}, writer: map[string]any{}}
	out, _, err := c.of(p, w, "data", "", "")
	if err == nil {
		out.branch = ""
	}
	return out, err
}

type cuts struct {
	permitted         []string
	projected, writer map[string]any // records by name, full and short
}

// of pairs a projected type with the writer's; any tells whether something in it is permitted.
func (c *cuts) of(p, w any, path, namespaceP, namespaceW string) (out *cutting, any_ bool, err error) {
	out = &cutting{}
	if list, ok := p.([]any); ok {
		p = list[len(list)-1]
	}
	if list, ok := w.([]any); ok {
		w, out.union = list[len(list)-1], true
	}
	p, nameP, namespaceP := resolve(c.projected, p, namespaceP)
	w, _, namespaceW = resolve(c.writer, w, namespaceW)
	object, ok := p.(map[string]any)
	if !ok || object["type"] != "record" {
		out.branch = nameP
		return out, slices.ContainsFunc(c.permitted, func(f string) bool { return f == path || strings.HasPrefix(f, path+"[") }), nil
	}
	out.branch = nameP
	of := map[string]any{}
	written, ok := w.(map[string]any)
	if !ok {
		return nil, false, fmt.Errorf("cut %s: the writer's type is no record", path)
	}
	for _, f := range written["fields"].([]any) {
		f := f.(map[string]any)
		of[f["name"].(string)] = f["type"]
		if _, _, err := c.learn(f["type"], namespaceW); err != nil {
			return nil, false, err
		}
	}
	for _, f := range object["fields"].([]any) {
		f := f.(map[string]any)
		field := cutField{name: f["name"].(string)}
		if t, ok := of[field.name]; ok {
			below, some, err := c.of(f["type"], t, path+"."+field.name, namespaceP, namespaceW)
			if err != nil {
				return nil, false, err
			}
			if some {
				field.of, any_ = below, true
			}
		}
		out.fields = append(out.fields, field)
	}
	return out, any_, nil
}

// learn keeps the writer's record before a later field names it: the projection may leave out the field that defines it.
func (c *cuts) learn(t any, namespace string) (any, string, error) {
	if list, ok := t.([]any); ok {
		t = list[len(list)-1]
	}
	_, name, _ := resolve(c.writer, t, namespace)
	return t, name, nil
}

// resolve gives a type, goavro's name for it as a branch of a union, and the namespace within it.
func resolve(known map[string]any, t any, namespace string) (any, string, string) {
	if name, ok := t.(string); ok {
		if r, ok := known[name]; ok {
			return resolve(known, r, namespace)
		}
		return t, name, namespace
	}
	object := t.(map[string]any)
	kind, _ := object["type"].(string)
	if kind != "record" {
		if logical, ok := object["logicalType"].(string); ok {
			return t, kind + "." + logical, namespace
		}
		return t, kind, namespace
	}
	if own, ok := object["namespace"].(string); ok {
		namespace = own
	}
	short, full := object["name"].(string), object["name"].(string)
	if i := strings.LastIndexByte(full, '.'); i >= 0 {
		namespace, short = full[:i], full[i+1:]
	} else if namespace != "" {
		full = namespace + "." + short
	}
	// A name without its namespace is told by where it was first met, which within one namespace is enough.
	kept := map[string]any{"type": "record", "name": full, "fields": object["fields"]}
	known[full], known[short] = kept, kept
	return t, full, namespace
}

// apply cuts the root record.
func (c *cutting) apply(native any) any { return c.record(native.(map[string]any)) }

func (c *cutting) record(in map[string]any) map[string]any {
	out := make(map[string]any, len(c.fields))
	for i := range c.fields {
		f := &c.fields[i]
		out[f.name] = nil
		if f.of != nil {
			out[f.name] = f.of.value(in[f.name])
		}
	}
	return out
}

func (c *cutting) value(v any) any {
	if c.union && v != nil {
		for _, v = range v.(map[string]any) {
		}
	}
	if v == nil {
		return nil
	}
	if c.fields != nil {
		v = c.record(v.(map[string]any))
	}
	return map[string]any{c.branch: v}
}
