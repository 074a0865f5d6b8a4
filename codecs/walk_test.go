package codecs

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/linkedin/goavro/v2"
	"pgregory.net/rapid"
)

// at finds what a goavro native value has at a path, as Values.
func at(n *node, native any, path []segment) []Value {
	if n.kind == kindUnion {
		if native == nil {
			if len(path) == 0 {
				return []Value{{Kind: Null}}
			}
			return nil
		}
		for name, v := range native.(map[string]any) {
			for _, b := range n.branches {
				if branchName(b) == name {
					return at(b, v, path)
				}
			}
		}
		panic("no such branch")
	}
	if len(path) == 0 {
		return []Value{nativeValue(n, native)}
	}
	switch v := native.(type) {
	case map[string]any:
		if f := n.field(string(path[0])); f != nil && n.kind == kindRecord {
			return at(f.typ, v[f.name], path[1:])
		}
	case []any:
		if path[0] != intoItems || n.kind != kindArray {
			return nil
		}
		var out []Value
		for _, item := range v {
			below := at(n.items, item, path[1:])
			if len(below) == 0 {
				below = []Value{{}}
			}
			out = append(out, below...)
		}
		return out
	}
	return nil
}

func nativeValue(n *node, native any) Value {
	switch v := native.(type) {
	case nil:
		return Value{Kind: Null}
	case bool:
		if v {
			return Value{Kind: Bool, Int: 1}
		}
		return Value{Kind: Bool}
	case int32:
		return Value{Kind: Int, Int: int64(v)}
	case int64:
		return Value{Kind: Int, Int: v}
	case float32:
		return Value{Kind: Float, Float: float64(v)}
	case float64:
		return Value{Kind: Float, Float: v}
	case string:
		return Value{Kind: String, Bytes: []byte(v)}
	case []byte:
		return Value{Kind: Bytes, Bytes: v}
	}
	return Value{Kind: Composite}
}

func sameValue(a, b Value) bool {
	if a.Kind != b.Kind || a.Int != b.Int || (a.Float != b.Float && !(math.IsNaN(a.Float) && math.IsNaN(b.Float))) {
		return false
	}
	return a.Kind == Composite || string(a.Bytes) == string(b.Bytes)
}

// native decodes a body with goavro, the oracle; nil where goavro refuses the schema.
func native(t *rapid.T, tb testing.TB, s *Schema, body []byte) (*goavro.Codec, any) {
	codec := bare(tb, s.JSON())
	if codec == nil {
		return nil, nil
	}
	v, rest, err := codec.NativeFromBinary(body)
	if err != nil || len(rest) > 0 {
		t.Fatalf("goavro on %x of %s: %v, %d left", body, s.JSON(), err, len(rest))
	}
	return codec, v
}

func TestWalkReadsWhatGoavroReads(t *testing.T) {
	known := foreign(t)
	rapid.Check(t, func(rt *rapid.T) {
		s := anySchema(rt, known)
		body := randomBody(rt, s, rapid.Bool().Draw(rt, "plain"), 3)
		if err := s.Validate(body); err != nil {
			rt.Fatalf("%v: %x of %s", err, body, s.JSON())
		}
		codec, value := native(rt, t, s, body)
		if codec == nil {
			return
		}
		var flat []string
		for _, path := range s.Leaves() {
			segments, err := splitPath(path)
			if err != nil || joinPath(segments) != path {
				rt.Fatalf("%s: %v %v", path, segments, err)
			}
			want := at(s.root, value, segments)
			if !strings.ContainsAny(path, "[{") {
				flat = append(flat, path)
			} else if strings.Contains(path, "{") || strings.Count(path, "[]") > 1 {
				if _, err := s.Texts(body, path); !errors.Is(err, ErrNoPath) {
					rt.Fatalf("Texts of %s: %v", path, err)
				}
				continue
			} else if _, err := s.Compile(path); !errors.Is(err, ErrNoPath) {
				rt.Fatalf("Compile of %s: %v", path, err)
			}
			if len(want) == 0 && !strings.Contains(path, "[]") {
				want = []Value{{}}
			}
			got, err := s.Texts(body, path)
			if err != nil || !slices.EqualFunc(got, want, sameValue) {
				rt.Fatalf("Texts at %s: %v %v, want %v: %x of %s", path, got, err, want, body, s.JSON())
			}
		}
		paths := rapid.SliceOfN(rapid.SampledFrom(flat), 0, 6).Draw(rt, "paths")
		p, err := s.Compile(paths...)
		if err != nil {
			rt.Fatal(err)
		}
		values := make([]Value, len(paths))
		if err := p.Walk(body, values); err != nil {
			rt.Fatalf("%v: %x of %s", err, body, s.JSON())
		}
		for i, path := range paths {
			want, err := s.Texts(body, path)
			if err != nil || !sameValue(values[i], want[0]) || string(values[i].Bytes) != string(want[0].Bytes) {
				rt.Fatalf("%s: %v, want %v (%v)", path, values[i], want, err)
			}
		}
	})
}

func TestBadBytesAreMalformed(t *testing.T) {
	known := foreign(t)
	rapid.Check(t, func(rt *rapid.T) {
		s := anySchema(rt, known)
		body := randomBody(rt, s, false, 3)
		for cut := range body {
			var m Malformed
			if err := s.Validate(body[:cut]); !errors.As(err, &m) {
				rt.Fatalf("%d of %d bytes: %v", cut, len(body), err)
			}
		}
		var m Malformed
		if err := s.Validate(append(slices.Clip(body), 0)); !errors.As(err, &m) {
			rt.Fatalf("trailing byte: %v", err)
		}
	})
}

func TestValidateNamesThePath(t *testing.T) {
	parse := func(fields string) *Schema {
		s, err := ParseSchema(`{"type":"record","name":"R","fields":[` + fields + `]}`)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, c := range []struct {
		fields string
		body   []byte
		what   string
		err    error
	}{
		{`{"name":"a","type":"string"}`, []byte{4, 0xff, 0xfe}, "data.a", errUTF8},
		{`{"name":"a","type":"int"}`, appendVarint(nil, 1<<31), "data.a", errScalar},
		{`{"name":"a","type":"long"}`, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}, "data.a", errScalar},
		{`{"name":"a","type":"boolean"}`, []byte{2}, "data.a", errScalar},
		{`{"name":"a","type":["null","string"]}`, []byte{4}, "data.a", errBranch},
		{`{"name":"a","type":["null","string"]}`, []byte{1}, "data.a", errBranch},
		{`{"name":"a","type":{"type":"enum","name":"E","symbols":["x"]}}`, []byte{2}, "data.a", errScalar},
		{`{"name":"a","type":{"type":"array","items":"string"}}`, []byte{4, 2, 'x', 4, 0xff, 0xff, 0}, "data.a[]", errUTF8},
		{`{"name":"a","type":{"type":"map","values":{"type":"record","name":"V","fields":[{"name":"b","type":"boolean"}]}}}`, []byte{2, 2, 'k', 7, 0}, "data.a{}.b", errScalar},
		{`{"name":"a","type":{"type":"map","values":"null"}}`, []byte{2, 2, 0xff, 0}, "data.a", errUTF8},
		{`{"name":"a","type":{"type":"array","items":"long"}}`, appendVarint(nil, math.MaxInt64), "data.a", errCount},
		{`{"name":"a","type":{"type":"array","items":"long"}}`, appendVarint(nil, math.MinInt64), "data.a", errScalar},
		{`{"name":"a","type":{"type":"array","items":"null"}}`, appendVarint(nil, 1<<31-1), "data.a", errTooEmpty},
		{`{"name":"a","type":{"type":"array","items":"long"}}`, []byte{1, 4, 2, 0}, "data.a", errBlockSize},
		{`{"name":"a","type":{"type":"array","items":"long"}}`, []byte{1, 4, 2, 2, 0}, "data.a", errBlockSize},
		{`{"name":"a","type":"bytes"}`, []byte{1}, "data.a", errScalar},
		{`{"name":"a","type":"bytes"}`, appendVarint(nil, math.MaxInt64), "data.a", errScalar},
		{`{"name":"a","type":"long"}`, []byte{2, 2}, "data", errTrailing},
	} {
		err := parse(c.fields).Validate(c.body)
		var m Malformed
		if !errors.As(err, &m) || m.What != c.what || !errors.Is(err, c.err) {
			t.Errorf("%x of %s: %v, want %s: %v", c.body, c.fields, err, c.what, c.err)
		}
	}
}

func TestLimitsHoldBeforeAnythingIsAllocated(t *testing.T) {
	list, err := ParseSchema(`{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	deep := append(slices.Repeat([]byte{2}, 1_000_000), 0)
	if err := list.Validate(deep); !errors.Is(err, errTooDeep) {
		t.Errorf("a million nested records: %v", err)
	}
	p, err := list.Compile("data.next.next.next")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Walk(deep, make([]Value, 1)); err == nil {
		t.Error("a million nested records were walked")
	}
	projection, err := list.Projection([]string{"data"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := projection.Append(nil, deep, &Selection{Permit: []bool{true}}); !errors.Is(err, errTooDeep) {
		t.Errorf("a million nested records were projected: %v", err)
	}
	shallow := append(slices.Repeat([]byte{2}, 100), 0)
	if err := list.Validate(shallow); err != nil {
		t.Errorf("a hundred nested records: %v", err)
	}
	if err := list.Validate(make([]byte, MaxBodyBytes+1)); !errors.Is(err, errTooLong) {
		t.Errorf("a body beyond the limit: %v", err)
	}
	many, err := ParseSchema(`{"type":"record","name":"M","fields":[{"name":"a","type":{"type":"array","items":"boolean"}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	body := append(appendVarint(nil, MaxBlockItems+1), make([]byte, MaxBlockItems+2)...)
	if err := many.Validate(body); !errors.Is(err, errTooMany) {
		t.Errorf("an array beyond the limit: %v", err)
	}
	for _, text := range []string{
		strings.Repeat(`{"type":"array","items":`, 200) + `"int"` + strings.Repeat("}", 200),
		strings.Repeat("[", 5000),
		`{"type":"fixed","name":"F","size":99999999999}`,
		`{"type":"record","name":"R","doc":"` + strings.Repeat("x", MaxSchemaBytes) + `","fields":[]}`,
	} {
		if _, err := ParseSchema(text); err == nil {
			t.Errorf("accepted a schema of %d bytes: %.60s", len(text), text)
		}
	}
}

// A schema that uses one type twice at each of many levels must not make a program or a list of paths explode.
func TestWideSchemasStaySmall(t *testing.T) {
	text := `{"type":"record","name":"R0","fields":[{"name":"x","type":["null","string"]}]}`
	for i := 1; i < 30; i++ {
		text = fmt.Sprintf(`{"type":"record","name":"R%d","fields":[{"name":"a","type":%s},{"name":"b","type":"R%d"}]}`, i, text, i-1)
	}
	s, err := ParseSchema(text)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.Leaves()); n > maxAddressedPaths {
		t.Errorf("%d paths", n)
	}
	path := "data" + strings.Repeat(".b", 29) + ".x"
	if _, err := s.Compile(path); err != nil {
		t.Error(err)
	}
	if _, err := s.Projection([]string{path, "data"}); err != nil {
		t.Error(err)
	}
}

func TestWalkAllocatesNothing(t *testing.T) {
	s := foreign(t)["birth"]
	body := sampleBirth(t, s)
	p, err := s.Compile("data.child.name", "data.parentResidency", "data.child.address.country", "data.guardians")
	if err != nil {
		t.Fatal(err)
	}
	values := make([]Value, 4)
	if n := testing.AllocsPerRun(100, func() {
		if err := p.Walk(body, values); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if values[0].Text() != "Aino Maria" || values[1].Text() != "Finland" || values[2].Text() != "FI" || values[3].Kind != Composite {
		t.Errorf("%v", values)
	}
	projection, err := s.Projection([]string{"data.child", "data.guardians[].address.city"})
	if err != nil {
		t.Fatal(err)
	}
	room, sel := make([]byte, 0, 1024), Selection{Permit: []bool{true, true}, Own: []bool{false, true}, Index: 1}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := projection.Append(room, body, &sel); err != nil {
			t.Fatal(err)
		}
	}); n > 0.5 { // the race detector and a collection may empty the pool
		t.Errorf("projecting: %v allocations", n)
	}
	bad := body[:20]
	if n := testing.AllocsPerRun(100, func() { _ = p.Walk(bad, values) }); n != 0 {
		t.Errorf("bad bytes: %v allocations", n)
	}
}

// sampleBirth is one event of testdata/birth.avsc.
func sampleBirth(t testing.TB, s *Schema) []byte {
	t.Helper()
	address := func(city string) any {
		return map[string]any{"fi.dvv.life.Address": map[string]any{"street": "Mannerheimintie 12 B 34", "city": city, "country": "FI"}}
	}
	person := func(id, name string) map[string]any {
		return map[string]any{"id": id, "name": goavro.Union("string", name), "born": int32(20370), "address": address("Helsinki")}
	}
	body, err := bare(t, s.JSON()).BinaryFromNative(nil, map[string]any{
		"child": person("c-91c0d8e7a2b34455", "Aino Maria"), "mother": goavro.Union("fi.dvv.life.Person", person("c-0b7a2d3f9e5c48c6", "Maria")),
		"parentResidency": "Finland", "guardians": []any{person("c-0b7a2d3f9e5c48c6", "Maria"), person("c-77aa2d3f9e5c1234", "Antti")},
		"weightGrams": goavro.Union("int", int32(3520)), "registeredAt": int64(1760000100456), "multiple": false, "languages": []any{"fi", "sv"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return body
}
