package verdict

import (
	"slices"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/flaw"
)

// Words of the domain rows that decisions turn on.
const (
	BasisConsent         = "consent"
	BasisLegalObligation = "legal_obligation"

	CategoryCommand = "command"

	StatusActive     = "active"
	StatusActivating = "activating"
	StatusRevoked    = "revoked"

	GrantGiven     = "given"
	GrantRefused   = "refused"
	GrantWithdrawn = "withdrawn"
	GrantExpired   = "expired"

	// RestrictionUnreadable stands in the Consents of Unreadable, and in no row.
	RestrictionUnreadable = "unreadable"
)

// Unreadable stands for a subject's consents that could not be decoded: every verdict is a denial.
func Unreadable() *codecs.Consents {
	return &codecs.Consents{Version: -1, Restriction: RestrictionUnreadable}
}

// scratch is what one Decide needs for itself.
type scratch struct {
	values []codecs.Value // by slot
	ids    []uint32       // by slot: of the mention of its value, 0 for none, notAsked
	local  []codecs.Value // by path of one filter
	key    []byte
	found  []*entry
}

func (s *scratch) sized(slots int) []codecs.Value {
	if cap(s.values) < slots {
		s.values = make([]codecs.Value, slots)
	}
	return s.values[:slots]
}

const notAsked = ^uint32(0)

// match keeps of the candidates found from a position on those whose filters match.
func (s *scratch) match(from int, snapshot *Snapshot, r *roleIndex, ev *Event, values []codecs.Value) {
	s.ids = s.ids[:0]
	for range values {
		s.ids = append(s.ids, notAsked)
	}
	matched := s.found[:from]
candidates:
	for _, en := range s.found[from:] {
		for _, e := range en.equal {
			id := s.ids[e.slot]
			if id == notAsked {
				id = s.ask(snapshot, r, int(e.slot), &values[e.slot])
			}
			if id != e.id {
				continue candidates
			}
		}
		if en.rest == nil || en.rest.eval(ev.Schema, s.gather(en, values)) == True {
			matched = append(matched, en)
		}
	}
	s.found = matched
}

// ask finds the mention of the event's value at a slot.
func (s *scratch) ask(snapshot *Snapshot, r *roleIndex, slot int, v *codecs.Value) uint32 {
	key, ok := appendKey(appendSlot(s.key[:0], slot), v.Kind, v.Int, v.Float, v.Bytes)
	s.key = key
	var m mention // without a value, or one that no filter names: 0, which is nobody's
	if ok {
		m, _ = at(r.mentions, hashBytes(snapshot.seed, key), key)
	}
	s.ids[slot] = m.id
	return m.id
}

// gather collects the values of one entry's filter.
func (s *scratch) gather(en *entry, values []codecs.Value) []codecs.Value {
	s.local = s.local[:0]
	for _, slot := range en.slots {
		s.local = append(s.local, values[slot])
	}
	return s.local
}

// Decide appends one Verdict for each subscription whose type, role and filter match the event, ordered by
// subscription id, and answers dst. c is the subject's consents: nil if there is no row, Unreadable() if it is not
// readable. Every validity is tested at now. An event of a type or role that the catalog does not have gets no
// verdict, as does a subscription of another organisation than a command's recipient.
//
// A filter is first evaluated on the whole event, so that a denial is on record also where nothing is granted; what
// would be permitted is evaluated once more on the permitted fields alone (ReasonFilterUnknown).
//
// An organisation's own subscriptions do receive the events that it published: it may need them in the bus's order. A
// follow-up (an event that another one caused) does not come back to its publisher: whoever answers events would answer
// its own answers.
//
// It may be called by many goroutines at once, each with its own dst and ev.
func (s *Snapshot) Decide(dst []Verdict, ev *Event, c *codecs.Consents, now time.Time) []Verdict {
	ev.Malformed = nil
	t, role := s.typeAndRole(ev)
	index, ok := at(s.indexes, hashText(s.seed, ev.Type), ev.Type)
	if role == nil || !ok {
		return dst
	}
	sc := s.pool.Get().(*scratch)
	defer s.pool.Put(sc)
	values := sc.sized(len(index.slots))
	if err := index.walkers.of(ev.Schema).read(ev, values); err != nil {
		ev.Malformed = err
		return dst
	}
	sc.found = sc.found[:0]
	if r := index.roles[role.Name]; r != nil {
		sc.found, sc.key = r.candidates(sc.found, s.seed, values, sc.key)
		sc.match(0, s, r, ev, values)
	}
	if r := index.roles[""]; r != nil && role == &t.row.Roles[0] {
		from := len(sc.found)
		sc.found, sc.key = r.candidates(sc.found, s.seed, values, sc.key)
		sc.match(from, s, r, ev, values)
	}
	matched := sc.found
	if t.row.Category == CategoryCommand {
		matched = slices.DeleteFunc(matched, func(en *entry) bool { return en.sub.row.Subscriber != ev.Recipient })
	}
	slices.SortFunc(matched, func(a, b *entry) int { return strings.Compare(a.sub.row.ID, b.sub.row.ID) })
	d := decision{snapshot: s, event: ev, consents: c, now: now.UnixMilli(), eventType: t, plan: t.plan(ev.Schema, role), paths: index.slots}
	for _, en := range matched {
		d.entry, d.slots, d.trust, d.seen = en, en.slots, 0, nil
		v := d.decide()
		if v.Permit && d.hides() && !d.seesFilter(sc.gather(en, values)) {
			v = d.deny(ReasonFilterUnknown)
		}
		dst = append(dst, v)
	}
	return dst
}

// DecideOne decides for one subscription, as Decide would at this moment: before a webhook attempt, a redrive, a replay or
// an HTTP read. ok is false if there is no such subscription, its row or the type's is gone, or the body is malformed
// (ev.Malformed). Where the event does not match it, or a command names another organisation, the verdict is a
// denial that says so.
func (s *Snapshot) DecideOne(ev *Event, subscription string, c *codecs.Consents, now time.Time) (v Verdict, ok bool) {
	ev.Malformed = nil
	sub, found := at(s.subs, hashText(s.seed, subscription), subscription)
	if !found {
		return Verdict{}, false
	}
	d := decision{snapshot: s, event: ev, consents: c, now: now.UnixMilli(), entry: &entry{sub: sub}}
	i := slices.IndexFunc(sub.entries, func(en *entry) bool { return en.eventType == ev.Type })
	t, role := s.typeAndRole(ev)
	if role == nil || i < 0 || roleNamed(t.row, sub.row.Role) != role {
		return d.deny(ReasonNotMatched), true
	}
	if t.row.Category == CategoryCommand && sub.row.Subscriber != ev.Recipient {
		return d.deny(ReasonNotRecipient), true
	}
	index, _ := at(s.indexes, hashText(s.seed, ev.Type), ev.Type) // it is there: the subscription is in it
	d.entry, d.paths, d.slots = sub.entries[i], index.slots, sub.entries[i].slots
	var sc scratch
	all := sc.sized(len(index.slots))
	if err := index.walkers.of(ev.Schema).read(ev, all); err != nil {
		ev.Malformed = err
		return Verdict{}, false
	}
	values := sc.gather(d.entry, all)
	if sub.filter.root.eval(ev.Schema, values) != True {
		return d.deny(ReasonNotMatched), true
	}
	d.eventType, d.plan = t, t.plan(ev.Schema, role)
	v = d.decide()
	if v.Permit && !d.seesFilter(values) {
		v = d.deny(ReasonFilterUnknown)
	}
	return v, true
}

func (s *Snapshot) typeAndRole(ev *Event) (*compiledType, *codecs.Role) {
	t, ok := at(s.types, hashText(s.seed, ev.Type), ev.Type)
	if !ok || ev.Role == "" {
		return t, nil
	}
	return t, roleNamed(t.row, ev.Role)
}

// decision is one (event, subscription) on its way through the precedence.
type decision struct {
	snapshot  *Snapshot
	event     *Event
	consents  *codecs.Consents
	now       int64 // Unix milliseconds
	eventType *compiledType
	plan      *plan
	entry     *entry
	paths     []string // by slot
	slots     []int    // of the filter's values
	trust     int64    // version of the trust row
	seen      *fieldSet
}

// decide is the precedence of the bus, in this order; the first step that denies gives the reason:
//
//	active       the subscription is active (or activating: see ReasonSubscriptionNotActive)
//	trust        its organisation is active, entitled to the type for this purpose and basis, certified now
//	restriction  the subject is neither protected nor under erasure; this stops legal obligations too
//	own          it is no follow-up that the subscriber itself published
//	obligation   a legal obligation that is in force permits here: nothing below can stop it
//	objection    the subject has not blocked this subscription
//	list         the event's list of authorised subscribers, if it has one, names it; for consent only
//	basis        a rule in force, or a grant that holds
//
// A permit may carry no field at all: then it is the envelope that is permitted.
func (d *decision) decide() Verdict {
	sub := d.entry.sub.row
	if sub.Status != StatusActive && sub.Status != StatusActivating {
		return d.deny(ReasonSubscriptionNotActive)
	}
	if reason := d.distrust(); reason != "" {
		return d.deny(reason)
	}
	if d.consents != nil && d.consents.Restriction != "" && !flaw.Planted(flaw.RestrictionIgnored) {
		if d.consents.Restriction == RestrictionUnreadable {
			return d.deny(ReasonConsentsUnreadable)
		}
		return d.deny(ReasonRestricted)
	}
	if d.event.FollowUp && d.event.Publisher == sub.Subscriber {
		return d.deny(ReasonOwnEvent)
	}
	rule := -1
	if sub.Basis != BasisConsent {
		rule = d.ruleInForce()
	}
	if rule >= 0 && sub.Basis == BasisLegalObligation {
		return d.permitRule(rule)
	}
	if d.objected() {
		return d.deny(ReasonObjected)
	}
	if sub.Basis == BasisConsent {
		if d.event.HasList && !slices.Contains(d.event.Authorized, sub.Subscriber) {
			return d.deny(ReasonNotInEventList)
		}
		return d.byGrant()
	}
	if rule < 0 {
		return d.deny(ReasonRuleNotInForce)
	}
	return d.permitRule(rule)
}

func (d *decision) deny(reason string) Verdict {
	return Verdict{Sub: d.entry.sub.row, Reason: reason, Basis: d.entry.sub.row.Basis, TrustVersion: d.trust}
}

// distrust gives the reason of the step trust; empty: the subscriber is trusted with this type.
func (d *decision) distrust() string {
	sub := d.entry.sub.row
	org, ok := at(d.snapshot.orgs, hashText(d.snapshot.seed, sub.Subscriber), sub.Subscriber)
	if !ok {
		return ReasonSubscriberNotTrusted
	}
	d.trust = org.row.Version
	if org.row.Status != StatusActive {
		return ReasonSubscriberNotTrusted
	}
	reason := ReasonNotEntitled
	for _, e := range org.receives[d.event.Type] {
		if !slices.Contains(e.Purposes, sub.Purpose) || !slices.Contains(e.Bases, sub.Basis) {
			continue
		}
		if e.Certification == "" || certified(org.row, e.Certification, d.now) {
			return ""
		}
		reason = ReasonCertificationMissing
	}
	return reason
}

// certified tells whether an organisation holds a certification at a moment.
func certified(org *codecs.Organisation, name string, now int64) bool {
	for i := range org.Certifications {
		c := &org.Certifications[i]
		if c.Name == name && within(c.ValidFrom, c.ValidTo, now) {
			return true
		}
	}
	return false
}

// within tests a half-open interval of Unix milliseconds; to 0 is no end.
func within(from, to, now int64) bool { return from <= now && (to == 0 || now < to) }

func (d *decision) objected() bool {
	if d.consents == nil {
		return false
	}
	for i := range d.consents.Objections {
		if d.consents.Objections[i].Subscription == d.entry.sub.row.ID {
			return true
		}
	}
	return false
}

// hides tells whether the filter reads a field that is not permitted.
func (d *decision) hides() bool {
	for _, slot := range d.slots {
		if path := d.paths[slot]; !isAttribute(path) && !d.seen.has(path) {
			return true
		}
	}
	return false
}

// seesFilter evaluates the filter once more, on what is permitted: a field outside it is unknown. What the
// subscription itself leaves out of its deliveries (Fields) is permitted all the same.
func (d *decision) seesFilter(values []codecs.Value) bool {
	hidden := false
	for i, slot := range d.slots {
		if path := d.paths[slot]; !isAttribute(path) && !d.seen.has(path) {
			values[i], hidden = codecs.Value{}, true
		}
	}
	return !hidden || d.entry.sub.filter.root.eval(d.event.Schema, values) == True
}
