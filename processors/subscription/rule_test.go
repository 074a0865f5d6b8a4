package subscription

import (
	"fmt"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const birthSchema = `{"type":"record","name":"Birth","namespace":"fi.dvv","fields":[
	{"name":"child","type":{"type":"record","name":"Person","fields":[{"name":"id","type":"string"},{"name":"name","type":"string"}]}},
	{"name":"residency","type":"string"}]}`

// lookups is a world with one event type and one organisation, which may have it for child-benefit by law, pre-approved,
// and for greeting by consent.
func lookups(t testing.TB) Lookups {
	t.Helper()
	schema, err := codecs.ParseSchema(birthSchema)
	if err != nil {
		t.Fatal(err)
	}
	birth := codecs.EventType{Type: "fi.dvv.person.birth", Version: 1, Stream: "life.birth", RegistrySubject: "dvv-birth-value", Category: "state-change",
		Classification: "confidential", Roles: []codecs.Role{{Name: "child", Path: "data.child.id", Scheme: "fi-hetu"}},
		Fields: []codecs.Field{{Path: "data.child.name", Owner: "child", Scopes: []string{"name"}}, {Path: "data.residency", Scopes: []string{"residency"}}},
		Rules: []codecs.Rule{{ID: "cb", Recipient: "kela.fi", Purpose: "child-benefit", Basis: "legal_obligation", Fields: []string{"data"}, Citation: "796/1992"},
			{ID: "st", Recipient: "kela.fi", Purpose: "statistics", Basis: "public_task", Fields: []string{"data.residency"}, Citation: "280/2004"}}}
	kela := codecs.Organisation{ID: "kela.fi", Version: 1, Name: "Kela", DID: "did:web:kela.fi", Status: "active", PreApproved: []string{"child-benefit"},
		Receives: []codecs.Entitlement{{EventType: birth.Type, Purposes: []string{"child-benefit"}, Bases: []string{"legal_obligation"}},
			{EventType: birth.Type, Purposes: []string{"greeting"}, Bases: []string{"consent"}},
			{EventType: birth.Type, Purposes: []string{"statistics"}, Bases: []string{"public_task"}, Certification: "ISO27001"}},
		Certifications: []codecs.Certification{{Name: "ISO27001", ValidFrom: 1, ValidTo: now.UnixMilli()}}}
	return Lookups{
		Snapshot: verdict.NewSnapshot().With(verdict.Changes{EventTypes: map[string]*codecs.EventType{birth.Type: &birth},
			Organisations: map[string]*codecs.Organisation{kela.ID: &kela}}),
		Schema: func(subject string) *codecs.Schema {
			if subject == birth.RegistrySubject {
				return schema
			}
			return nil
		},
	}
}

func greeting() codecs.Subscription {
	return codecs.Subscription{ID: "sub-1", Subscriber: "kela.fi", EventTypes: []string{"fi.dvv.person.birth"}, Purpose: "greeting", Basis: "consent",
		Scopes: []string{"name"}, Delivery: codecs.Delivery{Kind: "kafka"}}
}

func asked(kind, actor string, change func(*codecs.SubscriptionCommand)) *codecs.SubscriptionCommand {
	cmd := &codecs.SubscriptionCommand{Meta: codecs.Meta{ID: "c1", Actor: actor}, Kind: kind, Subscription: codecs.Subscription{ID: "sub-1"}}
	if kind == Put {
		cmd.Subscription = greeting()
	}
	if change != nil {
		change(cmd)
	}
	return cmd
}

func edit(change func(*codecs.Subscription)) *codecs.SubscriptionCommand {
	return asked(Put, "anna", func(c *codecs.SubscriptionCommand) { change(&c.Subscription) })
}

func because(kind, reason string) *codecs.SubscriptionCommand {
	return asked(kind, "anna", func(c *codecs.SubscriptionCommand) { c.Reason = reason })
}

var vector = []codecs.StreamPosition{{Topic: "life.birth", Partition: 0, Offset: 7}, {Topic: "life.birth", Partition: 1}}

func activation(ifVersion int64, from []codecs.StreamPosition) *codecs.SubscriptionCommand {
	return asked(Activated, Bus, func(c *codecs.SubscriptionCommand) { c.Meta.IfVersion, c.Subscription.From = ifVersion, from })
}

// row is a subscription of version 5 in a status, requested by anna and, where that is so, approved by bertta.
func row(status string) *codecs.Subscription {
	s := greeting()
	s.Status, s.Version, s.RequestedBy, s.CreatedAt, s.AppliedIDs, s.AppliedVersions = status, 5, "anna", 1, []string{"c0"}, []int64{5}
	if status != Pending {
		s.ApprovedBy = "bertta"
	}
	if status == Active || status == Paused {
		s.From = vector
	}
	if status == Paused {
		s.StatusReason = "maintenance"
	}
	return &s
}

func rowWith(status string, change func(*codecs.Subscription)) *codecs.Subscription {
	s := row(status)
	change(s)
	return s
}

func TestApply(t *testing.T) {
	look := lookups(t)
	byLaw := func(s *codecs.Subscription) {
		s.Purpose, s.Basis, s.Scopes = "child-benefit", "legal_obligation", nil
	}
	webhook := func(sink string) func(*codecs.Subscription) {
		return func(s *codecs.Subscription) { s.Delivery = codecs.Delivery{Kind: "webhook", Sink: sink} }
	}
	for _, test := range []struct {
		name   string
		row    *codecs.Subscription
		cmd    *codecs.SubscriptionCommand
		reason string // empty: accepted
		want   string // of the next row: status, reason, approver, number of positions; empty: nothing is written
	}{
		{"new", nil, asked(Put, "anna", nil), "", "pending   0"},
		{"new, whatever it brings along", nil, edit(func(s *codecs.Subscription) {
			s.From, s.ApprovedBy, s.StatusReason, s.Version, s.AppliedIDs = vector, "anna", "x", 9, []string{"y"}
		}), "", "pending   0"},
		{"new and active", nil, edit(func(s *codecs.Subscription) { s.Status = Active }), StatusFixed, ""},
		{"new for a pre-approved purpose", nil, edit(byLaw), "", "activating  pre-approved 0"},
		{"bad id", nil, edit(func(s *codecs.Subscription) { s.ID = "Sub_1" }), IDInvalid, ""},
		{"unknown subscriber", nil, edit(func(s *codecs.Subscription) { s.Subscriber = "vero.fi" }), "unknown_subscriber", ""},
		{"unknown type", nil, edit(func(s *codecs.Subscription) { s.EventTypes = []string{"fi.dvv.person.flight"} }), "unknown_type", ""},
		{"purpose not allowed", nil, edit(func(s *codecs.Subscription) { s.Purpose = "advertising" }), "purpose_not_allowed", ""},
		{"certificate expired", nil, edit(func(s *codecs.Subscription) {
			s.Purpose, s.Basis, s.Scopes = "statistics", "public_task", nil
		}), "certificate_expired", ""},
		{"unknown scope", nil, edit(func(s *codecs.Subscription) { s.Scopes = []string{"income"} }), "unknown_scope", ""},
		{"filter over what it may not have", nil, edit(func(s *codecs.Subscription) { s.Filter = `{"data.child.id":"x"}` }), "filter_field_not_permitted", ""},

		{"the same again", row(Active), asked(Put, "carl", nil), "", "active  bertta 2"},
		{"the same with its status", row(Active), edit(func(s *codecs.Subscription) { s.Status = Active }), "", "active  bertta 2"},
		{"a put does not pause", row(Active), edit(func(s *codecs.Subscription) { s.Status = Paused }), StatusFixed, ""},
		{"another subscriber", row(Active), edit(func(s *codecs.Subscription) { s.Subscriber = "vero.fi" }), SubscriberFixed, ""},
		{"wider", row(Active), edit(func(s *codecs.Subscription) { s.Scopes = nil }), "", "pending   0"},
		{"narrower", row(Active), edit(func(s *codecs.Subscription) { s.Fields = []string{"data.residency"} }), "", "pending   0"},
		{"another filter", row(Active), edit(func(s *codecs.Subscription) { s.Filter = `{"data.residency":"Finland"}` }), "", "pending   0"},
		{"another purpose, pre-approved", row(Active), edit(byLaw), "", "activating  pre-approved 0"},
		{"an edit while paused", row(Paused), edit(func(s *codecs.Subscription) { s.Scopes = []string{"residency"} }), "", "pending   0"},
		{"another way of delivery", row(Active), edit(func(s *codecs.Subscription) { s.Delivery.Thin = true }), "", "active  bertta 2"},
		{"another way of delivery while paused", row(Paused), edit(func(s *codecs.Subscription) { s.Delivery.Mode = "structured" }), "", "paused maintenance bertta 2"},
		{"to a webhook", row(Active), edit(webhook("https://kela.fi/hook")), "", "pending   0"},
		{"to another path of the webhook", rowWith(Active, webhook("https://kela.fi/hook")), edit(webhook("https://kela.fi/hook2")), "", "active  bertta 2"},
		{"to a webhook on another host", rowWith(Active, webhook("https://kela.fi/hook")), edit(webhook("https://kela.example/hook")), "", "pending   0"},
		{"from a webhook to the topic", rowWith(Active, webhook("https://kela.fi/hook")), asked(Put, "anna", nil), "", "active  bertta 2"},
		{"the types in another order", rowWith(Active, func(s *codecs.Subscription) { s.Scopes = []string{"residency", "name"} }),
			edit(func(s *codecs.Subscription) { s.Scopes = []string{"name", "residency"} }), "", "active  bertta 2"},
		{"an edit that is refused", row(Active), edit(func(s *codecs.Subscription) { s.Purpose = "advertising" }), "purpose_not_allowed", ""},

		{"approve", row(Pending), asked(Approve, "bertta", nil), "", "activating  bertta 0"},
		{"approve one's own", row(Pending), asked(Approve, "anna", nil), SecondPersonRequired, ""},
		{"approve what is active", row(Active), asked(Approve, "bertta", nil), NotPending, ""},
		{"approve what has lost its right", rowWith(Pending, func(s *codecs.Subscription) { s.Purpose = "advertising" }), asked(Approve, "bertta", nil), "purpose_not_allowed", ""},
		{"approve nothing", nil, asked(Approve, "bertta", nil), "not_found", ""},

		{"activated", row(Activating), activation(5, vector), "", "active  bertta 2"},
		{"activated late", row(Active), activation(5, vector[:1]), "", ""},
		{"activated for an older version", row(Activating), activation(4, vector), "", ""},
		{"activated for no version", row(Activating), activation(0, vector), VersionRequired, ""},
		{"activated by someone else", row(Activating), asked(Activated, "anna", func(c *codecs.SubscriptionCommand) { c.Meta.IfVersion, c.Subscription.From = 5, vector }), BusOnly, ""},
		{"activated without positions", row(Activating), activation(5, nil), VectorInvalid, ""},
		{"activated without its stream", row(Activating), activation(5, []codecs.StreamPosition{{Topic: "life.death"}}), VectorInvalid, ""},
		{"activated on no stream", row(Activating), activation(5, append(vector[:2:2], codecs.StreamPosition{Topic: "admitted"})), VectorInvalid, ""},
		{"activated with a place twice", row(Activating), activation(5, append(vector[:2:2], vector[0])), VectorInvalid, ""},
		{"activated with a negative offset", row(Activating), activation(5, []codecs.StreamPosition{{Topic: "life.birth", Offset: -1}}), VectorInvalid, ""},
		{"activated with too many", row(Activating), activation(5, make([]codecs.StreamPosition, MaxPositions+1)), VectorInvalid, ""},
		{"activated after revocation", row(Revoked), activation(5, vector), "", ""},
		{"activated nothing", nil, activation(5, vector), "version_conflict", ""},

		{"pause", row(Active), because(Pause, "security"), "", "paused security bertta 2"},
		{"pause without reason", row(Active), because(Pause, ""), "", "paused requested bertta 2"},
		{"pause by the bus", row(Active), because(Pause, "undeliverable_topic_gone"), "", "paused undeliverable_topic_gone bertta 2"},
		{"pause with prose", row(Active), because(Pause, "Anna said so"), ReasonUnknown, ""},
		{"pause with nothing after the prefix", row(Active), because(Pause, UndeliverablePrefix), ReasonUnknown, ""},
		{"pause before it is active", row(Activating), because(Pause, ""), "", "paused requested bertta 0"},
		{"pause what is pending", row(Pending), because(Pause, ""), NotActive, ""},
		{"pause what is paused", row(Paused), because(Pause, "security"), "", "paused maintenance bertta 2"},
		{"resume", row(Paused), asked(Resume, "anna", nil), "", "active  bertta 2"},
		{"resume what never was active", rowWith(Paused, func(s *codecs.Subscription) { s.From = nil }), asked(Resume, "anna", nil), "", "activating  bertta 0"},
		{"resume what is active", row(Active), asked(Resume, "anna", nil), NotPaused, ""},
		{"revoke", row(Active), because(Revoke, "misuse"), "", "revoked misuse bertta 2"},
		{"revoke what is pending", row(Pending), because(Revoke, ""), "", "revoked requested  0"},
		{"revoke twice", row(Revoked), because(Revoke, ""), SubscriptionRevoked, ""},
		{"put after revocation", row(Revoked), asked(Put, "anna", nil), SubscriptionRevoked, ""},
		{"resume after revocation", row(Revoked), asked(Resume, "anna", nil), SubscriptionRevoked, ""},
		{"unknown kind", row(Active), asked("delete", "anna", nil), "unknown_kind", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := fmt.Sprintf("%+v", test.row)
			next, result := Apply(test.row, test.cmd, look, now)
			if fmt.Sprintf("%+v", test.row) != before {
				t.Error("the row before was changed")
			}
			got := ""
			if next != nil {
				got = fmt.Sprintf("%s %s %s %d", next.Status, next.StatusReason, next.ApprovedBy, len(next.From))
			}
			if result.Reason != test.reason || got != test.want {
				t.Fatalf("answered %q %v with row %q, want %q with %q", result.Reason, result.Faults, got, test.reason, test.want)
			}
			if next != nil && (result.Version != next.Version || len(next.AppliedIDs) == 0 || next.AppliedIDs[len(next.AppliedIDs)-1] != test.cmd.Meta.ID) {
				t.Errorf("answered version %d of %+v", result.Version, next)
			}
			if next == nil && test.row != nil && result.Version != test.row.Version {
				t.Errorf("answered version %d of a row of %d", result.Version, test.row.Version)
			}
		})
	}
}

func TestSecretsAreRotated(t *testing.T) {
	look := lookups(t)
	hooked := rowWith(Active, func(s *codecs.Subscription) {
		s.Delivery = codecs.Delivery{Kind: "webhook", Sink: "https://kela.fi/hook"}
	})
	rotate := func(until time.Time) *codecs.SubscriptionCommand {
		return asked(Rotate, "anna", func(c *codecs.SubscriptionCommand) {
			if !until.IsZero() {
				c.Subscription.SecretOverlap = until.UnixMilli()
			}
		})
	}
	next, result := Apply(hooked, rotate(time.Time{}), look, now)
	if result.Status != "accepted" || next.SecretVersion != 1 || next.SecretOverlap != now.Add(SecretOverlap).UnixMilli() || next.Status != Active || next.ApprovedBy != "bertta" {
		t.Fatalf("%+v %+v", result, next)
	}
	next.AppliedIDs = nil
	next, _ = Apply(next, rotate(now), look, now) // the one before is lost: it is good no longer
	if next.SecretVersion != 2 || next.SecretOverlap != now.UnixMilli() {
		t.Errorf("%+v", next)
	}
	for reason, row := range map[string]*codecs.Subscription{NotAWebhook: rowWith(Active, func(*codecs.Subscription) {}), OverlapTooLong: hooked} {
		if next, result := Apply(row, rotate(now.Add(MaxSecretOverlap+time.Second)), look, now); result.Reason != reason && row != hooked || next != nil || result.Status == "accepted" {
			t.Errorf("%s: %+v", reason, result)
		}
	}
	next.AppliedIDs = nil
	edited, _ := Apply(next, edit(func(s *codecs.Subscription) {
		s.Delivery = codecs.Delivery{Kind: "webhook", Sink: "https://kela.fi/hook"}
		s.SecretVersion, s.SecretOverlap = 77, 1
	}), look, now)
	if edited == nil || edited.SecretVersion != 2 || edited.SecretOverlap != now.UnixMilli() {
		t.Errorf("an edit changes the secret: %+v", edited)
	}
}

func TestWhoAskedIsKept(t *testing.T) {
	look := lookups(t)
	edited, _ := Apply(row(Active), asked(Put, "carl", func(c *codecs.SubscriptionCommand) { c.Subscription.Scopes = []string{"residency"} }), look, now)
	if edited.RequestedBy != "carl" || edited.CreatedAt != 1 {
		t.Errorf("after an edit of substance: %+v", edited)
	}
	if _, result := Apply(edited, asked(Approve, "carl", func(c *codecs.SubscriptionCommand) { c.Meta.ID = "c2" }), look, now); result.Reason != SecondPersonRequired {
		t.Errorf("the editor approves: %+v", result)
	}
	moved, _ := Apply(row(Active), asked(Put, "carl", func(c *codecs.SubscriptionCommand) { c.Subscription.Delivery.Thin = true }), look, now)
	if moved.RequestedBy != "anna" || moved.ApprovedBy != "bertta" {
		t.Errorf("after an edit of delivery: %+v", moved)
	}
}
