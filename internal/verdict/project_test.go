package verdict

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"civicbus/codecs"
)

// delivered decodes one permit's delivery and lists every value that is not null: path, with the index of array items, to value.
func delivered(t testing.TB, s *Snapshot, ev *Event, v *Verdict) (values map[string]any, withheld []string) {
	t.Helper()
	target, ok := s.Target(v.Sub.Subscriber, ev.Type, ev.Schema)
	if !ok {
		t.Fatalf("%s: no target for a permit", v.Sub.ID)
	}
	p, err := ev.Schema.Projection(target.Paths)
	if err != nil {
		t.Fatal(err)
	}
	body, withheld, err := s.Project(nil, ev, v, p)
	if err != nil {
		t.Fatal(err)
	}
	var cutting Cutting
	for range 3 { // the first of a kind goes another way than those after it
		cutting.Begin(ev)
		again, not, err := cutting.Project([]byte("before"), v, p)
		if err != nil || string(again) != "before"+string(body) {
			t.Fatalf("%x of a Cutting, want %x, %v", again, body, err)
		}
		if not == nil {
			not = &Withheld{}
		}
		if !slices.Equal(not.Paths, withheld) || string(not.Text) != strings.Join(withheld, ",") {
			t.Fatalf("withheld %v and %q, want %v", not.Paths, not.Text, withheld)
		}
	}
	projected := mustSchema(t, p.JSON())
	codec, err := projected.Goavro()
	if err != nil {
		t.Fatal(err)
	}
	native, rest, err := codec.NativeFromBinary(body)
	if err != nil || len(rest) > 0 {
		t.Fatalf("%d bytes left, %v", len(rest), err)
	}
	values = map[string]any{}
	flatten(values, "data", native)
	return values, withheld
}

// flatten walks goavro's native form; unions of null and one type are maps of one entry, named by the type.
func flatten(out map[string]any, path string, v any) {
	switch v := v.(type) {
	case nil:
	case []any:
		for i, item := range v {
			flatten(out, fmt.Sprintf("%s[%d]", path, i), item)
		}
	case map[string]any:
		if len(v) == 1 {
			for name, inner := range v {
				if strings.Contains(name, "fi.test.") || strings.Contains(name, "fi.civicbus.") || slices.Contains([]string{"string", "int", "double", "boolean", "array"}, name) {
					flatten(out, path, inner)
					return
				}
			}
		}
		for name, inner := range v {
			if path == "data" && name == "profile" {
				flatten(out, "profile", inner)
			} else {
				flatten(out, path+"."+name, inner)
			}
		}
	default:
		out[path] = v
	}
}

// TestNoLeak: in random worlds nothing reaches a delivery that the model does not permit, and everything that it permits does.
func TestNoLeak(t *testing.T) {
	schema := mustSchema(t, birthSchema)
	permits, values := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		w, filters, env := drawWorld(t, rt, schema)
		want := model(w, filters, env)
		s := drawSnapshot(rt, w)
		for _, v := range s.Decide(nil, w.event, w.consents, time.UnixMilli(w.now)) {
			if !v.Permit {
				continue
			}
			permits++
			got, withheld := delivered(t, s, w.event, &v)
			own := fmt.Sprintf("data.siblings[%d].name", w.event.Index)
			for path, value := range got {
				values++
				plain := strings.NewReplacer("[0]", "[]", "[1]", "[]").Replace(path)
				if !slices.Contains(want[v.Sub.ID].fields, plain) {
					rt.Fatalf("%s got %s, permitted are %v", v.Sub.ID, path, want[v.Sub.ID].fields)
				}
				if slices.Contains(withheld, plain) {
					rt.Fatalf("%s got %s, which is said to be withheld", v.Sub.ID, path)
				}
				if w.event.Role == "sibling" && strings.HasSuffix(plain, "[].name") {
					if other := map[int]string{0: "Eero", 1: "Olli"}[w.event.Index]; value != other {
						rt.Fatalf("%s got another sibling's name at %s, own is %s", v.Sub.ID, path, own)
					}
				}
			}
			for _, path := range want[v.Sub.ID].fields {
				if value, known := env[path]; known && fmt.Sprint(got[path]) != fmt.Sprint(value) {
					rt.Fatalf("%s: %s is %v, want %v", v.Sub.ID, path, got[path], value)
				}
			}
		}
	})
	if permits < 50 || values < 50 {
		t.Errorf("%d permits with %d values prove little", permits, values)
	}
}

// TestFields gives the fields of each basis, by hand.
func TestFields(t *testing.T) {
	for _, c := range []struct {
		name, sub string
		do        func(*world, *codecs.Subscription)
		want      string
	}{
		{"rule", "sub-law", nil, "data.residency data.child.id data.child.name data.child.weight data.child.length data.child.twin profile.municipality"},
		{"consent", "sub-consent", nil, "data.place data.hospital data.child.name profile.language"},
		{"narrowed", "sub-consent", func(_ *world, s *codecs.Subscription) { s.Fields = []string{"data.child", "data.residency"} }, "data.child.name"},
		{"narrowed to nothing is a permit", "sub-consent", func(_ *world, s *codecs.Subscription) { s.Fields = []string{"data.residency"} }, ""},
		{"all of data", "sub-law", func(w *world, _ *codecs.Subscription) { w.rule(BasisLegalObligation).Fields = []string{"data"} },
			"data.residency data.place data.hospital data.child.id data.child.name data.child.weight data.child.length data.child.twin data.mother.id data.mother.name data.mother.status data.siblings[].id data.siblings[].name"},
		{"a rule without fields permits the envelope", "sub-law", func(w *world, _ *codecs.Subscription) { w.rule(BasisLegalObligation).Fields = nil }, ""},
		{"the mother's record has the mother's fields", "sub-consent", func(w *world, s *codecs.Subscription) { w.event.Role, s.Role = "mother", "mother" },
			"data.place data.hospital data.mother.name profile.language"},
		{"the catalog wins", "sub-consent", func(w *world, _ *codecs.Subscription) {
			w.types[birthType].Fields = []codecs.Field{{Path: "data.child.weight", Owner: "child", Scopes: []string{"name"}}, {Path: "data.place"}, {Path: "data.child.name", Owner: "mother", Scopes: []string{"name"}}}
		}, "data.hospital data.child.weight profile.language"},
		{"a longer entry wins, owners are inherited", "sub-consent", func(w *world, _ *codecs.Subscription) {
			w.types[birthType].Fields = []codecs.Field{{Path: "data.child.id"}, {Path: "data.child", Owner: "child", Scopes: []string{"name"}}, {Path: "data.child.twin"}, {Path: "data.mother", Owner: "mother"},
				{Path: "data.mother.name", Scopes: []string{"name"}}}
		}, "data.place data.hospital data.child.name data.child.weight data.child.length profile.language"},
		{"a scope of the catalog for the stamp", "sub-consent", func(w *world, _ *codecs.Subscription) {
			w.types[birthType].Fields = []codecs.Field{{Path: "profile.municipality", Scopes: []string{"place"}}}
		}, "data.place data.hospital data.child.name profile.municipality profile.language"},
		{"a refused scope is not delivered", "sub-consent", func(w *world, _ *codecs.Subscription) {
			w.consents.Grants = append(w.consents.Grants, codecs.Grant{ID: "g2", State: GrantRefused, Recipient: "kela.fi", Purpose: "benefit", Scopes: []string{"place"}, GivenAt: noon})
		}, "data.child.name profile.language"},
		{"the latest grant alone", "sub-consent", func(w *world, _ *codecs.Subscription) {
			g := w.consents.Grants[0]
			g.ID, g.Scopes, g.GivenAt = "g2", []string{"name", "health"}, noon
			w.consents.Grants = append(w.consents.Grants, g)
		}, "data.hospital data.child.name data.child.weight data.child.length data.child.twin"},
	} {
		w := newWorld(t)
		sub := w.only(c.sub)
		if c.do != nil {
			c.do(w, sub)
		}
		got := w.decide()
		if len(got) != 1 || !got[0].Permit || strings.Join(got[0].Fields, " ") != c.want {
			t.Errorf("%s: %+v, want %s", c.name, got, c.want)
			continue
		}
		delivered(t, w.snapshot(), w.event, &got[0])
	}
}

// TestOwnElement: of a role with many the owner's element alone is delivered, on every basis; a role of one sees all that its rule lists.
func TestOwnElement(t *testing.T) {
	for role, want := range map[string]string{"sibling": "map[data.siblings[0].name:Olli]", "mother": "map[data.siblings[0].name:Eero data.siblings[1].name:Olli]"} {
		w := newWorld(t)
		sub := w.only("sub-law")
		w.event.Role, w.event.Index, sub.Role = role, 1, role
		w.rule(BasisLegalObligation).Fields = []string{"data.siblings[].name"}
		got := w.decide()
		values, _ := delivered(t, w.snapshot(), w.event, &got[0])
		if fmt.Sprint(values) != want {
			t.Errorf("%s got %v, want %s", role, values, want)
		}
	}
}

func TestProjectAndCut(t *testing.T) {
	w := newWorld(t)
	w.only("sub-consent")
	s := w.snapshot()
	v := s.Decide(nil, w.event, w.consents, time.UnixMilli(w.now))[0]
	values, withheld := delivered(t, s, w.event, &v)
	if want := "map[data.child.name:Aino data.hospital:HUS data.place:Espoo profile.language:fi]"; fmt.Sprint(values) != want {
		t.Errorf("delivered %v, want %s", values, want)
	}
	if want := "data.child.length data.child.twin data.child.weight"; strings.Join(withheld, " ") != want {
		t.Errorf("withheld %v, want %s", withheld, want)
	}
	cut := v.Cut([]string{"data.place", "data.child.weight", "data.residency"})
	values, _ = delivered(t, s, w.event, &cut)
	if fmt.Sprint(values) != "map[data.place:Espoo]" || !slices.Equal(cut.Fields, []string{"data.place"}) || cut.FieldSet == v.FieldSet {
		t.Errorf("cut to %v: %v", cut.Fields, values)
	}
	if len(v.Fields) != 4 {
		t.Error("cutting changed the verdict")
	}
	w.consents = nil
	denied := s.Decide(nil, w.event, nil, time.UnixMilli(w.now))[0]
	p, err := w.schema.Projection(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Project(nil, w.event, &denied, p); !errors.Is(err, ErrDenied) {
		t.Errorf("projecting a denial: %v", err)
	}
	broken := *w.event
	broken.Body = broken.Body[:3]
	if _, _, err := s.Project(nil, &broken, &v, p); err == nil {
		t.Error("a cut body was projected")
	}
}

// TestACuttingGoesFromEventToEvent: nothing of the one is delivered of the next, whichever way each goes.
func TestACuttingGoesFromEventToEvent(t *testing.T) {
	w := newWorld(t)
	w.only("sub-consent")
	s := w.snapshot()
	v := s.Decide(nil, w.event, w.consents, time.UnixMilli(w.now))[0]
	target, _ := s.Target(v.Sub.Subscriber, w.event.Type, w.schema)
	p, err := w.schema.Projection(target.Paths)
	if err != nil {
		t.Fatal(err)
	}
	other, broken, bare := *w.event, *w.event, *w.event
	other.Stamp = &codecs.Attributes{Language: "sv"}
	broken.Body = broken.Body[:3]
	bare.Stamp = nil
	var cutting Cutting
	for i := range 5 {
		for _, ev := range []*Event{w.event, &other, &broken, &bare, w.event} {
			want, _, wantErr := s.Project(nil, ev, &v, p)
			cutting.Begin(ev)
			for range i {
				got, _, err := cutting.Project(nil, &v, p)
				if string(got) != string(want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
					t.Fatalf("round %d: %x %v, want %x %v", i, got, err, want, wantErr)
				}
			}
		}
	}
	cutting.Begin(nil)
	if got, _, err := cutting.Project(nil, &v, p); err == nil {
		t.Errorf("%x of no event", got)
	}
}

// TestProjectAllocatesNothing, of one recipient or of many.
func TestProjectAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes sync.Pool drop at random")
	}
	w := newWorld(t)
	s := w.snapshot()
	verdicts := s.Decide(nil, w.event, w.consents, time.UnixMilli(w.now))
	target, _ := s.Target("kela.fi", birthType, w.schema)
	p, err := w.schema.Projection(target.Paths)
	if err != nil {
		t.Fatal(err)
	}
	room, permits := make([]byte, 0, 1024), 0
	var cutting Cutting
	many := func() {
		cutting.Begin(w.event)
		for i := range verdicts {
			if verdicts[i].Permit && verdicts[i].Sub.Subscriber == "kela.fi" {
				permits++
				if _, _, err := cutting.Project(room, &verdicts[i], p); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	one := func() {
		for i := range verdicts {
			if verdicts[i].Permit && verdicts[i].Sub.Subscriber == "kela.fi" {
				if _, _, err := s.Project(room, w.event, &verdicts[i], p); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	many()
	one()
	if permits < 2 {
		t.Fatalf("%d permits", permits)
	}
	if n := testing.AllocsPerRun(200, many); n > 0 {
		t.Errorf("%v allocations for several", n)
	}
	if n := testing.AllocsPerRun(200, one); n > 1 {
		t.Errorf("%v allocations for one", n) // one is spared for a pool that the collector emptied
	}
}

// TestAUnionThatIsReachedInPartIsNamed: a value without fields, beside a record whose fields are permitted, is withheld and said to be.
func TestAUnionThatIsReachedInPartIsNamed(t *testing.T) {
	schema := mustSchema(t, `{"type":"record","name":"Move","namespace":"fi.test","fields":[{"name":"id","type":"string"},{"name":"to","type":
	 ["null","string",{"type":"record","name":"Place","fields":[{"name":"city","type":"string","civicbus.scopes":["name"]}]}]}]}`)
	w := newWorld(t)
	w.only("sub-consent")
	w.schema, w.event.Schema = schema, schema
	w.event.Body = w.encode(t, map[string]any{"id": "1", "to": map[string]any{"string": "Espoo"}})
	s := w.snapshot()
	v := s.Decide(nil, w.event, w.consents, time.UnixMilli(w.now))[0]
	values, withheld := delivered(t, s, w.event, &v)
	if fmt.Sprint(values) != "map[profile.language:fi]" || !slices.Equal(withheld, []string{"data.to"}) {
		t.Errorf("delivered %v, withheld %v", values, withheld)
	}
}

func TestTargets(t *testing.T) {
	w := newWorld(t)
	w.subs["sub-law"].Fields = []string{"data.residency", "data.child.id"}
	w.subs["sub-other"] = &codecs.Subscription{ID: "sub-other", Subscriber: "vero.fi", EventTypes: []string{birthType}, Role: "mother", Basis: BasisConsent, Status: "pending"}
	w.subs["sub-over"] = &codecs.Subscription{ID: "sub-over", Subscriber: "old.fi", EventTypes: []string{birthType}, Basis: BasisConsent, Status: StatusRevoked}
	w.subs["sub-role"] = &codecs.Subscription{ID: "sub-role", Subscriber: "lost.fi", EventTypes: []string{birthType}, Role: "aunt", Basis: BasisConsent, Status: "active"}
	delete(w.subs, "sub-task")
	s := w.snapshot()
	got := s.Targets(birthType, w.schema)
	if len(got) != 2 || got[0].Subscriber != "kela.fi" || got[1].Subscriber != "vero.fi" || got[0].Writer != w.schema || got[0].EventType != birthType {
		t.Fatalf("targets %+v", got)
	}
	if want := "data.residency data.place data.hospital data.child.id data.child.name data.child.weight data.child.length data.child.twin"; strings.Join(got[0].Paths, " ") != want {
		t.Errorf("kela.fi gets %v, want %s", got[0].Paths, want)
	}
	if want := "data.place data.hospital data.mother.name data.mother.status"; strings.Join(got[1].Paths, " ") != want {
		t.Errorf("vero.fi gets %v, want %s", got[1].Paths, want)
	}
	if s.Targets("fi.test.none", w.schema) != nil || s.Targets(birthType, nil) != nil {
		t.Error("targets out of nothing")
	}
}

// TestRecursiveFieldNeedsTheCatalog: what a recursive type holds below the cut is not shared by a scope that stands above it.
func TestRecursiveFieldNeedsTheCatalog(t *testing.T) {
	schema := mustSchema(t, `{"type":"record","name":"Person","namespace":"fi.test","fields":[{"name":"id","type":"string"},{"name":"name","type":"string","civicbus.scopes":["name"]},
	 {"name":"secret","type":"string"},{"name":"parents","civicbus.scopes":["name"],"type":{"type":"array","items":"Person"}}]}`)
	w := newWorld(t)
	w.only("sub-consent")
	w.schema, w.event.Schema = schema, schema
	w.event.Body = w.encode(t, map[string]any{"id": "1", "name": "n", "secret": "s", "parents": []any{}})
	for want, fields := range map[string][]codecs.Field{"data.name profile.language": nil, "data.name data.parents profile.language": {{Path: "data.parents", Scopes: []string{"name"}}}} {
		w.types[birthType].Fields = fields
		if got := w.decide(); len(got) != 1 || strings.Join(got[0].Fields, " ") != want {
			t.Errorf("with %v: %+v, want %s", fields, got, want)
		}
	}
}

// TestMalformedBody: bad bytes are a value on the event, and no verdict.
func TestMalformedBody(t *testing.T) {
	w := newWorld(t)
	w.subs["sub-law"].Filter = `{"data.place":"Espoo"}`
	w.event.Body = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	var bad codecs.Malformed
	if got := w.decide(); len(got) != 0 || !errors.As(w.event.Malformed, &bad) {
		t.Errorf("%d verdicts, %v", len(got), w.event.Malformed)
	}
	if _, ok := w.snapshot().DecideOne(w.event, "sub-law", w.consents, time.UnixMilli(w.now)); ok || w.event.Malformed == nil {
		t.Error("DecideOne decided on a malformed body")
	}
}
