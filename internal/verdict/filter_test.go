package verdict

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"civicbus/codecs"
)

var everything = []string{"data", "profile"}

// TestFilterForms evaluates filters on the birth of world_test.go.
func TestFilterForms(t *testing.T) {
	w := newWorld(t)
	w.event.Attr = func(name string) (string, bool) {
		v, ok := map[string]string{"time": "2026-01-02T03:04:05Z", "subject": "k1.secret"}[name]
		return v, ok
	}
	for spec, want := range map[string]Truth{
		``: True, ` `: True, `{}`: True, `[]`: True,
		`{"data.residency":"Finland"}`:                                                True,
		`{"data.residency":"Sweden"}`:                                                 False,
		`{"data.residency":"Finland","data.child.twin":false}`:                        True,
		`{"data.residency":"Finland","data.child.twin":true}`:                         False,
		`{"data.child.weight":3500}`:                                                  True,
		`{"data.child.length":50.5}`:                                                  True,
		`{"data.child.length":50}`:                                                    False,
		`{"data.mother.status":"MARRIED"}`:                                            True,
		`{"data.hospital":"HUS"}`:                                                     True,
		`{"profile.municipality":"Espoo"}`:                                            True,
		`{"profile.industry":"x"}`:                                                    Unknown,
		`{"not":{"profile.industry":"x"}}`:                                            Unknown,
		`{"not":{"profile.municipality":"Vantaa"}}`:                                   True,
		`{"any":[{"profile.industry":"x"},{"data.residency":"Finland"}]}`:             True,
		`{"any":[{"profile.industry":"x"},{"data.residency":"Sweden"}]}`:              Unknown,
		`{"all":[{"profile.industry":"x"},{"data.residency":"Finland"}]}`:             Unknown,
		`{"all":[{"profile.industry":"x"},{"data.residency":"Sweden"}]}`:              False,
		`[{"exact":{"type":"fi.test.birth"}},{"prefix":{"source":"https://dvv"}}]`:    True,
		`{"exact":{"type":"fi.test.birth","source":"https://x"}}`:                     False,
		`{"suffix":{"type":".birth"}}`:                                                True,
		`{"suffix":{"type":"a much longer text than the type is"}}`:                   False,
		`{"prefix":{"time":"2026-01"}}`:                                               True,
		`{"exact":{"datacontenttype":"application/avro"}}`:                            Unknown,
		`{"not":{"exact":{"datacontenttype":"application/avro"}}}`:                    Unknown,
		`{"exact":{"subjectrole":"child"}}`:                                           True,
		`{"cel":"data.residency == 'Finland'"}`:                                       True,
		`{"cel":"'Finland' != data.residency"}`:                                       False,
		`{"cel":"data.residency in ['Sweden','Finland']"}`:                            True,
		`{"cel":"!(data.residency in ['Sweden','Finland'])"}`:                         False,
		`{"cel":"data.child.weight > 3000 && data.child.weight < 4000"}`:              True,
		`{"cel":"data.child.length * 2.0 > 101.5"}`:                                   False,
		`{"cel":"data.child.weight / 0 == 1"}`:                                        Unknown,
		`{"cel":"!(data.child.weight / 0 == 1)"}`:                                     Unknown,
		`{"cel":"data.child.twin"}`:                                                   False,
		`{"cel":"!data.child.twin && true"}`:                                          True,
		`{"cel":"data.child.twin ? profile.industry == 'x' : data.place == 'Espoo'"}`: True,
		`{"cel":"data.place.startsWith('Esp') && data.place.endsWith('oo')"}`:         True,
		`{"cel":"data.place.contains('spo')"}`:                                        True,
		`{"cel":"data.place == profile.municipality"}`:                                True,
		`{"cel":"data.place == profile.industry"}`:                                    Unknown,
		`{"cel":"data.place != profile.industry"}`:                                    Unknown,
		`{"cel":"data.place == profile.industry || size(data.place) == 5"}`:           True,
		`{"cel":"size(profile.industry) < 0"}`:                                        Unknown,
		`{"cel":"ce.type == 'fi.test.birth'"}`:                                        True,
	} {
		f, faults := CompileFilter(spec, w.types[birthType], w.schema, everything)
		if len(faults) > 0 {
			t.Errorf("%s: %+v", spec, faults)
			continue
		}
		if got, err := f.Matches(w.event); got != want || err != nil {
			t.Errorf("%s is %v (%v), want %v", spec, got, err, want)
		}
	}
}

// TestFilterFaults gives the first fault's reason and field of what must be refused.
func TestFilterFaults(t *testing.T) {
	w := newWorld(t)
	deep := strings.Repeat(`{"not":`, 40) + `{"data.place":"x"}` + strings.Repeat(`}`, 40)
	wide := `{"any":[` + strings.TrimSuffix(strings.Repeat(`{"data.place":"x"},`, 400), ",") + `]}`
	for _, c := range []struct{ spec, reason, field string }{
		{`{`, FaultFilterMalformed, "filter"},
		{`{} {}`, FaultFilterMalformed, "filter"},
		{`"data.place"`, FaultFilterMalformed, "filter"},
		{`null`, FaultFilterMalformed, "filter"},
		{`[{}]`, FaultFilterMalformed, "filter"},
		{`{"data.place":null}`, FaultFilterMalformed, "data.place"},
		{`{"data.place":["x"]}`, FaultFilterMalformed, "data.place"},
		{`{"data.place":"x","data.place":"y"}`, FaultFilterMalformed, "filter"},
		{`{"data.place":"x","cel":"true"}`, FaultFilterMalformed, "cel"},
		{`{"cel":"true","data.place":"x"}`, FaultFilterMalformed, "data.place"},
		{`{"data.child.length":1e999}`, FaultFilterMalformed, "data.child.length"},
		{`{"sql":"type = 'x'"}`, FaultFilterUnknownDialect, "sql"},
		{`{"regex":{"type":"x"}}`, FaultFilterUnknownDialect, "regex"},
		{`{"database":"x"}`, FaultFilterUnknownDialect, "database"},
		{`{"all":[]}`, FaultFilterMalformed, "all"},
		{`{"any":{"data.place":"x"}}`, FaultFilterMalformed, "any"},
		{`{"exact":{}}`, FaultFilterMalformed, "exact"},
		{`{"exact":{"type":""}}`, FaultFilterMalformed, "exact.type"},
		{`{"exact":{"type":5}}`, FaultFilterMalformed, "exact.type"},
		{`{"exact":{"subject":"k1.x"}}`, FaultFilterFieldNotPermitted, "ce.subject"},
		{`{"prefix":{"id":"x"}}`, FaultFilterFieldNotPermitted, "ce.id"},
		{`{"prefix":{"nonsense":"x"}}`, FaultFilterUnknownField, "ce.nonsense"},
		{`{"data.nowhere":"x"}`, FaultFilterUnknownField, "data.nowhere"},
		{`{"data.place.below":"x"}`, FaultFilterUnknownField, "data.place.below"},
		{`{"profile.shoes":"x"}`, FaultFilterUnknownField, "profile.shoes"},
		{`{"profile":"x"}`, FaultFilterUnknownField, "profile"},
		{`{"data":"x"}`, FaultFilterTypeError, "data"},
		{`{"data.child":"x"}`, FaultFilterTypeError, "data.child"},
		{`{"data.siblings[].name":"x"}`, FaultFilterTypeError, "data.siblings[].name"},
		{`{"data.siblings":"x"}`, FaultFilterTypeError, "data.siblings"},
		{`{"data.place":5}`, FaultFilterTypeError, "data.place"},
		{`{"data.child.weight":"5"}`, FaultFilterTypeError, "data.child.weight"},
		{`{"data.child.weight":5.5}`, FaultFilterTypeError, "data.child.weight"},
		{`{"data.child.twin":1}`, FaultFilterTypeError, "data.child.twin"},
		{`{"cel":"data.place =="}`, FaultFilterMalformed, "cel"},
		{`{"cel":5}`, FaultFilterMalformed, "cel"},
		{`{"cel":""}`, FaultFilterMalformed, "cel"},
		{`{"cel":"nothing == 'x'"}`, FaultFilterUnknownField, "nothing"},
		{`{"cel":"data.nowhere == 'x'"}`, FaultFilterUnknownField, "data.nowhere"},
		{`{"cel":"data.nowhere + 'x' == 'y'"}`, FaultFilterUnknownField, "data.nowhere"},
		{`{"cel":"data.place == 5"}`, FaultFilterTypeError, "data.place"},
		{`{"cel":"data.place + 5 == 'x'"}`, FaultFilterTypeError, "cel"},
		{`{"cel":"data.place"}`, FaultFilterTypeError, "data.place"},
		{`{"cel":"data.child.weight + 1"}`, FaultFilterTypeError, "cel"},
		{`{"cel":"data.place.matches('(a+)+')"}`, FaultFilterTypeError, "cel"},
		{`{"cel":"has(data.place)"}`, FaultFilterTypeError, "cel"},
		{`{"cel":"dyn(data.place) == 5"}`, FaultFilterTypeError, "cel"},
		{`{"cel":"['a'].exists(x, x == data.place)"}`, FaultFilterUnknownField, "x"},
		{`{"cel":"data['place'] == 'x'"}`, FaultFilterTypeError, "data"},
		{`{"cel":"data.child == data.child"}`, FaultFilterTypeError, "data.child"},
		{deep, FaultFilterMalformed, "filter"},
		{wide, FaultFilterTooCostly, "filter"},
		{`{"cel":"` + strings.Repeat("(", 500) + "true" + strings.Repeat(")", 500) + `"}`, FaultFilterMalformed, "cel"},
		{`{"cel":"` + strings.Repeat("data.place + ", 60) + `data.place == data.hospital"}`, FaultFilterMalformed, "cel"},
		{`{"cel":"(` + strings.Repeat("data.place + ", 20) + `data.place).contains(data.hospital)"}`, FaultFilterTooCostly, "cel"},
		{`{"data.place":"` + strings.Repeat("x", MaxFilterBytes) + `"}`, FaultFilterTooCostly, "filter"},
	} {
		f, faults := CompileFilter(c.spec, w.types[birthType], w.schema, everything)
		if f != nil || len(faults) == 0 {
			t.Errorf("%.80s was accepted", c.spec)
			continue
		}
		if faults[0].Reason != c.reason || faults[0].Field != c.field {
			t.Errorf("%.80s: %+v, want %s at %s", c.spec, faults, c.reason, c.field)
		}
	}
}

func TestFilterNamesOnlyWhatMayBeReceived(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		spec    string
		allowed []string
		ok      bool
	}{
		{`{"data.place":"x"}`, []string{"data.place"}, true},
		{`{"data.place":"x"}`, []string{"data"}, true},
		{`{"data.child.name":"x"}`, []string{"data.child"}, true},
		{`{"data.child.name":"x"}`, []string{"data.child.weight", "data.chil", "profile"}, false},
		{`{"data.place":"x"}`, nil, false},
		{`{"profile.language":"fi"}`, []string{"data"}, false},
		{`{"profile.language":"fi"}`, []string{"profile.language"}, true},
		{`{"cel":"data.place != 'x' || data.child.weight > 3"}`, []string{"data.place"}, false},
		{`{"any":[{"data.place":"x"},{"not":{"data.residency":"x"}}]}`, []string{"data.place"}, false},
		{`{"exact":{"type":"x"}}`, nil, true},
	} {
		_, faults := CompileFilter(c.spec, w.types[birthType], w.schema, c.allowed)
		if c.ok != (len(faults) == 0) || !c.ok && faults[0].Reason != FaultFilterFieldNotPermitted {
			t.Errorf("%s with %v: %+v", c.spec, c.allowed, faults)
		}
	}
}

// TestFaultsNeverQuoteLiterals: a literal can be personal data.
func TestFaultsNeverQuoteLiterals(t *testing.T) {
	w := newWorld(t)
	const secret = "010190-900Y"
	for _, spec := range []string{`{"data.child.weight":"%s"}`, `{"cel":"data.child.weight == '%s'"}`, `{"cel":"data.place + '%s' == 5"}`, `{"cel":"'%s' '%s'"}`,
		`{"cel":"data.place.matches('%s')"}`, `["%s"`, `{"exact":"%s"}`, `{"cel":"data.place in ['%s', 5]"}`, `{"cel":"'%s'"}`, `{"cel":"'%s"}`} {
		_, faults := CompileFilter(strings.ReplaceAll(spec, "%s", secret), w.types[birthType], w.schema, everything)
		if len(faults) == 0 {
			t.Errorf("%s was accepted", spec)
		}
		for _, f := range faults {
			if strings.Contains(f.Text+f.Field, secret) {
				t.Errorf("%s: %+v", spec, f)
			}
		}
	}
}

// TestLaterSchemaMakesUnknown: a filter checked against one writer schema reads another, where the field is gone or another type.
func TestLaterSchemaMakesUnknown(t *testing.T) {
	old := mustSchema(t, `{"type":"record","name":"R","fields":[{"name":"n","type":"int"},{"name":"s","type":"string"}]}`)
	next := mustSchema(t, `{"type":"record","name":"R","fields":[{"name":"s","type":"int"},{"name":"m","type":"int"}]}`)
	for _, spec := range []string{`{"data.n":5}`, `{"cel":"data.n != 6"}`, `{"cel":"data.n > 0"}`, `{"not":{"data.s":"x"}}`, `{"cel":"data.s != 'x'"}`, `{"cel":"data.s + 'x' != 'y'"}`} {
		f, faults := CompileFilter(spec, nil, old, everything)
		if len(faults) > 0 {
			t.Fatal(spec, faults)
		}
		for s, want := range map[*codecs.Schema]Truth{old: True, next: Unknown} {
			w := world{schema: s}
			ev := &Event{Schema: s, Body: w.encode(t, map[string]any{old.JSON(): map[string]any{"n": 5, "s": "z"}, next.JSON(): map[string]any{"s": 5, "m": 5}}[s.JSON()].(map[string]any))}
			if got, err := f.Matches(ev); got != want || err != nil {
				t.Errorf("%s: %v %v, want %v", spec, got, err, want)
			}
		}
	}
}

// --- differential test against a naive evaluator ---

// expr is a filter as the naive evaluator sees it: an operator, a path and literals, or parts.
type expr struct {
	op    string // = in < prefix suffix and or not, and path==path
	path  string
	other string
	lits  []any
	parts []*expr
}

// naive evaluates over a map of values; what is not in the map is unknown.
func (e *expr) naive(env map[string]any) Truth {
	v, ok := env[e.path]
	switch e.op {
	case "not":
		return map[Truth]Truth{True: False, False: True, Unknown: Unknown}[e.parts[0].naive(env)]
	case "and", "or":
		decisive, other := False, True
		if e.op == "or" {
			decisive, other = True, False
		}
		unknown := false
		for _, p := range e.parts {
			switch p.naive(env) {
			case decisive:
				return decisive
			case Unknown:
				unknown = true
			}
		}
		if unknown {
			return Unknown
		}
		return other
	case "path==path":
		o, there := env[e.other]
		if !ok || !there {
			return Unknown
		}
		return truthOf(v == o)
	}
	if !ok {
		return Unknown
	}
	switch e.op {
	case "<":
		return truthOf(v.(int64) < e.lits[0].(int64))
	case "prefix":
		return truthOf(strings.HasPrefix(v.(string), e.lits[0].(string)))
	case "suffix":
		return truthOf(strings.HasSuffix(v.(string), e.lits[0].(string)))
	}
	return truthOf(slices.Contains(e.lits, v))
}

func celLit(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case float64:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return fmt.Sprint(v)
}

// cel writes the expression in CEL.
func (e *expr) cel() string {
	var parts []string
	for _, p := range e.parts {
		parts = append(parts, "("+p.cel()+")")
	}
	switch e.op {
	case "and":
		return strings.Join(parts, " && ")
	case "or":
		return strings.Join(parts, " || ")
	case "not":
		return "!" + parts[0]
	case "path==path":
		return e.path + " == " + e.other
	case "<":
		return e.path + " < " + celLit(e.lits[0])
	case "prefix":
		return e.path + ".startsWith(" + celLit(e.lits[0]) + ")"
	case "suffix":
		return e.path + ".endsWith(" + celLit(e.lits[0]) + ")"
	case "in":
		var lits []string
		for _, l := range e.lits {
			lits = append(lits, celLit(l))
		}
		return e.path + " in [" + strings.Join(lits, ", ") + "]"
	}
	return e.path + " == " + celLit(e.lits[0])
}

// json writes it in the JSON forms, with CEL for what has no other.
func (e *expr) json() any {
	var parts []any
	for _, p := range e.parts {
		parts = append(parts, p.json())
	}
	switch e.op {
	case "and":
		return map[string]any{"all": parts}
	case "or":
		return map[string]any{"any": parts}
	case "not":
		return map[string]any{"not": parts[0]}
	case "=":
		return map[string]any{e.path: e.lits[0]}
	}
	return map[string]any{"cel": e.cel()}
}

// fieldsOf are the fields that random filters name, with the literals they may meet.
var fieldsOf = map[string][]any{
	"data.residency":       {"Finland", "Sweden", ""},
	"data.place":           {"Espoo", "Vantaa"},
	"data.hospital":        {"HUS", "TAYS"},
	"data.child.name":      {"Aino", "Eino"},
	"data.child.weight":    {int64(3500), int64(-1), int64(1 << 30)},
	"data.child.length":    {50.5, 0.25},
	"data.child.twin":      {true, false},
	"data.mother.status":   {"MARRIED", "SINGLE"},
	"data.mother.name":     {"Liisa", "Anna"},
	"profile.municipality": {"Espoo", "Vantaa"},
	"profile.language":     {"fi", "sv"},
}

var fieldNames = func() (names []string) {
	for name := range fieldsOf {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}()

func drawExpr(t *rapid.T, depth int) *expr {
	ops := []string{"=", "=", "in", "<", "prefix", "suffix", "path==path"}
	if depth > 0 {
		ops = append(ops, "and", "and", "or", "not", "not")
	}
	e := &expr{op: rapid.SampledFrom(ops).Draw(t, "op")}
	switch e.op {
	case "and", "or", "not":
		n := 1
		if e.op != "not" {
			n = rapid.IntRange(1, 3).Draw(t, "parts")
		}
		for range n {
			e.parts = append(e.parts, drawExpr(t, depth-1))
		}
		return e
	case "<":
		e.path = "data.child.weight"
	case "prefix", "suffix":
		e.path, e.lits = "data.place", []any{rapid.SampledFrom([]string{"E", "oo", "Espoo", "Espoo and more", "V"}).Draw(t, "affix")}
		return e
	case "path==path":
		e.path, e.other = "data.place", "profile.municipality"
		return e
	default:
		e.path = rapid.SampledFrom(fieldNames).Draw(t, "field")
	}
	n := 1
	if e.op == "in" {
		n = rapid.IntRange(1, 3).Draw(t, "literals")
	}
	for range n {
		e.lits = append(e.lits, rapid.SampledFrom(fieldsOf[e.path]).Draw(t, "literal"))
	}
	return e
}

// drawData gives an event's data in goavro's form, the stamp, and what is known of both.
func drawData(t *rapid.T) (native map[string]any, stamp *codecs.Attributes, env map[string]any) {
	env = map[string]any{}
	pick := func(path string) any {
		env[path] = rapid.SampledFrom(fieldsOf[path]).Draw(t, path)
		return env[path]
	}
	native = birth()
	native["residency"], native["place"] = pick("data.residency"), pick("data.place")
	native["hospital"] = nil
	if rapid.Bool().Draw(t, "hospital") {
		native["hospital"] = map[string]any{"string": pick("data.hospital")}
	}
	native["child"] = map[string]any{"id": "c", "name": pick("data.child.name"), "weight": int32(pick("data.child.weight").(int64)),
		"length": pick("data.child.length"), "twin": pick("data.child.twin")}
	native["mother"] = nil
	if rapid.Bool().Draw(t, "mother") {
		native["mother"] = map[string]any{"fi.test.Mother": map[string]any{"id": "m", "name": pick("data.mother.name"), "status": pick("data.mother.status")}}
	}
	if rapid.Bool().Draw(t, "stamp") {
		stamp = &codecs.Attributes{Language: pick("profile.language").(string)}
		if rapid.Bool().Draw(t, "municipality") {
			stamp.Municipality = pick("profile.municipality").(string)
		}
	}
	return native, stamp, env
}

func specOf(t *rapid.T, e *expr) string {
	if rapid.Bool().Draw(t, "as CEL") {
		text, _ := json.Marshal(map[string]any{"cel": e.cel()})
		return string(text)
	}
	text, _ := json.Marshal(e.json())
	return string(text)
}

func TestFilterIsTheNaiveOne(t *testing.T) {
	w := newWorld(t)
	seen := map[Truth]int{}
	rapid.Check(t, func(rt *rapid.T) {
		e := drawExpr(rt, 3)
		spec := specOf(rt, e)
		f, faults := CompileFilter(spec, w.types[birthType], w.schema, everything)
		if len(faults) > 0 {
			rt.Fatalf("%s: %+v", spec, faults)
		}
		native, stamp, env := drawData(rt)
		got, err := f.Matches(&Event{Schema: w.schema, Body: w.encode(t, native), Stamp: stamp})
		want := e.naive(env)
		seen[want]++
		if err != nil || got != want {
			rt.Fatalf("%s on %v: %v (%v), want %v", spec, env, got, err, want)
		}
	})
	if len(seen) != 3 {
		t.Errorf("only %v came up", seen)
	}
}
