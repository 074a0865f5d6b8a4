package admission

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
)

func TestAdmitMakesOneRecordForEachSubject(t *testing.T) {
	w := newWorld(t)
	c, m, f := w.subject(pseudonym.Hetu, child), w.subject(pseudonym.Hetu, mother), w.subject(pseudonym.Hetu, father)
	y := w.subject(pseudonym.YTunnus, company)
	for _, test := range []struct {
		name string
		in   *Input
		want []string
	}{
		{"three roles", w.birth(t, child, mother, father), []string{"child=" + c, "mother=" + m, "father=" + f}},
		{"optional role absent", w.birth(t, child, mother), []string{"child=" + c, "mother=" + m}},
		{"lower case is the same person", w.birth(t, strings.ToLower(child), mother), []string{"child=" + c, "mother=" + m}},
		{"one person in two roles: the first wins", w.birth(t, child, mother, mother), []string{"child=" + c, "mother=" + m}},
		{"a role with many keeps the element's index", w.company(t, company, mother, "", father, mother),
			[]string{"company=" + y, "founder[0]=" + m, "founder[2]=" + f}},
		{"an empty array of an optional role", w.company(t, company), []string{"company=" + y}},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := w.admit(t, test.in)
			if res.Status != Accepted || !slices.Equal(about(res.Records), test.want) {
				t.Fatalf("%s %v %v, want %v", res.Status, about(res.Records), res.Faults, test.want)
			}
			for _, rec := range res.Records {
				if subject, _ := header(rec.Headers, "ce_subject"); subject != string(rec.Key) {
					t.Errorf("ce_subject %q is not the key %q", subject, rec.Key)
				}
				if &rec.Value[0] != &test.in.Value[0] || len(rec.Value) != len(test.in.Value) {
					t.Error("the value is not the source's own bytes")
				}
			}
		})
	}
}

func TestAdmitHeaders(t *testing.T) {
	w := newWorld(t)
	in := w.birth(t, child, mother)
	in.Attributes["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	in.Attributes["correlationid"] = "the source's own"
	in.Attributes["recordedtime"] = "2020-01-01T00:00:00Z"
	in.HasList, in.Authorized, in.Redriven = true, []string{"kela.fi", "vero.fi"}, true
	res := w.admit(t, in)
	if res.Status != Accepted {
		t.Fatal(res.Faults)
	}
	var got []string
	for _, h := range res.Records[0].Headers {
		got = append(got, h.Key+": "+string(h.Value))
	}
	want := []string{
		"ce_specversion: 1.0", "ce_id: birth-1", "ce_source: https://dvv.fi", "ce_type: fi.dvv.person.birth",
		"ce_time: 2026-02-28T08:00:00Z", "civicbus_organisation: dvv.fi",
		fmt.Sprintf("ce_dataschema: http://registry:8081/schemas/ids/%d", in.Schema.ID()),
		"content-type: application/avro", "ce_authorizedsubscribers: kela.fi,vero.fi",
		"ce_correlationid: " + w.door.Keys.LifeEvent("https://dvv.fi", "birth-1"),
		"civicbus_subjects: 2", "ce_recordedtime: 2026-03-01T12:00:00Z", "ce_redriven: true",
		"ce_traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"ce_subject: " + w.subject(pseudonym.Hetu, child), "ce_subjectrole: child",
	}
	if !slices.Equal(got, want) {
		t.Errorf("headers\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if res.LifeEvent != w.door.Keys.LifeEvent("https://dvv.fi", "birth-1") {
		t.Error("the answer names another life event")
	}
}

func TestAnEmptyListIsNotNoList(t *testing.T) {
	w := newWorld(t)
	for _, has := range []bool{true, false} {
		in := w.birth(t, child, mother)
		in.HasList = has
		value, ok := header(w.admit(t, in).Records[0].Headers, "ce_authorizedsubscribers")
		if ok != has || value != "" {
			t.Errorf("list given %v: header %q, %v", has, value, ok)
		}
	}
}

// TestRefusals has at least one event for each reason that Admit itself gives.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	birth := func(change func(*Input)) func(*testing.T) *Input {
		return func(t *testing.T) *Input {
			in := w.birth(t, child, mother)
			change(in)
			return in
		}
	}
	firm := func(change func(*Input)) func(*testing.T) *Input {
		return func(t *testing.T) *Input {
			in := w.company(t, company)
			change(in)
			return in
		}
	}
	set := func(name, value string) func(*testing.T) *Input {
		return birth(func(in *Input) { in.Attributes[name] = value })
	}
	without := func(name string) func(*testing.T) *Input {
		return birth(func(in *Input) { delete(in.Attributes, name) })
	}
	command := func(change func(*Input)) func(*testing.T) *Input {
		return firm(func(in *Input) {
			in.Attributes["type"], in.Attributes["recipient"] = "fi.prh.company.check", "vero.fi"
			change(in)
		})
	}
	many := make([]string, MaxSubjects+1)
	for i := range many {
		many[i] = testHetu(i)
	}
	for _, test := range []struct {
		name string
		in   func(*testing.T) *Input
		want []string
	}{
		{"faults of parsing", birth(func(in *Input) { in.fault("event", NotACloudEvent, "") }), []string{"event not_a_cloudevent"}},
		{"no specversion", without("specversion"), []string{"specversion missing"}},
		{"other specversion", set("specversion", "0.3"), []string{"specversion wrong_specversion"}},
		{"nothing", birth(func(in *Input) { in.Attributes = nil }), []string{"specversion missing", "id missing", "source missing", "type missing"}},
		{"time", set("time", "yesterday"), []string{"time invalid_time"}},
		{"time before the common era in UTC", set("time", "0001-01-01T00:00:00+02:00"), []string{"time invalid_time"}},
		{"name", set("consentScope", "x"), []string{"consentScope invalid_name"}},
		{"name that could be anything", set("matti meikäläinen", "x"), []string{"attributes invalid_name"}},
		{"long name", set("abcdefghijklmnopqrstu", "x"), []string{"abcdefghijklmnopqrstu invalid_name"}},
		{"control character", set("note", "a\nb"), []string{"note invalid_attribute"}},
		{"no UTF-8", set("note", "\xff"), []string{"note invalid_attribute"}},
		{"reserved", set("grantreference", "g-1"), []string{"grantreference reserved_attribute"}},
		{"long value", set("note", strings.Repeat("x", MaxAttributeBytes+1)), []string{"note too_many_attributes"}},
		{"too many", birth(func(in *Input) {
			for i := range MaxAttributes {
				in.Attributes[fmt.Sprint("x", i)] = "1"
			}
		}), []string{"attributes too_many_attributes"}},
		{"too much", birth(func(in *Input) {
			for i := range 20 {
				in.Attributes[fmt.Sprint("x", i)] = strings.Repeat("x", 1000)
			}
		}), []string{"attributes too_many_attributes"}},
		{"national id in the event id", set("id", "birth-"+mother), []string{"id personal_identifier"}},
		{"national id in an extension", set("sequence", mother), []string{"sequence personal_identifier"}},
		{"national id as a name", set(strings.ToLower(mother), "1"), []string{"(withheld) personal_identifier"}},
		{"list of no organisations", birth(func(in *Input) { in.HasList, in.Authorized = true, []string{"kela.fi", "K E L A"} }), []string{"consent.authorizedSubscribers invalid_list"}},
		{"list of a person", birth(func(in *Input) { in.HasList, in.Authorized = true, []string{strings.ToLower(mother)} }), []string{"consent.authorizedSubscribers invalid_list"}},
		{"long list", birth(func(in *Input) { in.HasList, in.Authorized = true, make([]string, MaxAuthorized+1) }), []string{"consent.authorizedSubscribers invalid_list"}},

		{"organisation unknown", birth(func(in *Input) { in.Organisation = "who.fi" }), []string{"organisation unknown_organisation"}},
		{"organisation suspended", birth(func(in *Input) { in.Organisation, in.Attributes["source"] = "gone.fi", "https://gone.fi" }), []string{"organisation organisation_not_active"}},
		{"another's source", set("source", "https://prh.fi"), []string{"source source_mismatch"}},
		{"unknown type", set("type", "fi.dvv.nothing"), []string{"type unknown_type"}},
		{"another's type", set("type", "fi.prh.company.registered"), []string{"type type_not_allowed"}},
		{"retired", firm(func(in *Input) { in.Attributes["type"] = "fi.prh.company.old" }), []string{"type retired_type"}},
		{"command without right", command(func(in *Input) { in.Organisation, in.Attributes["source"] = "vero.fi", "https://vero.fi" }), []string{"type command_not_allowed"}},
		{"command to nobody", command(func(in *Input) { delete(in.Attributes, "recipient") }), []string{"recipient recipient_missing"}},
		{"command to a stranger", command(func(in *Input) { in.Attributes["recipient"] = "who.fi" }), []string{"recipient unknown_recipient"}},
		{"command to a suspended one", command(func(in *Input) { in.Attributes["recipient"] = "gone.fi" }), []string{"recipient recipient_not_active"}},
		{"recipient without command", set("recipient", "vero.fi"), []string{"recipient recipient_not_allowed"}},

		{"no data", birth(func(in *Input) { in.Value = nil }), []string{"data no_data"}},
		{"large", birth(func(in *Input) { in.Value = make([]byte, MaxValueBytes+1) }), []string{"data too_large"}},
		{"no wire format", birth(func(in *Input) { in.Value = []byte("{}xxxxx") }), []string{"data malformed"}},
		{"schema not loaded", func(t *testing.T) *Input {
			in := w.company(t, company)
			in.Faults = nil
			in.Value = append(codecs.AppendWire(nil, 99999), in.Value[codecs.WireHeaderBytes:]...)
			in.unasked = true
			return in
		}, []string{"data unknown_schema"}},
		{"another's schema", firm(func(in *Input) {
			in.Value = append(codecs.AppendWire(nil, w.schemas["fi.other"].ID()), 2, 'x')
		}), []string{"data schema_not_of_type"}},
		{"cut short", birth(func(in *Input) { in.Value = in.Value[:len(in.Value)-3] }), []string{"data invalid_value"}},

		{"bad check character", func(t *testing.T) *Input { return w.birth(t, child, "010594Y9033") }, []string{"data.mother.id invalid_subject"}},
		{"no pseudonym of ours", set("subject", "p1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), []string{"subject unknown_subject"}},
		{"no form", set("subject", "Matti"), []string{"subject subject_form"}},
		{"foreign scheme", set("subject", "fi-ytunnus:"+company), []string{"subject subject_form"}},
		{"bus pseudonym of a source", set("subject", w.subject(pseudonym.Hetu, child)), []string{"subject subject_form"}},
		{"bad id in subject", set("subject", "fi-hetu:010594Y9033"), []string{"subject invalid_subject"}},
		{"another subject than the data's", func(t *testing.T) *Input {
			in := w.birth(t, child, mother, mother)
			in.Attributes["subject"] = "fi-hetu:" + father
			return in
		}, []string{"subject subject_mismatch"}},
		{"unknown role", birth(func(in *Input) { in.Attributes["subject"], in.Attributes["subjectrole"] = "fi-hetu:"+father, "uncle" }), []string{"subjectrole unknown_role"}},
		{"too many subjects", func(t *testing.T) *Input { return w.company(t, company, many...) }, []string{"data too_many_subjects"}},
		{"too much to write", func(t *testing.T) *Input {
			return w.company(t, company, append(slices.Clone(many[:200]), make([]string, 40<<10)...)...)
		}, []string{"data too_large"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := test.in(t)
			var res Result
			if in.unasked {
				res = w.door.Admit(in, w, now) // as if the registry had not been asked
			} else {
				res = w.admit(t, in)
			}
			if res.Status != Refused || !slices.Equal(reasons(res.Faults), test.want) {
				t.Fatalf("%s %v, want %v", res.Status, reasons(res.Faults), test.want)
			}
			if len(res.Records) > 0 {
				t.Error("a refused event has records")
			}
			if res.Letter == nil || res.Letter.Group != "admission" || res.Letter.Topic != "" {
				t.Errorf("letter %+v", res.Letter)
			}
			for _, f := range res.Faults {
				if f.Text == "" && f.Reason != NotACloudEvent {
					t.Errorf("%s says nothing of what would be right", f.Reason)
				}
			}
		})
	}
}

// testHetu makes the i-th valid test id.
func testHetu(i int) string {
	day, serial := 1+i/90, 900+i%90 // January 2000
	date := day*10000 + 100         // DD 01 00
	n := date*1000 + serial
	return fmt.Sprintf("%06dA%03d%c", date, serial, "0123456789ABCDEFHJKLMNPRSTUVWXY"[n%31])
}

func TestHeldWithoutSubject(t *testing.T) {
	w := newWorld(t)
	for name, in := range map[string]*Input{
		"null":  w.birth(t, child),
		"empty": w.birth(t, child, " "[:0], father),
	} {
		res := w.admit(t, in)
		if res.Status != Held || !slices.Equal(reasons(res.Faults), []string{"data.mother.id no_subject"}) || res.Letter.Cause != NoSubject {
			t.Errorf("%s: %s %v", name, res.Status, res.Faults)
		}
	}
	w.types["fi.dvv.person.birth"].Roles = w.types["fi.dvv.person.birth"].Roles[2:] // the optional father alone
	if res := w.admit(t, w.birth(t, child)); res.Status != Held || !slices.Equal(reasons(res.Faults), []string{"subject no_subject"}) {
		t.Errorf("no subject at all: %s %v", res.Status, res.Faults)
	}
}

func TestGivenSubjects(t *testing.T) {
	w := newWorld(t)
	c, m, f := w.subject(pseudonym.Hetu, child), w.subject(pseudonym.Hetu, mother), w.subject(pseudonym.Hetu, father)
	own, err := w.door.Keys.For("dvv.fi").Seal(m)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := w.door.Keys.For("prh.fi").Seal(m)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"child=" + c, "mother=" + m}
	for _, test := range []struct {
		name, subject, role string
		ids                 []string
		internal            bool
		want                []string
		refused             string
	}{
		{name: "confirms the data", subject: "fi-hetu:" + child, ids: []string{child, mother}, want: all},
		{name: "confirms another role's", subject: mother, ids: []string{child, mother}, want: all},
		{name: "fills the role that lacks one", subject: "fi-hetu:" + mother, ids: []string{child}, want: all},
		{name: "bare", subject: strings.ToLower(mother), ids: []string{child}, want: all},
		{name: "own pseudonym", subject: own, ids: []string{child}, want: all},
		{name: "another's pseudonym", subject: foreign, ids: []string{child}, refused: "subject unknown_subject"},
		{name: "bus pseudonym of civicbus itself", subject: m, ids: []string{child}, internal: true, want: all},
		{name: "role named", subject: "fi-hetu:" + father, role: "father", ids: []string{child, mother}, want: append(slices.Clone(all), "father="+f)},
		{name: "an optional role that lacks one comes last", subject: "fi-hetu:" + father, ids: []string{child, mother}, want: append(slices.Clone(all), "father="+f)},
		{name: "role named, and taken", subject: "fi-hetu:" + father, role: "mother", ids: []string{child, mother}, refused: "subject subject_mismatch"},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := w.birth(t, test.ids...)
			in.Internal = test.internal
			in.Attributes["subject"] = test.subject
			if test.role != "" {
				in.Attributes["subjectrole"] = test.role
			}
			res := w.admit(t, in)
			if test.refused != "" {
				if !slices.Equal(reasons(res.Faults), []string{test.refused}) {
					t.Fatalf("%s %v", res.Status, reasons(res.Faults))
				}
				return
			}
			if !slices.Equal(about(res.Records), test.want) {
				t.Fatalf("%s %v %v, want %v", res.Status, about(res.Records), reasons(res.Faults), test.want)
			}
		})
	}
}

func TestCommandNamesItsRecipient(t *testing.T) {
	w := newWorld(t)
	in := w.company(t, company)
	in.Attributes["type"], in.Attributes["recipient"] = "fi.prh.company.check", "vero.fi"
	res := w.admit(t, in)
	if res.Status != Accepted {
		t.Fatal(res.Faults)
	}
	if to, _ := header(res.Records[0].Headers, "ce_recipient"); to != "vero.fi" {
		t.Errorf("ce_recipient %q", to)
	}
}

// Civicbus names the cause as it is, an organisation by what it was given; whatever else stands there is dropped or refused.
func TestWhatCausedAnEvent(t *testing.T) {
	w := newWorld(t)
	cause, own := w.door.Keys.LifeEvent("https://dvv.fi", "other"), w.door.Keys.LifeEvent("https://dvv.fi", "birth-1")
	sealed := w.door.Keys.For("dvv.fi").SealID(cause)
	for _, test := range []struct {
		internal bool
		given    string
		want     string // empty: refused
	}{
		{true, cause, cause}, {false, cause, own}, {true, "no id", own}, {false, "", own},
		{false, sealed, cause}, {true, sealed, cause},
		{false, w.door.Keys.For("kela.fi").SealID(cause), ""}, {false, "c1.", ""}, {false, sealed[:len(sealed)-1], ""}, {true, sealed + "A", ""},
		{false, "C1" + sealed[2:], own},
	} {
		in := w.birth(t, child, mother)
		in.Internal, in.Attributes["correlationid"] = test.internal, test.given
		res := w.admit(t, in)
		if test.want == "" {
			if res.Status != Refused || len(res.Faults) != 1 || res.Faults[0].Reason != UnknownCorrelation {
				t.Errorf("internal %v, given %q: %s %v", test.internal, test.given, res.Status, res.Faults)
			}
			continue
		}
		if res.Status != Accepted {
			t.Fatalf("internal %v, given %q: %v", test.internal, test.given, res.Faults)
		}
		for _, r := range res.Records {
			if got, _ := header(r.Headers, "ce_correlationid"); got != test.want {
				t.Errorf("internal %v, given %q: %q", test.internal, test.given, got)
			}
		}
	}
}

// Each record says how many its event became, so that whoever waits for all of their decisions knows when they are there.
func TestRecordsSayHowManyTheyAre(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		ids  []string
		want string
	}{{[]string{child, mother}, "2"}, {[]string{mother, mother}, ""}} {
		for _, r := range w.admit(t, w.birth(t, test.ids[0], test.ids[1])).Records {
			if got, _ := header(r.Headers, codecs.HeaderSubjects); got != test.want {
				t.Errorf("%v: %q, want %q", test.ids, got, test.want)
			}
		}
	}
}
