package catalog

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"civicbus/codecs"
)

// Ids of nobody: personal identity codes with numbers that are given to no one, and a business id of counting digits.
var nobodies = map[string][]string{
	"fi-hetu":    {"010594Y9032", "020594X903P", "030594W903B", "040594V9030", "050594U903M"},
	"fi-ytunnus": {"1234567-1"},
}

// sample makes an event's data as JSON: a value for every field, and ids of nobody for the subjects. nil when there is none
// that the schema takes.
func sample(row *codecs.EventType, schema *codecs.Schema) json.RawMessage {
	text, faults := makeSample(row, schema)
	if len(faults) > 0 {
		return nil
	}
	return text
}

func makeSample(row *codecs.EventType, schema *codecs.Schema) (text json.RawMessage, faults []codecs.Fault) {
	var parsed any
	if err := json.Unmarshal([]byte(schema.JSON()), &parsed); err != nil {
		return nil, []codecs.Fault{{Text: err.Error()}}
	}
	m := sampler{named: map[string]any{}, ids: map[string]string{}, open: map[string]bool{}}
	used := map[string]int{}
	for _, r := range row.Roles {
		if known := nobodies[r.Scheme]; len(known) > 0 {
			m.ids[strings.ReplaceAll(r.Path, "[]", "")] = known[used[r.Scheme]%len(known)]
			used[r.Scheme]++
		}
	}
	text, err := json.Marshal(m.value(parsed, "data", "", 0))
	if err != nil {
		return nil, []codecs.Fault{{Text: err.Error()}}
	}
	_, faults = schema.FromJSON(text)
	return text, faults
}

// sampler walks an Avro schema.
type sampler struct {
	named map[string]any    // schemas that have a name, by it
	ids   map[string]string // of subjects, by path without brackets
	open  map[string]bool   // records that are being made
}

// within says whether a schema names a record that is being made.
func (m *sampler) within(schema any, space string) bool {
	name, _ := schema.(string)
	return m.open[name] || m.open[strings.TrimPrefix(name, space+".")]
}

// maxSampleDepth ends schemas that hold themselves.
const maxSampleDepth = 12

// value makes a value of a schema; space is the namespace that it stands in.
func (m *sampler) value(schema any, path, space string, depth int) any {
	if id, ok := m.ids[path]; ok {
		return id
	}
	switch s := schema.(type) {
	case string:
		for _, name := range []string{s, space + "." + s} {
			if named, ok := m.named[name]; ok {
				if depth > maxSampleDepth {
					return nil
				}
				return m.value(named, path, space, depth+1)
			}
		}
		return plainValue(s)
	case []any:
		for _, branch := range s {
			if branch != "null" && depth <= maxSampleDepth && !m.within(branch, space) {
				return m.value(branch, path, space, depth+1)
			}
		}
		return nil
	case map[string]any:
		return m.complex(s, path, space, depth)
	}
	return nil
}

func (m *sampler) complex(s map[string]any, path, space string, depth int) any {
	kind, _ := s["type"].(string)
	if name, ok := s["name"].(string); ok {
		if given, ok := s["namespace"].(string); ok {
			space = given
		}
		m.named[name], m.named[space+"."+name] = s, s
	}
	if logical, ok := s["logicalType"].(string); ok {
		if v := logicalValue(logical); v != nil {
			return v
		}
	}
	switch kind {
	case "record", "error":
		out := map[string]any{}
		name, _ := s["name"].(string)
		was := m.open[name]
		m.open[name] = true
		defer func() { m.open[name] = was }()
		members, _ := s["fields"].([]any)
		for _, f := range members {
			if field, ok := f.(map[string]any); ok {
				name, _ := field["name"].(string)
				out[name] = m.value(field["type"], path+"."+name, space, depth+1)
			}
		}
		return out
	case "array":
		if depth > maxSampleDepth || m.within(s["items"], space) {
			return []any{}
		}
		return []any{m.value(s["items"], path, space, depth+1)}
	case "map":
		return map[string]any{}
	case "enum":
		if symbols, ok := s["symbols"].([]any); ok && len(symbols) > 0 {
			return symbols[0]
		}
		return nil
	case "fixed":
		size, _ := s["size"].(float64)
		return base64.StdEncoding.EncodeToString(make([]byte, int(min(size, 1024))))
	case "":
		return m.value(s["type"], path, space, depth+1)
	}
	return m.value(kind, path, space, depth+1)
}

func plainValue(kind string) any {
	switch kind {
	case "boolean":
		return true
	case "int", "long":
		return 1
	case "float", "double":
		return 1.5
	case "string":
		return "text"
	case "bytes":
		return ""
	}
	return nil
}

func logicalValue(logical string) any {
	switch {
	case logical == "date":
		return "2026-01-31"
	case strings.HasPrefix(logical, "timestamp-"):
		return "2026-01-31T12:00:00Z"
	case strings.HasPrefix(logical, "local-timestamp-"):
		return "2026-01-31T12:00:00"
	case strings.HasPrefix(logical, "time-"):
		return "12:00:00"
	case logical == "decimal":
		return json.Number("1")
	case logical == "uuid":
		return "00000000-0000-4000-8000-000000000000"
	}
	return nil
}
