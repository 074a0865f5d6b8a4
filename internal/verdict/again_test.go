package verdict

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"civicbus/codecs"
)

// secondly decides a delivery of v a second time, as whoever reads it from the subscriber's topic sees it, and gives its JSON.
func secondly(t *rapid.T, was, now *Snapshot, w *world, v *Verdict, c *codecs.Consents, at time.Time) (made Verdict, before, after string, withheld, withheldNow []string) {
	target, ok := was.Target(v.Sub.Subscriber, birthType, w.schema)
	if !ok {
		t.Fatal("no target")
	}
	p, err := w.schema.Projection(target.Paths)
	if err != nil {
		t.Fatal(err)
	}
	body, withheld, err := was.Project(nil, w.event, v, p)
	if err != nil {
		t.Fatal(err)
	}
	of := NewDelivered(p.Schema())
	stamp, err := of.Stamp(body)
	if err != nil {
		t.Fatal(err)
	}
	ev := &Event{Type: birthType, Role: w.event.Role, Source: w.event.Source, Recipient: v.Sub.Subscriber, Body: body, Stamp: stamp}
	made, ok = now.DecideAgain(ev, of, v.Sub.ID, of.Fields(withheld), []*codecs.Schema{w.schema}, c, at)
	if !ok {
		t.Fatalf("not decided: %v", ev.Malformed)
	}
	whole, err := p.Schema().ToJSON(nil, body)
	if err != nil {
		t.Fatal(err)
	}
	if !made.Permit {
		return made, string(whole), "", withheld, nil
	}
	mask, err := p.Schema().Mask(of.Hidden(&made))
	if err != nil {
		t.Fatal(err)
	}
	cut, err := p.Schema().ToJSONMasked(nil, body, mask)
	if err != nil {
		t.Fatal(err)
	}
	return made, string(whole), string(cut), withheld, now.Withheld(of, &made, birthType, withheld)
}

// TestDecideAgain: while nothing changes a delivery is permitted again as it is; after any change it is permitted only if the
// event would be now, and holds nothing that either moment does not permit.
func TestDecideAgain(t *testing.T) {
	schema := mustSchema(t, birthSchema)
	permits, denials, cuts, told, untold, unknown := 0, 0, 0, 0, 0, 0
	// lost: of the fields that a filter reads one is not permitted, and another not in the delivery: then nothing leaves.
	lost := func(now, first *Verdict) bool {
		f, _ := parseFilter(now.Sub.Filter)
		return now.Reason == ReasonFilterUnknown && len(f.paths) > 1 && slices.ContainsFunc(f.paths, func(path string) bool { return !slices.Contains(first.Fields, path) })
	}
	rapid.Check(t, func(rt *rapid.T) {
		w, _, _ := drawWorld(t, rt, schema)
		later, _, _ := drawWorld(t, rt, schema)
		was := w.snapshot()
		changed := NewSnapshot().With(Changes{EventTypes: later.types, Organisations: later.orgs, Subscriptions: w.subs})
		for _, v := range was.Decide(nil, w.event, w.consents, time.UnixMilli(w.now)) {
			if !v.Permit {
				continue
			}
			same, before, after, withheld, stays := secondly(rt, was, was, w, &v, w.consents, time.UnixMilli(w.now))
			if lost(&same, &v) {
				unknown++
				continue
			}
			if !same.Permit || same.Reason != v.Reason || same.Reference != v.Reference || same.FieldSet != v.FieldSet {
				rt.Fatalf("nothing changed: %+v, was %+v", same, v)
			}
			if before != after || !slices.Equal(withheld, stays) {
				rt.Fatalf("nothing changed:\n%s %v\n%s %v", before, withheld, after, stays)
			}

			if sets := was.FieldSets(v.Sub.ID, birthType, w.event.Role, []*codecs.Schema{schema}, w.consents); sets[v.FieldSet] != nil || len(v.Fields) == 0 {
				if told++; !slices.Equal(sets[v.FieldSet], v.Fields) {
					rt.Fatalf("the field set is told as %v, and was %v", sets[v.FieldSet], v.Fields)
				}
			} else {
				untold++ // a refusal took some of the grant's scopes
			}
			ev := *w.event
			ev.Recipient = v.Sub.Subscriber
			want, ok := changed.DecideOne(&ev, v.Sub.ID, later.consents, time.UnixMilli(later.now))
			if !ok {
				rt.Fatal("not decided")
			}
			got, before, after, _, _ := secondly(rt, was, changed, w, &v, later.consents, time.UnixMilli(later.now))
			switch {
			case got.Permit && (!want.Permit || got.Reason != want.Reason):
				rt.Fatalf("leaves as %s, and is %s\n%s", got.Reason, want.Reason, v.Sub.Filter)
			case !got.Permit && want.Permit && !lost(&got, &v):
				rt.Fatalf("is kept as %s, and is %s\n%s", got.Reason, want.Reason, v.Sub.Filter)
			case !got.Permit:
				denials++
				continue
			}
			permits++
			for _, path := range got.Fields {
				if !slices.Contains(want.Fields, path) {
					rt.Fatalf("%s leaves, and is not permitted now", path)
				}
			}
			if before != after {
				cuts++
			}
			var tree any
			if err := json.Unmarshal([]byte(after), &tree); err != nil {
				rt.Fatal(err)
			}
			held(rt, tree, "data", func(path string) bool {
				return slices.Contains(want.Fields, path) && slices.Contains(v.Fields, path)
			})
		}
	})
	if told < 5*untold {
		t.Errorf("%d field sets can be told, %d cannot", told, untold)
	}
	if 20*unknown > permits {
		t.Errorf("%d permits, %d filters that cannot be told", permits, unknown)
	}
	if permits < 20 || denials < 20 || cuts < 5 {
		t.Errorf("%d permits, %d denials, %d cuts: too few to tell anything", permits, denials, cuts)
	}
}

// held demands that each value in a delivery's JSON is permitted.
func held(t *rapid.T, v any, path string, permitted func(string) bool) {
	switch v := v.(type) {
	case nil:
	case map[string]any:
		for name, below := range v {
			next := path + "." + name
			if path == "data" && name == "profile" {
				next = "profile"
			}
			held(t, below, next, permitted)
		}
	case []any:
		for _, below := range v {
			held(t, below, path+"[]", permitted)
		}
	default:
		if !permitted(path) {
			t.Fatalf("%s is delivered", path)
		}
	}
}

// A subscription that leaves the fields of its filter out of its deliveries gets them all the same; it gets none where the
// field is not permitted any more.
func TestAgainWithAFilterOnWhatIsNotDelivered(t *testing.T) {
	w := newWorld(t)
	sub := w.only("sub-consent")
	sub.Fields, sub.Filter = []string{"data.child.name"}, `{"data.place":"Espoo"}`
	snap := w.snapshot()
	v := snap.Decide(nil, w.event, w.consents, time.UnixMilli(w.now))
	if len(v) != 1 || !v[0].Permit {
		t.Fatalf("%+v", v)
	}
	target, _ := snap.Target("kela.fi", birthType, w.schema)
	p, err := w.schema.Projection(target.Paths)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(p.JSON(), `"place"`) {
		t.Fatal("the projected schema has the filter's field")
	}
	body, withheld, err := snap.Project(nil, w.event, &v[0], p)
	if err != nil {
		t.Fatal(err)
	}
	of := NewDelivered(p.Schema())
	decide := func(writers ...*codecs.Schema) Verdict {
		t.Helper()
		ev := &Event{Type: birthType, Role: "child", Source: w.event.Source, Recipient: "kela.fi", Body: body}
		made, ok := w.snapshot().DecideAgain(ev, of, "sub-consent", of.Fields(withheld), writers, w.consents, time.UnixMilli(w.now))
		if !ok {
			t.Fatal(ev.Malformed)
		}
		return made
	}
	if made := decide(w.schema); !made.Permit {
		t.Errorf("denied: %s", made.Reason)
	}
	if made := decide(); made.Permit || made.Reason != ReasonFilterUnknown {
		t.Errorf("without the writer's schema: %+v", made)
	}
	w.consents.Grants[0].Scopes = []string{"name"}
	if made := decide(w.schema); made.Permit || made.Reason != ReasonFilterUnknown {
		t.Errorf("place is not granted any more: %+v", made)
	}
	sub.Filter = `{"data.child.name":"Someone"}`
	if made := decide(w.schema); made.Permit || made.Reason != ReasonNotMatched {
		t.Errorf("the filter says no now: %+v", made)
	}
}

func TestStanding(t *testing.T) {
	w := newWorld(t)
	at := time.UnixMilli(w.now)
	w.only("sub-law")
	for want, change := range map[string]func(w *world){
		"":                                func(*world) {},
		ReasonSubscriptionNotActive:       func(w *world) { w.subs["sub-law"].Status = "paused" },
		ReasonSubscriberNotTrusted:        func(w *world) { w.orgs["kela.fi"].Status = "suspended" },
		ReasonCertificationMissing:        func(w *world) { w.orgs["kela.fi"].Certifications[0].ValidTo = w.now },
		ReasonNotEntitled:                 func(w *world) { w.orgs["kela.fi"].Receives[0].Purposes = nil },
		ReasonSubscriptionNotActive + " ": func(w *world) { delete(w.subs, "sub-law") },
	} {
		w := newWorld(t)
		w.only("sub-law")
		change(w)
		if got := w.snapshot().Standing("sub-law", at); got != strings.TrimSpace(want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
