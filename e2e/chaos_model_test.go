//go:build synctests

package e2e

import "time"

// chaosModel says what must have been decided. It knows three things of the small world: the agency gets every event by law, the
// insurer none, and the post exactly those that are decided while the subject's grant and the trust in the post both hold.
type chaosModel struct {
	changes map[string][]chaosChange // by what is changed: a person's grant, or trust in the post
	events  map[string]chaosEvent    // by life event id
}

// chaosChange is one command. Between when it was sent and when it was acknowledged, both states are lawful.
type chaosChange struct {
	holds       bool
	sent, acked time.Time // acked is zero while it was not
}

// chaosEvent is one published event, which may have been published several times.
type chaosEvent struct {
	id, who string
	number  int
	at      time.Time // of its last acceptance
}

// lawful says in which states a thing may be taken to be at a moment.
func (m *chaosModel) lawful(key string, at time.Time) (holds, not bool) {
	not = true
	for _, c := range m.changes[key] {
		switch {
		case !c.acked.IsZero() && !at.Before(c.acked):
			holds, not = c.holds, !c.holds
		case !at.Before(c.sent.Truncate(time.Millisecond)):
			holds, not = holds || c.holds, not || !c.holds
		}
	}
	return holds, not
}

// verdict says whether a permit and a denial are lawful for a subscription, when an event about someone is decided.
func (m *chaosModel) verdict(subscription, who string, at time.Time) (permit, deny bool) {
	switch subscription {
	case agencySub:
		return true, false
	case postSub:
		granted, refused := m.lawful(who, at)
		trusted, suspended := m.lawful(post, at)
		return granted && trusted, refused || suspended
	}
	return false, true
}
