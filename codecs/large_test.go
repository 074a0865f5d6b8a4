package codecs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"civicbus/internal/mutant"
)

const million = 1_000_000

// times repeats a text until it has about a million bytes, between what opens and what closes the whole.
func times(open, text, closing string) []byte {
	return []byte(open + strings.Repeat(text, million/len(text)) + closing)
}

// numbered is times, with the number of the repetition in the place of %d.
func numbered(open, text, closing string) []byte {
	var b bytes.Buffer
	b.WriteString(open)
	for i := 0; b.Len() < million; i++ {
		fmt.Fprintf(&b, text, i)
	}
	b.WriteString(closing)
	return b.Bytes()
}

// wide has records of many fields, and everything that a number or a text can be.
func wide(t testing.TB) *Schema {
	var fields, optional strings.Builder
	for i := range 3_000 {
		fmt.Fprintf(&fields, `,{"name":"f%d","type":"int"}`, i)
		fmt.Fprintf(&optional, `,{"name":"o%d_%s","type":["null","int"],"default":null}`, i, strings.Repeat("x", 200))
	}
	s, err := ParseSchema(`{"type":"record","name":"R","fields":[
		{"name":"next","type":["null","R"],"default":null},
		{"name":"lists","type":{"type":"array","items":{"type":"array","items":"int"}},"default":[]},
		{"name":"map","type":{"type":"map","values":"int"},"default":{}},
		{"name":"long","type":"long","default":0},{"name":"double","type":"double","default":0},
		{"name":"any","type":["null","int","long","float","double","string","bytes"],"default":null},
		{"name":"decimal","type":[{"type":"bytes","logicalType":"decimal","precision":10000,"scale":10},"null"],"default":"\u0000"},
		{"name":"decimals","type":{"type":"array","items":{"type":"bytes","logicalType":"decimal","precision":10000}},"default":[]},
		{"name":"fixed","type":["null",{"type":"fixed","name":"F","size":1000000,"logicalType":"decimal","precision":100}],"default":null},
		{"name":"narrow","type":{"type":"array","items":["null",{"type":"fixed","name":"N","size":1,"logicalType":"decimal","precision":2}]},"default":[]},
		{"name":"required","type":{"type":"array","items":{"type":"record","name":"Q","fields":[{"name":"a","type":["null","int"],"default":null}` + fields.String() + `]}},"default":[]},
		{"name":"optional","type":{"type":"array","items":{"type":"record","name":"O","fields":[{"name":"a","type":["null","int"],"default":null}` + optional.String() + `]}},"default":[]},
		{"name":"choice","type":{"type":"array","items":["null","Q","O","string"]},"default":[]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A megabyte of JSON that is meant to hurt is refused with a few faults, or read, and takes memory in proportion to itself.
func TestAMegabyteOfJSON(t *testing.T) {
	s := wide(t)
	for name, c := range map[string]struct {
		text    []byte
		reason  string // of the first fault; empty: it is read
		perByte int
	}{
		"500,000 nested arrays":       {append(bytes.Repeat([]byte("["), million/2), bytes.Repeat([]byte("]"), million/2)...), reasonLimit, 4},
		"arrays that never close":     {times("", "[", ""), reasonLimit, 4},
		"nested objects":              {times("", `{"next":`, ""), reasonLimit, 4},
		"empty arrays":                {times(`{"lists":[[]`, ",[]", "]}"), "", 100},
		"a long number":               {times(`{"long":`, "1", "}"), reasonRange, 16},
		"a long fraction":             {times(`{"double":0.`, "3", "}"), "", 16},
		"a long exponent":             {times(`{"double":1e`, "9", "}"), reasonRange, 16},
		"a long number anywhere":      {times(`{"any":`, "7", "}"), reasonRange, 16},
		"a decimal of many digits":    {times(`{"decimal":`, "1", "}"), reasonRange, 16},
		"a decimal of many zeros":     {times(`{"decimal":`, "0", "}"), reasonJSON, 16},
		"a decimal of a long scale":   {times(`{"decimal":0.`, "0", "1}"), reasonRange, 16},
		"decimals by their exponents": {times(`{"decimals":[1`, ",1e9998", "]}"), reasonAmbiguous, 200},
		"decimals that do not fit":    {times(`{"narrow":[1`, ",1e9998", "]}"), reasonRange, 100},
		"a wide fixed":                {[]byte(`{"fixed":-1}`), "", 4 << 20},
		"one key":                     {times(`{"map":{"a":1`, `,"a":1`, "}}"), reasonDuplicate, 100},
		"many keys":                   {numbered(`{"map":{"a":1`, `,"%d":1`, "}}"), "", 200},
		"unknown fields":              {numbered(`{"long":1`, `,"u%d":1`, "}"), reasonUnknown, 200},
		"missing fields":              {times(`{"required":[{}`, ",{}", "]}"), reasonMissing, 200},
		"fields of default":           {times(`{"optional":[{}`, ",{}", "]}"), reasonAmbiguous, 200},
		"a choice of wide records":    {times(`{"choice":[{}`, ",{}", "]}"), reasonAmbiguous, 200},
		"text":                        {times(`{"any":"`, `\u00e4`, `"}`), "", 20},
		"text that is no UTF-8":       {times(`{"any":"`, "\xff", `"}`), reasonJSON, 4},
	} {
		t.Run(name, func(t *testing.T) {
			var body []byte
			var faults []Fault
			began := time.Now()
			grown := mutant.Allocates(func() { body, faults = s.FromJSON(c.text) })
			t.Logf("%d bytes, %d faults, %d bytes for each, %v", len(c.text), len(faults), grown/uint64(len(c.text)), time.Since(began))
			if (c.reason == "") != (len(faults) == 0) || len(faults) > 0 && faults[0].Reason != c.reason || len(faults) > MaxFaults {
				t.Errorf("%d faults, the first %+v", len(faults), append(faults, Fault{})[0])
			}
			if grown > 1<<20+uint64(c.perByte*len(c.text)) {
				t.Errorf("%d bytes made it allocate %d", len(c.text), grown)
			}
			if len(faults) > 0 {
				return
			}
			var text []byte
			grown = mutant.Allocates(func() { text, _ = s.ToJSON(nil, body) })
			if len(text) == 0 || grown > 16<<20+uint64(64*len(body)) {
				t.Errorf("%d bytes of Avro: %d of JSON, %d allocated", len(body), len(text), grown)
			}
		})
	}
}

// A megabyte of Avro that is meant to hurt is refused by all that reads it, or read by all.
func TestAMegabyteOfAvro(t *testing.T) {
	tree := foreign(t)["tree"]
	lists, err := ParseSchema(`{"type":"array","items":{"type":"array","items":"null"}}`)
	if err != nil {
		t.Fatal(err)
	}
	decimal, err := ParseSchema(`{"type":"record","name":"D","fields":[{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":2}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseSchema(`{"type":"map","values":"null"}`)
	if err != nil {
		t.Fatal(err)
	}
	long := func(n int64, items []byte) []byte { return append(append(appendVarint(nil, n), items...), 0) }
	for name, c := range map[string]struct {
		schema *Schema
		body   []byte
		valid  bool
	}{
		"a tree without end":           {tree, bytes.Repeat([]byte{2}, million), false},
		"a tree of ones":               {tree, bytes.Repeat([]byte{1}, million), false},
		"empty lists":                  {lists, long(million, bytes.Repeat([]byte{0}, million)), true},
		"lists of nothing":             {lists, long(million/4, bytes.Repeat([]byte{200, 1, 0, 0}, million/4)), false},
		"a decimal of a million bytes": {decimal, append(appendVarint(nil, million), bytes.Repeat([]byte{0x7f}, million)...), true},
		"one key":                      {keys, long(million/2, bytes.Repeat([]byte{2, 'a'}, million/2)), false},
		"counts that lie":              {keys, bytes.Repeat([]byte{0xfe, 0xff, 0xff, 0xff, 0x0f}, million/5), false},
	} {
		t.Run(name, func(t *testing.T) {
			var errs [3]error
			began := time.Now()
			grown := mutant.Allocates(func() {
				errs[0] = c.schema.Validate(c.body)
				_, errs[1] = c.schema.ToJSON(nil, c.body)
				errs[2] = errs[0]
				if _, err := c.schema.Lookup("data.d"); err == nil {
					_, errs[2] = c.schema.Texts(c.body, "data.d")
				}
			})
			t.Logf("%d bytes, %d allocated for each, %v: %v", len(c.body), grown/uint64(len(c.body)), time.Since(began), errs[0])
			for i, err := range errs {
				var m Malformed
				if (err == nil) != c.valid || err != nil && !errors.As(err, &m) {
					t.Errorf("reader %d: %v", i, err)
				}
			}
			if grown > 1<<20+uint64(200*len(c.body)) {
				t.Errorf("%d bytes made it allocate %d", len(c.body), grown)
			}
		})
	}
}

// A megabyte of schema is refused, or its paths take no more than their bound.
func TestAMegabyteOfSchema(t *testing.T) {
	for name, text := range map[string][]byte{
		"nested arrays": times("", `{"type":"array","items":`, ""),
		"brackets":      times("", "[", ""),
		"symbols":       numbered(`{"type":"enum","name":"E","symbols":["a"`, `,"s%d"`, "]}"),
		"fields":        numbered(`{"type":"record","name":"R","fields":[{"name":"a","type":"int"}`, `,{"name":"f%d","type":"int"}`, "]}"),
		"a long name": append(numbered(`{"type":"record","name":"R","fields":[{"name":"`+strings.Repeat("a", million*3/4)+`","type":{"type":"record","name":"S","fields":[{"name":"b","type":"int"}`,
			`,{"name":"f%d","type":"int"}`, "]}}"), "]}"...),
		"branches":      times(`["null"`, `,{"type":"array","items":"null"}`, "]"),
		"documentation": times(`{"type":"record","name":"R","doc":"`, `\u00e4`, `","fields":[{"name":"a","type":"int"}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			var err error
			grown := mutant.Allocates(func() {
				var s *Schema
				if s, err = ParseSchema(string(text)); err == nil {
					s.Leaves()
				}
			})
			t.Logf("%d bytes, %d allocated for each, %v: %v", len(text), grown/uint64(len(text)+1), time.Since(began), err)
			if grown > 1<<20+uint64(200*len(text)) {
				t.Errorf("%d bytes made it allocate %d", len(text), grown)
			}
		})
	}
}

// A megabyte of a record of civicbus's own takes memory in proportion to itself, whatever its counts claim.
func TestAMegabyteOfARecord(t *testing.T) {
	records := NewRecords()
	if err := records.BindLocal(); err != nil {
		t.Fatal(err)
	}
	megabyteOf(t, records.Decision, &Decision{Verdicts: make([]VerdictItem, 60_000)})
	megabyteOf(t, records.Consents, &Consents{Grants: make([]Grant, 40_000)})
	megabyteOf(t, records.EventType, &EventType{Rules: make([]Rule, 60_000)})
	megabyteOf(t, records.Organisation, &Organisation{Publishes: make([]string, 900_000)})
	megabyteOf(t, records.Subscription, &Subscription{Fields: make([]string, 900_000)})
	megabyteOf(t, records.DeadLetter, &DeadLetter{Headers: make([]Header, 400_000)})
	megabyteOf(t, records.CommandResult, &CommandResult{Faults: make([]Fault, 300_000)})
	megabyteOf(t, records.UsageRow, &UsageRow{Denied: make([]UsageDenial, 400_000)})
}

func megabyteOf[T any](t *testing.T, r *Record[T], v *T) {
	t.Run(r.Name(), func(t *testing.T) {
		value, err := r.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		head, lies := value[:5:5], []byte{0xfe, 0xff, 0xff, 0xff, 0x0f}
		// Of ones and twos many are arrays in blocks of one item, which are cut short in the end.
		for name, input := range map[string][]byte{"whole": value, "zeros": append(head, make([]byte, million)...), "ones": append(head, bytes.Repeat([]byte{1}, million)...),
			"twos": append(head, bytes.Repeat([]byte{2}, million)...), "lies": append(head, bytes.Repeat(lies, million/5)...), "cut short": value[:len(value)/2]} {
			grown := mutant.Allocates(func() { _, err = r.Decode(input) })
			if (err == nil) != (name == "whole") {
				t.Errorf("%s: %v", name, err)
			}
			if t.Logf("%s: %d bytes, %d allocated for each", name, len(input), grown/uint64(len(input))); grown > 1<<20+uint64(100*len(input)) {
				t.Errorf("%s: %d bytes made it allocate %d", name, len(input), grown)
			}
		}
	})
}
