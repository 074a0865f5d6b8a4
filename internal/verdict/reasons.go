package verdict

// Reasons of verdicts: a closed list, also the label of metrics. Each names the step of the precedence that gives it, in
// the order in which the steps are taken (decide.go):
//
//	match, active, trust, restriction, own, obligation, objection, list, basis, filter
//
// An event that a subscription's type, role or filter does not match gives no verdict at all.
const (
	// ReasonConsent permits: step basis; a grant of the subject holds now and covers every required scope.
	ReasonConsent = "consent"
	// ReasonRule permits: step obligation (basis legal_obligation) or step basis (any other rule); a rule is in force now.
	ReasonRule = "rule"

	// ReasonNotRecipient denies: step match; a command that names another organisation. Decide does not list such
	// subscriptions; only DecideOne, which was asked for this very one, answers so.
	ReasonNotRecipient = "not_recipient"
	// ReasonNotMatched denies: step match; only from DecideOne, where the subscription exists but its types, its role or its
	// filter do not match the event.
	ReasonNotMatched = "not_matched"
	// ReasonSubscriptionNotActive denies: step active; the subscription is pending, paused or revoked. An activating
	// one is active: its offset vector is read after its row is in effect, so events behind the vector count on it.
	ReasonSubscriptionNotActive = "subscription_not_active"
	// ReasonSubscriberNotTrusted denies: step trust; the organisation is not in the trust registry, or not active.
	ReasonSubscriberNotTrusted = "subscriber_not_trusted"
	// ReasonNotEntitled denies: step trust; no entitlement to this type for this purpose on this basis.
	ReasonNotEntitled = "not_entitled"
	// ReasonCertificationMissing denies: step trust; every fitting entitlement needs a certification that the organisation
	// does not hold now: never had it, not yet, or no more.
	ReasonCertificationMissing = "certification_missing"
	// ReasonConsentsUnreadable denies: step restriction; the subject's consents could not be decoded (Unreadable), so that
	// a restriction cannot be ruled out.
	ReasonConsentsUnreadable = "consents_unreadable"
	// ReasonRestricted denies: step restriction; the subject is protected or under erasure. It stands before the legal
	// obligation, so it stops that too.
	ReasonRestricted = "restricted"
	// ReasonOwnEvent denies: step own; a follow-up does not come back to the organisation that published it.
	ReasonOwnEvent = "own_event"
	// ReasonObjected denies: step objection; the subject blocked this subscription. It stops every basis but a legal
	// obligation in force.
	ReasonObjected = "objected"
	// ReasonNotInEventList denies: step list; the event carries a list of authorised subscribers without this one. It
	// narrows consent only.
	ReasonNotInEventList = "not_in_event_list"
	// ReasonRuleNotInForce denies: step basis; the subscription claims a rule, and none for its recipient, purpose, basis
	// and role is in force now.
	ReasonRuleNotInForce = "rule_not_in_force"
	// ReasonDeceased denies: step basis; the subject's death ended all consents, also those given later.
	ReasonDeceased = "deceased"
	// ReasonNoGrant denies: step basis; the subject never answered this recipient for this purpose.
	ReasonNoGrant = "no_grant"
	// ReasonScopeNotGranted denies: step basis; a grant holds now, but not for every required scope.
	ReasonScopeNotGranted = "scope_not_granted"
	// ReasonGrantRefused denies: step basis; no grant holds, and the latest answer was a refusal.
	ReasonGrantRefused = "grant_refused"
	// ReasonGrantWithdrawn denies: step basis; no grant holds, and the latest answer is a withdrawn grant.
	ReasonGrantWithdrawn = "grant_withdrawn"
	// ReasonGrantExpired denies: step basis; no grant holds, and the latest answer is a grant whose time is over.
	ReasonGrantExpired = "grant_expired"
	// ReasonGrantNotYetValid denies: step basis; no grant holds, and the latest answer is a grant whose time has not come.
	ReasonGrantNotYetValid = "grant_not_yet_valid"
	// ReasonFilterUnknown denies: step filter; the basis holds, but the filter is only true by fields that this
	// subject's grant (or the rule in force) does not cover.
	ReasonFilterUnknown = "filter_unknown"
)

// Reasons lists every reason that a Verdict can have, permits first.
func Reasons() []string {
	return []string{
		ReasonConsent, ReasonRule,
		ReasonNotRecipient, ReasonNotMatched, ReasonSubscriptionNotActive, ReasonSubscriberNotTrusted, ReasonNotEntitled,
		ReasonCertificationMissing, ReasonConsentsUnreadable, ReasonRestricted, ReasonOwnEvent, ReasonObjected, ReasonNotInEventList,
		ReasonRuleNotInForce, ReasonDeceased, ReasonNoGrant, ReasonScopeNotGranted, ReasonGrantRefused, ReasonGrantWithdrawn,
		ReasonGrantExpired, ReasonGrantNotYetValid, ReasonFilterUnknown,
	}
}
