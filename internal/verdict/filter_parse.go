package verdict

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unique"

	"civicbus/codecs"
)

// Reasons of faults in a filter. They name no literal of the filter: a literal can be personal data.
const (
	FaultFilterMalformed         = "filter_malformed"           // not JSON, a form that no dialect has, a null, an empty or repeated key
	FaultFilterUnknownDialect    = "filter_unknown_dialect"     // CloudEvents: an unknown dialect must be refused
	FaultFilterUnknownField      = "filter_unknown_field"       // no such path in the schema, attribute of the profile, or CloudEvents attribute
	FaultFilterFieldNotPermitted = "filter_field_not_permitted" // the subscription may not receive it
	FaultFilterTypeError         = "filter_type_error"          // a literal or an operator that does not fit the field's type
	FaultFilterTooCostly         = "filter_too_costly"          // too long, too deep, too many parts, or a CEL cost above the limit
)

// parseFilter makes the tree of a specification, without a schema: an empty one, {} and [] match everything. Forms:
//
//	{"data.a": "x", "profile.municipality": "Espoo"}   equality on paths, all of them
//	{"cel": "data.a == 'x' && data.n > 3"}              CEL (filter_cel.go)
//	{"exact"|"prefix"|"suffix": {"type": "..."}}        CloudEvents Subscriptions API, over CloudEvents attributes
//	{"all"|"any": [filter, ...]}  {"not": filter}       the same, over any of these forms
//	[filter, ...]                                       as all
//
// The dialect sql (CESQL) is refused as unknown, which the CloudEvents specification leaves open: its rules for absent
// attributes turn errors into false, whose negation matches, and its expression does not tell which attributes it reads.
func parseFilter(spec string) (*Filter, []codecs.Fault) {
	if strings.TrimSpace(spec) == "" {
		return &Filter{root: &node{op: opAll}}, nil
	}
	if len(spec) > MaxFilterBytes {
		return nil, filterFault(FaultFilterTooCostly, "at most %d bytes", MaxFilterBytes)
	}
	decoder := json.NewDecoder(strings.NewReader(spec))
	decoder.UseNumber()
	v, err := readJSON(decoder, 0)
	if err == nil {
		if _, after := decoder.Token(); !errors.Is(after, io.EOF) {
			err = errors.New("one JSON value and nothing after it")
		}
	}
	if err != nil {
		return nil, filterFault(FaultFilterMalformed, "%v", err)
	}
	p := filterParser{filter: &Filter{}}
	switch v := v.(type) {
	case []any:
		p.filter.root = p.combine(opAll, v, 0, true)
	case object:
		if len(v) == 0 {
			p.filter.root = &node{op: opAll}
		} else {
			p.filter.root = p.parse(v, 0)
		}
	default:
		p.fault("filter", FaultFilterMalformed, "a JSON object or an array of them")
	}
	if len(p.faults) > 0 {
		return nil, p.faults
	}
	return p.filter, nil
}

func filterFault(reason, text string, args ...any) []codecs.Fault {
	return []codecs.Fault{{Field: "filter", Reason: reason, Text: fmt.Sprintf(text, args...)}}
}

// object is a JSON object with its members in order. A repeated key is an error: of two readings one would be dropped.
type object []member

type member struct {
	key   string
	value any
}

var errJSON = errors.New("not valid JSON")

// readJSON reads one value: object, []any, string, json.Number, bool or nil. Its errors hold nothing of the text.
func readJSON(d *json.Decoder, depth int) (any, error) {
	if depth > 2*MaxFilterDepth+2 {
		return nil, fmt.Errorf("JSON nests deeper than %d", 2*MaxFilterDepth+2)
	}
	token, err := d.Token()
	if err != nil {
		return nil, errJSON
	}
	switch token {
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := readJSON(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		if _, err := d.Token(); err != nil {
			return nil, errJSON
		}
		return list, nil
	case json.Delim('{'):
		o, seen := object{}, map[string]bool{}
		for d.More() {
			token, err := d.Token()
			key, ok := token.(string)
			if err != nil || !ok {
				return nil, errJSON
			}
			if seen[key] {
				return nil, errors.New("each key once")
			}
			seen[key] = true
			v, err := readJSON(d, depth+1)
			if err != nil {
				return nil, err
			}
			o = append(o, member{key, v})
		}
		if _, err := d.Token(); err != nil {
			return nil, errJSON
		}
		return o, nil
	}
	if _, ok := token.(json.Delim); ok {
		return nil, errJSON
	}
	return token, nil
}

// filterParser builds the tree and gathers every fault, not only the first.
type filterParser struct {
	filter *Filter
	nodes  int
	faults []codecs.Fault
}

func (p *filterParser) fault(field, reason, text string, args ...any) {
	if len(p.faults) < 32 { // more would help nobody
		p.faults = append(p.faults, codecs.Fault{Field: boundedText(field), Reason: reason, Text: fmt.Sprintf(text, args...)})
	}
}

// boundedText cuts what is quoted from a specification, and leaves out what could confuse a log.
func boundedText(s string) string {
	const most = 200
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// nothing stands for a part that has a fault; it is never evaluated.
var nothing = &node{op: opAny}

// add counts a node.
func (p *filterParser) add(n *node) *node {
	if p.nodes++; p.nodes == MaxFilterNodes+1 {
		p.fault("filter", FaultFilterTooCostly, "at most %d predicates and combinations", MaxFilterNodes)
	}
	return n
}

// path gives the position of a path among those the filter reads.
func (p *filterParser) path(path string) int {
	for i, have := range p.filter.paths {
		if have == path {
			return i
		}
	}
	p.filter.paths = append(p.filter.paths, unique.Make(path).Value())
	return len(p.filter.paths) - 1
}

func (p *filterParser) parse(v any, depth int) *node {
	if depth > MaxFilterDepth {
		p.fault("filter", FaultFilterTooCostly, "all, any and not nest at most %d deep", MaxFilterDepth)
		return nothing
	}
	o, ok := v.(object)
	if !ok || len(o) == 0 {
		p.fault("filter", FaultFilterMalformed, "a filter is a JSON object with at least one key")
		return nothing
	}
	if rooted(o[0].key) {
		return p.equalities(o)
	}
	if len(o) > 1 {
		p.fault(o[1].key, FaultFilterMalformed, "one dialect to an object; combine with all")
		return nothing
	}
	switch value := o[0].value; o[0].key {
	case "exact", "prefix", "suffix":
		return p.attributes(o[0].key, value)
	case "all", "any":
		list, ok := value.([]any)
		if !ok || len(list) == 0 {
			p.fault(o[0].key, FaultFilterMalformed, "an array of at least one filter")
			return nothing
		}
		if o[0].key == "any" {
			return p.combine(opAny, list, depth+1, false)
		}
		return p.combine(opAll, list, depth+1, false)
	case "not":
		return p.add(&node{op: opNot, parts: []*node{p.parse(value, depth+1)}})
	case "cel":
		text, ok := value.(string)
		if !ok {
			p.fault("cel", FaultFilterMalformed, "a CEL expression as text")
			return nothing
		}
		return p.cel(text)
	}
	p.fault(o[0].key, FaultFilterUnknownDialect, "exact, prefix, suffix, all, any, not, cel, or paths that begin with data. or profile.")
	return nothing
}

// rooted tells a path from the name of a dialect.
func rooted(key string) bool {
	return covers("data", key) || covers("profile", key)
}

func (p *filterParser) combine(op operation, list []any, depth int, mayBeEmpty bool) *node {
	n := &node{op: op}
	if len(list) == 0 && mayBeEmpty {
		return n
	}
	for _, v := range list {
		if p.nodes > MaxFilterNodes {
			break
		}
		n.parts = append(n.parts, p.parse(v, depth))
	}
	return p.add(n)
}

func (p *filterParser) equalities(o object) *node {
	n := &node{op: opAll}
	for _, m := range o {
		if !rooted(m.key) {
			p.fault(m.key, FaultFilterMalformed, "beside a path only other paths; combine with all")
			continue
		}
		c, text := literal(m.value)
		if text != "" {
			p.fault(m.key, FaultFilterMalformed, "%s", text)
			continue
		}
		n.parts = append(n.parts, p.add(&node{op: opEqual, path: p.path(m.key), values: []constant{c}}))
	}
	if len(n.parts) == 1 {
		return n.parts[0]
	}
	return p.add(n)
}

// literal makes a constant of a JSON scalar, or says what would be right.
func literal(v any) (constant, string) {
	switch v := v.(type) {
	case string:
		return textConstant(v), ""
	case bool:
		return boolConstant(v), ""
	case json.Number:
		if i, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return constant{kind: codecs.Int, int: i}, ""
		}
		if f, err := v.Float64(); err == nil {
			return constant{kind: codecs.Float, float: f}, ""
		}
		return constant{}, "a number within the range of a double"
	case nil:
		return constant{}, "text, a number, true or false; null matches nothing, for it is unknown"
	}
	return constant{}, "text, a number, true or false"
}

// textConstant keeps one copy of each text: many filters name the same few, which then stay in the processor's cache.
func textConstant(text string) constant {
	return constant{kind: codecs.String, text: unique.Make(text).Value()}
}

func boolConstant(b bool) constant {
	c := constant{kind: codecs.Bool}
	if b {
		c.int = 1
	}
	return c
}

func (p *filterParser) attributes(dialect string, v any) *node {
	o, ok := v.(object)
	if !ok || len(o) == 0 {
		p.fault(dialect, FaultFilterMalformed, "an object of CloudEvents attributes with text values")
		return nothing
	}
	op := map[string]operation{"exact": opEqual, "prefix": opPrefix, "suffix": opSuffix}[dialect]
	n := &node{op: opAll}
	for _, m := range o {
		text, ok := m.value.(string)
		if !ok || text == "" {
			p.fault(dialect+"."+m.key, FaultFilterMalformed, "text that is not empty")
			continue
		}
		at := p.path(attributePrefix + m.key)
		n.parts = append(n.parts, p.add(&node{op: op, path: at, values: []constant{textConstant(text)}}))
	}
	if len(n.parts) == 1 {
		return n.parts[0]
	}
	return p.add(n)
}
