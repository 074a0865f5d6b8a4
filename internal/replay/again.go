package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/kafka"
	"civicbus/internal/projections"
	"civicbus/internal/pseudonym"
	"civicbus/internal/verdict"
)

// Outcomes of an event that gets no verdict. The first is the router's own.
const (
	decided       = "decided"
	eventGone     = "event_gone"     // its event stream does not keep it any more
	eventOther    = "event_other"    // what stands there is not the event that was decided
	malformed     = "malformed"      // it cannot be read
	unknownSchema = "unknown_schema" // the registry does not know its schema
)

// Reasons of denials beside internal/verdict's.
const (
	FieldsUnknown        = "fields_unknown"        // which fields were permitted then cannot be told
	UndeliverableSchema  = "undeliverable_schema"  // there is no registered projected schema for the subscription
	UndeliverableRefused = "undeliverable_refused" // Kafka does not take the delivery, however often it is tried
)

// again decides events once more. It is for one goroutine.
type again struct {
	cfg      *Config
	tables   Tables
	recorded *verdict.Recorded
	targets  *targets // nil: nothing is sent, so that nothing need be registered
}

// event is a found event with everything that deciding it needs.
type event struct {
	*found
	outcome string
	env     codecs.Envelope
	schema  *codecs.Schema
	body    []byte
	stamp   *codecs.Attributes
}

// prepare does what needs the registry, before the lease is looked at. The error says that the registry is out of reach.
func (a *again) prepare(ctx context.Context, f *found) (*event, error) {
	e := &event{found: f, outcome: decided}
	if f.event == nil {
		e.outcome = eventGone
		return e, nil
	}
	headers := f.event.Headers
	var err error
	if e.env, err = codecs.ParseEnvelope(len(headers), func(i int) (string, []byte) { return headers[i].Key, headers[i].Value }); err != nil {
		e.outcome = malformed
		return e, nil //nolint:nilerr // it is malformed, which is no error
	}
	d := &f.decision
	if key := string(f.event.Key); key != f.key || e.env.Subject != key || !pseudonym.IsSubject(key) || e.env.Type != d.EventType || e.env.Role != d.Role ||
		kafka.PartitionOf(key, a.cfg.Partitions) != f.event.Partition || a.cfg.Keys.LifeEvent(e.env.Source, e.env.ID) != d.LifeEventID {
		e.outcome = eventOther
		return e, nil
	}
	id, body, err := codecs.WireID(f.event.Value)
	if err != nil {
		e.outcome = malformed
		return e, nil //nolint:nilerr // it is malformed, which is no error
	}
	switch e.schema, err = a.cfg.Registry.Load(ctx, id); {
	case errors.Is(err, codecs.ErrUnknownSchema):
		e.outcome = unknownSchema
		return e, nil
	case err != nil:
		return nil, fmt.Errorf("load the schema of an event: %w", err)
	}
	e.body = body
	if e.env.Profile != nil {
		if stamp, err := a.cfg.Records.Attributes.DecodeLoading(ctx, e.env.Profile); err == nil {
			e.stamp = &stamp
		} // an unreadable stamp is no stamp, as for the router
	}
	if a.targets == nil {
		return e, nil
	}
	snap := a.tables.Snapshot()
	for i := range f.items {
		if sub := snap.Subscription(f.items[i].Subscription); sub != nil {
			if err := a.targets.ensure(ctx, snap, sub.Subscriber, e.env.Type, e.schema); err != nil {
				return nil, err
			}
		}
	}
	return e, nil
}

// deliver is one verdict on an event: a permit with its delivery, or a denial.
type deliver struct {
	item   codecs.VerdictItem
	sub    *codecs.Subscription // nil: it is gone, and denied
	permit *verdict.Verdict     // cut; nil: it is denied
	to     *target
}

// errAsk says that the tables have changed since the registry was asked.
var errAsk = errors.New("the registry must be asked again")

// decide decides each of an event's subscriptions at this moment. The decision is the one that goes on record.
func (a *again) decide(snap *verdict.Snapshot, e *event, now time.Time) ([]deliver, *codecs.Decision, error) {
	was := &e.decision
	d := &codecs.Decision{Kind: Kind, Topic: was.Topic, Partition: was.Partition, Offset: was.Offset, Follows: -1, DecidedAt: codecs.Millis(now), LifeEventID: was.LifeEventID, Correlation: was.Correlation, Subjects: was.Subjects,
		EventType: was.EventType, Source: was.Source, Role: was.Role, Outcome: e.outcome, ProfileVersion: was.ProfileVersion}
	if et := snap.EventType(was.EventType); et != nil {
		d.CatalogVersion = et.Version
	}
	if e.outcome != decided {
		return nil, d, nil
	}
	consents := a.tables.Consents(e.key)
	if flaw.Planted(flaw.ReplayUndecided) && consents != nil {
		then := *consents
		then.Objections, then.Grants = nil, slices.Clone(then.Grants)
		for i := range then.Grants {
			then.Grants[i].State = verdict.GrantGiven
		}
		consents = &then
	}
	if consents != nil {
		d.ConsentVersion = consents.Version
	}
	out := make([]deliver, 0, len(e.items))
	for i := range e.items {
		one, bad, err := a.one(snap, e, &e.items[i], consents, now)
		if err != nil {
			return nil, nil, err
		}
		if bad != nil {
			d.Outcome = malformed
			return nil, d, nil //nolint:nilerr // err is nil, which the linter does not see
		}
		out = append(out, one)
	}
	return out, d, nil
}

// one decides one subscription; bad is a body that cannot be read.
func (a *again) one(snap *verdict.Snapshot, e *event, was *codecs.VerdictItem, consents *codecs.Consents, now time.Time) (out deliver, bad, err error) {
	ev := verdict.Event{Type: e.env.Type, Role: e.env.Role, Source: e.env.Source, Subject: e.env.Subject, Recipient: e.env.Recipient, Publisher: e.env.Organisation,
		FollowUp: e.env.Cause(e.decision.LifeEventID) != e.decision.LifeEventID, Index: e.env.Index,
		Authorized: e.env.Authorized, HasList: e.env.HasList, Schema: e.schema, Body: e.body, Stamp: e.stamp, Attr: e.attribute}
	v, ok := snap.DecideOne(&ev, was.Subscription, consents, now)
	switch {
	case ev.Malformed != nil:
		return out, ev.Malformed, nil
	case !ok: // the subscription is gone
		out.item = codecs.VerdictItem{Subscription: was.Subscription, Subscriber: was.Subscriber, Basis: was.Basis, Purpose: was.Purpose, Reason: verdict.ReasonSubscriptionNotActive}
		return out, nil, nil
	}
	out.sub = v.Sub
	out.item = v.Item()
	if !v.Permit {
		return out, nil, nil
	}
	fields, known := a.recorded.Fields(was.Subscription, e.env.Type, e.env.Role, was.FieldSet)
	if !known { // a type of very many scopes: the subject's own grants may tell
		fields, known = snap.FieldSets(was.Subscription, e.env.Type, e.env.Role, []*codecs.Schema{e.schema}, consents)[was.FieldSet]
	}
	if !known {
		out.deny(FieldsUnknown)
		return out, nil, nil
	}
	cut := v.Cut(fields)
	out.permit = &cut
	out.item.DeliveryID, out.item.FieldSet = was.DeliveryID, cut.FieldSet
	if a.targets == nil {
		return out, nil, nil
	}
	to, asked := a.targets.find(snap, v.Sub.Subscriber, e.env.Type, e.schema)
	switch {
	case !asked:
		return out, nil, errAsk
	case to == nil:
		out.deny(UndeliverableSchema)
		return out, nil, nil
	}
	out.to = to
	return out, nil, nil
}

// thin says whether a subscription's deliveries hold no data. What goes to a webhook is decided again on what it holds.
func thin(sub *codecs.Subscription) bool { return sub.Delivery.Thin && sub.Delivery.Kind != "webhook" }

// deny makes a permit a denial.
func (d *deliver) deny(reason string) {
	d.permit = nil
	d.item.Permit, d.item.Reason, d.item.DeliveryID, d.item.FieldSet = false, reason, "", 0
}

// attribute is verdict.Event.Attr.
func (e *event) attribute(name string) (value string, ok bool) {
	for _, h := range e.found.event.Headers {
		if rest, is := strings.CutPrefix(h.Key, "ce_"); is && rest == name {
			value, ok = string(h.Value), true
		}
	}
	return value, ok
}

// target is one projected schema under which deliveries go.
type target struct {
	projection *codecs.Projection
	id         int32
}

// targets knows the projected schemas that were asked for. Safe for concurrent use.
type targets struct {
	registry *codecs.Registry

	mu    sync.Mutex
	known map[targetKey]*target // nil: there is none
}

type targetKey struct {
	subscriber, eventType string
	writer                *codecs.Schema
	set                   int64
}

// maxTargets bounds what is kept; what is beyond is asked for again.
const maxTargets = 10_000

func keyOf(t *verdict.Target) targetKey { return targetKey{t.Subscriber, t.EventType, t.Writer, t.Set} }

// ensure asks the registry for a projected schema, once. The error says that it is out of reach.
func (t *targets) ensure(ctx context.Context, snap *verdict.Snapshot, subscriber, eventType string, writer *codecs.Schema) error {
	want, ok := snap.Target(subscriber, eventType, writer)
	if !ok {
		return nil
	}
	key := keyOf(&want)
	t.mu.Lock()
	_, known := t.known[key]
	t.mu.Unlock()
	if known {
		return nil
	}
	p, id, err := projections.Register(ctx, t.registry, want)
	var made *target
	switch {
	case errors.Is(err, codecs.ErrIncompatible), errors.Is(err, codecs.ErrInvalidSchema):
	case err != nil:
		return fmt.Errorf("register a projected schema: %w", err)
	default:
		made = &target{p, id}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) >= maxTargets {
		clear(t.known)
	}
	t.known[key] = made
	return nil
}

// find is the projected schema for deliveries now; nil: there is none. asked is false when the registry was not asked for it.
func (t *targets) find(snap *verdict.Snapshot, subscriber, eventType string, writer *codecs.Schema) (to *target, asked bool) {
	want, ok := snap.Target(subscriber, eventType, writer)
	if !ok {
		return nil, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	to, asked = t.known[keyOf(&want)]
	return to, asked
}
