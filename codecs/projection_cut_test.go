package codecs

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

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

// check compares every cut of one event with Append: bytes and errors, in any order, again and again.
func checkCuts(t rapid.TB, cuts []someCut, o *Original, body []byte, index int, stamp *Attributes, order []int) {
	o.Reset(body, index, stamp)
	prefix := []byte("before")
	for _, i := range order {
		c := &cuts[i%len(cuts)]
		want, wantErr := c.want(slices.Clone(prefix), body, index, stamp)
		got, err := c.cut.Append(slices.Clone(prefix), o)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || !bytes.Equal(got, want) {
			t.Fatalf("cut %d of %v, permits %v, own %v\ngot  %x %v\nwant %x %v\nbody %x\nto %s", i, c.of.Paths(), c.sel.Permit, c.sel.Own, got, err, want, wantErr, body, c.of.JSON())
		}
	}
}

func TestCutsAreWhatAppendMakes(t *testing.T) {
	known := foreign(t)
	fast, slow := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		s := anySchema(rt, known)
		cuts := drawCuts(rt, s)
		var o Original
		for range rapid.IntRange(1, 6).Draw(rt, "events") {
			body := randomBody(rt, s, rapid.Bool().Draw(rt, "plain"), 3)
			switch rapid.IntRange(0, 5).Draw(rt, "harm") {
			case 0:
				if len(body) > 0 {
					body = body[:rapid.IntRange(0, len(body)-1).Draw(rt, "end")]
				}
			case 1:
				for range rapid.IntRange(1, 3).Draw(rt, "changes") {
					if len(body) > 0 {
						body[rapid.IntRange(0, len(body)-1).Draw(rt, "at")] = rapid.Byte().Draw(rt, "byte")
					}
				}
			case 2:
				body = append(body, rapid.Byte().Draw(rt, "more"))
			}
			var stamp *Attributes
			if rapid.Bool().Draw(rt, "stamped") {
				stamp = &Attributes{Municipality: rapid.StringN(0, 40, 99).Draw(rt, "municipality"), Language: "fi", Status: "alive"}
			}
			index := rapid.IntRange(-1, 3).Draw(rt, "index")
			order := rapid.SliceOfN(rapid.IntRange(0, 11), 1, 16).Draw(rt, "order")
			checkCuts(rt, cuts, &o, body, index, stamp, order)
			if o.readable {
				fast++
			} else {
				slow++
			}
		}
	})
	t.Logf("%d events by the image, %d not", fast, slow)
	if fast < 100 || slow < 10 {
		t.Error("too few to prove anything")
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
