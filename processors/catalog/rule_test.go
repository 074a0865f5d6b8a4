package catalog

import (
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const deathSchema = `{"type":"record","name":"Death","namespace":"fi.dvv","fields":[
	{"name":"deceased","type":{"type":"record","name":"Person","fields":[{"name":"id","type":"string"},{"name":"name","type":"string"}]}},
	{"name":"spouse","type":["null","Person"]}]}`

func look(t testing.TB) Lookups {
	t.Helper()
	schema, err := codecs.ParseSchema(deathSchema)
	if err != nil {
		t.Fatal(err)
	}
	return Lookups{Schema: func(subject string) *codecs.Schema {
		if subject == "dvv-death-value" || subject == "dvv-death-v2-value" {
			return schema
		}
		return nil
	}}
}

func death() codecs.EventType {
	return codecs.EventType{Type: "fi.dvv.person.death", Stream: "life.death", RegistrySubject: "dvv-death-value", Category: "state-change", Owner: "dvv.fi",
		Title: "Death", Classification: "confidential", EndsConsents: true,
		Roles: []codecs.Role{{Name: "deceased", Path: "data.deceased.id", Scheme: "fi-hetu"}, {Name: "spouse", Path: "data.spouse.id", Scheme: "fi-hetu", Optional: true}},
		Rules: []codecs.Rule{{ID: "pension", Recipient: "kela.fi", Purpose: "pension", Basis: "legal_obligation", Fields: []string{"data"}, Citation: "568/2007"}}}
}

func row(change func(*codecs.EventType)) *codecs.EventType {
	e := death()
	e.Version, e.Commands, e.AppliedVersions = 5, []string{"c0"}, []int64{4}
	if change != nil {
		change(&e)
	}
	return &e
}

func asked(change func(*codecs.EventType)) *codecs.CatalogCommand {
	cmd := &codecs.CatalogCommand{Meta: codecs.Meta{ID: "c1", Actor: "operator:anna"}, Kind: Put, EventType: death()}
	if change != nil {
		change(&cmd.EventType)
	}
	return cmd
}

func TestApply(t *testing.T) {
	retired := func(e *codecs.EventType) { e.Retired = true }
	retire := &codecs.CatalogCommand{Meta: codecs.Meta{ID: "c1", Actor: "operator:anna"}, Kind: Retire, EventType: codecs.EventType{Type: "fi.dvv.person.death"}}
	for _, test := range []struct {
		name    string
		row     *codecs.EventType
		cmd     *codecs.CatalogCommand
		reason  string // empty: accepted
		field   string
		version int64 // answered
		changed bool
	}{
		{"new", nil, asked(nil), "", "", 1, true},
		{"the same again", row(nil), asked(nil), "", "", 5, false},
		{"a new rule", row(nil), asked(func(e *codecs.EventType) { e.Rules[0].Citation = "1/2026" }), "", "", 6, true},
		{"retire", row(nil), retire, "", "", 6, true},
		{"retire twice", row(retired), retire, "", "", 5, false},
		{"retire nothing", nil, retire, "not_found", "eventType.type", 0, false},
		{"a put says whether it is retired", row(retired), asked(nil), "", "", 6, true},
		{"unknown kind", row(nil), &codecs.CatalogCommand{Meta: codecs.Meta{ID: "c", Actor: "a"}, Kind: "delete"}, "unknown_kind", "kind", 5, false},
		{"unknown stream", nil, asked(func(e *codecs.EventType) { e.Stream = "life.divorce" }), verdict.FaultUnknownStream, "stream", 0, false},
		{"unknown category", nil, asked(func(e *codecs.EventType) { e.Category = "news" }), verdict.FaultUnknownCategory, "category", 0, false},
		{"no schema", nil, asked(func(e *codecs.EventType) { e.RegistrySubject = "nothing" }), verdict.FaultUnknownSchema, "registrySubject", 0, false},
		{"no such path", nil, asked(func(e *codecs.EventType) { e.Roles[1].Path = "data.widow.id" }), verdict.FaultUnknownField, "roles[1].path", 0, false},
		{"ends consents where nobody listens", nil, asked(func(e *codecs.EventType) { e.Stream = "life.family" }), EndsConsentsStream, "endsConsents", 0, false},
		{"another stream", row(func(e *codecs.EventType) { e.EndsConsents = false }), asked(func(e *codecs.EventType) { e.Stream, e.EndsConsents = "life.family", false }), StreamFixed, "stream", 5, false},
		{"another registry subject", row(nil), asked(func(e *codecs.EventType) { e.RegistrySubject = "dvv-death-v2-value" }), StreamFixed, "registrySubject", 5, false},
		{"another category", row(nil), asked(func(e *codecs.EventType) { e.Category = "domain" }), CategoryFixed, "category", 5, false},
		{"another first role", row(nil), asked(func(e *codecs.EventType) { e.Roles[0], e.Roles[1] = e.Roles[1], e.Roles[0] }), FirstRoleFixed, "roles[0].name", 5, false},
		{"one role more", row(nil), asked(func(e *codecs.EventType) {
			e.Roles = append(e.Roles, codecs.Role{Name: "child", Path: "data.spouse.id", Scheme: "fi-hetu"})
		}), "", "", 6, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			next, result := Apply(test.row, test.cmd, look(t), now)
			if result.Reason != test.reason || result.Version != test.version {
				t.Fatalf("answered %q version %d with %v, want %q version %d", result.Reason, result.Version, result.Faults, test.reason, test.version)
			}
			if test.reason != "" {
				if next != nil || result.Faults[0].Field != test.field {
					t.Errorf("the fault is in %q, want %q", result.Faults[0].Field, test.field)
				}
				return
			}
			if next == nil || next.Version != test.version || next.Commands[len(next.Commands)-1] != "c1" {
				t.Fatalf("next row %+v", next)
			}
			if test.changed != (test.row == nil || next.Version != test.row.Version) || test.changed != (next.UpdatedAt == now.UnixMilli()) {
				t.Errorf("next row %+v", next)
			}
		})
	}
}
