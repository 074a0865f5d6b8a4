package verdict

import (
	"slices"
	"testing"
	"time"

	"civicbus/codecs"

	"pgregory.net/rapid"
)

// Whatever a permit's field set was, made by whatever rows, its number tells its fields to whoever was told of the rows.
func TestNumbersTellFields(t *testing.T) {
	schema, err := codecs.ParseSchema(`{"type":"record","name":"Moved","fields":[
	 {"name":"name","type":"string"},{"name":"street","type":"string"},{"name":"city","type":"string"},
	 {"name":"others","type":{"type":"array","items":{"type":"record","name":"Other","fields":[{"name":"name","type":"string"},{"name":"age","type":"int"}]}}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{"data.name", "data.street", "data.city", "data.others[].name", "data.others[].age", "profile.municipality", "profile.status", "data.others", "data"}
	scopes := []string{"a", "b", "c", "d", "profile.municipality"}
	rapid.Check(t, func(t *rapid.T) {
		some := func(of []string, what string) []string {
			return slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(rapid.SampledFrom(of), 0, 4).Draw(t, what))))
		}
		catalog := func(version int64) *codecs.EventType {
			et := &codecs.EventType{Type: "moved", Version: version, Category: "state-change", Roles: []codecs.Role{{Name: "person"}, {Name: "owner"}}}
			for _, p := range some(paths, "catalog") {
				et.Fields = append(et.Fields, codecs.Field{Path: p, Scopes: some(scopes, "scopes of "+p)})
			}
			et.Rules = []codecs.Rule{{ID: "r", Recipient: "kela.fi", Purpose: "p", Basis: "public_task", Fields: some(paths, "rule"), ValidFrom: 1}}
			return et
		}
		recorded := NewRecorded()
		var numbers []Verdict
		for version := range int64(rapid.IntRange(1, 3).Draw(t, "versions")) {
			et := catalog(version + 1)
			sub := &codecs.Subscription{ID: "s", Subscriber: "kela.fi", EventTypes: []string{"moved"}, Purpose: "p", Basis: rapid.SampledFrom([]string{BasisConsent, "public_task"}).Draw(t, "basis"),
				Fields: some(paths[:7], "narrow"), Status: StatusActive}
			recorded.Learn(et, sub, []*codecs.Schema{schema})
			snap := NewSnapshot().With(Changes{EventTypes: map[string]*codecs.EventType{"moved": et}, Subscriptions: map[string]*codecs.Subscription{"s": sub},
				Organisations: map[string]*codecs.Organisation{"kela.fi": {ID: "kela.fi", Status: StatusActive, Receives: []codecs.Entitlement{{EventType: "moved", Purposes: []string{"p"}, Bases: []string{BasisConsent, "public_task"}}}}}})
			consents := &codecs.Consents{Version: 1, Grants: []codecs.Grant{{ID: "g", Recipient: "kela.fi", Purpose: "p", Scopes: some(scopes, "granted"), State: GrantGiven, ValidFrom: 1}}}
			v, ok := snap.DecideOne(&Event{Type: "moved", Role: "person", Schema: schema, Body: []byte{2, 'A', 2, 'B', 2, 'C', 0}}, "s", consents, time.UnixMilli(1_000))
			if !ok || !v.Permit {
				t.Fatalf("verdict %+v, %t", v, ok)
			}
			numbers = append(numbers, v)
		}
		for _, v := range numbers {
			fields, known := recorded.Fields("s", "moved", "person", v.FieldSet)
			if !known || !slices.Equal(fields, v.Fields) {
				t.Fatalf("%d tells %v, %t; want %v", v.FieldSet, fields, known, v.Fields)
			}
			if _, known := recorded.Fields("s", "moved", "owner", v.FieldSet); known && len(v.Fields) > 0 {
				t.Fatal("another role's number is known")
			}
		}
		if fields, known := recorded.Fields("s", "moved", "person", 4711); known {
			t.Fatalf("a number that nobody had tells %v", fields)
		}
	})
}

// A type of very many scopes is not tried in every combination; what is not known is not told.
func TestManyScopes(t *testing.T) {
	schema := `{"type":"record","name":"Wide","fields":[`
	et := &codecs.EventType{Type: "wide", Roles: []codecs.Role{{Name: "person"}}}
	for i := range 40 {
		name := string(rune('a'+i%26)) + string(rune('a'+i/26))
		if i > 0 {
			schema += ","
		}
		schema += `{"name":"` + name + `","type":"int"}`
		et.Fields = append(et.Fields, codecs.Field{Path: "data." + name, Scopes: []string{"scope-" + name}})
	}
	s, err := codecs.ParseSchema(schema + "]}")
	if err != nil {
		t.Fatal(err)
	}
	r := NewRecorded()
	r.Learn(et, &codecs.Subscription{ID: "s", EventTypes: []string{"wide"}, Basis: BasisConsent}, []*codecs.Schema{s})
	begun := time.Now()
	if _, known := r.Fields("s", "wide", "person", 1); known {
		t.Error("a number that nobody had is known")
	}
	if fields, known := r.Fields("s", "wide", "person", FieldSetOf([]string{"data.aa", "data.ba"})); !known || len(fields) != 2 {
		t.Errorf("two of the first scopes: %v, %t", fields, known)
	}
	t.Logf("%s", time.Since(begun))
}
