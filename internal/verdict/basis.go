package verdict

import (
	"slices"

	"civicbus/codecs"
	"civicbus/internal/flaw"
)

// ruleInForce finds the rule that the subscription claims: its recipient, purpose and basis, the event's role, in force now. Of
// several (validation refuses those that overlap for one role) one for the role itself goes before one for every
// role, then the one that came into force last, then the smaller id. -1: none.
func (d *decision) ruleInForce() int {
	sub := d.entry.sub.row
	rules := d.eventType.row.Rules
	best := -1
	for _, i := range d.eventType.rules[sub.Subscriber] {
		r := &rules[i]
		if !claims(sub, r, d.event.Role) || !within(r.ValidFrom, r.ValidTo, d.now) {
			continue
		}
		if best < 0 || ruleBefore(r, &rules[best]) {
			best = i
		}
	}
	return best
}

func ruleBefore(a, b *codecs.Rule) bool {
	if (a.Role == "") != (b.Role == "") {
		return b.Role == ""
	}
	if a.ValidFrom != b.ValidFrom {
		return a.ValidFrom > b.ValidFrom
	}
	return a.ID < b.ID
}

func (d *decision) permitRule(i int) Verdict {
	rule := &d.eventType.row.Rules[i]
	return d.permit(ReasonRule, rule.ID, d.eventType.row.Version, setKey{rule: i + 1}, rule)
}

// permit makes the verdict with the fields of the basis, narrowed by the subscription.
func (d *decision) permit(reason, reference string, version int64, key setKey, rule *codecs.Rule) Verdict {
	sub := d.entry.sub
	d.seen = d.plan.set(key, rule, nil)
	set := d.seen
	if sub.narrow != "" {
		key.narrow = sub.narrow
		set = d.plan.set(key, rule, sub.row.Fields)
	}
	return Verdict{Sub: sub.row, Permit: true, Reason: reason, Basis: sub.row.Basis, Reference: reference, ReferenceVersion: version,
		TrustVersion: d.trust, Fields: set.fields, FieldSet: set.hash, set: set}
}

// byGrant is the step basis for consent. Of the grants that the subject has for this recipient and purpose, the latest that holds
// is taken, alone: scopes of two grants are not added up. Withdrawing, refusing or outliving one grant leaves the
// others as they are, except that a refusal takes its scopes (without scopes: all) from grants given before it.
func (d *decision) byGrant() Verdict {
	c, sub := d.consents, d.entry.sub.row
	if c == nil {
		return d.deny(ReasonNoGrant)
	}
	if c.EndedAt != 0 {
		return d.deny(ReasonDeceased)
	}
	var holds, lacks, latest *codecs.Grant
	for i := range c.Grants {
		g := &c.Grants[i]
		if g.Recipient != sub.Subscriber || g.Purpose != sub.Purpose {
			continue
		}
		if latest == nil || laterGrant(g, latest) {
			latest = g
		}
		if g.State != GrantGiven || !within(g.ValidFrom, g.ValidTo, d.now) && !flaw.Planted(flaw.GrantEternal) || refusedWhole(c, g) {
			continue
		}
		if !coversAll(c, g, sub.Scopes) {
			lacks = g
			continue
		}
		if holds == nil || laterGrant(g, holds) {
			holds = g
		}
	}
	if holds == nil {
		return d.denyGrant(latest, lacks)
	}
	key := setKey{}
	for _, scope := range holds.Scopes {
		if bit, ok := d.plan.bit(scope); ok && !refusedScope(c, holds, scope) {
			key.scopes.add(bit)
		}
	}
	return d.permit(ReasonConsent, holds.ID, holds.Version, key, nil)
}

// denyGrant says why no grant holds: one that lacks a scope, else the state of the latest.
func (d *decision) denyGrant(latest, lacks *codecs.Grant) Verdict {
	g, reason := latest, ReasonNoGrant
	switch {
	case lacks != nil:
		g, reason = lacks, ReasonScopeNotGranted
	case latest == nil:
	case latest.State == GrantRefused:
		reason = ReasonGrantRefused
	case latest.State == GrantWithdrawn:
		reason = ReasonGrantWithdrawn
	case latest.State == GrantExpired, latest.State == GrantGiven && latest.ValidTo != 0 && latest.ValidTo <= d.now:
		reason = ReasonGrantExpired
	case latest.State == GrantGiven && latest.ValidFrom > d.now:
		reason = ReasonGrantNotYetValid
	case latest.State == GrantGiven: // refused whole at the same instant
		reason = ReasonGrantRefused
	}
	v := d.deny(reason)
	if g != nil && reason != ReasonNoGrant {
		v.Reference, v.ReferenceVersion = g.ID, g.Version
	}
	return v
}

// laterGrant orders the grants of one recipient and purpose by when they were given, then changed, then by id.
func laterGrant(a, b *codecs.Grant) bool {
	if a.GivenAt != b.GivenAt {
		return a.GivenAt > b.GivenAt
	}
	if a.Version != b.Version {
		return a.Version > b.Version
	}
	return a.ID > b.ID
}

func coversAll(c *codecs.Consents, g *codecs.Grant, scopes []string) bool {
	for _, scope := range scopes {
		if !slices.Contains(g.Scopes, scope) || refusedScope(c, g, scope) {
			return false
		}
	}
	return true
}

// refusedScope tells whether a refusal for the same recipient and purpose, not older than the grant, names the scope.
func refusedScope(c *codecs.Consents, g *codecs.Grant, scope string) bool {
	for i := range c.Grants {
		if r := &c.Grants[i]; refuses(r, g) && (len(r.Scopes) == 0 || slices.Contains(r.Scopes, scope)) {
			return true
		}
	}
	return false
}

// refusedWhole tells whether such a refusal names no scope, and so takes the whole grant.
func refusedWhole(c *codecs.Consents, g *codecs.Grant) bool {
	for i := range c.Grants {
		if r := &c.Grants[i]; refuses(r, g) && len(r.Scopes) == 0 {
			return true
		}
	}
	return false
}

func refuses(r, g *codecs.Grant) bool {
	return r.State == GrantRefused && r.Recipient == g.Recipient && r.Purpose == g.Purpose && r.GivenAt >= g.GivenAt
}
