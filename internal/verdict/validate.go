package verdict

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"civicbus/codecs"
)

// Reasons of faults in rows, a closed list beside those of filters (filter_parse.go).
const (
	FaultBadID               = "bad_id"             // not [a-z0-9] followed by [a-z0-9.-], 100 characters at most
	FaultUnknownSubscriber   = "unknown_subscriber" // no such organisation in the trust registry
	FaultSubscriberNotActive = "subscriber_not_active"
	FaultNoEventTypes        = "no_event_types"
	FaultUnknownType         = "unknown_type"
	FaultRetiredType         = "retired_type"
	FaultUnknownSchema       = "unknown_schema" // the type's registry subject has no schema: nothing can be checked
	FaultUnknownRole         = "unknown_role"
	FaultUnknownField        = "unknown_field"
	FaultUnknownScope        = "unknown_scope"
	FaultUnknownBasis        = "unknown_basis"    // none of GDPR Art. 6(1)
	FaultTypeNotAllowed      = "type_not_allowed" // no entitlement to the type at all
	FaultPurposeNotAllowed   = "purpose_not_allowed"
	FaultBasisNotAllowed     = "basis_not_allowed"
	FaultCertificationMiss   = "certification_missing"
	FaultCertificateExpired  = "certificate_expired"
	FaultNotClaimable        = "not_claimable_as_obligation" // claims a rule, and the catalog has none for it
	FaultDeliveryKind        = "delivery_kind"
	FaultDeliveryMode        = "delivery_mode"
	FaultBadSink             = "bad_sink"
)

// bases are the legal bases of GDPR Art. 6(1)(a) to (f).
var bases = []string{BasisConsent, "contract", BasisLegalObligation, "vital_interests", "public_task", "legitimate_interests"}

// idForm is the form of ids of organisations and subscriptions: they stand in topic names, registry subjects, headers
// and metric labels, where "_" is reserved.
var idForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,99}$`)

// faults gathers what is wrong.
type faults []codecs.Fault

func (f *faults) add(field, reason, text string, args ...any) {
	*f = append(*f, codecs.Fault{Field: boundedText(field), Reason: reason, Text: boundedText(fmt.Sprintf(text, args...))})
}

// ValidateSubscription gives everything that is wrong with a subscription at now: nil if it may be accepted. Its status is not
// looked at. schemas gives the latest schema under a registry subject, nil if there is none.
func ValidateSubscription(sub *codecs.Subscription, snap *Snapshot, schemas func(registrySubject string) *codecs.Schema, now time.Time) []codecs.Fault {
	var out faults
	if !idForm.MatchString(sub.ID) {
		out.add("id", FaultBadID, "1 to 100 of a-z 0-9 . -, a letter or digit first")
	}
	org := snap.Organisation(sub.Subscriber)
	switch {
	case org == nil:
		out.add("subscriber", FaultUnknownSubscriber, "an organisation of the trust registry")
	case org.Status != StatusActive:
		out.add("subscriber", FaultSubscriberNotActive, "an organisation whose status is active")
	}
	if !slices.Contains(bases, sub.Basis) {
		out.add("basis", FaultUnknownBasis, "one of %s", strings.Join(bases, ", "))
	}
	out.delivery(&sub.Delivery)
	if len(sub.EventTypes) == 0 {
		out.add("eventTypes", FaultNoEventTypes, "at least one event type")
	}
	check := subscriptionCheck{sub: sub, org: org, now: now.UnixMilli(), scopes: map[string]bool{}, fields: map[string]bool{}}
	for i, name := range sub.EventTypes {
		field := fmt.Sprintf("eventTypes[%d]", i)
		switch et := snap.EventType(name); {
		case et == nil:
			out.add(field, FaultUnknownType, "a type of the catalog")
		case et.Retired:
			out.add(field, FaultRetiredType, "a type that is not retired")
		default:
			check.known++
			out = check.of(out, field, et, schemas(et.RegistrySubject))
		}
	}
	if check.known > 0 && check.known == len(sub.EventTypes) {
		out = check.across(out)
	}
	if _, wrong := parseFilter(sub.Filter); len(wrong) > 0 { // once, not for each type
		out = append(out, wrong...)
	}
	return out
}

func (f *faults) delivery(d *codecs.Delivery) {
	switch d.Kind {
	case "kafka":
		if d.Sink != "" {
			f.add("delivery.sink", FaultBadSink, "none: the sink of kafka is the subscriber's own topic")
		}
	case "webhook":
		if u, err := url.Parse(d.Sink); err != nil || u.Scheme != "https" && !here(u) || u.Hostname() == "" || u.User != nil || u.Fragment != "" || len(d.Sink) > 2048 {
			f.add("delivery.sink", FaultBadSink, "an https URL with a host, without user and fragment, of at most 2048 characters")
		}
	default:
		f.add("delivery.kind", FaultDeliveryKind, "kafka or webhook")
	}
	if !slices.Contains([]string{"", "binary", "structured"}, d.Mode) {
		f.add("delivery.mode", FaultDeliveryMode, "binary or structured")
	}
}

// here says whether a URL without encryption leads to the very machine that asks. Such a webhook is for development: whoever sends
// refuses it otherwise, when it connects.
func here(u *url.URL) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && ip.IsLoopback())
}

// subscriptionCheck checks a subscription against each of its types, and gathers what must be true for one of them.
type subscriptionCheck struct {
	sub    *codecs.Subscription
	org    *codecs.Organisation
	now    int64
	known  int
	scopes map[string]bool // that some field of some type has
	fields map[string]bool // of sub.Fields: that some type has
}

func (c *subscriptionCheck) of(out faults, field string, et *codecs.EventType, s *codecs.Schema) faults {
	sub := c.sub
	if c.org != nil && slices.Contains(bases, sub.Basis) {
		out = c.entitled(out, field, et)
	}
	role := roleNamed(et, sub.Role)
	if role == nil {
		out.add("role", FaultUnknownRole, "a role of %s, or none for its first", et.Type)
		return out
	}
	if sub.Basis != BasisConsent && !slices.ContainsFunc(et.Rules, func(r codecs.Rule) bool {
		return claims(sub, &r, role.Name) && (r.ValidTo == 0 || c.now < r.ValidTo)
	}) {
		out.add("basis", FaultNotClaimable, "a basis for which the catalog has a rule for this organisation, purpose and role in %s; or consent", et.Type)
	}
	if s == nil {
		out.add(field, FaultUnknownSchema, "a type whose registry subject has a schema")
		return out
	}
	p := newPlan(et, s, role)
	for scope := range p.bits {
		c.scopes[scope] = true
	}
	for _, path := range sub.Fields {
		if _, err := s.Lookup(path); err == nil || attributeAt(path) != nil || path == "profile" {
			c.fields[path] = true
		}
	}
	if filter, wrong := parseFilter(sub.Filter); len(wrong) == 0 {
		out = append(out, filter.check(et, s, p.permissible(et, sub, c.now))...)
	}
	return out
}

// entitled gives the first of what the organisation lacks for a type, as Decide's step trust would deny it.
func (c *subscriptionCheck) entitled(out faults, field string, et *codecs.EventType) faults {
	reason, text := FaultTypeNotAllowed, "a type that the organisation is entitled to"
	at, worse := "eventTypes", 0
	note := func(depth int, where, why, what string) {
		if depth > worse {
			worse, at, reason, text = depth, where, why, what
		}
	}
	for i := range c.org.Receives {
		e := &c.org.Receives[i]
		switch {
		case e.EventType != et.Type:
		case !slices.Contains(e.Purposes, c.sub.Purpose):
			note(1, "purpose", FaultPurposeNotAllowed, "a purpose that the organisation is entitled to for "+et.Type)
		case !slices.Contains(e.Bases, c.sub.Basis):
			note(2, "basis", FaultBasisNotAllowed, "a basis that the organisation is entitled to for "+et.Type+" and this purpose")
		case e.Certification == "" || certified(c.org, e.Certification, c.now):
			return out
		case certifiedBefore(c.org, e.Certification, c.now):
			note(4, "subscriber", FaultCertificateExpired, "a valid certification "+e.Certification)
		default:
			note(3, "subscriber", FaultCertificationMiss, "the certification "+e.Certification)
		}
	}
	if worse == 0 {
		at = field
	}
	out.add(at, reason, "%s", text)
	return out
}

func certifiedBefore(org *codecs.Organisation, name string, now int64) bool {
	return slices.ContainsFunc(org.Certifications, func(c codecs.Certification) bool {
		return c.Name == name && c.ValidTo != 0 && c.ValidTo <= now
	})
}

// across checks what one of the types must know.
func (c *subscriptionCheck) across(out faults) faults {
	for i, scope := range c.sub.Scopes {
		if !c.scopes[scope] {
			out.add(fmt.Sprintf("scopes[%d]", i), FaultUnknownScope, "a scope of a field of its event types, or profile. and an attribute")
		}
	}
	for i, path := range c.sub.Fields {
		if !c.fields[path] {
			out.add(fmt.Sprintf("fields[%d]", i), FaultUnknownField, "a path in the schema of one of its event types, or profile. and an attribute")
		}
	}
	return out
}
