package verdict

import (
	"slices"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
)

// faultCase changes something good and names the faults that must follow, as "field reason".
type faultCase[T any] struct {
	name string
	do   func(T)
	want []string
}

func checkFaults(t *testing.T, name string, got []codecs.Fault, want []string) {
	t.Helper()
	var texts []string
	for _, f := range got {
		texts = append(texts, f.Field+" "+f.Reason)
		if f.Text == "" {
			t.Errorf("%s: %s does not say what would be right", name, f.Reason)
		}
	}
	if !slices.Equal(texts, want) {
		t.Errorf("%s: %q, want %q", name, texts, want)
	}
}

func TestValidateSubscription(t *testing.T) {
	type in struct {
		w   *world
		sub *codecs.Subscription
	}
	law := func(s *codecs.Subscription) { s.Basis, s.Scopes = BasisLegalObligation, nil }
	for _, c := range []faultCase[in]{
		{"good", func(in) {}, nil},
		{"good by law", func(x in) { law(x.sub) }, nil},
		{"bad id", func(x in) { x.sub.ID = "sub_1" }, []string{"id bad_id"}},
		{"no id", func(x in) { x.sub.ID = "" }, []string{"id bad_id"}},
		{"long id", func(x in) { x.sub.ID = strings.Repeat("a", 101) }, []string{"id bad_id"}},
		{"dots", func(x in) { x.sub.ID = ".." }, []string{"id bad_id"}},
		{"unknown subscriber", func(x in) { x.sub.Subscriber = "nobody.fi" }, []string{"subscriber unknown_subscriber"}},
		{"suspended subscriber", func(x in) { x.w.orgs["kela.fi"].Status = "suspended" }, []string{"subscriber subscriber_not_active"}},
		{"no types", func(x in) { x.sub.EventTypes = nil }, []string{"eventTypes no_event_types"}},
		{"unknown type", func(x in) { x.sub.EventTypes = append(x.sub.EventTypes, "fi.test.none") }, []string{"eventTypes[1] unknown_type"}},
		{"retired type", func(x in) { x.w.types[birthType].Retired = true }, []string{"eventTypes[0] retired_type"}},
		{"type without schema", func(x in) { x.w.types[birthType].RegistrySubject = "none" }, []string{"eventTypes[0] unknown_schema", "scopes[0] unknown_scope"}},
		{"unknown role", func(x in) { x.sub.Role = "aunt" }, []string{"role unknown_role", "scopes[0] unknown_scope"}},
		{"unknown basis", func(x in) { x.sub.Basis = "because" }, []string{"basis unknown_basis", "basis not_claimable_as_obligation"}},
		{"type not allowed", func(x in) { x.w.orgs["kela.fi"].Receives = nil }, []string{"eventTypes[0] type_not_allowed"}},
		{"purpose not allowed", func(x in) { x.sub.Purpose = "marketing" }, []string{"purpose purpose_not_allowed"}},
		{"basis not allowed", func(x in) { x.w.orgs["kela.fi"].Receives[0].Bases = []string{"public_task"} }, []string{"basis basis_not_allowed"}},
		{"certificate over", func(x in) { x.w.orgs["kela.fi"].Certifications[0].ValidTo = noon }, []string{"subscriber certificate_expired"}},
		{"certificate not yet", func(x in) { x.w.orgs["kela.fi"].Certifications[0].ValidFrom = noon + 1 }, []string{"subscriber certification_missing"}},
		{"no certificate", func(x in) { x.w.orgs["kela.fi"].Certifications = nil }, []string{"subscriber certification_missing"}},
		{"not claimable", func(x in) { law(x.sub); x.w.types[birthType].Rules = nil }, []string{"basis not_claimable_as_obligation"}},
		{"rule is over", func(x in) { law(x.sub); x.w.rule(BasisLegalObligation).ValidTo = noon }, []string{"basis not_claimable_as_obligation"}},
		{"rule to come", func(x in) { law(x.sub); x.w.rule(BasisLegalObligation).ValidFrom = noon + 5 }, nil},
		{"rule of another role", func(x in) { law(x.sub); x.w.rule(BasisLegalObligation).Role = "mother" }, []string{"basis not_claimable_as_obligation"}},
		{"unknown scope", func(x in) { x.sub.Scopes = []string{"name", "shoe-size"} }, []string{"scopes[1] unknown_scope"}},
		{"scope of the stamp", func(x in) { x.sub.Scopes = []string{"profile.language"} }, nil},
		{"unknown field", func(x in) { x.sub.Fields = []string{"data.child", "data.nowhere", "profile.shoes"} }, []string{"fields[1] unknown_field", "fields[2] unknown_field"}},
		{"delivery kind", func(x in) { x.sub.Delivery.Kind = "fax" }, []string{"delivery.kind delivery_kind"}},
		{"delivery mode", func(x in) { x.sub.Delivery.Mode = "loud" }, []string{"delivery.mode delivery_mode"}},
		{"good webhook", func(x in) {
			x.sub.Delivery = codecs.Delivery{Kind: "webhook", Sink: "https://kela.fi/hook?x=1", Mode: "structured"}
		}, nil},
		{"http", func(x in) { x.sub.Delivery = codecs.Delivery{Kind: "webhook", Sink: "http://kela.fi/hook"} }, []string{"delivery.sink bad_sink"}},
		{"userinfo", func(x in) { x.sub.Delivery = codecs.Delivery{Kind: "webhook", Sink: "https://a:b@kela.fi/hook"} }, []string{"delivery.sink bad_sink"}},
		{"empty userinfo", func(x in) { x.sub.Delivery = codecs.Delivery{Kind: "webhook", Sink: "https://@kela.fi/hook"} }, []string{"delivery.sink bad_sink"}},
		{"no host", func(x in) { x.sub.Delivery = codecs.Delivery{Kind: "webhook", Sink: "https:///hook"} }, []string{"delivery.sink bad_sink"}},
		{"no sink", func(x in) { x.sub.Delivery = codecs.Delivery{Kind: "webhook"} }, []string{"delivery.sink bad_sink"}},
		{"sink of kafka", func(x in) { x.sub.Delivery.Sink = "https://kela.fi" }, []string{"delivery.sink bad_sink"}},
		{"filter not JSON", func(x in) { x.sub.Filter = "data.x" }, []string{"filter filter_malformed"}},
		{"filter dialect", func(x in) { x.sub.Filter = `{"sql":"true"}` }, []string{"sql filter_unknown_dialect"}},
		{"filter field unknown", func(x in) { x.sub.Filter = `{"data.nowhere":"x"}` }, []string{"data.nowhere filter_unknown_field"}},
		{"filter type", func(x in) { x.sub.Filter = `{"data.child.weight":"x"}` }, []string{"data.child.weight filter_type_error"}},
		{"filter without scope", func(x in) { x.sub.Filter = `{"data.residency":"Finland"}` }, []string{"data.residency filter_field_not_permitted"}},
		{"filter on another's field", func(x in) { x.sub.Filter = `{"data.mother.name":"x"}` }, []string{"data.mother.name filter_field_not_permitted"}},
		{"filter by law", func(x in) { law(x.sub); x.sub.Filter = `{"data.residency":"Finland"}` }, nil},
		{"filter by law beyond the rule", func(x in) { law(x.sub); x.sub.Filter = `{"data.place":"x"}` }, []string{"data.place filter_field_not_permitted"}},
		{"filter on what Fields leaves out", func(x in) { x.sub.Fields, x.sub.Filter = []string{"data.child.name"}, `{"data.place":"x"}` }, nil},
	} {
		w := newWorld(t)
		sub := *w.only("sub-consent")
		c.do(in{w, &sub})
		schemas := func(subject string) *codecs.Schema {
			if subject == "birth-value" {
				return w.schema
			}
			return nil
		}
		checkFaults(t, c.name, ValidateSubscription(&sub, w.snapshot(), schemas, time.UnixMilli(noon)), c.want)
	}
}

func TestValidateEventType(t *testing.T) {
	for _, c := range []faultCase[*codecs.EventType]{
		{"good", func(*codecs.EventType) {}, nil},
		{"type", func(et *codecs.EventType) { et.Type = "Birth!" }, []string{"type bad_name"}},
		{"type of one word", func(et *codecs.EventType) { et.Type = "birth" }, []string{"type bad_name"}},
		{"stream", func(et *codecs.EventType) { et.Stream = "elsewhere" }, []string{"stream unknown_stream"}},
		{"category", func(et *codecs.EventType) { et.Category = "x" }, []string{"category unknown_category"}},
		{"classification", func(et *codecs.EventType) { et.Classification = "" }, []string{"classification bad_classification"}},
		{"owner", func(et *codecs.EventType) { et.Owner = "dvv_fi" }, []string{"owner bad_id"}},
		{"no registry subject", func(et *codecs.EventType) { et.RegistrySubject = "" }, []string{"registrySubject bad_registry_subject"}},
		{"no schema", func(et *codecs.EventType) { et.RegistrySubject = "none" }, []string{"registrySubject unknown_schema"}},
		{"no roles", func(et *codecs.EventType) { et.Roles = nil }, []string{"roles no_roles"}},
		{"role name", func(et *codecs.EventType) { et.Roles[0].Name = "the child" }, []string{"roles[0].name bad_name"}},
		{"role twice", func(et *codecs.EventType) { et.Roles[1].Name = "child" }, []string{"roles[1].name duplicate"}},
		{"role scheme", func(et *codecs.EventType) { et.Roles[0].Scheme = "" }, []string{"roles[0].scheme bad_name"}},
		{"role path", func(et *codecs.EventType) { et.Roles[0].Path = "data.nowhere" }, []string{"roles[0].path unknown_field"}},
		{"role of a record", func(et *codecs.EventType) { et.Roles[0].Path = "data.child" }, []string{"roles[0].path bad_type"}},
		{"role of a double", func(et *codecs.EventType) { et.Roles[0].Path = "data.child.length" }, []string{"roles[0].path bad_type"}},
		{"role of an int", func(et *codecs.EventType) { et.Roles[0].Path = "data.child.weight" }, nil},
		{"one in an array", func(et *codecs.EventType) { et.Roles[2].Many = false }, []string{"roles[2].path bad_path"}},
		{"many without array", func(et *codecs.EventType) { et.Roles[0].Many = true }, []string{"roles[0].path bad_path"}},
		{"field path", func(et *codecs.EventType) {
			et.Fields = []codecs.Field{{Path: "data.nowhere"}, {Path: "profile.shoes"}, {Path: "profile.language"}}
		},
			[]string{"fields[0].path unknown_field", "fields[1].path unknown_field"}},
		{"field twice", func(et *codecs.EventType) { et.Fields = []codecs.Field{{Path: "data.place"}, {Path: "data.place"}} }, []string{"fields[1].path duplicate"}},
		{"field owner", func(et *codecs.EventType) { et.Fields = []codecs.Field{{Path: "data.place", Owner: "aunt"}} }, []string{"fields[0].owner unknown_role"}},
		{"field scope", func(et *codecs.EventType) { et.Fields = []codecs.Field{{Path: "data.place", Scopes: []string{"a,b"}}} }, []string{"fields[0].scopes[0] bad_name"}},
		{"field class", func(et *codecs.EventType) { et.Fields = []codecs.Field{{Path: "data.place", Classification: "x"}} }, []string{"fields[0].classification bad_classification"}},
		{"stamp", func(et *codecs.EventType) {
			et.Profile = []codecs.Stamp{{Role: "child", Attribute: "municipality", Path: "data.place"}}
		}, nil},
		{"bad stamp", func(et *codecs.EventType) {
			et.Profile = []codecs.Stamp{{Role: "aunt", Attribute: "shoes", Path: "data.nowhere"}, {Role: "child", Attribute: "language", Path: "data.child"}, {Role: "child", Attribute: "language", Path: "profile.language"}}
		}, []string{"profile[0].role unknown_role", "profile[0].attribute unknown_attribute", "profile[0].path unknown_field", "profile[1].path bad_type", "profile[2] duplicate", "profile[2].path unknown_field"}},
		{"rule id", func(et *codecs.EventType) { et.Rules[0].ID = "" }, []string{"rules[0].id bad_name"}},
		{"rule twice", func(et *codecs.EventType) { et.Rules[1].ID = et.Rules[0].ID }, []string{"rules[1].id duplicate"}},
		{"rule recipient", func(et *codecs.EventType) { et.Rules[0].Recipient = "Kela" }, []string{"rules[0].recipient bad_id"}},
		{"rule purpose", func(et *codecs.EventType) { et.Rules[0].Purpose = "" }, []string{"rules[0].purpose bad_name"}},
		{"rule of consent", func(et *codecs.EventType) { et.Rules[0].Basis = BasisConsent }, []string{"rules[0].basis unknown_basis"}},
		{"rule role", func(et *codecs.EventType) { et.Rules[0].Role = "aunt" }, []string{"rules[0].role unknown_role"}},
		{"rule field", func(et *codecs.EventType) { et.Rules[0].Fields = []string{"data", "profile", "data.nowhere"} }, []string{"rules[0].fields[2] unknown_field"}},
		{"rule interval", func(et *codecs.EventType) { et.Rules[0].ValidTo = et.Rules[0].ValidFrom }, []string{"rules[0].validTo bad_interval"}},
		{"rule citation", func(et *codecs.EventType) { et.Rules[0].Citation = " " }, []string{"rules[0].citation no_citation"}},
		{"rules overlap", func(et *codecs.EventType) {
			et.Rules[1].Basis, et.Rules[1].ValidFrom, et.Rules[1].ValidTo = BasisLegalObligation, noon+9, 0
		}, []string{"rules[1] rule_overlap"}},
		{"rules follow", func(et *codecs.EventType) {
			et.Rules[1].Basis, et.Rules[1].ValidFrom, et.Rules[1].ValidTo = BasisLegalObligation, noon+10, 0
		}, nil},
		{"rules of two roles", func(et *codecs.EventType) { et.Rules[1].Basis, et.Rules[1].Role = BasisLegalObligation, "child" }, nil},
	} {
		w := newWorld(t)
		c.do(w.types[birthType])
		got := ValidateEventType(w.types[birthType], []string{"life.birth", "life.death"}, func(subject string) *codecs.Schema {
			if subject == "birth-value" {
				return w.schema
			}
			return nil
		})
		checkFaults(t, c.name, got, c.want)
	}
}

func TestValidateOrganisation(t *testing.T) {
	for _, c := range []faultCase[*codecs.Organisation]{
		{"good", func(*codecs.Organisation) {}, nil},
		{"id", func(o *codecs.Organisation) { o.ID = "kela_fi" }, []string{"id bad_id"}},
		{"upper case id", func(o *codecs.Organisation) { o.ID = "Kela.fi" }, []string{"id bad_id"}},
		{"status", func(o *codecs.Organisation) { o.Status = "" }, []string{"status bad_status"}},
		{"did", func(o *codecs.Organisation) { o.DID = "web:kela.fi" }, []string{"did bad_did"}},
		{"source", func(o *codecs.Organisation) { o.Source = "https://user@kela.fi" }, []string{"source bad_source"}},
		{"publishes without source", func(o *codecs.Organisation) { o.Source = ""; o.Publishes = []string{birthType} }, []string{"source bad_source"}},
		{"publishes", func(o *codecs.Organisation) { o.Publishes = []string{"birth"} }, []string{"publishes[0] bad_name"}},
		{"commands", func(o *codecs.Organisation) { o.Commands = []string{""} }, []string{"commands[0] bad_name"}},
		{"pre-approved", func(o *codecs.Organisation) { o.PreApproved = []string{"a b"} }, []string{"preApproved[0] bad_name"}},
		{"entitlement", func(o *codecs.Organisation) {
			o.Receives[0] = codecs.Entitlement{EventType: "x", Purposes: []string{"?"}, Bases: []string{"y"}}
		},
			[]string{"receives[0].eventType bad_name", "receives[0].purposes[0] bad_name", "receives[0].bases[0] unknown_basis"}},
		{"empty entitlement", func(o *codecs.Organisation) { o.Receives[0] = codecs.Entitlement{EventType: birthType} },
			[]string{"receives[0].purposes purpose_not_allowed", "receives[0].bases unknown_basis"}},
		{"certification", func(o *codecs.Organisation) {
			o.Certifications[0] = codecs.Certification{Name: " ", ValidFrom: 5, ValidTo: 5}
		},
			[]string{"certifications[0].name bad_name", "certifications[0].validTo bad_interval"}},
		{"too many", func(o *codecs.Organisation) { o.Receives = make([]codecs.Entitlement, maxEntitled+1) }, []string{"receives too_many"}},
	} {
		org := newWorld(t).orgs["kela.fi"]
		org.DID, org.Source = "did:web:kela.fi", "https://kela.fi"
		c.do(org)
		checkFaults(t, c.name, ValidateOrganisation(org), c.want)
	}
}
