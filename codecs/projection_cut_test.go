package codecs

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"runtime"
	"slices"
	"sync"
	"testing"

	"civicbus/internal/mutant"

	"pgregory.net/rapid"
)

// someCut is a Cut and what it was made of.
type someCut struct {
	cut *Cut
	sel Selection // without index and profile
	of  *Projection
}

// drawCuts draws several projections of a schema and selections of each.
func drawCuts(t *rapid.T, s *Schema) []someCut {
	leaves := s.Leaves()
	for _, path := range s.Leaves() {
		if info, err := s.Lookup(path); err == nil && info.Type == "array" {
			leaves = append(leaves, path+"[]")
		}
	}
	var out []someCut
	for range rapid.IntRange(1, 4).Draw(t, "projections") {
		paths := rapid.SliceOfN(rapid.SampledFrom(leaves), 0, 8).Draw(t, "paths")
		if rapid.IntRange(0, 3).Draw(t, "all") == 0 {
			paths = append(paths, "data")
		}
		p, err := s.Projection(paths)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 3).Draw(t, "selections") {
			c := someCut{of: p}
			for range p.Paths() {
				c.sel.Permit = append(c.sel.Permit, rapid.IntRange(0, 3).Draw(t, "permit") > 0)
				c.sel.Own = append(c.sel.Own, rapid.IntRange(0, 5).Draw(t, "own") == 0)
			}
			var shown []*Attribute
			for i := range profileAttributes {
				if rapid.IntRange(0, 3).Draw(t, "shown") == 0 {
					shown = append(shown, &profileAttributes[i])
				}
			}
			c.cut = p.Cut(c.sel.Permit, c.sel.Own, shown)
			out = append(out, c)
		}
	}
	return out
}

// want is what Append makes of the same selection.
func (c *someCut) want(dst, body []byte, index int, stamp *Attributes) ([]byte, error) {
	sel := c.sel
	sel.Index = index
	if stamp != nil && len(c.cut.shown) > 0 {
		sel.Profile = &Attributes{}
		for _, a := range c.cut.shown {
			*a.of(sel.Profile) = *a.of(stamp)
		}
	}
	return c.of.Append(dst, body, &sel)
}

// checkCuts compares cuts of one event with Append, in the order given: bytes and errors.
func checkCuts(t rapid.TB, cuts []someCut, o *Original, body []byte, index int, stamp *Attributes, order []int) {
	o.Reset(body, index, stamp)
	prefix := []byte("before")
	for _, i := range order {
		c := &cuts[i%len(cuts)]
		want, wantErr := c.want(slices.Clone(prefix), body, index, stamp)
		room := make([]byte, len(prefix), len(prefix)+[]int{0, 3, 40, 4096}[i%4])
		copy(room, prefix)
		got, err := c.cut.Append(room, o)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || !bytes.Equal(got, want) {
			t.Fatalf("cut %d of %v, permits %v, own %v\ngot  %x %v\nwant %x %v\nbody %x\nof %s", i%len(cuts), c.of.Paths(), c.sel.Permit, c.sel.Own, got, err, want, wantErr, body,
				c.of.writer.text)
		}
	}
}

// harmed changes a body so that it is likely to be malformed.
func harmed(t *rapid.T, body []byte) []byte {
	switch rapid.IntRange(0, 7).Draw(t, "harm") {
	case 0:
		if len(body) > 0 {
			body = body[:rapid.IntRange(0, len(body)-1).Draw(t, "end")]
		}
	case 1:
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			if len(body) > 0 {
				body[rapid.IntRange(0, len(body)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
			}
		}
	case 2:
		body = append(body, rapid.Byte().Draw(t, "more"))
	}
	return body
}

func drawStamp(t *rapid.T) *Attributes {
	if !rapid.Bool().Draw(t, "stamped") {
		return nil
	}
	stamp := &Attributes{}
	for i := range profileAttributes {
		if rapid.Bool().Draw(t, "attribute") {
			*profileAttributes[i].of(stamp) = rapid.StringN(0, 40, 99).Draw(t, "text")
		}
	}
	return stamp
}

// TestCutsAreWhatAppendMakes: of any schema, selections and bodies, and in whatever order the cuts come to be known.
func TestCutsAreWhatAppendMakes(t *testing.T) {
	known := foreign(t)
	for _, text := range unionSchemas {
		s, err := ParseSchema(text)
		if err != nil {
			t.Fatal(err)
		}
		known[s.FullName()] = s
	}
	fast, slow := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		s := anySchema(rt, known)
		fresh, err := ParseSchema(s.JSON()) // its layout begins with these cuts
		if err != nil {
			rt.Fatal(err)
		}
		cuts := drawCuts(rt, fresh)
		var o Original
		for range rapid.IntRange(1, 6).Draw(rt, "events") {
			body := harmed(rt, randomBody(rt, fresh, rapid.Bool().Draw(rt, "plain"), 3))
			order := rapid.SliceOfN(rapid.IntRange(0, 11), 1, 16).Draw(rt, "order")
			checkCuts(rt, cuts, &o, body, rapid.IntRange(-1, 3).Draw(rt, "index"), drawStamp(rt), order)
			if o.readable {
				fast++
			} else {
				slow++
			}
		}
	})
	if fast < 100 || slow < 10 {
		t.Errorf("%d events by the image and %d not prove little", fast, slow)
	}
}

// unionSchemas have what random ones seldom do: unions with several records, the same types again, recursion, deep records.
var unionSchemas = []string{
	`{"type":"record","name":"Unions","fields":[
	 {"name":"a","type":["null",{"type":"record","name":"A","fields":[{"name":"x","type":"string"},{"name":"y","type":["null","string"]},{"name":"e","type":{"type":"enum","name":"E","symbols":["p","q"]}}]},
	   {"type":"record","name":"B","fields":[{"name":"x","type":"bytes"},{"name":"z","type":"long"},{"name":"a","type":"A"}]}]},
	 {"name":"s","type":"string"},{"name":"ab","type":["A","B"]},{"name":"q","type":"string"},
	 {"name":"b","type":["B","string","null",{"type":"array","items":"A"},{"type":"map","values":["null","E"]}]},
	 {"name":"c","type":["A"]},{"name":"n","type":"null"},{"name":"d","type":"B"},
	 {"name":"t","type":"string"},{"name":"u","type":"string"},{"name":"v","type":"bytes"},{"name":"f","type":{"type":"array","items":["null","string"]}},{"name":"w","type":"string"}]}`,
	`{"type":"record","name":"Tree","fields":[{"name":"label","type":"string"},{"name":"left","type":["null","Tree"]},{"name":"right","type":["null","Tree"]},
	 {"name":"forest","type":{"type":"array","items":"Tree"}},{"name":"none","type":{"type":"array","items":"null"}},{"name":"end","type":"int"}]}`,
	`{"type":"record","name":"Deep","fields":[{"name":"d","type":{"type":"record","name":"D1","fields":[{"name":"s","type":"string"},{"name":"d","type":{"type":"record","name":"D2",
	 "fields":[{"name":"s","type":"string"},{"name":"d","type":["null",{"type":"record","name":"D3","fields":[{"name":"s","type":"string"},{"name":"t","type":"string"}]}]},{"name":"t","type":"string"}]}},
	 {"name":"t","type":"string"}]}},{"name":"e","type":"D1"},{"name":"z","type":{"type":"record","name":"Z","fields":[]}}]}`,
}

// TestCutsFailWhenAppendDoes gives what random bodies seldom have: Append checks more of a branch that it withholds than of a
// field, and counts items without bytes over a whole body.
func TestCutsFailWhenAppendDoes(t *testing.T) {
	const (
		union = `{"type":"record","name":"U","fields":[{"name":"u","type":[{"type":"record","name":"A","fields":[{"name":"x","type":"string"},{"name":"y","type":"string"}]},
		 {"type":"record","name":"B","fields":[{"name":"z","type":"string"}]}]}]}`
		nulls = `{"type":"record","name":"N","fields":[{"name":"none","type":{"type":"array","items":"null"}},{"name":"f","type":{"type":"array","items":
		 {"type":"record","name":"F","fields":[{"name":"none","type":{"type":"array","items":"null"}},{"name":"l","type":"string"}]}}}]}`
	)
	items := func(n int64) []byte { return append(appendVarint(nil, n), 0) }
	for _, c := range []struct {
		name, schema      string
		permits, withheld []string
		body              []byte
		fails             bool
	}{
		{"a branch that is withheld holds no UTF-8", union, []string{"data.u.x"}, nil, []byte{2, 2, 0xff}, true},
		{"a branch that is withheld and projected holds no UTF-8", union, []string{"data.u.x"}, []string{"data.u.z"}, []byte{2, 2, 0xff}, true},
		{"a field that is withheld is no UTF-8", union, []string{"data.u.x"}, nil, []byte{0, 2, 'x', 2, 0xff}, false},
		{"a field that is taken is no UTF-8", union, []string{"data.u.x"}, nil, []byte{0, 2, 0xff, 0}, false},
		{"items without bytes in the image and beside it", nulls, []string{"data.none", "data.f[].none"}, []string{"data.f[].l"}, slices.Concat(items(3_000), []byte{2}, items(3_000), []byte{0, 0}), true},
		{"fewer of them", nulls, []string{"data.none", "data.f[].none"}, []string{"data.f[].l"}, slices.Concat(items(2_000), []byte{2}, items(2_000), []byte{0, 0}), false},
	} {
		s, err := ParseSchema(c.schema)
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Projection(slices.Concat(c.permits, c.withheld))
		if err != nil {
			t.Fatal(err)
		}
		cut := someCut{of: p}
		for _, path := range p.Paths() {
			cut.sel.Permit = append(cut.sel.Permit, slices.Contains(c.permits, path))
		}
		cut.cut = p.Cut(cut.sel.Permit, nil, nil)
		var o Original
		checkCuts(t, []someCut{cut}, &o, c.body, 0, nil, []int{0, 0, 0})
		if _, err := cut.cut.Append(nil, &o); (err != nil) != c.fails {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// FuzzCut: a cut is what Append makes, of good bodies and bad ones, and fails when that does.
func FuzzCut(f *testing.F) {
	schemas := foreignSchemas(f)
	for _, text := range unionSchemas {
		s, err := ParseSchema(text)
		if err != nil {
			f.Fatal(err)
		}
		schemas = append(schemas, s)
	}
	for i := range 20 {
		s, err := ParseSchema(rapid.Custom(randomSchema).Example(i))
		if err != nil {
			f.Fatal(err)
		}
		if !s.root.empty {
			schemas = append(schemas, s)
		}
	}
	cuts, originals := make([][]someCut, len(schemas)), make([]Original, len(schemas))
	for i, s := range schemas {
		cuts[i] = rapid.Custom(func(t *rapid.T) []someCut { return slices.Concat(drawCuts(t, s), drawCuts(t, s), drawCuts(t, s)) }).Example(i)
	}
	stamp := &Attributes{Municipality: "091", Country: "FI", Status: "alive"}
	mutant.Fuzz(f, 1<<12, func(tb testing.TB, in []byte) bool {
		if len(in) < 1 {
			return false
		}
		which := int(in[0]) % len(schemas)
		first := int(crc32.ChecksumIEEE(in)) // other cuts of like bodies, and again the same of the same
		checkCuts(tb, cuts[which], &originals[which], in[1:], len(in)%3, stamp, []int{first, first + 1, first + 2, first})
		return schemas[which].Validate(in[1:]) == nil
	}, bodySeeds(schemas)...)
}

// TestCutsAreForManyGoroutines: cuts are made, and the layout grows, while others use it; the race detector watches.
func TestCutsAreForManyGoroutines(t *testing.T) {
	s, err := ParseSchema(foreign(t)["birth"].JSON())
	if err != nil {
		t.Fatal(err)
	}
	body := sampleBirth(t, s)
	cuts := rapid.Custom(func(t *rapid.T) []someCut {
		return slices.Concat(drawCuts(t, s), drawCuts(t, s), drawCuts(t, s), drawCuts(t, s))
	}).Example(3)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			var o Original
			for i := range 200 {
				checkCuts(t, cuts, &o, body, 0, nil, []int{i * (g + 1), i, g})
			}
		})
	}
	wg.Wait()
	newest := s.layouts.newest.Load()
	for _, c := range cuts {
		var o Original
		checkCuts(t, cuts, &o, body, 0, nil, []int{0})
		if _, err := c.cut.Append(nil, &o); err != nil || c.cut.program.Load().layout != newest || o.layout != newest {
			t.Fatalf("cuts do not end with one layout: %v", err)
		}
	}
}

// TestCutsAllocateNothing, in whatever way they go: by the image, field by field, over the stamp, and without an image.
func TestCutsAllocateNothing(t *testing.T) {
	s := foreign(t)["birth"]
	body := sampleBirth(t, s)
	var cuts []*Cut
	for _, paths := range append(slices.Clone(benchPaths), []string{"data.guardians[].id", "data.child"}) {
		p, err := s.Projection(paths)
		if err != nil {
			t.Fatal(err)
		}
		n := len(p.Paths())
		cuts = append(cuts, p.Cut(slices.Repeat([]bool{true}, n), append(make([]bool, n-1), true), []*Attribute{&profileAttributes[0]}))
	}
	var o Original
	stamp := &Attributes{Municipality: "091"}
	room := make([]byte, 0, 4096)
	for range 3 {
		if n := testing.AllocsPerRun(100, func() {
			o.Reset(body, 0, stamp)
			for _, c := range cuts {
				if _, err := c.Append(room, &o); err != nil {
					t.Fatal(err)
				}
			}
		}); n == 0 {
			return
		}
	}
	t.Error("cutting allocates")
}

func TestProjectionsOfTheSamePathsAreOne(t *testing.T) {
	s, err := ParseSchema(foreign(t)["birth"].JSON())
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Projection([]string{"data.multiple", "data.child.name", "profile.status"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.WithID(7).Projection([]string{"data.child.name", "data.multiple", "data.multiple"})
	if err != nil || a != b {
		t.Errorf("two projections of the same paths, %v", err)
	}
	if c, err := s.Projection([]string{"data.child.name"}); err != nil || c == a {
		t.Errorf("one projection of other paths, %v", err)
	}
	text := a.JSON()
	left := 1
	for i := 0; left > 0 && i < 100; i++ {
		runtime.GC()
		runtime.Gosched()
		s.projections.mu.Lock()
		left = len(s.projections.known)
		s.projections.mu.Unlock()
	}
	if left > 0 {
		t.Errorf("%d projections that nobody uses are kept", left)
	}
	if again, err := s.Projection([]string{"data.child.name", "data.multiple"}); err != nil || again.JSON() != text {
		t.Errorf("another projection of the same paths, %v", err)
	}
}

func BenchmarkCut(b *testing.B) {
	s := foreign(b)["birth"]
	body := sampleBirth(b, s)
	var cuts []*Cut
	for _, paths := range benchPaths {
		p, err := s.Projection(paths)
		if err != nil {
			b.Fatal(err)
		}
		cuts = append(cuts, p.Cut(slices.Repeat([]bool{true}, len(p.Paths())), nil, []*Attribute{&profileAttributes[0], &profileAttributes[3]}))
	}
	var o Original
	stamp := &Attributes{Municipality: "091", Language: "fi"}
	room := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		o.Reset(body, 0, stamp)
		for _, c := range cuts {
			if _, err := c.Append(room, &o); err != nil {
				b.Fatal(err)
			}
		}
	}
}
