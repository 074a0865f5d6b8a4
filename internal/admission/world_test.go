package admission

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
)

// Test ids of the population register, and a made-up company.
const (
	child   = "010516B903X"
	mother  = "010594Y9032"
	father  = "020594X903P"
	company = "1234567-1"
)

const birthSchema = `{"type":"record","name":"Birth","namespace":"fi.dvv","fields":[
	{"name":"child","type":{"type":"record","name":"Person","fields":[
		{"name":"id","type":"string"},{"name":"name","type":"string"}]}},
	{"name":"mother","type":["null","Person"],"default":null},
	{"name":"father","type":["null","Person"],"default":null},
	{"name":"municipality","type":"string"}]}`

const companySchema = `{"type":"record","name":"Company","namespace":"fi.prh","fields":[
	{"name":"id","type":"string"},
	{"name":"founders","type":{"type":"array","items":{"type":"record","name":"Founder","fields":[
		{"name":"id","type":["null","string"]},{"name":"share","type":"double"}]}}},
	{"name":"number","type":["null","long"],"default":null}]}`

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a small trust registry, catalog and schema registry.
type world struct {
	types         map[string]*codecs.EventType
	organisations map[string]*codecs.Organisation
	registry      *codecs.Registry
	resolver      *Resolver
	door          *Door
	schemas       map[string]*codecs.Schema // by registry subject
}

func (w *world) EventType(t string) *codecs.EventType        { return w.types[t] }
func (w *world) Organisation(id string) *codecs.Organisation { return w.organisations[id] }

// tables gives an unchanging copy, as verdict.Snapshot is.
func (w *world) tables() Tables {
	return &world{types: maps.Clone(w.types), organisations: maps.Clone(w.organisations)}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	keys, err := pseudonym.NewKeys([]byte("an example bus key of 32+ bytes, never used"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{registry: codecs.NewLocalRegistry(), schemas: map[string]*codecs.Schema{}}
	w.types = map[string]*codecs.EventType{
		"fi.dvv.person.birth": {Type: "fi.dvv.person.birth", Stream: "life.birth", RegistrySubject: "fi.dvv.birth", Category: "state-change",
			Roles: []codecs.Role{
				{Name: "child", Path: "data.child.id", Scheme: pseudonym.Hetu},
				{Name: "mother", Path: "data.mother.id", Scheme: pseudonym.Hetu},
				{Name: "father", Path: "data.father.id", Scheme: pseudonym.Hetu, Optional: true}}},
		"fi.prh.company.registered": {Type: "fi.prh.company.registered", Stream: "business", RegistrySubject: "fi.prh.company", Category: "domain",
			Roles: []codecs.Role{
				{Name: "company", Path: "data.id", Scheme: pseudonym.YTunnus},
				{Name: "founder", Path: "data.founders[].id", Scheme: pseudonym.Hetu, Many: true, Optional: true}}},
		"fi.prh.company.check": {Type: "fi.prh.company.check", Stream: "commands", RegistrySubject: "fi.prh.company", Category: "command",
			Roles: []codecs.Role{{Name: "company", Path: "data.id", Scheme: pseudonym.YTunnus}}},
		"fi.prh.company.old": {Type: "fi.prh.company.old", Stream: "business", RegistrySubject: "fi.prh.company", Category: "domain", Retired: true,
			Roles: []codecs.Role{{Name: "company", Path: "data.id", Scheme: pseudonym.YTunnus}}},
	}
	w.organisations = map[string]*codecs.Organisation{
		"dvv.fi": {ID: "dvv.fi", Status: "active", Source: "https://dvv.fi", Inbox: true, Publishes: []string{"fi.dvv.person.birth"}},
		"prh.fi": {ID: "prh.fi", Status: "active", Source: "https://prh.fi", Inbox: true,
			Publishes: []string{"fi.prh.company.registered", "fi.prh.company.check", "fi.prh.company.old"}, Commands: []string{"fi.prh.company.check"}},
		"vero.fi": {ID: "vero.fi", Status: "active", Source: "https://vero.fi", Publishes: []string{"fi.prh.company.check"}},
		"gone.fi": {ID: "gone.fi", Status: "suspended", Source: "https://gone.fi", Publishes: []string{"fi.dvv.person.birth"}},
	}
	for subject, text := range map[string]string{"fi.dvv.birth": birthSchema, "fi.prh.company": companySchema, "fi.other": `"string"`} {
		schema, err := w.registry.Register(context.Background(), subject, text)
		if err != nil {
			t.Fatal(err)
		}
		w.schemas[subject] = schema
	}
	w.resolver = NewResolver(w.registry, nil)
	w.door = &Door{Keys: keys, Belongs: w.resolver.Belongs, RegistryURL: "http://registry:8081/"}
	return w
}

// wire encodes a goavro native value under the newest schema of a registry subject.
func (w *world) wire(t testing.TB, registrySubject string, native map[string]any) []byte {
	t.Helper()
	schema := w.schemas[registrySubject]
	codec, err := schema.Goavro()
	if err != nil {
		t.Fatal(err)
	}
	value, err := codec.BinaryFromNative(codecs.AppendWire(nil, schema.ID()), native)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func person(id string) map[string]any { return map[string]any{"id": id, "name": "Testi"} }

// parent is the nullable one; an empty id is null.
func parent(id string) any {
	if id == "" {
		return nil
	}
	return map[string]any{"fi.dvv.Person": person(id)}
}

func (w *world) birth(t testing.TB, ids ...string) *Input {
	t.Helper()
	ids = append(ids, "", "", "")
	return &Input{Organisation: "dvv.fi", Attributes: attributes("birth-1", "https://dvv.fi", "fi.dvv.person.birth"),
		Value: w.wire(t, "fi.dvv.birth", map[string]any{"child": person(ids[0]), "mother": parent(ids[1]), "father": parent(ids[2]), "municipality": "Espoo"})}
}

func (w *world) company(t testing.TB, id string, founders ...string) *Input {
	t.Helper()
	list := []any{}
	for _, f := range founders {
		var id any
		if f != "" {
			id = map[string]any{"string": f}
		}
		list = append(list, map[string]any{"id": id, "share": 0.5})
	}
	return &Input{Organisation: "prh.fi", Attributes: attributes("company-1", "https://prh.fi", "fi.prh.company.registered"),
		Value: w.wire(t, "fi.prh.company", map[string]any{"id": id, "founders": list, "number": nil})}
}

func attributes(id, source, eventType string) map[string]string {
	return map[string]string{"specversion": "1.0", "id": id, "source": source, "type": eventType, "time": "2026-02-28T10:00:00+02:00"}
}

// admit resolves and admits, as relay and publisher do.
func (w *world) admit(t testing.TB, in *Input) Result {
	t.Helper()
	if err := w.resolver.Resolve(context.Background(), w.door, in, w); err != nil {
		t.Fatal(err)
	}
	return w.door.Admit(in, w, now)
}

func (w *world) subject(scheme, id string) string { return w.door.Keys.Subject(scheme, id) }

func reasons(faults []codecs.Fault) (out []string) {
	for _, f := range faults {
		out = append(out, f.Field+" "+f.Reason)
	}
	return out
}

func header(headers []codecs.Header, name string) (string, bool) {
	i := slices.IndexFunc(headers, func(h codecs.Header) bool { return h.Key == name })
	if i < 0 {
		return "", false
	}
	return string(headers[i].Value), true
}

// about lists an accepted event's records as role[index] names.
func about(records []Record) (out []string) {
	for _, rec := range records {
		role, _ := header(rec.Headers, "ce_subjectrole")
		if index, ok := header(rec.Headers, "ce_subjectindex"); ok {
			role += "[" + index + "]"
		}
		out = append(out, role+"="+string(rec.Key))
	}
	return out
}

// holdsAny reports whether text holds one of the test world's national ids, in any case.
func holdsAny(text string) bool {
	upper := strings.ToUpper(text)
	for _, id := range []string{child, mother, father} {
		if strings.Contains(upper, id) {
			return true
		}
	}
	return false
}

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}
