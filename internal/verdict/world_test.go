package verdict

import (
	"maps"
	"slices"
	"testing"
	"time"

	"civicbus/codecs"
)

// birthSchema is the writer schema of most tests: owners, scopes, a role with many, a union, and fields without scope.
const birthSchema = `{"type":"record","name":"Birth","namespace":"fi.test","fields":[
 {"name":"residency","type":"string"},
 {"name":"place","type":"string","civicbus.scopes":["place"]},
 {"name":"hospital","type":["null","string"],"civicbus.scopes":["place","health"]},
 {"name":"child","civicbus.owner":"child","type":{"type":"record","name":"Child","fields":[
   {"name":"id","type":"string"},
   {"name":"name","type":"string","civicbus.scopes":["name"]},
   {"name":"weight","type":"int","civicbus.scopes":["health"]},
   {"name":"length","type":"double","civicbus.scopes":["health"]},
   {"name":"twin","type":"boolean","civicbus.scopes":["health"]}]}},
 {"name":"mother","civicbus.owner":"mother","type":["null",{"type":"record","name":"Mother","fields":[
   {"name":"id","type":"string"},
   {"name":"name","type":"string","civicbus.scopes":["name"]},
   {"name":"status","type":{"type":"enum","name":"Status","symbols":["SINGLE","MARRIED"]},"civicbus.scopes":["family"]}]}]},
 {"name":"siblings","civicbus.owner":"sibling","type":{"type":"array","items":{"type":"record","name":"Sibling","fields":[
   {"name":"id","type":"string"},
   {"name":"name","type":"string","civicbus.scopes":["name"]}]}}}]}`

// schemaEnds repeats by hand what birthSchema says, for the model to be independent of the code.
var schemaEnds = []struct {
	path, owner string
	scopes      []string
}{
	{"data.residency", "", nil},
	{"data.place", "", []string{"place"}},
	{"data.hospital", "", []string{"place", "health"}},
	{"data.child.id", "child", nil},
	{"data.child.name", "child", []string{"name"}},
	{"data.child.weight", "child", []string{"health"}},
	{"data.child.length", "child", []string{"health"}},
	{"data.child.twin", "child", []string{"health"}},
	{"data.mother.id", "mother", nil},
	{"data.mother.name", "mother", []string{"name"}},
	{"data.mother.status", "mother", []string{"family"}},
	{"data.siblings[].id", "sibling", nil},
	{"data.siblings[].name", "sibling", []string{"name"}},
}

// world is everything that a decision depends on.
type world struct {
	schema   *codecs.Schema
	types    map[string]*codecs.EventType
	orgs     map[string]*codecs.Organisation
	subs     map[string]*codecs.Subscription
	consents *codecs.Consents
	event    *Event
	now      int64
}

const (
	birthType = "fi.test.birth"
	noon      = int64(1_700_000_000_000)
)

func mustSchema(t testing.TB, text string) *codecs.Schema {
	t.Helper()
	s, err := codecs.ParseSchema(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newWorld is a world in which every subscription is permitted: sub-consent by a grant, sub-law by an obligation, sub-task by
// a public task.
func newWorld(t testing.TB) *world {
	w := &world{schema: mustSchema(t, birthSchema), now: noon}
	rule := func(id, basis string) codecs.Rule {
		return codecs.Rule{ID: id, Recipient: "kela.fi", Purpose: "benefit", Basis: basis, Fields: []string{"data.child", "data.residency", "profile.municipality"},
			ValidFrom: noon - 10, ValidTo: noon + 10, Citation: "Act 1"}
	}
	w.types = map[string]*codecs.EventType{birthType: {
		Type: birthType, Version: 7, Stream: "life.birth", RegistrySubject: "birth-value", Category: "domain", Classification: "confidential",
		Roles: []codecs.Role{{Name: "child", Path: "data.child.id", Scheme: "fi-hetu"}, {Name: "mother", Path: "data.mother.id", Scheme: "fi-hetu", Optional: true},
			{Name: "sibling", Path: "data.siblings[].id", Scheme: "fi-hetu", Many: true}},
		Rules: []codecs.Rule{rule("law-1", BasisLegalObligation), rule("task-1", "public_task")},
	}}
	w.orgs = map[string]*codecs.Organisation{"kela.fi": {
		ID: "kela.fi", Version: 3, Status: "active",
		Receives: []codecs.Entitlement{{EventType: birthType, Purposes: []string{"benefit"}, Bases: []string{"consent", BasisLegalObligation, "public_task"},
			Certification: "ISO27001"}},
		Certifications: []codecs.Certification{{Name: "ISO27001", ValidFrom: noon - 10, ValidTo: noon + 10}},
	}}
	w.subs = map[string]*codecs.Subscription{}
	for id, basis := range map[string]string{"sub-consent": BasisConsent, "sub-law": BasisLegalObligation, "sub-task": "public_task"} {
		w.subs[id] = &codecs.Subscription{ID: id, Version: 2, Subscriber: "kela.fi", EventTypes: []string{birthType}, Purpose: "benefit",
			Basis: basis, Status: "active", Delivery: codecs.Delivery{Kind: "kafka"}}
	}
	w.subs["sub-consent"].Scopes = []string{"name"}
	w.consents = &codecs.Consents{Version: 9, Grants: []codecs.Grant{{ID: "g1", Version: 4, State: GrantGiven, Recipient: "kela.fi", Purpose: "benefit",
		Scopes: []string{"name", "place", "profile.language"}, ValidFrom: noon - 10, ValidTo: noon + 10, GivenAt: noon - 10}}}
	w.event = &Event{Type: birthType, Role: "child", Source: "https://dvv.fi", Schema: w.schema,
		Stamp: &codecs.Attributes{Municipality: "Espoo", Language: "fi"}}
	w.event.Body = w.encode(t, birth())
	return w
}

// birth is the data of an event, in goavro's native form.
func birth() map[string]any {
	return map[string]any{
		"residency": "Finland", "place": "Espoo", "hospital": map[string]any{"string": "HUS"},
		"child":    map[string]any{"id": "010120A900X", "name": "Aino", "weight": 3500, "length": 50.5, "twin": false},
		"mother":   map[string]any{"fi.test.Mother": map[string]any{"id": "010190-900Y", "name": "Liisa", "status": "MARRIED"}},
		"siblings": []any{map[string]any{"id": "s0", "name": "Eero"}, map[string]any{"id": "s1", "name": "Olli"}},
	}
}

func (w *world) encode(t testing.TB, native map[string]any) []byte {
	t.Helper()
	codec, err := w.schema.Goavro()
	if err != nil {
		t.Fatal(err)
	}
	body, err := codec.BinaryFromNative(nil, native)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func (w *world) snapshot() *Snapshot {
	return NewSnapshot().With(Changes{EventTypes: w.types, Organisations: w.orgs, Subscriptions: w.subs})
}

func (w *world) decide() []Verdict {
	return w.snapshot().Decide(nil, w.event, w.consents, time.UnixMilli(w.now))
}

// only keeps one subscription.
func (w *world) only(id string) *codecs.Subscription {
	maps.DeleteFunc(w.subs, func(k string, _ *codecs.Subscription) bool { return k != id })
	return w.subs[id]
}

func (w *world) rule(basis string) *codecs.Rule {
	rules := w.types[birthType].Rules
	return &rules[slices.IndexFunc(rules, func(r codecs.Rule) bool { return r.Basis == basis })]
}
