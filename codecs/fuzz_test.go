package codecs

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// fuzzBodies seeds a target with bodies of testdata's schemas: the number of the schema, then the body.
func fuzzBodies(f *testing.F) []*Schema {
	f.Helper()
	known := foreign(f)
	var schemas []*Schema
	for i, name := range sorted(keysOf(known)) {
		s := known[name]
		schemas = append(schemas, s)
		for seed := range 5 {
			body := rapid.Custom(func(t *rapid.T) []byte { return randomBody(t, s, seed%2 == 0, 3) }).Example(seed)
			f.Add(byte(i), body)
		}
	}
	f.Add(byte(1), []byte{0xfe, 0xff, 0xff, 0xff, 0x0f})
	return schemas
}

func keysOf(m map[string]*Schema) []string {
	var out []string
	for key := range m {
		out = append(out, key)
	}
	return out
}

// FuzzWalk: no input makes the walker, Texts, Validate or ToJSON panic; what Validate accepts, all others read, and
// goavro too; what goavro refuses for its bytes, Validate refuses.
func FuzzWalk(f *testing.F) {
	schemas := fuzzBodies(f)
	programs := make([]*Program, len(schemas))
	for i, s := range schemas {
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
		programs[i] = p
	}
	f.Fuzz(func(t *testing.T, which byte, body []byte) {
		i := int(which) % len(schemas)
		s, p := schemas[i], programs[i]
		values := make([]Value, p.paths)
		walked := p.Walk(body, values)
		valid := s.Validate(body)
		for _, path := range s.Leaves() {
			if _, err := s.Texts(body, path); err != nil && valid == nil && !errors.Is(err, ErrNoPath) {
				t.Fatalf("Texts at %s of a valid body: %v", path, err)
			}
		}
		text, err := s.ToJSON(nil, body)
		if (err == nil) != (valid == nil) || err == nil && !json.Valid(text) {
			t.Fatalf("Validate says %v, ToJSON %v: %s", valid, err, text)
		}
		if valid != nil {
			return
		}
		if walked != nil {
			t.Fatalf("Walk of a valid body: %v", walked)
		}
		if codec := bare(t, s.JSON()); codec != nil {
			if _, rest, err := codec.NativeFromBinary(body); err != nil || len(rest) > 0 {
				t.Fatalf("goavro of a valid body: %v, %d left", err, len(rest))
			}
		}
	})
}

// FuzzAppend: no input makes a projection panic or grow beyond its bound; what comes of a valid body is valid.
func FuzzAppend(f *testing.F) {
	schemas := fuzzBodies(f)
	f.Fuzz(func(t *testing.T, which byte, body []byte) {
		s := schemas[int(which)%len(schemas)]
		paths := s.Leaves()
		p, err := s.Projection(paths)
		if err != nil {
			t.Fatal(err)
		}
		sel := Selection{Permit: make([]bool, len(p.Paths())), Own: make([]bool, len(p.Paths())), Index: int(which) % 3}
		for i := range sel.Permit {
			sel.Permit[i], sel.Own[i] = (int(which)+i)%3 != 0, (int(which)+i)%5 == 0
		}
		out, err := p.Append([]byte("x"), body, &sel)
		if valid := s.Validate(body); valid == nil && err != nil {
			t.Fatalf("projecting a valid body: %v", err)
		} else if valid != nil {
			return
		}
		if !bytes.HasPrefix(out, []byte("x")) || len(out) > 64*len(body)+1<<16 {
			t.Fatalf("%d bytes became %d", len(body), len(out))
		}
		if err := p.Schema().Validate(out[1:]); err != nil {
			t.Fatalf("the projected body: %v", err)
		}
	})
}

// FuzzJSON: no JSON makes FromJSON panic; what it accepts is a valid body that ToJSON reads.
func FuzzJSON(f *testing.F) {
	known := foreign(f)
	var schemas []*Schema
	for i, name := range sorted(keysOf(known)) {
		s := known[name]
		schemas = append(schemas, s)
		body := rapid.Custom(func(t *rapid.T) []byte { return randomBody(t, s, true, 3) }).Example(i)
		text, err := s.ToJSON(nil, body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), text)
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		s := schemas[int(which)%len(schemas)]
		body, faults := s.FromJSON(data)
		if (body == nil) != (len(faults) > 0) && len(faults) > 0 || len(faults) > MaxFaults {
			t.Fatalf("%x and %d faults", body, len(faults))
		}
		if len(faults) > 0 {
			return
		}
		if err := s.Validate(body); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ToJSON(nil, body); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzWire: no value makes WireID or a Record panic, and a small value does not make it allocate much.
func FuzzWire(f *testing.F) {
	records := NewRecords()
	if err := records.BindLocal(); err != nil {
		f.Fatal(err)
	}
	value, err := records.Consents.Encode(&Consents{Grants: []Grant{{ID: "g", Scopes: []string{"a"}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add(append(slices.Clone(value[:6]), 0xfe, 0xff, 0xff, 0xff, 0x0f))
	f.Fuzz(func(t *testing.T, value []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := records.Consents.Decode(value)
		runtime.ReadMemStats(&after)
		var m Malformed
		if err != nil && !errors.As(err, &m) && !errors.Is(err, ErrNotLoaded) {
			t.Fatalf("%v", err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20+1000*uint64(len(value)) {
			t.Fatalf("%d bytes made it allocate %d", len(value), grown)
		}
	})
}

// FuzzParseSchema: no text makes ParseSchema, or what is asked of a schema, panic.
func FuzzParseSchema(f *testing.F) {
	for _, s := range foreign(f) {
		f.Add(s.JSON())
	}
	f.Fuzz(func(t *testing.T, text string) { schemaTarget(t, text, 50) })
}
