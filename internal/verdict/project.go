package verdict

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"civicbus/codecs"
)

// ErrDenied says that a verdict permits nothing that could be projected.
var ErrDenied = errors.New("verdict is no permit")

// Cutting cuts one event after the other to what each recipient may get: what all recipients of an event share is read once.
// It is for one goroutine at a time, and reused from event to event it allocates nothing. The zero Cutting has no event.
type Cutting struct {
	event    *Event
	original codecs.Original
}

// Begin goes over to an event, which must not change until the next Begin; nil lets go of the former.
func (c *Cutting) Begin(ev *Event) {
	if c.event = ev; ev == nil {
		c.original.Reset(nil, 0, nil)
		return
	}
	c.original.Reset(ev.Body, ev.Index, ev.Stamp)
}

// Project appends the event's body, cut to the fields that v permits, under p's schema and without wire header. withheld lists the
// projection's paths that v does not permit, in p's order, and then the unions of which no value without fields is ever
// delivered (codecs.Projection.Partly); nil: nothing is withheld. p must be made of the event's own writer
// schema. Attributes of the stamp that are not permitted are null and not listed: each can be absent anyway.
// The error is codecs.Malformed for a body that is not of its schema, or ErrDenied; dst is then to be dropped.
func (c *Cutting) Project(dst []byte, v *Verdict, p *codecs.Projection) (body []byte, withheld *Withheld, err error) {
	if !v.Permit || v.set == nil {
		return dst, nil, fmt.Errorf("project for %s: %w", v.Sub.ID, ErrDenied)
	}
	of := v.set.selection(p)
	if dst, err = of.cut.Append(dst, &c.original); err != nil {
		return dst, nil, fmt.Errorf("project for %s: %w", v.Sub.ID, err)
	}
	return dst, of.withheld, nil
}

// Project is Cutting.Project for one recipient of one event; withheld are its paths. For several recipients a Cutting costs less.
func (s *Snapshot) Project(dst []byte, ev *Event, v *Verdict, p *codecs.Projection) (body []byte, withheld []string, err error) {
	c := cuttings.Get().(*Cutting)
	defer cuttings.Put(c)
	c.Begin(ev)
	body, not, err := c.Project(dst, v, p)
	c.Begin(nil)
	if not != nil {
		withheld = not.Paths
	}
	return body, withheld, err
}

var cuttings = sync.Pool{New: func() any { return new(Cutting) }}

// Withheld is what a projection has and a permit does not. It is one for all events and shared: read only.
type Withheld struct {
	Paths []string
	Text  []byte // of codecs.HeaderWithheld: the paths with commas between them
}

// selection is what a field set permits of one projection.
type selection struct {
	projection *codecs.Projection
	cut        *codecs.Cut
	withheld   *Withheld // nil: nothing
}

const maxSelections = 1_024 // kept for each field set: projections in use of subscribers with the same fields

// Cut narrows a permit to those of its fields that are listed too: a replay delivers what was permitted then and is
// permitted now. A denial stays as it is.
func (v *Verdict) Cut(fields []string) Verdict {
	out := *v
	if !v.Permit || v.set == nil {
		return out
	}
	var kept []string
	for _, path := range v.set.fields {
		if slices.Contains(fields, path) {
			kept = append(kept, path)
		}
	}
	out.set = newFieldSet(kept, v.set.items)
	out.Fields, out.FieldSet = out.set.fields, out.set.hash
	return out
}

// FieldSetOf gives the number by which decisions name a list of fields, as Verdict.FieldSet does.
func FieldSetOf(fields []string) int64 { return newFieldSet(fields, "").hash }

// selection maps the set onto a projection's paths. A path that holds others is permitted if all that are in it are; the
// projection's own list of paths decides what that is.
func (s *fieldSet) selection(p *codecs.Projection) *selection {
	if first := s.first.Load(); first != nil && first.projection == p {
		return first
	}
	had := s.selections.Load()
	if had != nil {
		if known := (*had)[p]; known != nil {
			return known
		}
	}
	paths := p.Paths()
	permit, own := make([]bool, len(paths)), make([]bool, len(paths))
	var withheld []string
	for i, path := range paths {
		permit[i] = s.has(path)
		own[i] = inItems(s.items, path)
		if !permit[i] {
			withheld = append(withheld, path)
		}
	}
	made := &selection{projection: p, cut: p.Cut(permit, own, s.shown)}
	if withheld = append(withheld, p.Partly()...); len(withheld) > 0 {
		made.withheld = &Withheld{Paths: withheld, Text: []byte(strings.Join(withheld, ","))}
	}
	s.first.CompareAndSwap(nil, made)
	next := map[*codecs.Projection]*selection{p: made}
	if had != nil && len(*had) < maxSelections { // else those that are in use come again
		maps.Copy(next, *had)
	}
	s.selections.CompareAndSwap(had, &next)
	return made
}

// Targets lists the projected schemas that subscribers to an event type need for one writer schema, by subscriber. Each
// has every field that any of the subscriber's subscriptions to the type may get, at any time: rules count whatever
// their dates, so that one that comes into force needs no new schema; under consent, every field that some grant could
// cover. Revoked subscriptions do not count. Nil if the type or the schema is not known.
func (s *Snapshot) Targets(eventType string, writer *codecs.Schema) []Target {
	index, ok := at(s.indexes, hashText(s.seed, eventType), eventType)
	if !ok {
		return nil
	}
	var out []Target
	for _, own := range index.bySubscriber.appendTo(nil) {
		if t, ok := s.target(eventType, writer, own); ok {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b Target) int { return cmp.Compare(a.Subscriber, b.Subscriber) })
	return out
}

// Target is the one of Targets for one subscriber; ok is false if it needs none. A Snapshot works it out once, so that asking
// for every delivery costs a look-up.
func (s *Snapshot) Target(subscriber, eventType string, writer *codecs.Schema) (t Target, ok bool) {
	key := targetKey{subscriber, eventType, writer}
	if t, ok := s.targets.Load(key); ok {
		t := t.(Target)
		return t, t.Subscriber != ""
	}
	t, ok = s.findTarget(subscriber, eventType, writer)
	s.targets.Store(key, t)
	return t, ok
}

type targetKey struct {
	subscriber, eventType string
	writer                *codecs.Schema
}

func (s *Snapshot) findTarget(subscriber, eventType string, writer *codecs.Schema) (t Target, ok bool) {
	index, found := at(s.indexes, hashText(s.seed, eventType), eventType)
	if !found {
		return Target{}, false
	}
	own, found := at(index.bySubscriber, hashText(s.seed, subscriber), subscriber)
	if !found {
		return Target{}, false
	}
	return s.target(eventType, writer, own)
}

func (s *Snapshot) target(eventType string, writer *codecs.Schema, own tree[*compiled]) (Target, bool) {
	t, ok := at(s.types, hashText(s.seed, eventType), eventType)
	if !ok || writer == nil {
		return Target{}, false
	}
	target := Target{EventType: eventType, Writer: writer}
	wanted, needed := map[string]bool{}, false
	for _, c := range own.appendTo(nil) {
		role := roleNamed(t.row, c.row.Role)
		if role == nil || c.row.Status == StatusRevoked {
			continue
		}
		needed, target.Subscriber = true, c.row.Subscriber
		for _, path := range t.plan(writer, role).possible(t.row, c.row) {
			wanted[path] = true
		}
	}
	for _, path := range endsOf(writer.Leaves()) {
		if wanted[path] {
			target.Paths = append(target.Paths, path)
		}
	}
	target.Set = FieldSetOf(target.Paths)
	return target, needed
}

// possible lists the fields that a subscription may get at some time, before its own narrowing or after.
func (p *plan) possible(et *codecs.EventType, sub *codecs.Subscription) []string {
	var out []string
	for _, path := range p.permissible(et, sub, 0) {
		if len(sub.Fields) == 0 || anyCovers(sub.Fields, path) {
			out = append(out, path)
		}
	}
	return out
}

// permissible lists the fields that the subscription's basis may give it: under consent those that some grant could cover,
// else those of its rules that are not over at now (0: of all).
func (p *plan) permissible(et *codecs.EventType, sub *codecs.Subscription, now int64) []string {
	var rules []*codecs.Rule
	for i := range et.Rules {
		if r := &et.Rules[i]; claims(sub, r, p.role) && (r.ValidTo == 0 || now < r.ValidTo) {
			rules = append(rules, r)
		}
	}
	var out []string
	for i := range p.ends {
		e := &p.ends[i]
		if sub.Basis == BasisConsent && e.byConsent() ||
			slices.ContainsFunc(rules, func(r *codecs.Rule) bool { return anyCovers(r.Fields, e.path) }) {
			out = append(out, e.path)
		}
	}
	return out
}

// claims tells whether a rule is one that the subscription claims for a role, whatever its dates.
func claims(sub *codecs.Subscription, r *codecs.Rule, role string) bool {
	return sub.Basis != BasisConsent && r.Recipient == sub.Subscriber && r.Purpose == sub.Purpose && r.Basis == sub.Basis &&
		(r.Role == "" || r.Role == role)
}
