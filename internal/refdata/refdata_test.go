package refdata

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"civicbus/codecs"
)

func TestParseEventTypes(t *testing.T) {
	rows, faults := ParseEventTypes([]byte(`
type: fi.dvv.person.birth
version: 3
stream: life.birth
roles:
  - {name: mother, path: data.mother.id, scheme: fi-hetu}
  - {name: child, path: "data.children[].id", scheme: fi-hetu, many: true, optional: yes-not}
rules:
  - id: r1
    fields: [data.mother, profile.municipality]
    validFrom: 2020-01-01
    validTo: 2030-06-30T12:00:00+02:00
---
type: fi.dvv.person.death
endsConsents: true
`))
	if len(faults) != 1 || faults[0].Field != "roles[1].optional" || faults[0].Reason != ReasonWrongType || !strings.Contains(faults[0].Text, "document 1, line 7") {
		t.Fatalf("faults %+v", faults)
	}
	if len(rows) != 2 || rows[0].Version != 3 || !rows[0].Roles[1].Many || !rows[1].EndsConsents {
		t.Fatalf("rows %+v", rows)
	}
	rule := rows[0].Rules[0]
	if rule.ValidFrom != time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() || rule.ValidTo != time.Date(2030, 6, 30, 10, 0, 0, 0, time.UTC).UnixMilli() {
		t.Fatalf("rule %+v", rule)
	}
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct{ doc, field, reason string }{
		"unknown key":         {"id: a\nreceivs: []", "receivs", ReasonUnknownKey},
		"nested unknown key":  {"id: a\nreceives: [{eventType: x, purpose: y}]", "receives[0].purpose", ReasonUnknownKey},
		"internal field":      {"id: a\nAppliedIDs: [x]", "AppliedIDs", ReasonUnknownKey},
		"repeated key":        {"id: a\nid: b", "id", ReasonDuplicateKey},
		"merge key":           {"id: a\n<<: {name: x}", "<<", ReasonUnknownKey},
		"text where list":     {"id: a\npublishes: x", "publishes", ReasonWrongType},
		"list where text":     {"id: [a]", "id", ReasonWrongType},
		"text where mapping":  {"id: a\ncertifications: [x]", "certifications[0]", ReasonWrongType},
		"alias":               {"id: &x a\nname: *x", "name", ReasonWrongType},
		"time without zone":   {"id: a\ncertifications: [{name: x, validTo: 2026-01-01T00:00:00}]", "certifications[0].validTo", ReasonBadTime},
		"time as millis":      {"id: a\ncertifications: [{name: x, validTo: 1790000000000}]", "certifications[0].validTo", ReasonBadTime},
		"time before 1970":    {"id: a\ncertifications: [{name: x, validTo: 0001-01-01}]", "certifications[0].validTo", ReasonBadTime},
		"version as text":     {"id: a\nversion: one", "version", ReasonWrongType},
		"no key":              {"name: x", "id", ReasonMissing},
		"not a mapping":       {"- 1", "", ReasonMalformed},
		"text":                {"hello", "", ReasonMalformed},
		"nothing":             {"", "", ReasonMalformed},
		"not YAML":            {"a: [", "", ReasonMalformed},
		"too large":           {strings.Repeat("#", MaxDocumentBytes+1), "", ReasonTooLarge},
		"complex mapping key": {"id: a\n? [x]\n: y", "", ReasonUnknownKey},
	} {
		t.Run(name, func(t *testing.T) {
			_, faults := ParseOrganisations([]byte(c.doc))
			for _, f := range faults {
				if f.Field == c.field && f.Reason == c.reason && f.Text != "" {
					return
				}
			}
			t.Fatalf("faults %+v", faults)
		})
	}
}

func TestSequenceJSONAndEmptyDocuments(t *testing.T) {
	for name, doc := range map[string]string{
		"sequence":           "- {id: a}\n- {id: b}",
		"documents":          "---\nid: a\n---\n---\nid: b\n---\n",
		"JSON":               `[{"id":"a","name":"caf\u00e9 \ud83d\ude00 <b>"},{"id":"b"}]`,
		"null is no key":     "id: a\nname: null\npublishes: ~\n---\nid: b",
		"a comment up front": "# hello\nid: a\n---\n# there\nid: b",
	} {
		t.Run(name, func(t *testing.T) {
			rows, faults := ParseOrganisations([]byte(doc))
			if len(faults) > 0 || len(rows) != 2 || rows[0].ID != "a" || rows[1].ID != "b" {
				t.Fatalf("rows %+v faults %+v", rows, faults)
			}
			if name == "JSON" && rows[0].Name != "café 😀 <b>" {
				t.Fatalf("name %q", rows[0].Name)
			}
		})
	}
}

func TestFilterForms(t *testing.T) {
	for doc, want := range map[string]string{
		`filter: '{"data.a": "x"}'`:                          `{"data.a": "x"}`,
		`filter: {data.a: x, data.n: 12, data.t: "12"}`:      `{"data.a":"x","data.n":12,"data.t":"12"}`,
		`filter: [{not: {exact: {type: a}}}, {all: [true]}]`: `[{"not":{"exact":{"type":"a"}}},{"all":[true]}]`,
		`filter: {cel: 'data.a < 3 && data.b == "é"'}`:       `{"cel":"data.a < 3 && data.b == \"é\""}`,
	} {
		rows, faults := ParseSubscriptions([]byte("id: s\n" + doc))
		if len(faults) > 0 || rows[0].Filter != want {
			t.Errorf("%s: %s, faults %+v", doc, rows[0].Filter, faults)
		}
	}
	for _, doc := range []string{
		"filter: {a: 1, a: 2}",
		"filter: {a: &x 1, b: *x}",
		"filter: " + strings.Repeat("[", 40) + strings.Repeat("]", 40),
	} {
		if _, faults := ParseSubscriptions([]byte("id: s\n" + doc)); len(faults) != 1 || faults[0].Field != "filter" {
			t.Errorf("%s: faults %+v", doc, faults)
		}
	}
}

func TestConsents(t *testing.T) {
	consents, faults := ParseConsents([]byte(`
subject: fi-hetu:010594Y9032
kind: grant
id: g1
recipient: kela.fi
purpose: child-benefit
scopes: [birth-notification]
validFrom: 2026-01-01
---
{subject: "fi-hetu:010594Y9032", kind: restrict}
`))
	if len(faults) > 0 || len(consents) != 2 {
		t.Fatalf("%+v %+v", consents, faults)
	}
	grant := consents[0]
	if grant.Subject.ID != "010594Y9032" || grant.Command.Grant.Recipient != "kela.fi" || grant.Command.Grant.ValidFrom == 0 || consents[1].Command.Restriction != "protected" {
		t.Fatalf("%#v", consents)
	}
	for _, doc := range []string{"kind: grant", "subject: 010594Y9032\nkind: grant", "subject: fi-hetu:x\nkind: give", "subject: fi-hetu:x\nkind: withdraw",
		"subject: fi-hetu:x\nkind: object", "subject: fi-hetu:x\nkind: grant\nrecipient: a\npurpose: b"} {
		if _, faults := ParseConsents([]byte(doc)); len(faults) == 0 {
			t.Errorf("no fault in %q", doc)
		}
	}
}

// Whatever is wrong with a consent document and however a subject is printed: the id is not in it.
func TestNoIdIsPrinted(t *testing.T) {
	const id = "010594Y9032"
	subject, ok := ParseSubject("fi-hetu:" + id)
	if !ok {
		t.Fatal("not a subject")
	}
	asJSON, err := json.Marshal(subject)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "subject", subject, "consent", Consent{Subject: subject})
	printed := []string{fmt.Sprintf("%v %+v %#v %s %q", subject, subject, subject, subject, subject), fmt.Sprintf("%+v %#v", Consent{Subject: subject}, Consent{Subject: subject}), string(asJSON), log.String()}
	for _, doc := range []string{
		id, "- " + id, "subject: [" + id + "]", "subject: " + id, "kind: " + id, "subject: {a: " + id + "}", "validFrom: " + id, "upTo: " + id, "scopes: " + id,
		"subject: fi-hetu:" + id + "\nsubject: fi-hetu:" + id, "subject: '" + id, "subject: \"fi-hetu:" + id + "\n\t: [", "subject: *" + id, id + ": x", "? " + id + "\n: x", "x: {" + id + ": 1}", "{\"subject\": \"" + id + "\"",
	} {
		consents, faults := ParseConsents([]byte(doc))
		if len(faults) == 0 {
			t.Errorf("no fault in %q", doc)
		}
		printed = append(printed, fmt.Sprintf("%+v %+v", consents, faults))
	}
	for _, text := range printed {
		if strings.Contains(text, id) {
			t.Errorf("the id is in %s", text)
		}
	}
}

// An int64 of a document is either a time or a number, by its key; a new one must be sorted into one of them.
func TestEveryIntegerIsKnown(t *testing.T) {
	for _, row := range []any{codecs.EventType{}, codecs.Organisation{}, codecs.Subscription{}, codecs.Consents{}, codecs.Profile{}, consentDocument{}} {
		walkKeys(reflect.TypeOf(row), func(key string, kind reflect.Kind) {
			if kind == reflect.Int64 || kind == reflect.Int32 {
				if times[key] == numbers[key] {
					t.Errorf("%T: key %s is neither a time nor a number", row, key)
				}
			}
		})
	}
}

func walkKeys(typ reflect.Type, visit func(key string, kind reflect.Kind)) {
	for i := range typ.NumField() {
		field := typ.Field(i)
		if keyOf(field) == "" {
			continue
		}
		kind := field.Type
		for kind.Kind() == reflect.Slice {
			kind = kind.Elem()
		}
		visit(keyOf(field), kind.Kind())
		if kind.Kind() == reflect.Struct {
			walkKeys(kind, visit)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		types := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) codecs.EventType {
			var row codecs.EventType
			fill(t, reflect.ValueOf(&row).Elem(), "")
			row.Type = rapid.StringMatching(`[a-z.]{1,20}`).Draw(t, "key")
			return row
		}), 1, 3).Draw(t, "types")
		again(t, types, ParseEventTypes)
		subscription := codecs.Subscription{}
		fill(t, reflect.ValueOf(&subscription).Elem(), "")
		subscription.ID = "s"
		again(t, []codecs.Subscription{subscription}, ParseSubscriptions)
		organisation := codecs.Organisation{}
		fill(t, reflect.ValueOf(&organisation).Elem(), "")
		organisation.ID = "o"
		again(t, []codecs.Organisation{organisation}, ParseOrganisations)
	})
}

func again[T any](t *rapid.T, rows []T, parse func([]byte) ([]T, []codecs.Fault)) {
	printed, err := YAML(rows...)
	if err != nil {
		t.Fatal(err)
	}
	read, faults := parse(printed)
	if len(faults) > 0 || !reflect.DeepEqual(read, rows) {
		t.Fatalf("printed\n%s\nread %+v\nfaults %+v", printed, read, faults)
	}
	asJSON, err := JSON(rows[0])
	if err != nil {
		t.Fatal(err)
	}
	read, faults = parse(asJSON)
	if !json.Valid(asJSON) || len(faults) > 0 || !reflect.DeepEqual(read, rows[:1]) {
		t.Fatalf("printed\n%s\nread %+v\nfaults %+v", asJSON, read, faults)
	}
}

// fill draws every field that a document can hold; a slice is never empty but nil, as it is after reading.
func fill(t *rapid.T, into reflect.Value, key string) {
	switch into.Kind() {
	case reflect.String:
		if filters[key] {
			into.SetString(rapid.SampledFrom([]string{"", `{"data.a":"b"}`, `{"cel": "x"}`, `[{"exact":{"type":"y"}},1.5,null,true]`, "not json", `{"a":1,"a":2}`, `{"x":"1"}`}).Draw(t, key))
			return
		}
		into.SetString(rapid.OneOf(rapid.SampledFrom([]string{"", "12", "true", "null", "~", "no", "2026-01-01", "1e3", "0x1f", " x ", "a: b", "- a", "#c", "*a", "&a", "é\n", "<<", "😀", "\t", "@x", "'", `"`}), rapid.StringMatching(`[ -~äö]{0,12}`)).Draw(t, key))
	case reflect.Bool:
		into.SetBool(rapid.Bool().Draw(t, key))
	case reflect.Int64:
		into.SetInt(rapid.Int64Range(0, 4e12).Draw(t, key))
	case reflect.Int32:
		into.SetInt(int64(rapid.Int32Range(0, 1000).Draw(t, key)))
	case reflect.Slice:
		if n := rapid.IntRange(0, 2).Draw(t, key); n > 0 {
			into.Set(reflect.MakeSlice(into.Type(), n, n))
			for i := range n {
				fill(t, into.Index(i), key)
			}
		}
	case reflect.Struct:
		for i := range into.NumField() {
			if key := keyOf(into.Type().Field(i)); key != "" {
				fill(t, into.Field(i), key)
			}
		}
	}
}
