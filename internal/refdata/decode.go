package refdata

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"civicbus/codecs"
)

// times are the keys whose int64 is a point in time in Unix milliseconds. A test checks that every int64 of the documents is
// either here or in numbers.
var times = map[string]bool{"validFrom": true, "validTo": true, "createdAt": true, "updatedAt": true, "givenAt": true, "endedAt": true, "changedAt": true, "at": true}

// numbers are the keys whose int64 is just that.
var numbers = map[string]bool{"version": true, "offset": true, "partition": true, "upTo": true, "givenVersion": true, "journeyHours": true, "readBytesPerSecond": true, "writeBytesPerSecond": true}

// filters are the text keys that may be written as a tree and are kept as compact JSON.
var filters = map[string]bool{"filter": true}

// maxFilterDepth bounds a filter written as a tree; the dialects nest a handful deep.
const maxFilterDepth = 32

// decode fills row, a pointer to a struct, from the document.
func (d document) decode(row any) []codecs.Fault {
	reader := &reader{doc: d}
	reader.structure(d.root, reflect.ValueOf(row).Elem(), "")
	return reader.faults
}

// reader fills structs by their json tags and gathers what is wrong on the way.
type reader struct {
	doc    document
	faults []codecs.Fault
}

// full says that enough is wrong: what follows is not looked at.
func (r *reader) full() bool { return len(r.faults) >= codecs.MaxFaults }

func (r *reader) wrong(at *yaml.Node, field, reason, text string) {
	if !r.full() {
		r.faults = append(r.faults, r.doc.fault(at, field, reason, text))
	}
}

// structure reads a mapping into a struct.
func (r *reader) structure(node *yaml.Node, into reflect.Value, path string) {
	if node.Kind != yaml.MappingNode {
		r.wrong(node, path, ReasonWrongType, "a mapping of keys to values goes here")
		return
	}
	fields := keysOf(into.Type())
	seen := make(map[string]bool, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content) && !r.full(); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := join(path, named(key.Value))
		index, known := fields[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode:
			r.wrong(key, path, ReasonUnknownKey, "a key is text")
		case !known:
			r.wrong(key, at, ReasonUnknownKey, "known here: "+strings.Join(sorted(fields), ", "))
		case seen[key.Value]:
			r.wrong(key, at, ReasonDuplicateKey, "a key stands once")
		default:
			r.value(value, into.Field(index), at, key.Value)
		}
		seen[key.Value] = true
	}
}

// named is a key as a fault may name it: letters are a misspelt key, anything else may be an id that slipped out of place.
func named(key string) string {
	for _, c := range key {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '<' {
			return "(key withheld)"
		}
	}
	return key
}

// value reads one node; key is the json key it stands under.
func (r *reader) value(node *yaml.Node, into reflect.Value, path, key string) {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return // as if the key were not there
	}
	switch into.Kind() {
	case reflect.String:
		r.text(node, into, path, key)
	case reflect.Bool:
		if node.Tag != "!!bool" || node.Kind != yaml.ScalarNode {
			r.wrong(node, path, ReasonWrongType, "true or false goes here")
			return
		}
		into.SetBool(strings.EqualFold(node.Value, "true"))
	case reflect.Int32, reflect.Int64:
		r.integer(node, into, path, key)
	case reflect.Struct:
		r.structure(node, into, path)
	case reflect.Slice:
		if node.Kind != yaml.SequenceNode {
			r.wrong(node, path, ReasonWrongType, "a list goes here")
			return
		}
		items := reflect.MakeSlice(into.Type(), len(node.Content), len(node.Content))
		for i, item := range node.Content {
			if r.full() {
				break
			}
			r.value(item, items.Index(i), path+"["+strconv.Itoa(i)+"]", key)
		}
		into.Set(items)
	default:
		r.wrong(node, path, ReasonWrongType, "this key cannot be written in a document")
	}
}

func (r *reader) text(node *yaml.Node, into reflect.Value, path, key string) {
	switch {
	case filters[key] && (node.Kind == yaml.MappingNode || node.Kind == yaml.SequenceNode):
		tree, ok := jsonOf(node, 0)
		if !ok {
			r.wrong(node, path, ReasonWrongType, fmt.Sprintf("a filter nests at most %d deep, without anchors, and each key stands once", maxFilterDepth))
			return
		}
		into.SetString(string(tree))
	case node.Kind == yaml.ScalarNode:
		into.SetString(node.Value) // as written: 001 stays 001
	default:
		r.wrong(node, path, ReasonWrongType, "text goes here")
	}
}

func (r *reader) integer(node *yaml.Node, into reflect.Value, path, key string) {
	if node.Kind != yaml.ScalarNode {
		r.wrong(node, path, ReasonWrongType, "one value goes here")
		return
	}
	if times[key] {
		at, ok := parseTime(node.Value)
		if !ok {
			r.wrong(node, path, ReasonBadTime, "a time is RFC 3339 (2026-01-31T12:00:00Z) or a date (2026-01-31), after 1970")
			return
		}
		into.SetInt(codecs.Millis(at))
		return
	}
	number, err := strconv.ParseInt(node.Value, 10, into.Type().Bits())
	if err != nil {
		r.wrong(node, path, ReasonWrongType, "a whole number goes here")
		return
	}
	into.SetInt(number)
}

// parseTime reads RFC 3339, or a date as its midnight in UTC. Times up to 1970 are refused: 0 means that there is none.
func parseTime(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), at.UnixMilli() > 0
		}
	}
	return time.Time{}, false
}

// jsonOf turns a YAML tree into compact JSON with keys in the order written.
func jsonOf(node *yaml.Node, depth int) ([]byte, bool) {
	if depth > maxFilterDepth {
		return nil, false
	}
	var out bytes.Buffer
	switch node.Kind {
	case yaml.MappingNode:
		seen := map[string]bool{}
		out.WriteByte('{')
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			value, ok := jsonOf(node.Content[i+1], depth+1)
			if !ok || key.Kind != yaml.ScalarNode || seen[key.Value] {
				return nil, false
			}
			seen[key.Value] = true
			if i > 0 {
				out.WriteByte(',')
			}
			out.Write(quoted(key.Value))
			out.WriteByte(':')
			out.Write(value)
		}
		out.WriteByte('}')
	case yaml.SequenceNode:
		out.WriteByte('[')
		for i, item := range node.Content {
			value, ok := jsonOf(item, depth+1)
			if !ok {
				return nil, false
			}
			if i > 0 {
				out.WriteByte(',')
			}
			out.Write(value)
		}
		out.WriteByte(']')
	case yaml.ScalarNode:
		switch {
		case node.Tag == "!!null":
			out.WriteString("null")
		case node.Tag == "!!bool":
			out.WriteString(strings.ToLower(node.Value))
		case (node.Tag == "!!int" || node.Tag == "!!float") && json.Valid([]byte(node.Value)):
			out.WriteString(node.Value)
		default:
			out.Write(quoted(node.Value))
		}
	default:
		return nil, false
	}
	return out.Bytes(), true
}

// quoted is text as JSON, with < > & left readable.
func quoted(text string) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(text) != nil {
		return []byte(`""`)
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}

// keysOf maps the json keys of a struct to its field numbers; a field tagged "-" cannot be written.
func keysOf(t reflect.Type) map[string]int {
	keys := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		if name := keyOf(t.Field(i)); name != "" {
			keys[name] = i
		}
	}
	return keys
}

func keyOf(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	if name == "-" {
		return ""
	}
	return name
}

func sorted(keys map[string]int) []string {
	names := make([]string, 0, len(keys))
	for name := range keys {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
