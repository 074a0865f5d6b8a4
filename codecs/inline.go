package codecs

import (
	"encoding/json"
	"fmt"
	"strings"
)

// inliner writes the named types of referenced schemas into the schema that uses them, at their first use, so that
// everything behind the registry sees one self-contained schema.
type inliner struct {
	types   map[string]map[string]any // full name -> definition
	visited map[string]bool
	written map[string]bool
}

func newInliner() *inliner {
	return &inliner{types: map[string]map[string]any{}, visited: map[string]bool{}, written: map[string]bool{}}
}

// visit tells whether a version of a registry subject is met for the first time.
func (in *inliner) visit(subject string, version int) bool {
	key := fmt.Sprintf("%d %s", version, subject)
	first := !in.visited[key]
	in.visited[key] = true
	return first
}

// define keeps every named type of a referenced schema.
func (in *inliner) define(text string) error {
	root, err := schemaJSON(text)
	if err != nil {
		return err
	}
	in.collect(root, "")
	return nil
}

func schemaJSON(text string) (any, error) {
	if len(text) > MaxSchemaBytes || jsonDepth(text) > 4*MaxSchemaDepth {
		return nil, fmt.Errorf("%w: it is beyond the limits", ErrUnknownSchema)
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var root any
	if err := decoder.Decode(&root); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownSchema, err)
	}
	return root, nil
}

// collect finds the definitions below a schema and gives each its full name.
func (in *inliner) collect(v any, namespace string) {
	in.each(v, namespace, func(def map[string]any, name string) {
		def["name"] = name
		delete(def, "namespace")
		in.types[name] = def
	})
}

// each calls f for each definition of a named type below v, and keeps names in v whole while it goes.
func (in *inliner) each(v any, namespace string, f func(def map[string]any, name string)) {
	switch x := v.(type) {
	case []any:
		for _, b := range x {
			in.each(b, namespace, f)
		}
	case map[string]any:
		switch x["type"] {
		case "record", "error", "enum", "fixed":
			name, _ := x["name"].(string)
			if ns, ok := x["namespace"].(string); ok && !strings.Contains(name, ".") {
				namespace = ns
			}
			name = fullName(name, namespace)
			namespace = ""
			if at := strings.LastIndexByte(name, '.'); at >= 0 {
				namespace = name[:at]
			}
			fields, _ := x["fields"].([]any)
			for _, raw := range fields {
				if fd, ok := raw.(map[string]any); ok {
					fd["type"] = qualify(fd["type"], namespace)
					in.each(fd["type"], namespace, f)
				}
			}
			f(x, name)
			return
		}
		for _, key := range []string{"type", "items", "values"} {
			if sub, ok := x[key]; ok {
				if text, isName := sub.(string); key != "type" || !isName || (text != "array" && text != "map") {
					x[key] = qualify(sub, namespace)
				}
				in.each(x[key], namespace, f)
			}
		}
	}
}

// qualify makes a bare name, or the bare names in a union, full.
func qualify(v any, namespace string) any {
	switch x := v.(type) {
	case string:
		if _, primitive := primitives[x]; primitive {
			return x
		}
		return fullName(x, namespace)
	case []any:
		for i := range x {
			x[i] = qualify(x[i], namespace)
		}
	}
	return v
}

// inline gives the schema's text with each referenced type written out where it is first named.
func (in *inliner) inline(text string) (string, error) {
	root, err := schemaJSON(text)
	if err != nil {
		return "", err
	}
	root = qualify(root, "")
	own := map[string]bool{}
	in.each(root, "", func(def map[string]any, name string) {
		def["name"] = name
		delete(def, "namespace")
		own[name] = true
	})
	for name := range own {
		in.written[name] = true
	}
	out, err := json.Marshal(in.replace(root))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnknownSchema, err)
	}
	return string(out), nil
}

// replace puts definitions in the place of names, in the order in which a parser reads them.
func (in *inliner) replace(v any) any {
	switch x := v.(type) {
	case string:
		def, ok := in.types[x]
		if !ok || in.written[x] {
			return x
		}
		in.written[x] = true
		return in.replace(def)
	case []any:
		for i := range x {
			x[i] = in.replace(x[i])
		}
	case map[string]any:
		if fields, ok := x["fields"].([]any); ok {
			for _, raw := range fields {
				if fd, ok := raw.(map[string]any); ok {
					fd["type"] = in.replace(fd["type"])
				}
			}
			return x
		}
		for _, key := range []string{"type", "items", "values"} {
			if sub, ok := x[key]; ok {
				x[key] = in.replace(sub)
			}
		}
	}
	return v
}
