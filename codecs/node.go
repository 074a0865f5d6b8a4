package codecs

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// kind is one of the types of the Avro specification.
type kind uint8

const (
	kindNull kind = iota
	kindBoolean
	kindInt
	kindLong
	kindFloat
	kindDouble
	kindBytes
	kindString
	kindRecord
	kindEnum
	kindArray
	kindMap
	kindFixed
	kindUnion
)

var kindNames = [...]string{"null", "boolean", "int", "long", "float", "double", "bytes", "string", "record", "enum", "array", "map", "fixed", "union"}

func (k kind) String() string { return kindNames[k] }

var primitives = map[string]kind{
	"null": kindNull, "boolean": kindBoolean, "int": kindInt, "long": kindLong,
	"float": kindFloat, "double": kindDouble, "bytes": kindBytes, "string": kindString,
}

// node is one type of a parsed schema. Every use of a named type is the same node, so that a recursive type is a cycle.
type node struct {
	kind      kind
	name      string         // full name of a record, enum or fixed
	props     map[string]any // what the schema says of it: doc, aliases, defaults, annotations; numbers as json.Number
	fields    []*field       // of a record, in order
	items     *node          // of an array or a map (its values)
	branches  []*node        // of a union
	symbols   [][]byte       // of an enum
	size      int            // of a fixed
	logical   string         // logical type that is valid on this type; empty: none
	precision int            // of a decimal
	scale     int            // of a decimal
	empty     bool           // takes no byte: null, a fixed of 0, a record of such
}

// field is one field of a record.
type field struct {
	name  string
	typ   *node
	props map[string]any
}

// field finds a record's field by its name; nil for none and for what is no record.
func (n *node) field(name string) *field {
	for _, f := range n.fields {
		if f.name == name {
			return f
		}
	}
	return nil
}

// nullBranch is the index of a union's null; -1 for none.
func (n *node) nullBranch() int {
	for i, b := range n.branches {
		if b.kind == kindNull {
			return i
		}
	}
	return -1
}

// values lists what a value of the type can be but null: a union's other branches, or the type itself.
func (n *node) values() []*node {
	switch n.kind {
	case kindNull:
		return nil
	case kindUnion:
		out := make([]*node, 0, len(n.branches))
		for _, b := range n.branches {
			if b.kind != kindNull {
				out = append(out, b)
			}
		}
		return out
	}
	return []*node{n}
}

// canBeArray tells whether a value of the type can be an array.
func (n *node) canBeArray() bool {
	return slices.ContainsFunc(n.values(), func(v *node) bool { return v.kind == kindArray })
}

// nodeParser turns decoded JSON into nodes. The text was accepted by the Avro library before, so that only its
// structure is read here; what cannot be read all the same is an error, never a panic.
type nodeParser struct {
	named  map[string]*node
	fields int
}

var errSchemaShape = errors.New("not an Avro schema")

func (p *nodeParser) parse(v any, namespace string, depth int) (*node, error) {
	if depth > MaxSchemaDepth {
		return nil, fmt.Errorf("schema nests deeper than %d types", MaxSchemaDepth)
	}
	switch x := v.(type) {
	case string:
		return p.lookup(x, namespace)
	case []any:
		n := &node{kind: kindUnion}
		for _, b := range x {
			branch, err := p.parse(b, namespace, depth+1)
			if err != nil {
				return nil, err
			}
			n.branches = append(n.branches, branch)
		}
		return n, nil
	case map[string]any:
		return p.object(x, namespace, depth)
	}
	return nil, errSchemaShape
}

// lookup finds the type behind a name: a primitive, or one that was defined before.
func (p *nodeParser) lookup(name, namespace string) (*node, error) {
	if k, ok := primitives[name]; ok {
		return &node{kind: k, empty: k == kindNull}, nil
	}
	if n, ok := p.named[fullName(name, namespace)]; ok {
		return n, nil
	}
	if n, ok := p.named[name]; ok {
		return n, nil
	}
	return nil, fmt.Errorf("type %q is not defined", bounded(name))
}

func (p *nodeParser) object(x map[string]any, namespace string, depth int) (*node, error) {
	typ, ok := x["type"].(string)
	if !ok {
		if x["type"] == nil {
			return nil, errSchemaShape
		}
		return p.parse(x["type"], namespace, depth+1)
	}
	switch typ {
	case "record", "error", "enum", "fixed":
		return p.define(typ, x, namespace, depth)
	case "array", "map":
		n := &node{kind: kindArray, props: x}
		of := x["items"]
		if typ == "map" {
			n.kind, of = kindMap, x["values"]
		}
		items, err := p.parse(of, namespace, depth+1)
		if err != nil {
			return nil, err
		}
		n.items = items
		return n, nil
	}
	k, ok := primitives[typ]
	if !ok {
		return p.lookup(typ, namespace)
	}
	n := &node{kind: k, props: x, empty: k == kindNull}
	n.setLogical()
	return n, nil
}

// define reads a named type. It is known by its name before its fields are read, so that they can use it.
func (p *nodeParser) define(typ string, x map[string]any, namespace string, depth int) (*node, error) {
	name, _ := x["name"].(string)
	if ns, ok := x["namespace"].(string); ok && !strings.Contains(name, ".") {
		namespace = ns
	}
	n := &node{name: fullName(name, namespace), props: x}
	if at := strings.LastIndexByte(n.name, '.'); at >= 0 {
		namespace = n.name[:at]
	} else {
		namespace = ""
	}
	if _, taken := p.named[n.name]; taken {
		return nil, fmt.Errorf("type %q is defined twice", bounded(n.name))
	}
	p.named[n.name] = n
	switch typ {
	case "enum":
		n.kind = kindEnum
		symbols, _ := x["symbols"].([]any)
		for _, s := range symbols {
			text, ok := s.(string)
			if !ok {
				return nil, errSchemaShape
			}
			n.symbols = append(n.symbols, []byte(text))
		}
		return n, nil
	case "fixed":
		n.kind = kindFixed
		size, ok := integer(x["size"])
		if !ok || size < 0 || size > MaxBodyBytes {
			return nil, fmt.Errorf("fixed %q: size is not within 0 and %d", bounded(n.name), MaxBodyBytes)
		}
		n.size, n.empty = int(size), size == 0
		n.setLogical()
		return n, nil
	}
	n.kind = kindRecord
	fields, _ := x["fields"].([]any)
	for _, raw := range fields {
		if p.fields++; p.fields > MaxSchemaFields {
			return nil, fmt.Errorf("schema has more than %d fields", MaxSchemaFields)
		}
		props, ok := raw.(map[string]any)
		if !ok {
			return nil, errSchemaShape
		}
		fieldName, _ := props["name"].(string)
		t, err := p.parse(props["type"], namespace, depth+1)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", bounded(fieldName), err)
		}
		n.fields = append(n.fields, &field{name: fieldName, typ: t, props: props})
	}
	n.empty = true
	for _, f := range n.fields {
		if f.typ == n || !f.typ.empty { // a record inside itself without a union can have no value at all
			n.empty = false
		}
	}
	return n, nil
}

// setLogical keeps a logical type where the specification defines it on the type; an invalid one is ignored, as it says.
func (n *node) setLogical() {
	logical, _ := n.props["logicalType"].(string)
	switch logical {
	case "decimal":
		precision, ok := integer(n.props["precision"])
		scale, okScale := integer(n.props["scale"])
		if n.props["scale"] == nil {
			scale, okScale = 0, true
		}
		if !ok || !okScale || precision < 1 || precision > 10_000 || scale < 0 || scale > precision || (n.kind != kindBytes && n.kind != kindFixed) {
			return
		}
		n.precision, n.scale = int(precision), int(scale)
	case "uuid":
		if n.kind != kindString && (n.kind != kindFixed || n.size != 16) {
			return
		}
	case "date", "time-millis":
		if n.kind != kindInt {
			return
		}
	case "time-micros", "timestamp-millis", "timestamp-micros", "timestamp-nanos",
		"local-timestamp-millis", "local-timestamp-micros", "local-timestamp-nanos":
		if n.kind != kindLong {
			return
		}
	case "duration":
		if n.kind != kindFixed || n.size != 12 {
			return
		}
	default:
		return
	}
	n.logical = logical
}

func fullName(name, namespace string) string {
	if namespace == "" || strings.Contains(name, ".") {
		return name
	}
	return namespace + "." + name
}

func integer(v any) (int64, bool) {
	number, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	n, err := number.Int64()
	return n, err == nil
}

// bounded cuts text from outside before it is quoted in an error.
func bounded(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// jsonDepth gives the deepest nesting of JSON text without building anything of it.
func jsonDepth(text string) int {
	depth, deepest, inString := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}
