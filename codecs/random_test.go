package codecs

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/linkedin/goavro/v2"
	"pgregory.net/rapid"
)

// schemaMaker draws schemas: nested and recursive records, every primitive, enums, fixed, unions of many types, names
// with and without namespaces, types used again.
type schemaMaker struct {
	t      *rapid.T
	names  int
	open   []string // records being defined: may be used below a union, an array or a map
	done   []string // defined types
	limits int
}

func randomSchema(t *rapid.T) string {
	m := &schemaMaker{t: t, limits: 30}
	text, err := json.Marshal(m.record(0))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (m *schemaMaker) name() string {
	m.names++
	if rapid.IntRange(0, 2).Draw(m.t, "namespace") == 0 {
		return fmt.Sprintf("ns%d.N%d", m.names%3, m.names)
	}
	return fmt.Sprintf("top.N%d", m.names)
}

func (m *schemaMaker) record(depth int) map[string]any {
	name := m.name()
	m.open = append(m.open, name)
	fields := []any{}
	for i := range rapid.IntRange(0, 5).Draw(m.t, "fields") {
		fields = append(fields, map[string]any{"name": string(rune('a' + i)), "type": m.typ(depth+1, false)})
	}
	m.open = m.open[:len(m.open)-1]
	m.done = append(m.done, name)
	return map[string]any{"type": "record", "name": name, "fields": fields, "doc": "A record."}
}

var scalars = []string{"boolean", "int", "long", "float", "double", "bytes", "string"}

// typ draws a type; behind tells that it stands below a union, an array or a map, where recursion ends.
func (m *schemaMaker) typ(depth int, behind bool) any {
	m.limits--
	pick := rapid.IntRange(0, 15).Draw(m.t, "type")
	if depth > 6 || m.limits < 0 {
		pick %= 7
	}
	switch pick {
	case 7:
		return "null"
	case 8:
		name := m.name()
		m.done = append(m.done, name)
		return map[string]any{"type": "enum", "name": name, "symbols": []any{"x", "y", "z"}}
	case 9:
		name := m.name()
		m.done = append(m.done, name)
		return map[string]any{"type": "fixed", "name": name, "size": rapid.IntRange(1, 9).Draw(m.t, "size")}
	case 10:
		return map[string]any{"type": "array", "items": m.typ(depth+1, true)}
	case 11:
		return map[string]any{"type": "map", "values": m.typ(depth+1, true)}
	case 12, 13:
		return m.union(depth)
	case 14:
		return m.record(depth)
	case 15:
		known := m.done
		if behind {
			known = append(append([]string{}, m.done...), m.open...)
		}
		if len(known) > 0 {
			return known[rapid.IntRange(0, len(known)-1).Draw(m.t, "known")]
		}
	}
	return scalars[pick%7]
}

// union draws a union with null somewhere in it, which ends every recursion, and no branch twice.
func (m *schemaMaker) union(depth int) any {
	branches := []any{"null"}
	taken := map[string]bool{"null": true}
	for range rapid.IntRange(0, 4).Draw(m.t, "branches") {
		defined := len(m.done)
		b := m.typ(depth+1, true)
		key, inline := "", false
		switch x := b.(type) {
		case string:
			key = x
		case []any:
			key = "null" // no union in a union: dropped, with what it defined
		case map[string]any:
			key, _ = x["type"].(string)
			if name, ok := x["name"].(string); ok {
				key, inline = name, true
			}
		}
		if taken[key] && !inline {
			m.done = m.done[:defined]
			continue
		}
		taken[key] = true
		branches = append(branches, b)
	}
	at := rapid.IntRange(0, len(branches)-1).Draw(m.t, "null at")
	return slices.Insert(branches[1:], at, any("null"))
}

// valueMaker draws Avro bodies straight from a schema. Plain bodies are as goavro writes them; others have several
// blocks, blocks with a size, and numbers with more bytes than they need.
type valueMaker struct {
	t       *rapid.T
	plain   bool
	entries int // most entries of a map
	budget  int
}

func (m *valueMaker) draw(n *node, dst []byte, depth int) []byte {
	m.budget--
	small := depth > 12 || m.budget < 0
	if n.logical == "decimal" {
		b, reason := n.parseDecimal(strconv.Itoa(rapid.IntRange(-9999, 9999).Draw(m.t, "decimal")))
		if reason != "" {
			m.t.Fatal(reason)
		}
		if n.kind == kindBytes {
			dst = m.number(dst, int64(len(b)))
		}
		return append(dst, b...)
	}
	switch n.kind {
	case kindNull:
		return dst
	case kindBoolean:
		return append(dst, byte(rapid.IntRange(0, 1).Draw(m.t, "boolean")))
	case kindInt:
		return m.number(dst, int64(rapid.Int32().Draw(m.t, "int")))
	case kindLong:
		return m.number(dst, rapid.Int64().Draw(m.t, "long"))
	case kindFloat:
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(rapid.Float32().Draw(m.t, "float")))
	case kindDouble:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(rapid.Float64().Draw(m.t, "double")))
	case kindBytes:
		b := rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(m.t, "bytes")
		return append(m.number(dst, int64(len(b))), b...)
	case kindString:
		s := rapid.StringN(0, 4, 12).Draw(m.t, "string")
		if rapid.IntRange(0, 9).Draw(m.t, "long text") == 0 {
			s += strings.Repeat("å", 40)
		}
		return append(m.number(dst, int64(len(s))), s...)
	case kindFixed:
		return append(dst, rapid.SliceOfN(rapid.Byte(), n.size, n.size).Draw(m.t, "fixed")...)
	case kindEnum:
		return m.number(dst, int64(rapid.IntRange(0, len(n.symbols)-1).Draw(m.t, "enum")))
	case kindRecord:
		for _, f := range n.fields {
			dst = m.draw(f.typ, dst, depth+1)
		}
		return dst
	case kindUnion:
		i := rapid.IntRange(0, len(n.branches)-1).Draw(m.t, "branch")
		if null := n.nullBranch(); small && null >= 0 {
			i = null
		}
		return m.draw(n.branches[i], m.number(dst, int64(i)), depth+1)
	}
	most := 3
	if n.kind == kindMap {
		most = m.entries
	}
	count := 0
	if !small {
		count = rapid.IntRange(0, most).Draw(m.t, "count")
	}
	var items [][]byte
	for i := range count {
		var item []byte
		if n.kind == kindMap {
			key := fmt.Sprintf("k%d", i)
			item = append(m.number(item, int64(len(key))), key...)
		}
		items = append(items, m.draw(n.items, item, depth+1))
	}
	for len(items) > 0 {
		size := len(items)
		if !m.plain {
			size = rapid.IntRange(1, len(items)).Draw(m.t, "block")
		}
		var block []byte
		for _, item := range items[:size] {
			block = append(block, item...)
		}
		items = items[size:]
		if !m.plain && rapid.Bool().Draw(m.t, "sized") {
			dst = m.number(m.number(dst, int64(-size)), int64(len(block)))
		} else {
			dst = m.number(dst, int64(size))
		}
		dst = append(dst, block...)
	}
	return m.number(dst, 0)
}

// number appends a varint, in a body that is not plain sometimes with one byte more than it needs.
func (m *valueMaker) number(dst []byte, n int64) []byte {
	out := appendVarint(nil, n)
	if !m.plain && len(out) < 9 && rapid.IntRange(0, 9).Draw(m.t, "overlong") == 0 {
		out[len(out)-1] |= 0x80
		out = append(out, 0)
	}
	return append(dst, out...)
}

func randomBody(t *rapid.T, s *Schema, plain bool, entries int) []byte {
	m := valueMaker{t: t, plain: plain, entries: entries, budget: 200}
	return m.draw(s.root, nil, 0)
}

// foreign gives the schemas of testdata, which stand for those that no one here wrote.
func foreign(t testing.TB) map[string]*Schema {
	t.Helper()
	files, err := filepath.Glob("testdata/*.avsc")
	if err != nil || len(files) < 8 {
		t.Fatal(err, len(files))
	}
	out := map[string]*Schema{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseSchema(string(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out[strings.TrimSuffix(filepath.Base(file), ".avsc")] = s
	}
	return out
}

// anySchema draws one of testdata's schemas or a random one.
func anySchema(t *rapid.T, known map[string]*Schema) *Schema {
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	name := rapid.SampledFrom(sorted(names)).Draw(t, "schema")
	if rapid.Bool().Draw(t, "random schema") {
		s, err := ParseSchema(randomSchema(t))
		if err != nil {
			t.Fatalf("%v", err)
		}
		return s
	}
	return known[name]
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// bare gives goavro's codec of a schema without its logical types: the bytes are the same, and native values are those
// of the wire. Nil where goavro refuses the schema.
func bare(t testing.TB, text string) *goavro.Codec {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	var strip func(v any)
	strip = func(v any) {
		switch x := v.(type) {
		case []any:
			for _, sub := range x {
				strip(sub)
			}
		case map[string]any:
			delete(x, "logicalType")
			if _, named := x["symbols"]; !named && x["default"] != nil {
				delete(x, "default") // goavro checks defaults against the types that it knows only
			}
			for _, sub := range x {
				strip(sub)
			}
		}
	}
	strip(v)
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	codec, err := goavro.NewCodec(string(out))
	if err != nil {
		return nil
	}
	return codec
}

// branchName is what goavro calls a branch of a union.
func branchName(n *node) string {
	if n.name != "" {
		return n.name
	}
	return n.kind.String()
}
