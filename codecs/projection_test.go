package codecs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/linkedin/goavro/v2"
	"pgregory.net/rapid"

	"civicbus/schemas"
)

// permit is one permitted path of the model below.
type permit struct {
	segments []segment
	own      bool
}

// pruner is the model of a projection: it prunes goavro's native values by paths alone.
type pruner struct {
	index int
}

// fits tells whether the rest of a path leads somewhere from a type.
func fits(n *node, rest []segment) bool {
	nodes := []*node{n}
	for _, s := range rest {
		var next []*node
		for _, x := range nodes {
			below, _ := x.step(s)
			next = append(next, below...)
		}
		nodes = distinct(next)
	}
	return len(nodes) > 0
}

// reaches tells whether a permitted path covers the place, or leads on from it.
func reaches(n *node, place []segment, permits []permit) bool {
	return slices.ContainsFunc(permits, func(p permit) bool {
		if len(p.segments) <= len(place) {
			if p.own && !slices.Contains(place, intoItems) && !n.canBeArray() {
				return false
			}
			return slices.Equal(p.segments, place[:len(p.segments)])
		}
		return slices.Equal(p.segments[:len(place)], place) && fits(n, p.segments[len(place):])
	})
}

// nullable prunes the value of a field, or of an item that is a union.
func (m pruner) nullable(n *node, v any, place []segment, permits []permit) any {
	branch, value := n, v
	if n.kind == kindUnion {
		if v == nil {
			return nil
		}
		for name, inside := range v.(map[string]any) {
			value = inside
			branch = n.branches[slices.IndexFunc(n.branches, func(b *node) bool { return branchName(b) == name })]
		}
	}
	if branch.kind == kindNull || !reaches(branch, place, permits) {
		return nil
	}
	return map[string]any{branchName(branch): m.value(branch, value, place, permits)}
}

func (m pruner) value(n *node, v any, place []segment, permits []permit) any {
	switch n.kind {
	case kindRecord:
		out := map[string]any{}
		for _, f := range n.fields {
			out[f.name] = m.nullable(f.typ, v.(map[string]any)[f.name], append(slices.Clone(place), segment(f.name)), permits)
		}
		return out
	case kindMap:
		out := map[string]any{}
		for key, item := range v.(map[string]any) {
			out[key] = m.item(n.items, item, append(slices.Clone(place), intoValues), permits)
		}
		return out
	case kindArray:
		covered := slices.ContainsFunc(permits, func(p permit) bool {
			return !p.own && len(p.segments) <= len(place) && slices.Equal(p.segments, place[:len(p.segments)])
		})
		own := slices.ContainsFunc(permits, func(p permit) bool { return p.own && reaches(n, place, []permit{p}) })
		first := !slices.Contains(place, intoItems)
		others := slices.Clone(permits)
		if !covered && own && first {
			others = slices.DeleteFunc(others, func(p permit) bool { return p.own })
		}
		out := []any{}
		for i, item := range v.([]any) {
			now := permits
			if i != m.index {
				now = others
			}
			if i != m.index && !reaches(n, place, others) {
				continue
			}
			out = append(out, m.item(n.items, item, append(slices.Clone(place), intoItems), now))
		}
		return out
	}
	return v
}

func (m pruner) item(n *node, v any, place []segment, permits []permit) any {
	if n.kind != kindUnion {
		return m.value(n, v, place, permits)
	}
	if len(n.branches) > 1 {
		return m.nullable(n, v, place, permits)
	}
	if n.branches[0].kind == kindNull {
		return nil
	}
	return m.value(n.branches[0], v.(map[string]any)[branchName(n.branches[0])], place, permits)
}

// cuts tells whether an own path has an array that can be cut.
func cuts(s *Schema, segments []segment) bool {
	before := segments
	if i := slices.Index(segments, intoValues); i >= 0 {
		before = segments[:i]
	}
	if slices.Contains(before, intoItems) {
		return true
	}
	nodes := []*node{s.root}
	for _, seg := range segments {
		var next []*node
		for _, n := range nodes {
			below, _ := n.step(seg)
			next = append(next, below...)
		}
		nodes = next
	}
	return len(before) == len(segments) && slices.ContainsFunc(nodes, func(n *node) bool {
		return slices.ContainsFunc(n.values(), func(v *node) bool { return v.kind == kindArray })
	})
}

// profileName is the name of our own field in a projected schema.
func profileName(t *rapid.T, p *Projection) (field, record string) {
	fields := p.Schema().root.fields
	last := fields[len(fields)-1]
	return last.name, last.typ.branches[1].name
}

func TestAppendIsWhatGoavroEncodes(t *testing.T) {
	known := foreign(t)
	rapid.Check(t, func(rt *rapid.T) {
		s := anySchema(rt, known)
		leaves := s.Leaves()
		for _, path := range s.Leaves() { // items and values have paths too
			if info, err := s.Lookup(path); err == nil && info.Type == "array" {
				leaves = append(leaves, path+"[]")
			}
		}
		p, err := s.Projection(rapid.SliceOfN(rapid.SampledFrom(leaves), 0, 8).Draw(rt, "paths"))
		if err != nil {
			rt.Fatalf("%v: %s", err, s.JSON())
		}
		plain := rapid.Bool().Draw(rt, "plain")
		entries := rapid.IntRange(0, 3).Draw(rt, "entries")
		body := randomBody(rt, s, plain, entries)
		codec, value := native(rt, t, s, body)
		projected := bare(t, p.JSON())
		if codec == nil || projected == nil {
			return
		}

		sel := Selection{Index: rapid.IntRange(-1, 3).Draw(rt, "index")}
		var permits []permit
		for _, path := range p.Paths() {
			segments, err := splitPath(path)
			if err != nil {
				rt.Fatal(err)
			}
			may, own := rapid.IntRange(0, 3).Draw(rt, "permit") > 0, rapid.IntRange(0, 3).Draw(rt, "own") == 0
			sel.Permit, sel.Own = append(sel.Permit, may), append(sel.Own, own)
			if may && (!own || cuts(s, segments)) {
				permits = append(permits, permit{segments, own})
			}
		}
		want := pruner{index: sel.Index}.value(s.root, value, nil, permits).(map[string]any)
		field, record := profileName(rt, p)
		want[field] = nil
		if rapid.Bool().Draw(rt, "profile") {
			sel.Profile = &Attributes{Municipality: "091", Status: "alive"}
			attributes := map[string]any{}
			for _, a := range profileAttributes {
				attributes[a.Name] = nil
			}
			attributes["municipality"], attributes["status"] = goavro.Union("string", "091"), goavro.Union("string", "alive")
			want[field] = goavro.Union(record, attributes)
		}

		prefix := []byte("before")
		got, err := p.Append(slices.Clone(prefix), body, &sel)
		if err != nil || !bytes.HasPrefix(got, prefix) {
			rt.Fatalf("%v", err)
		}
		got = got[len(prefix):]
		if err := p.Schema().Validate(got); err != nil {
			rt.Fatalf("%v: %x of %s", err, got, p.JSON())
		}
		expected, err := projected.BinaryFromNative(nil, want)
		if err != nil {
			rt.Fatalf("goavro on %v of %s: %v", want, p.JSON(), err)
		}
		if bytes.Equal(expected, got) {
			return
		}
		if entries > 1 && len(got) == len(expected) { // goavro writes a map in any order
			gotNative, _, err := projected.NativeFromBinary(got)
			wantNative, _, wantErr := projected.NativeFromBinary(expected)
			if err == nil && wantErr == nil && fmt.Sprint(gotNative) == fmt.Sprint(wantNative) {
				return
			}
		}
		rt.Fatalf("paths %v, selection %+v\ngot  %x\nwant %x\nbody %x\nof %s\nto %s", p.Paths(), sel, got, expected, body, s.JSON(), p.JSON())
	})
}

func TestProjectionsStayFullTransitive(t *testing.T) {
	known := foreign(t)
	rapid.Check(t, func(rt *rapid.T) {
		s := anySchema(rt, known)
		versions := []string{}
		for range 3 {
			p, err := s.Projection(rapid.SliceOfN(rapid.SampledFrom(s.Leaves()), 0, 5).Draw(rt, "paths"))
			if err != nil {
				rt.Fatal(err)
			}
			if p.Schema().FullName() != s.FullName() {
				rt.Fatalf("%s became %s", s.FullName(), p.Schema().FullName())
			}
			wantNullable(rt, p.Schema().root, map[*node]bool{})
			versions = append(versions, p.JSON())
		}
		if err := schemas.Check(versions); err != nil {
			rt.Fatalf("%v\n%s", err, strings.Join(versions, "\n"))
		}
		next := evolve(rt, s)
		if err := schemas.Check([]string{s.JSON(), next.JSON()}); err != nil {
			rt.Skip("not a FULL change of the writer's schema")
		}
		p, err := next.Projection(rapid.SliceOfN(rapid.SampledFrom(next.Leaves()), 0, 5).Draw(rt, "next paths"))
		if err != nil {
			rt.Fatal(err)
		}
		if err := schemas.Check(append(versions, p.JSON())); err != nil {
			rt.Fatalf("%v\n%s\n%s", err, strings.Join(versions, "\n"), p.JSON())
		}
	})
}

// wantNullable requires every field to be a union with null first, and null its default.
func wantNullable(t *rapid.T, n *node, seen map[*node]bool) {
	if n == nil || seen[n] {
		return
	}
	seen[n] = true
	for _, f := range n.fields {
		def, has := f.props["default"]
		if f.typ.kind != kindUnion || f.typ.branches[0].kind != kindNull || !has || def != nil {
			t.Fatalf("field %s of %s is not nullable", f.name, n.name)
		}
		wantNullable(t, f.typ, seen)
	}
	for _, b := range n.branches {
		wantNullable(t, b, seen)
	}
	wantNullable(t, n.items, seen)
}

// evolve changes a writer's schema as its owner may: fields added with a default or put in another order, docs, enum
// symbols where the enum has a default.
func evolve(t *rapid.T, s *Schema) *Schema {
	var root any
	if err := json.Unmarshal([]byte(s.JSON()), &root); err != nil {
		t.Fatal(err)
	}
	var visit func(v any)
	visit = func(v any) {
		switch x := v.(type) {
		case []any:
			for _, b := range x {
				visit(b)
			}
		case map[string]any:
			for _, key := range []string{"type", "items", "values"} {
				visit(x[key])
			}
			x["doc"] = "Changed."
			if symbols, ok := x["symbols"].([]any); ok && x["default"] != nil {
				x["symbols"] = append(symbols, "ADDED")
			}
			fields, ok := x["fields"].([]any)
			if !ok {
				return
			}
			for _, f := range fields {
				visit(f.(map[string]any)["type"])
			}
			for i := range rapid.IntRange(0, 2).Draw(t, "added") {
				typ, def := any("string"), any("x")
				if i == 1 {
					typ, def = []any{"null", "long"}, nil
				}
				fields = append(fields, map[string]any{"name": fmt.Sprintf("added%d", i), "type": typ, "default": def})
			}
			x["fields"] = fields
		}
	}
	visit(root)
	text, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	next, err := ParseSchema(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestProjectionRefuses(t *testing.T) {
	s := foreign(t)["birth"]
	for _, path := range []string{"", "child", "data.nobody", "data.child[]", "data.languages{}", "data..child", "data.child.", "datax", "data[]"} {
		if _, err := s.Projection([]string{path}); !errors.Is(err, ErrNoPath) {
			t.Errorf("path %q: %v", path, err)
		}
	}
	text, err := ParseSchema(`"string"`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := text.Projection(nil); !errors.Is(err, ErrNoRecord) {
		t.Errorf("projecting a string: %v", err)
	}
	p, err := s.Projection([]string{"data.multiple", "profile.municipality", "profile", "data.multiple"})
	if err != nil || !reflect.DeepEqual(p.Paths(), []string{"data.multiple"}) {
		t.Fatalf("%v %v", p.Paths(), err)
	}
	if _, err := p.Append(nil, nil, &Selection{Permit: make([]bool, 2)}); err == nil {
		t.Error("a selection of another length was accepted")
	}
	var m Malformed
	if out, err := p.Append([]byte("x"), []byte{1}, &Selection{Permit: []bool{true}}); !errors.As(err, &m) || string(out) != "x" {
		t.Errorf("bad bytes: %q, %v", out, err)
	}
}

func TestOwnCutsTheSubjectsElement(t *testing.T) {
	s := foreign(t)["company"]
	codec := bare(t, s.JSON())
	founder := func(id, name string, cities ...any) map[string]any {
		homes := []any{}
		for _, city := range cities {
			homes = append(homes, map[string]any{"city": city, "since": int64(1)})
		}
		return map[string]any{"id": goavro.Union("string", id), "name": name, "shares": int32(10), "roles": []any{"OY"}, "homes": homes}
	}
	body, err := codec.BinaryFromNative(nil, map[string]any{
		"company":  map[string]any{"businessId": "1", "name": "Oy", "form": "OY", "shareCapital": nil},
		"founders": []any{founder("A", "Aino", "Espoo"), founder("B", "Bertta", "Turku", "Oulu"), founder("C", "Cecilia")}, "filedAt": int64(5),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		paths []string
		own   []bool
		index int
		want  []string // what must be there
		not   []string // what must not
	}{
		{"own element of the whole array", []string{"data.founders"}, []bool{true}, 1, []string{"Bertta", "Turku", "Oulu"}, []string{"Aino", "Cecilia", "Espoo"}},
		{"own field", []string{"data.founders[].name"}, []bool{true}, 2, []string{"Cecilia"}, []string{"Aino", "Bertta"}},
		{"own name, everyone's homes", []string{"data.founders[].homes[].city", "data.founders[].name"}, []bool{false, true}, 0, []string{"Aino", "Espoo", "Turku", "Oulu"}, []string{"Bertta", "Cecilia"}},
		{"an array inside is not cut by the index", []string{"data.founders[].homes[].city"}, []bool{true}, 1, []string{"Turku", "Oulu"}, []string{"Espoo"}},
		{"no such element", []string{"data.founders"}, []bool{true}, 3, nil, []string{"Aino", "Bertta", "Cecilia"}},
		{"no element", []string{"data.founders"}, []bool{true}, -1, nil, []string{"Aino", "Bertta", "Cecilia"}},
		{"own without an array", []string{"data"}, []bool{true}, 0, nil, []string{"Aino", "Bertta", "Oy", "Espoo"}},
	} {
		p, err := s.Projection(c.paths)
		if err != nil {
			t.Fatal(err)
		}
		sel := Selection{Permit: slices.Repeat([]bool{true}, len(c.paths)), Own: c.own, Index: c.index}
		out, err := p.Append(nil, body, &sel)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := p.Schema().Validate(out); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, text := range c.want {
			if !bytes.Contains(out, []byte(text)) {
				t.Errorf("%s: no %s", c.name, text)
			}
		}
		for _, text := range c.not {
			if bytes.Contains(out, []byte(text)) {
				t.Errorf("%s: %s leaks", c.name, text)
			}
		}
	}
}

func TestAnnotationsAreReadAndKept(t *testing.T) {
	s := foreign(t)["birth"]
	want := FieldInfo{Type: "string", Nullable: true, Scopes: []string{"identity"}, Classification: "confidential"}
	p, err := s.Projection([]string{"data.child.name", "data.child.born", "data.mother.name"})
	if err != nil {
		t.Fatal(err)
	}
	for _, schema := range []*Schema{s, p.Schema()} {
		if got, err := schema.Lookup("data.child.name"); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v %v", got, err)
		}
		if got, err := schema.Lookup("data.mother.name"); err != nil || got.Owner != "mother" {
			t.Errorf("%+v %v", got, err)
		}
		if got, err := schema.Lookup("data.child.born"); err != nil || got.Type != "int" || got.Logical != "date" {
			t.Errorf("%+v %v", got, err)
		}
	}
	if got, err := s.Lookup("data.guardians[].address.country"); err != nil || !got.Many || got.Type != "enum" || len(got.Symbols) != 4 || !got.Nullable {
		t.Errorf("%+v %v", got, err)
	}
	payment := foreign(t)["payment"]
	if got, err := payment.Lookup("data.method.holder"); err != nil || got.Type != "string" || !got.Nullable {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := payment.Lookup("data.method"); err != nil || got.Type != "union" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestTheWritersOwnProfileKeepsItsName(t *testing.T) {
	p, err := foreign(t)["payment"].Projection([]string{"data.profile"})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := p.Schema().Lookup("data.profile"); err != nil || info.Type != "string" {
		t.Errorf("%+v %v", info, err)
	}
	if info, err := p.Schema().Lookup("data.civicbus_profile.municipality"); err != nil || info.Type != "string" {
		t.Errorf("%+v %v", info, err)
	}
	twice, err := ParseSchema(`{"type":"record","name":"R","fields":[{"name":"p","aliases":["profile"],"type":{"type":"record","name":"fi.civicbus.Profile","fields":[]}},{"name":"civicbus_profile","type":"int"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	p, err = twice.Projection([]string{"data"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Schema().Lookup("data.civicbus_profile_.status"); err != nil {
		t.Error(err)
	}
}

func TestUnionsShowOnlyTheBranchThatIsPermitted(t *testing.T) {
	s, err := ParseSchema(`{"type":"record","name":"U","fields":[
 {"name":"one","type":["string","null",{"type":"record","name":"A","fields":[{"name":"x","type":"string"},{"name":"y","type":"string"}]},{"type":"record","name":"B","fields":[{"name":"z","type":"string"}]}]},
 {"name":"many","type":{"type":"array","items":["B","string","A"]}},
 {"name":"both","type":[{"type":"array","items":"string"},"A"]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, body string
		paths      []string
		own        bool
		want       string
	}{
		{"the branch", `{"one":{"x":"1","y":"2"},"many":[],"both":[]}`, []string{"data.one.x"}, false, `{"one":{"x":"1"},"profile":null}`},
		{"another record", `{"one":{"z":"3"},"many":[],"both":[]}`, []string{"data.one.x"}, false, `{"one":null,"profile":null}`},
		{"a text", `{"one":"secret","many":[],"both":[]}`, []string{"data.one.x"}, false, `{"one":null,"profile":null}`},
		{"null", `{"one":null,"many":[],"both":[]}`, []string{"data.one"}, false, `{"one":null,"profile":null}`},
		{"items", `{"one":null,"many":["secret",{"z":"3"},{"x":"1","y":"2"}],"both":[]}`, []string{"data.many[].y"}, false, `{"many":[null,null,{"y":"2"}],"profile":null}`},
		{"own array", `{"one":null,"many":[],"both":["a","b"]}`, []string{"data.both"}, true, `{"both":["b"],"profile":null}`},
		{"own, but no array", `{"one":null,"many":[],"both":{"x":"1","y":"2"}}`, []string{"data.both"}, true, `{"both":null,"profile":null}`},
	} {
		p, err := s.Projection(c.paths)
		if err != nil {
			t.Fatal(err)
		}
		body, faults := s.FromJSON([]byte(c.body))
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		out, err := p.Append(nil, body, &Selection{Permit: []bool{true}, Own: []bool{c.own}, Index: 1})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got, err := p.Schema().ToJSON(nil, out); err != nil || string(got) != c.want {
			t.Errorf("%s: %s %v, want %s", c.name, got, err, c.want)
		}
	}
}

func TestUnionsOfWhichOnlyPartIsReachedAreNamed(t *testing.T) {
	s, err := ParseSchema(`{"type":"record","name":"U","fields":[
 {"name":"mixed","type":["null","string",{"type":"record","name":"A","fields":[{"name":"x","type":"string"},{"name":"y","type":["null","string"]}]}]},
 {"name":"records","type":["null","A",{"type":"record","name":"B","fields":[{"name":"z","type":"string"}]}]},
 {"name":"items","type":{"type":"array","items":["int","A"]}},
 {"name":"arrays","type":["null",{"type":"array","items":"string"},{"type":"map","values":"B"}]},
 {"name":"scalars","type":["null","int","string"]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ paths, want []string }{
		{[]string{"data.mixed.x", "data.mixed.y"}, []string{"data.mixed"}},
		{[]string{"data.mixed", "data.mixed.x"}, nil},
		{[]string{"data.records.x", "data.records.z", "data.scalars"}, nil},
		{[]string{"data.items[].x", "data.mixed.y"}, []string{"data.items[]", "data.mixed"}},
		{[]string{"data.arrays{}.z"}, []string{"data.arrays"}},
		{[]string{"data.arrays"}, nil},
	} {
		p, err := s.Projection(c.paths)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.Partly(), c.want) {
			t.Errorf("%v: %v, want %v", c.paths, p.Partly(), c.want)
		}
	}
}

func TestBranchesThatDisagreeShareNothing(t *testing.T) {
	record := func(name, annotation string) string {
		return `{"type":"record","name":"` + name + `","fields":[{"name":"x","type":"string"` + annotation + `}]}`
	}
	for _, c := range []struct {
		a, b string
		want []string
	}{
		{`,"civicbus.scopes":["s"]`, `,"civicbus.scopes":["s"]`, []string{"s"}},
		{`,"civicbus.scopes":["s"]`, `,"civicbus.scopes":["t"]`, nil},
		{`,"civicbus.scopes":["s"]`, ``, nil},
		{``, `,"civicbus.scopes":["s"]`, nil},
		{`,"civicbus.scopes":["s"]`, `,"civicbus.scopes":["s"],"civicbus.owner":"child"`, nil},
	} {
		s, err := ParseSchema(`{"type":"record","name":"R","fields":[{"name":"u","type":[` + record("A", c.a) + `,` + record("B", c.b) + `]}]}`)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Lookup("data.u.x"); err != nil || !slices.Equal(got.Scopes, c.want) {
			t.Errorf("%s and %s: %v %v, want %v", c.a, c.b, got.Scopes, err, c.want)
		}
	}
}
