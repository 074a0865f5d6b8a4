package consent

import (
	"fmt"
	"slices"

	"civicbus/codecs"
	"civicbus/processors/command"
)

// Bounds of one grant, chosen so that codecs.MaxGrants of the largest fit into one record; a test measures it.
const (
	MaxScopes  = 32
	maxScope   = 100  // bytes of a scope, as the catalog has it
	maxScopes  = 1536 // bytes of all scopes together
	maxID      = 64   // bytes of a grant's id
	maxPurpose = 100  // bytes of a purpose
	maxURI     = 192  // bytes of a notice and of a withdrawal method
	maxTerm    = 64   // bytes of every other text
)

// give adds a grant or a refusal. A refusal is an answer on record, and the newer answer: it takes its scopes (without any,
// all) from what was given before for the same recipient and purpose. That is done here and not left to the reader of
// the row, so that a refusal can be dropped when room is needed.
func (c *change) give(grant codecs.Grant, state string) (*codecs.Consents, command.Refusal) {
	if faults := grantFaults(&grant, state); len(faults) > 0 {
		return nil, command.RefuseAll(faults)
	}
	if state == Given && c.next.EndedAt != 0 {
		return nil, command.Refuse(Deceased, "grant", "a death has ended the subject's consents; an operator can revive them if it was a mistake")
	}
	if slices.ContainsFunc(c.next.Grants, func(g codecs.Grant) bool { return g.ID == grant.ID }) {
		return nil, command.Refuse(GrantExists, "grant.id", "a new consent has a new id")
	}
	grant.Version, grant.GivenVersion, grant.State, grant.WithdrawnScopes = c.version, c.version, state, nil
	grant.ChangedAt, grant.ChangedBy = c.at, c.actor
	grant.GivenAt = max(c.at, c.lastAnswer()+1)
	if grant.ValidTo != 0 && (grant.ValidTo <= grant.ValidFrom || grant.ValidTo <= c.at) {
		return nil, command.Refuse(ValidityEmpty, "grant.validTo", "after validFrom and after now, or 0 for no end")
	}
	if len(c.next.Grants) >= codecs.MaxGrants && !c.dropOldest() {
		return nil, command.Refuse(TooManyGrants, "grant", fmt.Sprintf("%d are given; withdraw one first", codecs.MaxGrants))
	}
	for i := range c.next.Grants {
		g := &c.next.Grants[i]
		if state == Refused && g.State == Given && g.Recipient == grant.Recipient && g.Purpose == grant.Purpose {
			c.takeBack(g, grant.Scopes, len(grant.Scopes) == 0)
		}
	}
	c.next.Grants = append(c.next.Grants, grant)
	return c.changed()
}

// lastAnswer is when the last grant, refusal or death was dated. The next one is dated later, also by a process whose clock
// is behind: which answer is the newer one must never depend on a clock.
func (c *change) lastAnswer() int64 {
	last := c.next.EndedAt
	for _, g := range c.next.Grants {
		last = max(last, g.GivenAt)
	}
	return last
}

// dropOldest makes room: the oldest that was refused or withdrawn, else the oldest that is given but can never hold
// again (expired). One that holds, or will, or would if a death were taken back, is never dropped; false then.
func (c *change) dropOldest() bool {
	oldest := func(droppable func(codecs.Grant) bool) bool {
		at := -1
		for i, g := range c.next.Grants {
			if droppable(g) && (at < 0 || g.Version < c.next.Grants[at].Version) {
				at = i
			}
		}
		if at >= 0 {
			c.next.Grants = slices.Delete(c.next.Grants, at, at+1)
		}
		return at >= 0
	}
	return oldest(func(g codecs.Grant) bool { return g.State != Given }) ||
		oldest(func(g codecs.Grant) bool { return g.ValidTo != 0 && g.ValidTo <= c.at })
}

// withdraw takes back the grants that it names, by id or else by recipient and purpose: those accepted at a row version of at
// most upTo (0: all), so that a withdrawal that arrives late never kills a newer grant. (Not by the version of the last
// change: a grant that lost one scope in between is no newer one, and a withdrawal of all of it still means it.) It takes back the scopes that it
// names, all of them without any; and all of them too when it names one that none of the named grants and refusals knows:
// the subject meant something, and it is not known what.
func (c *change) withdraw(name codecs.Grant, upTo int64) (*codecs.Consents, command.Refusal) {
	if name.ID == "" && (name.Recipient == "" || name.Purpose == "") {
		return nil, command.Refuse(GrantUnnamed, "grant", "an id, or a recipient and a purpose")
	}
	named := func(g *codecs.Grant) bool {
		if name.ID != "" {
			return g.ID == name.ID
		}
		return g.Recipient == name.Recipient && g.Purpose == name.Purpose
	}
	var targets []*codecs.Grant
	known, found := map[string]bool{}, false
	for i := range c.next.Grants {
		g := &c.next.Grants[i]
		if !named(g) {
			continue
		}
		found = true
		for _, scope := range slices.Concat(g.Scopes, g.WithdrawnScopes) {
			known[scope] = true
		}
		if g.State == Given && (upTo == 0 || g.GivenVersion <= upTo) {
			targets = append(targets, g)
		}
	}
	if !found {
		return nil, command.Refuse(UnknownGrant, "grant", "the subject has no such grant")
	}
	all := len(name.Scopes) == 0 || slices.ContainsFunc(name.Scopes, func(scope string) bool { return !known[scope] })
	changed := false
	for _, g := range targets {
		changed = c.takeBack(g, name.Scopes, all) || changed
	}
	if !changed {
		return c.unchanged()
	}
	return c.changed()
}

// takeBack moves scopes of one grant to those withdrawn; without any left, the grant is withdrawn. The sum of both lists
// stays as it was, so a withdrawal never makes the row larger.
func (c *change) takeBack(g *codecs.Grant, scopes []string, all bool) (changed bool) {
	var left []string
	taken := slices.Clone(g.WithdrawnScopes)
	for _, scope := range g.Scopes {
		if all || slices.Contains(scopes, scope) {
			taken, changed = append(taken, scope), true
		} else {
			left = append(left, scope)
		}
	}
	if !changed && !all {
		return false
	}
	g.Scopes, g.WithdrawnScopes = left, taken
	if len(left) == 0 {
		g.State = Withdrawn
	}
	g.Version, g.ChangedAt, g.ChangedBy = c.version, c.at, c.actor
	return true
}

// grantFaults finds what a grant or refusal lacks. Text is bounded here, the row by that.
func grantFaults(g *codecs.Grant, state string) []codecs.Fault {
	var found []codecs.Fault
	check := func(right bool, field, text string) {
		if !right {
			found = append(found, codecs.Fault{Field: "grant." + field, Reason: GrantInvalid, Text: text})
		}
	}
	check(command.Token(g.ID, maxID), "id", "1 to 64 bytes without spaces")
	check(command.Name(g.Recipient), "recipient", "an organisation's id")
	check(command.Token(g.Purpose, maxPurpose), "purpose", "1 to 100 bytes without spaces")
	check(len(g.Scopes) > 0 || state != Given, "scopes", "a grant covers at least one scope")
	check(len(g.Scopes) <= MaxScopes, "scopes", fmt.Sprintf("at most %d", MaxScopes))
	total := 0
	for i, scope := range g.Scopes {
		check(command.Token(scope, maxScope), fmt.Sprintf("scopes[%d]", i), "1 to 100 bytes without spaces")
		total += len(scope)
	}
	check(total <= maxScopes, "scopes", fmt.Sprintf("at most %d bytes together", maxScopes))
	check(command.Distinct(g.Scopes), "scopes", "each stands once")
	check(g.ValidFrom >= 0 && g.ValidTo >= 0, "validFrom", "Unix milliseconds, or 0")
	check(g.ConsentType == "" || g.ConsentType == "expressed" || g.ConsentType == "explicit", "consentType", "expressed or explicit")
	for _, text := range []struct {
		field, value string
		max          int
	}{
		{"notice", g.Notice, maxURI}, {"language", g.Language, maxTerm}, {"method", g.Method, maxTerm},
		{"jurisdiction", g.Jurisdiction, maxTerm}, {"storageLocation", g.StorageLocation, maxTerm}, {"retention", g.Retention, maxTerm},
		{"withdrawalMethod", g.WithdrawalMethod, maxURI}, {"processingMethod", g.ProcessingMethod, maxTerm},
	} {
		check(command.Plain(text.value, text.max), text.field, fmt.Sprintf("at most %d bytes of plain text", text.max))
	}
	return found
}
