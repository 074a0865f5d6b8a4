package trust

import (
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func kela() codecs.Organisation {
	return codecs.Organisation{ID: "kela.fi", Name: "Kela", DID: "did:web:kela.fi", Source: "https://kela.fi",
		Publishes: []string{"fi.kela.benefit.granted"}, PreApproved: []string{"child-benefit"},
		Receives: []codecs.Entitlement{{EventType: "fi.dvv.person.birth", Purposes: []string{"child-benefit"}, Bases: []string{"legal_obligation"},
			Certification: "ISO27001"}},
		Certifications: []codecs.Certification{{Name: "ISO27001", ValidFrom: 1, ValidTo: 2}}}
}

func row(status string) *codecs.Organisation {
	o := kela()
	o.Status, o.Version, o.AppliedIDs, o.AppliedVersions = status, 3, []string{"c0"}, []int64{3}
	return &o
}

func asked(kind string, change func(*codecs.TrustCommand)) *codecs.TrustCommand {
	cmd := &codecs.TrustCommand{Meta: codecs.Meta{ID: "c1", Actor: "operator:anna"}, Kind: kind, Organisation: kela()}
	if change != nil {
		change(cmd)
	}
	return cmd
}

func TestApply(t *testing.T) {
	edit := func(change func(*codecs.Organisation)) *codecs.TrustCommand {
		return asked(Put, func(c *codecs.TrustCommand) { change(&c.Organisation) })
	}
	for _, test := range []struct {
		name    string
		row     *codecs.Organisation
		cmd     *codecs.TrustCommand
		reason  string // empty: accepted
		field   string
		version int64
		status  string // of the next row; empty: the table stays as it is
	}{
		{"new", nil, asked(Put, nil), "", "", 1, Active},
		{"new, said to be active", nil, edit(func(o *codecs.Organisation) { o.Status = Active }), "", "", 1, Active},
		{"new, said to be suspended", nil, edit(func(o *codecs.Organisation) { o.Status = Suspended }), StatusFixed, "status", 0, ""},
		{"the same again", row(Active), asked(Put, nil), "", "", 3, Active},
		{"edit", row(Active), edit(func(o *codecs.Organisation) { o.Name = "Kansaneläkelaitos" }), "", "", 4, Active},
		{"edit of a suspended one keeps it so", row(Suspended), edit(func(o *codecs.Organisation) { o.Name = "K" }), "", "", 4, Suspended},
		{"a put does not resume", row(Suspended), edit(func(o *codecs.Organisation) { o.Status = Active }), StatusFixed, "status", 3, ""},
		{"suspend", row(Active), asked(Suspend, nil), "", "", 4, Suspended},
		{"suspend twice", row(Suspended), asked(Suspend, nil), "", "", 3, Suspended},
		{"resume", row(Suspended), asked(Resume, nil), "", "", 4, Active},
		{"revoke", row(Active), asked(Revoke, nil), "", "", 4, Revoked},
		{"revoke a suspended one", row(Suspended), asked(Revoke, nil), "", "", 4, Revoked},
		{"put after revocation", row(Revoked), asked(Put, nil), OrganisationRevoked, "status", 3, ""},
		{"resume after revocation", row(Revoked), asked(Resume, nil), OrganisationRevoked, "status", 3, ""},
		{"suspend nobody", nil, asked(Suspend, nil), "not_found", "organisation.id", 0, ""},
		{"revoke nobody", nil, asked(Revoke, nil), "not_found", "organisation.id", 0, ""},
		{"unknown kind", row(Active), asked("delete", nil), "unknown_kind", "kind", 3, ""},
		{"version conflict", row(Active), asked(Suspend, func(c *codecs.TrustCommand) { c.Meta.IfVersion = 2 }), "version_conflict", "meta.ifVersion", 3, ""},
		{"right version", row(Active), asked(Suspend, func(c *codecs.TrustCommand) { c.Meta.IfVersion = 3 }), "", "", 4, Suspended},
		{"repeat", row(Suspended), asked(Resume, func(c *codecs.TrustCommand) { c.Meta.ID = "c0" }), "", "", 3, ""},
		{"bad id", nil, edit(func(o *codecs.Organisation) { o.ID = "Kela_FI" }), verdict.FaultBadID, "id", 0, ""},
		{"id ends with a dot", nil, edit(func(o *codecs.Organisation) { o.ID = "kela." }), verdict.FaultBadID, "id", 0, ""},
		{"id that names no topic", nil, edit(func(o *codecs.Organisation) { o.ID = strings.Repeat("a", 101) }), verdict.FaultBadID, "id", 0, ""},
		{"no name", nil, edit(func(o *codecs.Organisation) { o.Name = "" }), NameInvalid, "name", 0, ""},
		{"no DID", nil, edit(func(o *codecs.Organisation) { o.DID = "" }), DIDInvalid, "did", 0, ""},
		{"no DID's form", nil, edit(func(o *codecs.Organisation) { o.DID = "kela.fi" }), DIDInvalid, "did", 0, ""},
		{"DID URL", nil, edit(func(o *codecs.Organisation) { o.DID = "did:web:kela.fi#key" }), DIDInvalid, "did", 0, ""},
		{"publishes without source", nil, edit(func(o *codecs.Organisation) { o.Source = "" }), SourceMissing, "source", 0, ""},
		{"source with a space", nil, edit(func(o *codecs.Organisation) { o.Source = "https://kela.fi/ a" }), SourceMissing, "source", 0, ""},
		{"empty command type", nil, edit(func(o *codecs.Organisation) { o.Commands = []string{""} }), verdict.FaultBadName, "commands[0]", 0, ""},
		{"quotas of its own", nil, edit(func(o *codecs.Organisation) { o.ReadBytes, o.WriteBytes = 1<<20, 1 }), "", "", 1, Active},
		{"negative quota", nil, edit(func(o *codecs.Organisation) { o.WriteBytes = -1 }), QuotaInvalid, "writeBytesPerSecond", 0, ""},
		{"no purpose", nil, edit(func(o *codecs.Organisation) { o.Receives[0].Purposes = nil }), verdict.FaultPurposeNotAllowed, "receives[0].purposes", 0, ""},
		{"unknown basis", nil, edit(func(o *codecs.Organisation) { o.Receives[0].Bases = []string{"consent", "habit"} }), verdict.FaultUnknownBasis, "receives[0].bases[1]", 0, ""},
		{"certification over before it begins", nil, edit(func(o *codecs.Organisation) { o.Certifications[0].ValidFrom = 2 }), verdict.FaultBadInterval, "certifications[0].validTo", 0, ""},
		{"certification without end", nil, edit(func(o *codecs.Organisation) { o.Certifications[0].ValidTo = 0 }), "", "", 1, Active},
		{"inbox without source", nil, edit(func(o *codecs.Organisation) { o.Source, o.Publishes, o.Inbox = "", nil, true }), SourceMissing, "source", 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			next, result := Apply(test.row, test.cmd, now)
			if result.Reason != test.reason || result.Version != test.version || (result.Status == "accepted") != (test.reason == "") {
				t.Fatalf("answered %s %q version %d with %v, want %q version %d", result.Status, result.Reason, result.Version, result.Faults, test.reason, test.version)
			}
			if test.reason != "" && result.Faults[0].Field != test.field {
				t.Errorf("the fault is in %q, want %q", result.Faults[0].Field, test.field)
			}
			if (next != nil) != (test.status != "") || next != nil && (next.Status != test.status || next.Version != test.version) {
				t.Errorf("next row %+v, want status %q", next, test.status)
			}
		})
	}
}
