package verdict

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"civicbus/codecs"
)

// modelled is what the model says of one subscription.
type modelled struct {
	reason string
	fields []string
}

// model is the law of DESIGN 3.10 over every subscription in turn, naively: env is what the event tells, filters are the naive ones.
func model(w *world, filters map[string]*expr, env map[string]any) map[string]modelled {
	out := map[string]modelled{}
	et, org := w.types[birthType], w.orgs["kela.fi"]
	in := func(from, to int64) bool { return from <= w.now && (to == 0 || w.now < to) }
	for id, s := range w.subs {
		if role := s.Role; role != w.event.Role && !(role == "" && w.event.Role == et.Roles[0].Name) || et.Category == CategoryCommand && w.event.Recipient != s.Subscriber {
			continue
		}
		if f := filters[id]; f != nil && f.naive(env) != True {
			continue
		}
		entitled := slices.Contains(org.Receives[0].Purposes, s.Purpose) && slices.Contains(org.Receives[0].Bases, s.Basis)
		c := org.Certifications[0]
		var rule *codecs.Rule
		for i := range et.Rules {
			if r := &et.Rules[i]; r.Purpose == s.Purpose && r.Basis == s.Basis && (r.Role == "" || r.Role == w.event.Role) && in(r.ValidFrom, r.ValidTo) {
				rule = r
			}
		}
		objected := slices.ContainsFunc(w.consents.Objections, func(o codecs.Objection) bool { return o.Subscription == id })
		grant, why := modelGrant(w, s, in)
		reason, permit := "", ""
		switch {
		case s.Status != "active" && s.Status != "activating":
			reason = ReasonSubscriptionNotActive
		case org.Status != "active":
			reason = ReasonSubscriberNotTrusted
		case !entitled:
			reason = ReasonNotEntitled
		case !in(c.ValidFrom, c.ValidTo):
			reason = ReasonCertificationMissing
		case w.consents.Restriction != "":
			reason = ReasonRestricted
		case w.event.FollowUp && w.event.Publisher == s.Subscriber:
			reason = ReasonOwnEvent
		case s.Basis == "legal_obligation" && rule != nil:
			permit = ReasonRule
		case objected:
			reason = ReasonObjected
		case s.Basis == "consent" && w.event.HasList && !slices.Contains(w.event.Authorized, s.Subscriber):
			reason = ReasonNotInEventList
		case s.Basis == "consent" && grant == nil:
			reason = why
		case s.Basis == "consent":
			permit = ReasonConsent
		case rule == nil:
			reason = ReasonRuleNotInForce
		default:
			permit = ReasonRule
		}
		if permit == "" {
			out[id] = modelled{reason: reason}
			continue
		}
		may := modelFields(w, rule, grant, s.Basis == "consent")
		seen := map[string]any{}
		for path, v := range env {
			if slices.Contains(may, path) {
				seen[path] = v
			}
		}
		if f := filters[id]; f != nil && f.naive(seen) != True {
			out[id] = modelled{reason: ReasonFilterUnknown}
			continue
		}
		if len(s.Fields) > 0 {
			may = slices.DeleteFunc(may, func(path string) bool {
				return !slices.ContainsFunc(s.Fields, func(f string) bool {
					return f == path || strings.HasPrefix(path, f+".") || strings.HasPrefix(path, f+"[")
				})
			})
		}
		out[id] = modelled{permit, may}
	}
	return out
}

// modelGrant finds the grant that holds, or why there is none. In drawn worlds GivenAt tells all grants apart.
func modelGrant(w *world, s *codecs.Subscription, in func(from, to int64) bool) (*codecs.Grant, string) {
	if w.consents.EndedAt != 0 {
		return nil, ReasonDeceased
	}
	var of, holding []codecs.Grant
	for _, g := range w.consents.Grants {
		if g.Recipient == s.Subscriber && g.Purpose == s.Purpose {
			of = append(of, g)
		}
	}
	slices.SortFunc(of, func(a, b codecs.Grant) int { return int(b.GivenAt - a.GivenAt) }) // latest first
	refused := map[string]bool{}
	lacks := false
	for _, g := range of {
		if g.State == "refused" {
			for _, scope := range append(g.Scopes, map[bool][]string{true: {"*"}}[len(g.Scopes) == 0]...) {
				refused[scope] = true
			}
		}
		if g.State != "given" || !in(g.ValidFrom, g.ValidTo) || refused["*"] {
			continue
		}
		g.Scopes = slices.DeleteFunc(slices.Clone(g.Scopes), func(scope string) bool { return refused[scope] })
		if slices.ContainsFunc(s.Scopes, func(scope string) bool { return !slices.Contains(g.Scopes, scope) }) {
			lacks = true
			continue
		}
		holding = append(holding, g)
	}
	switch {
	case len(holding) > 0:
		return &holding[0], ""
	case lacks:
		return nil, ReasonScopeNotGranted
	case len(of) == 0:
		return nil, ReasonNoGrant
	case of[0].State != "given":
		return nil, "grant_" + of[0].State
	case of[0].ValidFrom > w.now && (of[0].ValidTo == 0 || of[0].ValidTo > w.now):
		return nil, ReasonGrantNotYetValid
	}
	return nil, ReasonGrantExpired
}

// modelFields lists what a rule or a grant permits, from the table in world_test.go and the catalog's own entries.
func modelFields(w *world, rule *codecs.Rule, grant *codecs.Grant, consent bool) []string {
	ends := slices.Clone(schemaEnds)
	for _, a := range codecs.ProfileAttributes() {
		path := "profile." + a.Name
		end := schemaEnds[0]
		end.path, end.scopes = path, []string{path}
		ends = append(ends, end)
	}
	var out []string
	for _, end := range ends {
		for _, f := range w.types[birthType].Fields { // drawn worlds have at most one entry for a field
			if f.Path == end.path || strings.HasPrefix(end.path, f.Path+".") {
				end.owner, end.scopes = f.Owner, f.Scopes
				if strings.HasPrefix(end.path, "profile.") {
					end.scopes = append([]string{end.path}, f.Scopes...)
				}
			}
		}
		permitted := false
		if !consent {
			permitted = slices.ContainsFunc(rule.Fields, func(f string) bool {
				return f == end.path || strings.HasPrefix(end.path, f+".") || strings.HasPrefix(end.path, f+"[")
			})
		} else if end.owner == "" || end.owner == w.event.Role {
			permitted = slices.ContainsFunc(end.scopes, func(scope string) bool { return slices.Contains(grant.Scopes, scope) })
		}
		if permitted {
			out = append(out, end.path)
		}
	}
	return out
}

var (
	drawScopes  = []string{"place", "name", "health", "family", "profile.language", "extra", "unheard-of"}
	drawPurpose = []string{"benefit", "tax"}
	drawBases   = []string{"consent", "consent", "legal_obligation", "public_task"}
	drawPaths   = []string{"data", "data.child", "data.place", "data.mother.name", "data.siblings", "data.residency", "profile.municipality", "profile"}
)

// drawWorld makes a world in which about half of all subscriptions are permitted, with naive filters by subscription.
func drawWorld(t *testing.T, rt *rapid.T, schema *codecs.Schema) (w *world, filters map[string]*expr, env map[string]any) {
	seldom := func(name string) bool { return rapid.IntRange(0, 19).Draw(rt, name) == 19 }
	some := func(name string, of []string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, 3, rapid.ID[string]).Draw(rt, name)
	}
	interval := func(name string) (from, to int64) {
		if !seldom(name) {
			return noon - 5, []int64{0, noon + 5}[rapid.IntRange(0, 1).Draw(rt, name)]
		}
		from = noon + int64(rapid.IntRange(-2, 1).Draw(rt, name))
		return from, from + int64(rapid.IntRange(1, 2).Draw(rt, name))
	}
	w = newWorld(t)
	w.schema, w.event.Schema = schema, schema
	et, org := w.types[birthType], w.orgs["kela.fi"]
	if seldom("category") {
		et.Category = CategoryCommand
		w.event.Recipient = rapid.SampledFrom([]string{"kela.fi", "vero.fi", ""}).Draw(rt, "recipient")
	}
	if rapid.Bool().Draw(rt, "catalog field") {
		et.Fields = []codecs.Field{{Path: rapid.SampledFrom([]string{"data.residency", "data.child", "data.mother", "data.child.name", "profile.municipality"}).Draw(rt, "path"),
			Owner: rapid.SampledFrom([]string{"", "child", "mother"}).Draw(rt, "owner"), Scopes: some("scopes", drawScopes)}}
	}
	et.Rules = nil
	for _, basis := range []string{"legal_obligation", "public_task"} {
		for _, purpose := range drawPurpose {
			from, to := interval("rule")
			et.Rules = append(et.Rules, codecs.Rule{ID: basis + purpose, Recipient: "kela.fi", Purpose: purpose, Basis: basis, ValidFrom: from, ValidTo: to,
				Fields: some("rule fields", drawPaths), Role: rapid.SampledFrom([]string{"", "", "child", "mother"}).Draw(rt, "rule role")})
		}
	}
	if seldom("organisation") {
		org.Status = "suspended"
	}
	org.Certifications[0].ValidFrom, org.Certifications[0].ValidTo = interval("certification")
	if !seldom("entitled") {
		org.Receives[0].Purposes = drawPurpose
	}
	w.consents = &codecs.Consents{}
	if seldom("restricted") {
		w.consents.Restriction = "protected"
	}
	if seldom("dead") {
		w.consents.EndedAt = noon - 1
	}
	if rapid.Bool().Draw(rt, "objects") {
		w.consents.Objections = []codecs.Objection{{Subscription: fmt.Sprint("sub-", rapid.IntRange(0, 4).Draw(rt, "objection"))}}
	}
	for i, at := range rapid.Permutation([]int64{1, 2, 3, 4, 5}).Draw(rt, "given at") {
		from, to := interval("grant")
		w.consents.Grants = append(w.consents.Grants, codecs.Grant{ID: fmt.Sprint("g", i), GivenAt: at, ValidFrom: from, ValidTo: to,
			State:     rapid.SampledFrom([]string{"given", "given", "given", "given", "refused", "withdrawn"}).Draw(rt, "state"),
			Recipient: rapid.SampledFrom([]string{"kela.fi", "kela.fi", "vero.fi"}).Draw(rt, "grantee"),
			Purpose:   rapid.SampledFrom(drawPurpose).Draw(rt, "grant purpose"), Scopes: some("grant scopes", drawScopes)})
	}
	if w.event.FollowUp = seldom("follow-up"); w.event.FollowUp {
		w.event.Publisher = rapid.SampledFrom([]string{"kela.fi", "dvv.fi"}).Draw(rt, "publisher")
	}
	if w.event.HasList = seldom("list"); w.event.HasList {
		w.event.Authorized = some("authorized", []string{"kela.fi", "vero.fi"})
	}
	w.event.Role = rapid.SampledFrom([]string{"child", "child", "mother", "sibling"}).Draw(rt, "role")
	w.event.Index = rapid.IntRange(0, 1).Draw(rt, "index")
	native, stamp, env := drawData(rt)
	w.event.Body, w.event.Stamp = w.encode(t, native), stamp
	filters = map[string]*expr{}
	w.subs = map[string]*codecs.Subscription{}
	for i := range rapid.IntRange(1, 30).Draw(rt, "subscriptions") {
		s := &codecs.Subscription{ID: fmt.Sprint("sub-", i), Subscriber: "kela.fi", EventTypes: []string{birthType},
			Purpose: rapid.SampledFrom(drawPurpose).Draw(rt, "purpose"), Basis: rapid.SampledFrom(drawBases).Draw(rt, "basis"),
			Role:   rapid.SampledFrom([]string{"", "child", "mother", "sibling"}).Draw(rt, "sub role"),
			Status: "active"}
		if seldom("status") {
			s.Status = rapid.SampledFrom([]string{"pending", "activating", "paused", "revoked"}).Draw(rt, "status")
		}
		if rapid.Bool().Draw(rt, "requires") {
			s.Scopes = some("required", drawScopes[:3])
		}
		if seldom("narrows") {
			s.Fields = some("fields", drawPaths)
		}
		if rapid.Bool().Draw(rt, "filters") {
			filters[s.ID] = drawExpr(rt, 2)
			s.Filter = specOf(rt, filters[s.ID])
		}
		w.subs[s.ID] = s
	}
	return w, filters, env
}

// TestDecideIsTheModel decides random worlds, with the Snapshot built in random steps and detours.
func TestDecideIsTheModel(t *testing.T) {
	schema := mustSchema(t, birthSchema)
	seen := map[string]int{}
	decided := func(rt *rapid.T) {
		w, filters, env := drawWorld(t, rt, schema)
		want := model(w, filters, env)
		got := drawSnapshot(rt, w).Decide(nil, w.event, w.consents, time.UnixMilli(w.now))
		if !slices.IsSortedFunc(got, func(a, b Verdict) int { return strings.Compare(a.Sub.ID, b.Sub.ID) }) {
			rt.Fatal("verdicts are not in order")
		}
		if len(got) != len(want) {
			rt.Fatalf("%d verdicts %+v, want %v", len(got), got, want)
		}
		for _, v := range got {
			m, ok := want[v.Sub.ID]
			if !ok || v.Reason != m.reason || !slices.Equal(v.Fields, m.fields) {
				rt.Fatalf("%s: %s %v, want %s %v\n%+v\n%+v", v.Sub.ID, v.Reason, v.Fields, m.reason, m.fields, v.Sub, w.consents)
			}
			seen[v.Reason]++
		}
	}
	for range 8 { // of a hundred worlds each
		rapid.Check(t, decided)
	}
	for _, reason := range Reasons() {
		if seen[reason] == 0 && !slices.Contains([]string{ReasonNotRecipient, ReasonNotMatched, ReasonConsentsUnreadable, ReasonGrantExpired, ReasonGrantNotYetValid}, reason) {
			t.Errorf("%s never came up: %v", reason, seen)
		}
	}
}

// drawSnapshot comes to a world's rows by several changes, some of them undone.
func drawSnapshot(rt *rapid.T, w *world) *Snapshot {
	s := NewSnapshot()
	detour := map[string]*codecs.Subscription{}
	for id, sub := range w.subs {
		other := *sub
		other.Filter = rapid.SampledFrom([]string{"", `{"data.residency":"Finland"}`, `{"cel":"data.place in ['Espoo','Vantaa']"}`, `{`}).Draw(rt, "was")
		other.Role = rapid.SampledFrom([]string{"", "child"}).Draw(rt, "was role")
		detour[id] = &other
	}
	detour["sub-gone"] = &codecs.Subscription{ID: "sub-gone", EventTypes: []string{birthType, "fi.test.death"}, Filter: `{"data.place":"Espoo"}`}
	s = s.With(Changes{Subscriptions: detour})
	before := s
	for id, sub := range w.subs {
		s = s.With(Changes{Subscriptions: map[string]*codecs.Subscription{id: sub}})
	}
	s = s.With(Changes{EventTypes: w.types, Organisations: w.orgs, Subscriptions: map[string]*codecs.Subscription{"sub-gone": nil}})
	if before.Subscription("sub-gone") == nil || s.Subscription("sub-gone") != nil {
		rt.Fatal("a change reached an older snapshot, or none")
	}
	return s
}
