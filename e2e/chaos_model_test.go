//go:build synctests

package e2e

import (
	"strings"
	"time"
)

// chaosModel says what must have been decided. A subscription needs some things to hold and others (with a !) not to; commands
// change what holds: a person's grant, an objection, the trust in an organisation, a law.
type chaosModel struct {
	changes       map[string][]chaosChange // by thing
	events        map[string]*chaosEvent   // by life event id
	subscriptions []string                 // all that were ever asked for
}

// chaosChange is one command. Between when it was sent and when it was acknowledged, both states are lawful.
type chaosChange struct {
	holds       bool
	until       time.Time // by the clock of whoever decides; zero: no end
	sent, acked time.Time // acked is zero while it was not
}

// lawful says in which states a thing may be taken to be at a moment, by someone with that clock.
func (m *chaosModel) lawful(thing string, at, clock time.Time) (holds, not bool) {
	not = true
	for _, c := range m.changes[thing] {
		is := c.holds && (c.until.IsZero() || clock.Before(c.until))
		switch {
		case !c.acked.IsZero() && !at.Before(c.acked):
			holds, not = is, !is
		case !at.Before(c.sent.Truncate(time.Millisecond)):
			holds, not = holds || is, not || !is
		}
	}
	return holds, not
}

// verdict says whether a permit, a denial and no verdict at all are lawful for a subscription when someone's event is decided.
func (m *chaosModel) verdict(subscription, who string, at, clock time.Time) (permit, deny, none bool) {
	needs := []string{"active " + subscription, "trust " + post, "!restriction " + who, "!objection " + subscription + " " + who, "grant " + who}
	switch subscription {
	case agencySub:
		needs = []string{"active " + agencySub, "trust " + agency, "!restriction " + who, "law"}
	case insurerSub:
		needs = []string{"grant to the insurer"} // which nobody gives
	}
	permit = true
	for _, need := range needs {
		thing, negated := strings.CutPrefix(need, "!")
		holds, not := m.lawful(thing, at, clock)
		if negated {
			holds, not = not, holds
		}
		permit, deny = permit && holds, deny || not
	}
	_, none = m.lawful("there "+subscription, at, clock)
	return permit, deny, none
}
