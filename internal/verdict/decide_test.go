package verdict

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
)

// A step breaks one thing in a world. They stand in the order of the precedence.
type step struct {
	name   string
	reason map[string]string // by the subscription's basis; none: this basis is not stopped
	do     func(*world, *codecs.Subscription)
}

func forAll(reason string) map[string]string {
	return map[string]string{BasisConsent: reason, BasisLegalObligation: reason, "public_task": reason}
}

var steps = []step{
	{"pending", forAll(ReasonSubscriptionNotActive), func(_ *world, s *codecs.Subscription) { s.Status = "pending" }},
	{"paused", forAll(ReasonSubscriptionNotActive), func(_ *world, s *codecs.Subscription) { s.Status = "paused" }},
	{"revoked", forAll(ReasonSubscriptionNotActive), func(_ *world, s *codecs.Subscription) { s.Status = StatusRevoked }},
	{"unknown organisation", forAll(ReasonSubscriberNotTrusted), func(w *world, _ *codecs.Subscription) { delete(w.orgs, "kela.fi") }},
	{"suspended", forAll(ReasonSubscriberNotTrusted), func(w *world, _ *codecs.Subscription) {
		if o := w.orgs["kela.fi"]; o != nil {
			o.Status = "suspended"
		}
	}},
	{"not entitled", forAll(ReasonNotEntitled), func(w *world, _ *codecs.Subscription) {
		if o := w.orgs["kela.fi"]; o != nil {
			o.Receives[0].Purposes = []string{"other"}
		}
	}},
	{"certificate over", forAll(ReasonCertificationMissing), func(w *world, _ *codecs.Subscription) {
		if o := w.orgs["kela.fi"]; o != nil {
			o.Certifications[0].ValidTo = noon
		}
	}},
	{"unreadable", forAll(ReasonConsentsUnreadable), func(w *world, _ *codecs.Subscription) { w.consents.Restriction = RestrictionUnreadable }},
	{"protected", forAll(ReasonRestricted), func(w *world, _ *codecs.Subscription) {
		if w.consents.Restriction == "" {
			w.consents.Restriction = "protected"
		}
	}},
	{"own follow-up", forAll(ReasonOwnEvent), func(w *world, _ *codecs.Subscription) { w.event.FollowUp, w.event.Publisher = true, "kela.fi" }},
	{"objection", map[string]string{BasisConsent: ReasonObjected, "public_task": ReasonObjected}, func(w *world, s *codecs.Subscription) {
		w.consents.Objections = append(w.consents.Objections, codecs.Objection{Subscription: s.ID})
	}},
	{"list", map[string]string{BasisConsent: ReasonNotInEventList}, func(w *world, _ *codecs.Subscription) {
		w.event.HasList, w.event.Authorized = true, []string{"vero.fi"}
	}},
	{"death", map[string]string{BasisConsent: ReasonDeceased}, func(w *world, _ *codecs.Subscription) { w.consents.EndedAt = noon - 5 }},
	{"scope", map[string]string{BasisConsent: ReasonScopeNotGranted}, func(_ *world, s *codecs.Subscription) { s.Scopes = []string{"name", "health"} }},
	{"filter", map[string]string{BasisConsent: ReasonFilterUnknown, BasisLegalObligation: ReasonFilterUnknown, "public_task": ReasonFilterUnknown},
		func(_ *world, s *codecs.Subscription) { s.Filter = `{"data.mother.status":"MARRIED"}` }},
}

// TestEarlierStepWins breaks every two things at once: the earlier one gives the reason.
func TestEarlierStepWins(t *testing.T) {
	for _, basis := range []string{"sub-consent", "sub-law", "sub-task"} {
		for i := range steps {
			for j := i; j < len(steps); j++ {
				w := newWorld(t)
				sub := w.only(basis)
				steps[i].do(w, sub)
				if i != j {
					steps[j].do(w, sub)
				}
				want := steps[i].reason[sub.Basis]
				if want == "" {
					want = steps[j].reason[sub.Basis]
				}
				got := w.decide()
				if len(got) != 1 {
					t.Fatalf("%s, %s and %s: %d verdicts", basis, steps[i].name, steps[j].name, len(got))
				}
				if want == "" {
					if !got[0].Permit {
						t.Errorf("%s, %s and %s: denied by %s", basis, steps[i].name, steps[j].name, got[0].Reason)
					}
				} else if got[0].Permit || got[0].Reason != want {
					t.Errorf("%s, %s and %s: %s, want %s", basis, steps[i].name, steps[j].name, got[0].Reason, want)
				}
			}
		}
	}
}

// cases gives a world for every reason.
var cases = []struct {
	name, sub, reason string
	do                func(*world, *codecs.Subscription)
}{
	{"a grant holds", "sub-consent", ReasonConsent, func(*world, *codecs.Subscription) {}},
	{"activating is active", "sub-consent", ReasonConsent, func(_ *world, s *codecs.Subscription) { s.Status = StatusActivating }},
	{"obligation", "sub-law", ReasonRule, func(*world, *codecs.Subscription) {}},
	{"obligation over objection, list and death", "sub-law", ReasonRule, func(w *world, s *codecs.Subscription) {
		w.consents.Objections = []codecs.Objection{{Subscription: s.ID}}
		w.event.HasList = true
		w.consents.EndedAt = 1
	}},
	{"an organisation's own event, which nothing caused", "sub-law", ReasonRule, func(w *world, _ *codecs.Subscription) { w.event.Publisher = "kela.fi" }},
	{"another's follow-up", "sub-law", ReasonRule, func(w *world, _ *codecs.Subscription) { w.event.FollowUp, w.event.Publisher = true, "kela.f" }},
	{"its own follow-up", "sub-task", ReasonOwnEvent, func(w *world, _ *codecs.Subscription) { w.event.FollowUp, w.event.Publisher = true, "kela.fi" }},
	{"no consent row is no matter to a rule", "sub-task", ReasonRule, func(w *world, _ *codecs.Subscription) { w.consents = nil }},
	{"list narrows consent only", "sub-task", ReasonRule, func(w *world, _ *codecs.Subscription) { w.event.HasList = true }},
	{"in the list", "sub-consent", ReasonConsent, func(w *world, _ *codecs.Subscription) {
		w.event.HasList, w.event.Authorized = true, []string{"kela.fi"}
	}},
	{"empty list", "sub-consent", ReasonNotInEventList, func(w *world, _ *codecs.Subscription) { w.event.HasList = true }},
	{"objection to another subscription", "sub-consent", ReasonConsent, func(w *world, _ *codecs.Subscription) {
		w.consents.Objections = []codecs.Objection{{Subscription: "sub-law"}}
	}},
	{"obligation not in force: the objection comes first", "sub-law", ReasonObjected, func(w *world, s *codecs.Subscription) {
		w.rule(BasisLegalObligation).ValidTo = noon
		w.consents.Objections = []codecs.Objection{{Subscription: s.ID}}
	}},
	{"obligation not in force", "sub-law", ReasonRuleNotInForce, func(w *world, _ *codecs.Subscription) { w.rule(BasisLegalObligation).ValidTo = noon }},
	{"rule of another role", "sub-task", ReasonRuleNotInForce, func(w *world, _ *codecs.Subscription) { w.rule("public_task").Role = "mother" }},
	{"rule of another purpose", "sub-task", ReasonRuleNotInForce, func(w *world, _ *codecs.Subscription) { w.rule("public_task").Purpose = "tax" }},
	{"rule for another", "sub-task", ReasonRuleNotInForce, func(w *world, _ *codecs.Subscription) { w.rule("public_task").Recipient = "vero.fi" }},
	{"no row", "sub-consent", ReasonNoGrant, func(w *world, _ *codecs.Subscription) { w.consents = nil }},
	{"grant to another", "sub-consent", ReasonNoGrant, func(w *world, _ *codecs.Subscription) { w.consents.Grants[0].Recipient = "vero.fi" }},
	{"grant for another purpose", "sub-consent", ReasonNoGrant, func(w *world, _ *codecs.Subscription) { w.consents.Grants[0].Purpose = "tax" }},
	{"unknown state", "sub-consent", ReasonNoGrant, func(w *world, _ *codecs.Subscription) { w.consents.Grants[0].State = "perhaps" }},
	{"refused", "sub-consent", ReasonGrantRefused, func(w *world, _ *codecs.Subscription) { w.consents.Grants[0].State = GrantRefused }},
	{"withdrawn", "sub-consent", ReasonGrantWithdrawn, func(w *world, _ *codecs.Subscription) { w.consents.Grants[0].State = GrantWithdrawn }},
	{"expired", "sub-consent", ReasonGrantExpired, func(w *world, _ *codecs.Subscription) { w.consents.Grants[0].ValidTo = noon }},
	{"marked expired", "sub-consent", ReasonGrantExpired, func(w *world, _ *codecs.Subscription) { w.consents.Grants[0].State = GrantExpired }},
	{"not yet", "sub-consent", ReasonGrantNotYetValid, func(w *world, _ *codecs.Subscription) { w.consents.Grants[0].ValidFrom = noon + 1 }},
	{"scope lacks", "sub-consent", ReasonScopeNotGranted, func(w *world, _ *codecs.Subscription) { w.consents.Grants[0].Scopes = []string{"place"} }},
	{"deceased", "sub-consent", ReasonDeceased, func(w *world, _ *codecs.Subscription) { w.consents.EndedAt = noon }},
	{"given after a death", "sub-consent", ReasonDeceased, func(w *world, _ *codecs.Subscription) { w.consents.EndedAt = noon - 100 }},
	{"withdrawing an older grant leaves the newer", "sub-consent", ReasonConsent, func(w *world, _ *codecs.Subscription) {
		old := w.consents.Grants[0]
		old.ID, old.State, old.GivenAt, old.Version = "g0", GrantWithdrawn, noon-20, 8
		w.consents.Grants = append(w.consents.Grants, old)
	}},
	{"withdrawing a newer grant leaves the older", "sub-consent", ReasonConsent, func(w *world, _ *codecs.Subscription) {
		other := w.consents.Grants[0]
		other.ID, other.State, other.GivenAt = "g2", GrantWithdrawn, noon-1
		w.consents.Grants = append(w.consents.Grants, other)
	}},
	{"a later refusal of all", "sub-consent", ReasonGrantRefused, func(w *world, _ *codecs.Subscription) {
		w.consents.Grants = append(w.consents.Grants, codecs.Grant{ID: "g2", State: GrantRefused, Recipient: "kela.fi", Purpose: "benefit", GivenAt: noon - 1})
	}},
	{"a later refusal of the scope", "sub-consent", ReasonScopeNotGranted, func(w *world, _ *codecs.Subscription) {
		w.consents.Grants = append(w.consents.Grants, codecs.Grant{ID: "g2", State: GrantRefused, Recipient: "kela.fi", Purpose: "benefit", Scopes: []string{"name"}, GivenAt: noon - 1})
	}},
	{"an earlier refusal", "sub-consent", ReasonConsent, func(w *world, _ *codecs.Subscription) {
		w.consents.Grants = append(w.consents.Grants, codecs.Grant{ID: "g2", State: GrantRefused, Recipient: "kela.fi", Purpose: "benefit", GivenAt: noon - 11})
	}},
	{"status word nobody knows", "sub-law", ReasonSubscriptionNotActive, func(_ *world, s *codecs.Subscription) { s.Status = "" }},
	{"revoked organisation", "sub-law", ReasonSubscriberNotTrusted, func(w *world, _ *codecs.Subscription) { w.orgs["kela.fi"].Status = "revoked" }},
	{"basis not entitled", "sub-law", ReasonNotEntitled, func(w *world, _ *codecs.Subscription) { w.orgs["kela.fi"].Receives[0].Bases = []string{"consent"} }},
	{"entitled without certification beside", "sub-law", ReasonRule, func(w *world, _ *codecs.Subscription) {
		o := w.orgs["kela.fi"]
		o.Certifications = nil
		o.Receives = append(o.Receives, codecs.Entitlement{EventType: birthType, Purposes: []string{"benefit"}, Bases: []string{BasisLegalObligation}})
	}},
	{"no certification", "sub-law", ReasonCertificationMissing, func(w *world, _ *codecs.Subscription) { w.orgs["kela.fi"].Certifications = nil }},
	{"certification not yet", "sub-law", ReasonCertificationMissing, func(w *world, _ *codecs.Subscription) { w.orgs["kela.fi"].Certifications[0].ValidFrom = noon + 1 }},
	{"restriction stops the obligation", "sub-law", ReasonRestricted, func(w *world, _ *codecs.Subscription) { w.consents.Restriction = "protected" }},
	{"erasure", "sub-law", ReasonRestricted, func(w *world, _ *codecs.Subscription) { w.consents.Restriction = "erasure" }},
	{"unreadable", "sub-law", ReasonConsentsUnreadable, func(w *world, _ *codecs.Subscription) { w.consents = Unreadable() }},
	{"filter sees what is granted", "sub-consent", ReasonConsent, func(_ *world, s *codecs.Subscription) { s.Filter = `{"data.child.name":"Aino"}` }},
	{"filter needs what is not granted", "sub-consent", ReasonFilterUnknown, func(_ *world, s *codecs.Subscription) { s.Filter = `{"data.child.weight":3500}` }},
	{"nor its negation", "sub-consent", ReasonFilterUnknown, func(_ *world, s *codecs.Subscription) { s.Filter = `{"not":{"data.child.weight":1}}` }},
	{"an alternative that is granted", "sub-consent", ReasonConsent, func(_ *world, s *codecs.Subscription) {
		s.Filter = `{"cel":"data.child.weight == 3500 || data.child.name == 'Aino'"}`
	}},
	{"stamp granted", "sub-consent", ReasonConsent, func(_ *world, s *codecs.Subscription) { s.Filter = `{"profile.language":"fi"}` }},
	{"stamp not granted", "sub-consent", ReasonFilterUnknown, func(_ *world, s *codecs.Subscription) { s.Filter = `{"profile.municipality":"Espoo"}` }},
	{"filter on what Fields leaves out", "sub-consent", ReasonConsent, func(_ *world, s *codecs.Subscription) {
		s.Filter, s.Fields = `{"data.child.name":"Aino"}`, []string{"data.place"}
	}},
	{"command for this one", "sub-law", ReasonRule, func(w *world, _ *codecs.Subscription) {
		w.types[birthType].Category, w.event.Recipient = CategoryCommand, "kela.fi"
	}},
}

func TestReasons(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.do(w, w.only(c.sub))
			got := w.decide()
			if len(got) != 1 || got[0].Reason != c.reason {
				t.Fatalf("got %+v, want one verdict %s", got, c.reason)
			}
			if permits := c.reason == ReasonConsent || c.reason == ReasonRule; got[0].Permit != permits {
				t.Errorf("permit is %v with reason %s", got[0].Permit, c.reason)
			}
			one, ok := w.snapshot().DecideOne(w.event, c.sub, w.consents, time.UnixMilli(w.now))
			if !ok || one.Reason != c.reason || !slices.Equal(one.Fields, got[0].Fields) {
				t.Errorf("DecideOne says %s, Decide %s", one.Reason, c.reason)
			}
		})
	}
}

// TestDecideOneSaysWhyThereIsNoMatch covers the reasons that Decide does not list.
func TestDecideOneSaysWhyThereIsNoMatch(t *testing.T) {
	for _, c := range decideOneCases {
		w := newWorld(t)
		sub := w.only("sub-law")
		c.do(w, sub)
		if got := w.decide(); len(got) != 0 {
			t.Errorf("%s: Decide lists %v", c.name, got)
		}
		got, ok := w.snapshot().DecideOne(w.event, sub.ID, w.consents, time.UnixMilli(w.now))
		if !ok || got.Permit || got.Reason != c.reason {
			t.Errorf("%s: %v %s, want %s", c.name, ok, got.Reason, c.reason)
		}
	}
	w := newWorld(t)
	if _, ok := w.snapshot().DecideOne(w.event, "sub-none", w.consents, time.UnixMilli(w.now)); ok {
		t.Error("a subscription that is not there was decided")
	}
}

var decideOneCases = []struct {
	name, reason string
	do           func(*world, *codecs.Subscription)
}{
	{"command for another", ReasonNotRecipient, func(w *world, _ *codecs.Subscription) {
		w.types[birthType].Category, w.event.Recipient = CategoryCommand, "vero.fi"
	}},
	{"command for nobody", ReasonNotRecipient, func(w *world, _ *codecs.Subscription) { w.types[birthType].Category = CategoryCommand }},
	{"another role", ReasonNotMatched, func(_ *world, s *codecs.Subscription) { s.Role = "mother" }},
	{"another type", ReasonNotMatched, func(_ *world, s *codecs.Subscription) { s.EventTypes = []string{"fi.test.death"} }},
	{"filter says no", ReasonNotMatched, func(_ *world, s *codecs.Subscription) { s.Filter = `{"data.residency":"Sweden"}` }},
	{"filter cannot be read", ReasonNotMatched, func(_ *world, s *codecs.Subscription) { s.Filter = `{"sql":"true"}` }},
	{"type gone", ReasonNotMatched, func(w *world, _ *codecs.Subscription) { delete(w.types, birthType) }},
	{"role gone", ReasonNotMatched, func(w *world, _ *codecs.Subscription) { w.event.Role = "aunt" }},
	{"no role", ReasonNotMatched, func(w *world, _ *codecs.Subscription) { w.event.Role = "" }},
}

// TestEveryReasonHasACase compares the constants in reasons.go with Reasons and with what the tables expect.
func TestEveryReasonHasACase(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var constants []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Reason") {
			value, _ := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			constants = append(constants, value)
		}
		return true
	})
	covered := map[string]bool{}
	for _, c := range cases {
		covered[c.reason] = true
	}
	for _, c := range decideOneCases {
		covered[c.reason] = true
	}
	slices.Sort(constants)
	listed := slices.Sorted(slices.Values(Reasons()))
	if !slices.Equal(constants, listed) {
		t.Errorf("constants %v, Reasons() %v", constants, listed)
	}
	for _, reason := range constants {
		if !covered[reason] {
			t.Errorf("no case gives %s", reason)
		}
	}
	if len(covered) != len(constants) {
		t.Errorf("cases give %d reasons, there are %d", len(covered), len(constants))
	}
}

// TestBoundaries tests each validity at its first and last instant: intervals are half-open.
func TestBoundaries(t *testing.T) {
	set := map[string]func(w *world, from, to int64){
		"sub-consent": func(w *world, from, to int64) {
			w.consents.Grants[0].ValidFrom, w.consents.Grants[0].ValidTo = from, to
		},
		"sub-task": func(w *world, from, to int64) { r := w.rule("public_task"); r.ValidFrom, r.ValidTo = from, to },
		"sub-law": func(w *world, from, to int64) {
			c := &w.orgs["kela.fi"].Certifications[0]
			c.ValidFrom, c.ValidTo = from, to
		},
	}
	for id, interval := range set {
		for _, c := range []struct {
			from, to int64
			want     bool
		}{
			{noon, noon + 1, true}, {noon + 1, noon + 2, false}, {noon - 1, noon, false}, {noon - 1, noon + 1, true},
			{noon, 0, true}, {noon + 1, 0, false}, {noon, noon, false}, {0, 0, true},
		} {
			w := newWorld(t)
			w.only(id)
			interval(w, c.from, c.to)
			if got := w.decide(); len(got) != 1 || got[0].Permit != c.want {
				t.Errorf("%s in [%d, %d) at %d: %+v, want %v", id, c.from-noon, c.to-noon, 0, got, c.want)
			}
		}
	}
}

func TestReferences(t *testing.T) {
	w := newWorld(t)
	for _, v := range w.decide() {
		want := map[string]Verdict{
			"sub-consent": {Basis: "consent", Reference: "g1", ReferenceVersion: 4},
			"sub-law":     {Basis: BasisLegalObligation, Reference: "law-1", ReferenceVersion: 7},
			"sub-task":    {Basis: "public_task", Reference: "task-1", ReferenceVersion: 7},
		}[v.Sub.ID]
		if v.Basis != want.Basis || v.Reference != want.Reference || v.ReferenceVersion != want.ReferenceVersion || v.TrustVersion != 3 {
			t.Errorf("%s: %+v", v.Sub.ID, v)
		}
		if v.FieldSet != FieldSetOf(v.Fields) || v.FieldSet == 0 {
			t.Errorf("%s: field set %d", v.Sub.ID, v.FieldSet)
		}
	}
}

func TestRuleChoice(t *testing.T) {
	w := newWorld(t)
	w.only("sub-law")
	et := w.types[birthType]
	et.Rules = append(et.Rules, et.Rules[0], et.Rules[0], et.Rules[0])
	et.Rules[2].ID, et.Rules[2].ValidFrom = "law-2", noon
	et.Rules[3].ID, et.Rules[3].Role = "law-3", "child"
	et.Rules[4].ID, et.Rules[4].ValidFrom = "law-4", noon+1
	for _, want := range []string{"law-3", "law-2", "law-1"} {
		if got := w.decide(); len(got) != 1 || got[0].Reference != want {
			t.Errorf("got %+v, want %s", got, want)
		}
		i := slices.IndexFunc(et.Rules, func(r codecs.Rule) bool { return r.ID == want })
		et.Rules = slices.Delete(et.Rules, i, i+1)
	}
}
