package codecs

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"civicbus/internal/mutant"

	"github.com/linkedin/goavro/v2"
	"pgregory.net/rapid"
)

// The bounds on memory below are bytes that one byte of an input may make be allocated, each about twice what was seen.

// foreignSchemas are testdata's, in the order of their names. Inputs of the targets below begin with the number of one.
func foreignSchemas(tb testing.TB) []*Schema {
	known := foreign(tb)
	var names []string
	for name := range known {
		names = append(names, name)
	}
	var out []*Schema
	for _, name := range sorted(names) {
		out = append(out, known[name])
	}
	return out
}

// bodySeeds are random bodies of each schema.
func bodySeeds(schemas []*Schema) [][]byte {
	seeds := [][]byte{{1, 0xfe, 0xff, 0xff, 0xff, 0x0f}}
	for i, s := range schemas {
		for seed := range 8 {
			body := rapid.Custom(func(t *rapid.T) []byte { return randomBody(t, s, seed%2 == 0, 3) }).Example(seed)
			seeds = append(seeds, append([]byte{byte(i)}, body...))
		}
	}
	return seeds
}

// FuzzWalk: what Validate accepts, the walker, Texts and goavro read, and ToJSON accepts the same.
func FuzzWalk(f *testing.F) {
	type prepared struct {
		schema  *Schema
		program *Program
		values  []Value
		leaves  []string
		oracle  *goavro.Codec
	}
	var all []prepared
	schemas := foreignSchemas(f)
	for _, s := range schemas {
		var paths []string
		for _, path := range s.Leaves() {
			if _, err := s.Compile(path); err == nil {
				paths = append(paths, path)
			}
		}
		p, err := s.Compile(paths...)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, prepared{s, p, make([]Value, p.paths), s.Leaves(), bare(f, s.JSON())})
	}
	var text []byte
	mutant.Fuzz(f, 1<<11, func(tb testing.TB, in []byte) bool {
		if len(in) == 0 {
			return false
		}
		of, body := &all[int(in[0])%len(all)], in[1:]
		walked := of.program.Walk(body, of.values)
		valid := of.schema.Validate(body)
		var err error
		text, err = of.schema.ToJSON(text[:0], body)
		if (err == nil) != (valid == nil) || err == nil && !json.Valid(text) {
			tb.Fatalf("Validate says %v, ToJSON %v: %s", valid, err, text)
		}
		if valid != nil {
			// A body that is not valid is read at one path only: which one goes by its bytes.
			_, _ = of.schema.Texts(body, of.leaves[len(body)%len(of.leaves)])
			return false
		}
		if walked != nil {
			tb.Fatalf("Walk of a valid body: %v", walked)
		}
		for _, path := range of.leaves {
			if _, err := of.schema.Texts(body, path); err != nil && !errors.Is(err, ErrNoPath) {
				tb.Fatalf("Texts at %s of a valid body: %v", path, err)
			}
		}
		if of.oracle != nil {
			if _, rest, err := of.oracle.NativeFromBinary(body); err != nil || len(rest) > 0 {
				tb.Fatalf("goavro of a valid body: %v, %d left", err, len(rest))
			}
		}
		return true
	}, bodySeeds(schemas)...)
}

// FuzzAppend: what a projection makes of a valid body is valid and within its bound.
func FuzzAppend(f *testing.F) {
	schemas := foreignSchemas(f)
	var all []*Projection
	for _, s := range schemas {
		p, err := s.Projection(s.Leaves())
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, p)
	}
	var out []byte
	mutant.Fuzz(f, 1<<10, func(tb testing.TB, in []byte) bool {
		if len(in) == 0 {
			return false
		}
		which, body := int(in[0]), in[1:]
		p, s := all[which%len(all)], schemas[which%len(all)]
		n := len(p.Paths())
		sel := Selection{Permit: make([]bool, n), Own: make([]bool, n), Index: which % 3}
		for i := range n {
			sel.Permit[i], sel.Own[i] = (which+len(body)+i)%3 != 0, (which+i)%5 == 0
		}
		var err error
		out, err = p.Append(append(out[:0], 'x'), body, &sel)
		if s.Validate(body) != nil {
			return false
		}
		if err != nil {
			tb.Fatalf("projecting a valid body: %v", err)
		}
		if out[0] != 'x' || len(out) > 64*len(body)+1<<16 {
			tb.Fatalf("%d bytes became %d", len(body), len(out))
		}
		if err := p.Schema().Validate(out[1:]); err != nil {
			tb.Fatalf("the projected body: %v", err)
		}
		return true
	}, bodySeeds(schemas)...)
}

// FuzzJSON: what FromJSON accepts is a valid body, and what ToJSON makes of that is read again as the same text.
func FuzzJSON(f *testing.F) {
	schemas := foreignSchemas(f)
	var seeds [][]byte
	for i, s := range schemas {
		for seed := range 4 {
			body := rapid.Custom(func(t *rapid.T) []byte { return randomBody(t, s, true, 3) }).Example(seed)
			text, err := s.ToJSON([]byte{byte(i)}, body)
			if err != nil {
				f.Fatal(err)
			}
			seeds = append(seeds, text)
		}
	}
	mutant.Fuzz(f, 1<<11, func(tb testing.TB, in []byte) bool {
		if len(in) == 0 {
			return false
		}
		s := schemas[int(in[0])%len(schemas)]
		body, faults := s.FromJSON(in[1:])
		if body != nil && len(faults) > 0 || len(faults) > MaxFaults {
			tb.Fatalf("%x and %d faults", body, len(faults))
		}
		if len(faults) > 0 {
			return false
		}
		if err := s.Validate(body); err != nil {
			tb.Fatal(err)
		}
		text, err := s.ToJSON(nil, body)
		if err != nil {
			tb.Fatal(err)
		}
		again, faults := s.FromJSON(text)
		if len(faults) > 0 {
			tb.Fatalf("%s is not read again: %+v", text, faults)
		}
		if twice, err := s.ToJSON(nil, again); err != nil || !slices.Equal(text, twice) {
			tb.Fatalf("%s became %s, %v", text, twice, err)
		}
		return true
	}, seeds...)
}
