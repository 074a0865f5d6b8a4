package verdict

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"civicbus/codecs"
)

// TestPoorIndexStaysRight: subscriptions that no equality tells apart are all candidates, and the result is the same.
func TestPoorIndexStaysRight(t *testing.T) {
	w := newWorld(t)
	w.subs = map[string]*codecs.Subscription{}
	for i, filter := range []string{``, `{"not":{"data.place":"Vantaa"}}`, `{"any":[{"data.place":"Espoo"},{"data.residency":"x"}]}`, `{"cel":"data.child.weight >= 3500"}`,
		`{"data.place":"Vantaa"}`, `{"cel":"data.place in ['a','b','Espoo','Espoo']"}`, `{"data.child.length":50.5}`, `{"data.child.twin":false}`, `{"profile.municipality":""}`, `{"data.child.length":50}`,
		`{"data.child.weight":3500.0}`, `{"data.child.weight":3500.5}`} {
		id := fmt.Sprint("sub-", i)
		w.subs[id] = &codecs.Subscription{ID: id, Subscriber: "kela.fi", EventTypes: []string{birthType, birthType}, Purpose: "benefit", Basis: "public_task", Status: "active", Filter: filter}
	}
	w.rule("public_task").Fields = []string{"data", "profile"}
	var got []string
	for _, v := range w.decide() {
		got = append(got, v.Sub.ID)
	}
	if want := []string{"sub-0", "sub-1", "sub-10", "sub-2", "sub-3", "sub-5", "sub-6", "sub-7"}; !slices.Equal(got, want) {
		t.Errorf("matched %v, want %v", got, want)
	}
}

// TestKeysAreEquality: the index finds what the filter's own equality says, no more and no less.
func TestKeysAreEquality(t *testing.T) {
	ints := []int64{0, 1, -1, 50, 1 << 53, 1<<53 + 1, math.MaxInt64, math.MinInt64}
	floats := []float64{0, math.Copysign(0, -1), 1, 50, 50.5, -50.5, 1 << 53, 1 << 63, -(1 << 63), math.MaxFloat64, math.Inf(1), math.Inf(-1), 5e-324}
	texts := []string{"", "a", "b", "1", "\x00"}
	draw := func(rt *rapid.T, name string) constant {
		switch rapid.IntRange(0, 3).Draw(rt, name) {
		case 0:
			return constant{kind: codecs.Int, int: rapid.SampledFrom(ints).Draw(rt, name)}
		case 1:
			return constant{kind: codecs.Float, float: rapid.SampledFrom(floats).Draw(rt, name)}
		case 2:
			return boolConstant(rapid.Bool().Draw(rt, name))
		}
		return textConstant(rapid.SampledFrom(texts).Draw(rt, name))
	}
	rapid.Check(t, func(rt *rapid.T) {
		a, b := draw(rt, "a"), draw(rt, "b")
		v := codecs.Value{Kind: b.kind, Int: b.int, Float: b.float, Bytes: []byte(b.text)}
		key, ok := appendKey(nil, v.Kind, v.Int, v.Float, v.Bytes)
		if same := ok && bytes.Equal(a.appendKey(nil), key); same != (a.equals(&v) == True) {
			rt.Fatalf("%+v and %+v: equal keys %v, compared %v", a, b, same, a.equals(&v))
		}
	})
}

// TestSchemasSideBySide: one Snapshot decides events of two writer schemas in turn, with fields in another order and of another type.
func TestSchemasSideBySide(t *testing.T) {
	w := newWorld(t)
	other := &world{schema: mustSchema(t, `{"type":"record","name":"Birth","namespace":"fi.test","fields":[
	 {"name":"place","type":"string"},{"name":"residency","type":"string"},
	 {"name":"child","type":{"type":"record","name":"Child","fields":[{"name":"id","type":"string"},{"name":"weight","type":"double"}]}}]}`)}
	body := other.encode(t, map[string]any{"place": "Espoo", "residency": "Finland", "child": map[string]any{"id": "c", "weight": 3500.0}})
	w.only("sub-law").Filter = `{"data.residency":"Finland"}`
	cel := *w.subs["sub-law"]
	cel.ID, cel.Filter = "sub-cel", `{"cel":"data.child.weight + 1 == 3501"}`
	w.subs[cel.ID] = &cel
	s := w.snapshot()
	later := *w.event
	later.Schema, later.Body = other.schema, body
	for range 3 {
		if got := s.Decide(nil, w.event, w.consents, time.UnixMilli(w.now)); len(got) != 2 || len(got[1].Fields) != 7 {
			t.Errorf("first schema: %+v", got)
		}
		got := s.Decide(nil, &later, w.consents, time.UnixMilli(w.now))
		if len(got) != 1 || got[0].Sub.ID != "sub-law" || !slices.Equal(got[0].Fields, []string{"data.residency", "data.child.id", "data.child.weight", "profile.municipality"}) {
			t.Errorf("second schema: %+v", got)
		}
	}
}

// TestNotANumberIsUnknown: it equals nothing, and is not said to differ either.
func TestNotANumberIsUnknown(t *testing.T) {
	w := newWorld(t)
	native := birth()
	native["child"].(map[string]any)["length"] = math.NaN()
	w.event.Body = w.encode(t, native)
	for _, spec := range []string{`{"data.child.length":1.5}`, `{"not":{"data.child.length":1.5}}`, `{"cel":"data.child.length != 1.5 || data.child.length < 0.0"}`} {
		f, faults := CompileFilter(spec, w.types[birthType], w.schema, everything)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		if got, err := f.Matches(w.event); got != Unknown || err != nil {
			t.Errorf("%s is %v (%v)", spec, got, err)
		}
	}
}

// TestMatchingFollowsAHistory: subscriptions come, change and go, and at each step, and for every snapshot on the way, those
// that match are those whose filters say so when each is asked by itself.
func TestMatchingFollowsAHistory(t *testing.T) {
	fields := []string{"data.residency", "data.place", "data.hospital", "data.child.weight", "data.child.twin", "profile.municipality", "profile.country"}
	literals := [][]string{{`"Finland"`, `"x"`}, {`"Espoo"`, `"y"`}, {`"HUS"`, `"z"`}, {`3500`, `3501`}, {`false`, `true`}, {`"Espoo"`, `"Vantaa"`}, {`"FI"`}}
	matched := 0
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		w.subs = map[string]*codecs.Subscription{}
		filters := map[string]*Filter{}
		s := w.snapshot()
		check := func(s *Snapshot, filters map[string]*Filter, role string) {
			ev := *w.event
			ev.Role = role
			var want, got []string
			for id, f := range filters {
				if truth, err := f.Matches(&ev); err != nil {
					rt.Fatal(err)
				} else if of := s.Subscription(id).Role; truth == True && (of == role || of == "" && role == "child") {
					want = append(want, id)
				}
			}
			slices.Sort(want)
			for _, v := range s.Decide(nil, &ev, w.consents, time.UnixMilli(w.now)) {
				got = append(got, v.Sub.ID)
			}
			if matched += len(got); !slices.Equal(got, want) {
				rt.Fatalf("matched %v, want %v", got, want)
			}
		}
		type moment struct {
			snapshot *Snapshot
			filters  map[string]*Filter
		}
		var past []moment
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			changes := map[string]*codecs.Subscription{}
			for range rapid.IntRange(1, 6).Draw(rt, "changes") {
				id := fmt.Sprint("sub-", rapid.IntRange(0, 9).Draw(rt, "id"))
				if rapid.IntRange(0, 3).Draw(rt, "gone") == 0 {
					changes[id] = nil
					continue
				}
				var parts []string
				for i, path := range fields {
					switch rapid.IntRange(0, 9).Draw(rt, "part") {
					case 0, 1:
						parts = append(parts, fmt.Sprintf(`{%q:%s}`, path, literals[i][0]))
					case 2:
						parts = append(parts, fmt.Sprintf(`{%q:%s}`, path, rapid.SampledFrom(literals[i]).Draw(rt, "literal")))
					case 3:
						parts = append(parts, fmt.Sprintf(`{"not":{%q:%s}}`, path, rapid.SampledFrom(literals[i]).Draw(rt, "literal")))
					case 4:
						if text := strings.Trim(literals[i][0], `"`); text != literals[i][0] {
							parts = append(parts, fmt.Sprintf(`{"cel":"%s in ['other','%s']"}`, path, text))
						}
					case 5:
						parts = append(parts, fmt.Sprintf(`{"any":[{%q:%s},{"data.child.twin":false}]}`, path, rapid.SampledFrom(literals[i]).Draw(rt, "literal")))
					}
				}
				if len(parts) == 0 { // an empty list is no filter
					parts = []string{fmt.Sprintf(`{%q:%s}`, fields[0], literals[0][0])}
				}
				changes[id] = &codecs.Subscription{ID: id, Subscriber: "kela.fi", EventTypes: []string{birthType}, Purpose: "benefit", Basis: BasisConsent, Status: "active",
					Role: rapid.SampledFrom([]string{"", "child", "mother"}).Draw(rt, "role"), Filter: `{"all":[` + strings.Join(parts, ",") + `]}`}
			}
			next := maps.Clone(filters)
			for id, row := range changes {
				if delete(next, id); row == nil {
					continue
				}
				f, faults := parseFilter(row.Filter)
				if len(faults) > 0 {
					rt.Fatal(faults)
				}
				next[id] = f
			}
			filters = next
			s = s.With(Changes{Subscriptions: changes})
			past = append(past, moment{s, filters})
			if rapid.IntRange(0, 4).Draw(rt, "back") == 0 { // another line of snapshots begins where one was
				m := rapid.SampledFrom(past).Draw(rt, "moment")
				s, filters = m.snapshot, m.filters
			}
		}
		for _, m := range past {
			check(m.snapshot, m.filters, "child")
			check(m.snapshot, m.filters, "mother")
		}
	})
	if matched < 100 {
		t.Errorf("%d matches prove little", matched)
	}
}
