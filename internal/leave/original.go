package leave

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/projections"
	"civicbus/internal/pseudonym"
	"civicbus/internal/verdict"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A thin delivery holds no data: it refers to the event record that it is about (pseudonym.Reference). Whether it leaves, and what
// of the data does, is decided on that record, as the router did, at the moment it leaves; what was not permitted when the
// delivery was made stays withheld.

// Original is what a thin delivery refers to.
type Original struct {
	to    pseudonym.Reference
	event *kgo.Record // nil: not kept any more

	held       []string // what was permitted when the delivery was made
	projection *codecs.Projection
}

// Kept says whether the event record is still there.
func (o *Original) Kept() bool { return o.event != nil }

// Place is where the event record lies, as a record without anything in it.
func (o *Original) Place() *kgo.Record {
	return &kgo.Record{Topic: o.to.Stream, Partition: o.to.Partition, Offset: o.to.Offset}
}

// Bounds of what Originals reads and keeps.
const (
	originalBytes = 4 << 20   // of event records at once, and one more
	originalFetch = 128 << 10 // asked for at once: what else lies there is seldom wanted
)

// maxProjected bounds the projections that are kept; those beyond are made anew.
const maxProjected = 4_096

// originals keeps what reading event records needs. Safe for concurrent use.
type originals struct {
	references *pseudonym.References // nil: nothing is a reference
	log        *kafka.Log

	mu          sync.Mutex
	projected   map[projectedKey]projected
	deliverable map[*codecs.Schema][]string
}

type projectedKey struct {
	subscriber, eventType string
	writer                *codecs.Schema
	set                   int64
}

type projected struct {
	projection *codecs.Projection
	id         int32
}

func newOriginals(secret []byte, log *kafka.Log) (o *originals, err error) {
	o = &originals{log: log, projected: map[projectedKey]projected{}, deliverable: map[*codecs.Schema][]string{}}
	if secret != nil {
		o.references, err = pseudonym.NewReferences(secret)
	}
	return o, err
}

// Reference says whether a text refers to an event record.
func Reference(text string) bool { return strings.HasPrefix(text, pseudonym.ReferencePrefix) }

// DataRef is where a thin delivery's data is; empty: it is none.
func DataRef(r *kgo.Record) string {
	ref, _ := Header(r, codecs.HeaderDataRef)
	return ref
}

// Originals reads the event records that texts refer to, given by a subscription's own references or by addresses that end with
// them; nil for what is no reference of the subscription. Where the records are large only the first n are read, at least one.
// The error says that Kafka is out of reach.
func (x *Exit) Originals(ctx context.Context, subscription string, refs ...string) (of []*Original, n int, err error) {
	of = make([]*Original, len(refs))
	wanted := map[place][]*Original{}
	for i, ref := range refs {
		if x.originals.references == nil {
			break
		}
		if to, err := x.originals.references.Open(subscription, ref[strings.LastIndexByte(ref, '/')+1:]); err == nil {
			of[i] = &Original{to: to}
			wanted[placeOf(&to)] = append(wanted[placeOf(&to)], of[i])
		}
	}
	bytes := 0
	for i, o := range of {
		if o == nil {
			continue
		}
		if bytes > originalBytes {
			return of, i, nil
		}
		if o.event == nil {
			if err := x.originals.fetch(ctx, o, wanted); err != nil {
				return nil, 0, err
			}
		}
		if o.event != nil {
			bytes += len(o.event.Value)
		}
	}
	return of, len(refs), nil
}

// place is one record's.
type place struct {
	stream    string
	partition int32
	offset    int64
}

func placeOf(to *pseudonym.Reference) place { return place{to.Stream, to.Partition, to.Offset} }

// fetch reads an event record, and takes those of the others that come with it. One that is not there stays nil.
func (o *originals) fetch(ctx context.Context, first *Original, wanted map[place][]*Original) error {
	records, _, _, err := o.log.Fetch(ctx, first.to.Stream, first.to.Partition, first.to.Offset, originalFetch)
	switch {
	case errors.Is(err, kafka.ErrExpired), errors.Is(err, kafka.ErrBeyond), errors.Is(err, kafka.ErrNoTopic):
		return nil
	case err != nil:
		return err
	}
	for _, r := range records {
		for _, other := range wanted[place{r.Topic, r.Partition, r.Offset}] {
			other.event = r
		}
	}
	return nil
}

// PrepareOriginal is Prepare for a delivery that refers to an event record; o nil: the reference is none of the subscription's. r is the
// delivery's own record, or Original.Place without headers when only the reference came. whole says that its data is to leave.
func (x *Exit) PrepareOriginal(ctx context.Context, snap *verdict.Snapshot, sub *codecs.Subscription, r *kgo.Record, o *Original, whole bool) (*Delivery, error) {
	l := &Delivery{Record: r, Outcome: Malformed}
	if o == nil || o.event == nil {
		return l, nil
	}
	headers := o.event.Headers
	e, err := codecs.ParseEnvelope(len(headers), func(i int) (string, []byte) { return headers[i].Key, headers[i].Value })
	if err != nil || !pseudonym.IsSubject(e.Subject) {
		return l, nil //nolint:nilerr // it is malformed, which is no error
	}
	id, body, err := codecs.WireID(o.event.Value)
	if err != nil {
		return l, nil //nolint:nilerr // it is malformed, which is no error
	}
	writer, err := x.cfg.Registry.Load(ctx, id)
	switch {
	case errors.Is(err, codecs.ErrUnknownSchema):
		l.Outcome = UnknownSchema
		return l, nil
	case err != nil:
		return nil, err
	}
	l.Subject = e.Subject
	lifeEvent := x.cfg.Keys.LifeEvent(e.Source, e.ID)
	l.event = verdict.Event{Type: e.Type, Role: e.Role, Source: e.Source, Subject: e.Subject, Recipient: e.Recipient, Publisher: e.Organisation,
		FollowUp: e.Cause(lifeEvent) != lifeEvent, Index: e.Index, Authorized: e.Authorized, HasList: e.HasList, Schema: writer, Body: body}
	l.event.Attr = func(name string) (string, bool) { return Header(o.event, "ce_"+name) }
	if l.event.Stamp, err = x.stamp(ctx, e.Profile); err != nil {
		return nil, err
	}
	held, ok := verdict.Held(o.to.Held, x.originals.deliverableOf(writer))
	if !ok {
		return l, nil
	}
	schema := ""
	if whole {
		target, ok := snap.Target(sub.Subscriber, e.Type, writer)
		if !ok {
			return l, nil
		}
		p, err := x.originals.project(ctx, x.cfg.Registry, target)
		switch {
		case errors.Is(err, codecs.ErrIncompatible), errors.Is(err, codecs.ErrInvalidSchema):
			l.Outcome = UnknownSchema
			return l, nil
		case err != nil:
			return nil, err
		}
		o.projection = p.projection
		held = slices.DeleteFunc(slices.Clone(held), func(path string) bool { return strings.HasPrefix(path, "data") && !slices.Contains(target.Paths, path) })
		if i := strings.LastIndexByte(e.DataSchema, '/'); i >= 0 {
			schema = e.DataSchema[:i+1] + strconv.Itoa(int(p.id))
		}
	}
	delivery, err := x.deliveryOf(sub, &e, schema)
	if err != nil {
		return l, nil //nolint:nilerr // it is malformed, which is no error
	}
	if have, ok := Header(r, codecs.HeaderID); !ok {
		l.Record = &kgo.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: []byte(e.Subject), Headers: delivery}
	} else if made, _ := Header(&kgo.Record{Headers: delivery}, codecs.HeaderID); made != have { // it refers to another's
		return l, nil
	}
	o.held, l.original, l.Outcome = held, o, Decided
	return l, nil
}

// stamp reads an event's profile; one that cannot be read is none, as for the router. The error says that the registry is out of
// reach.
func (x *Exit) stamp(ctx context.Context, profile []byte) (*codecs.Attributes, error) {
	id, _, err := codecs.WireID(profile)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // there is none
	}
	if _, err := x.cfg.Registry.Load(ctx, id); err != nil && !errors.Is(err, codecs.ErrUnknownSchema) {
		return nil, err
	}
	a, err := x.cfg.Records.Attributes.Decode(profile)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // there is none
	}
	return &a, nil
}

// deliveryOf is what the router wrote into the headers of an event's delivery, as far as they are about the event.
func (x *Exit) deliveryOf(sub *codecs.Subscription, e *codecs.Envelope, schema string) ([]kgo.RecordHeader, error) {
	pair := x.cfg.Keys.For(sub.Subscriber)
	subject, err := pair.Seal(e.Subject)
	if err != nil {
		return nil, err
	}
	lifeEvent, own := x.cfg.Keys.LifeEvent(e.Source, e.ID), ""
	cause := e.Cause(lifeEvent)
	if cause != lifeEvent {
		own = pair.SealID(lifeEvent)
	}
	var out []kgo.RecordHeader
	for _, h := range [...][2]string{{codecs.HeaderSpecVersion, "1.0"}, {codecs.HeaderID, x.cfg.Keys.Delivery(e.Source, e.ID, e.Subject, sub.ID)}, {codecs.HeaderSource, e.Source},
		{codecs.HeaderType, e.Type}, {codecs.HeaderTime, e.Time}, {codecs.HeaderSubject, subject}, {codecs.HeaderSubjectRole, e.Role}, {codecs.HeaderDataSchema, schema},
		{codecs.HeaderCorrelation, pair.SealID(cause)}, {codecs.HeaderLifeEvent, own}} {
		if h[1] != "" {
			out = append(out, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
		}
	}
	if e.Redriven {
		out = append(out, kgo.RecordHeader{Key: codecs.HeaderRedriven, Value: []byte("true")})
	}
	return out, nil
}

// deliverableOf is verdict.Deliverable, once for each schema.
func (o *originals) deliverableOf(writer *codecs.Schema) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	known, ok := o.deliverable[writer]
	if !ok {
		if len(o.deliverable) >= maxProjected {
			clear(o.deliverable)
		}
		known = verdict.Deliverable(writer)
		o.deliverable[writer] = known
	}
	return known
}

// project is projections.Register, once for each target.
func (o *originals) project(ctx context.Context, registry *codecs.Registry, t verdict.Target) (projected, error) {
	key := projectedKey{t.Subscriber, t.EventType, t.Writer, t.Set}
	o.mu.Lock()
	p, ok := o.projected[key]
	o.mu.Unlock()
	if ok {
		return p, nil
	}
	var err error
	if p.projection, p.id, err = projections.Register(ctx, registry, t); err != nil {
		return p, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.projected) >= maxProjected {
		clear(o.projected)
	}
	o.projected[key] = p
	return p, nil
}
