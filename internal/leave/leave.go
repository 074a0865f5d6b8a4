// Package leave is the way out for deliveries that were made once and leave civicbus later, or by another way than Kafka: a page of
// HTTP, a stream, an attempt at a webhook.
//
// Its rules:
//   - A delivery is decided again at the moment it leaves (DESIGN.md 3.1), by internal/verdict, on tables that are confirmed
//     current within the lease's age (3.2). What is permitted now is cut to the smaller of its own field set and today's.
//   - The decision is on audit-decisions before the delivery goes.
//   - Whatever it writes is a CloudEvent whose texts stand in the delivery's own headers, or in the verdict.
//
// It knows nothing of HTTP, and makes no verdict itself.
package leave

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/internal/tables"
	"civicbus/internal/verdict"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Config says what deliveries are decided with. All but Secret is required.
type Config struct {
	Kind       string // of the decisions
	Connection kafka.Connection
	Registry   *codecs.Registry
	Records    *codecs.Records // bound
	Keys       *pseudonym.Keys
	Tables     tables.Current
	Age        time.Duration // of the lease
	Secret     []byte        // the bus key: what thin deliveries refer to is sealed under a key derived from it; nil: none is decided on what it refers to
}

// Exit decides again on deliveries. It is safe for concurrent use.
type Exit struct {
	cfg       Config
	lease     *tables.Lease
	shapes    *shapes
	writers   *writers
	originals *originals
	client    *kgo.Client // writes decisions
}

// New makes one. It reaches for nothing.
func New(cfg Config) (*Exit, error) {
	client, err := cfg.Connection.Client(kgo.RecordDeliveryTimeout(writeWithin))
	if err != nil {
		return nil, err
	}
	originals, err := newOriginals(cfg.Secret, kafka.NewLog(client))
	if err != nil {
		client.Close()
		return nil, err
	}
	return &Exit{cfg: cfg, lease: tables.NewLease(cfg.Tables, cfg.Age), shapes: newShapes(cfg.Registry), writers: newWriters(cfg.Registry), originals: originals, client: client}, nil
}

// Close ends its connection. Nothing may be under way.
func (x *Exit) Close() { x.client.Close() }

// Now waits until the tables are confirmed current, no longer than the context or a little while (tables.ErrNotCurrent), and gives
// the confirmation and what is known then.
func (x *Exit) Now(ctx context.Context) (confirmed time.Time, snap *verdict.Snapshot, err error) {
	if confirmed, err = x.lease.Hold(ctx); err != nil {
		return confirmed, nil, err
	}
	return confirmed, x.cfg.Tables.Snapshot(), nil
}

// Current says whether a decision made on a confirmation may still be used.
func (x *Exit) Current(confirmed time.Time) bool { return time.Since(confirmed) < x.cfg.Age }

// Outcomes of a record that gets no verdict, as of the router's decisions.
const (
	Decided       = "decided"
	Malformed     = "malformed"
	UnknownSchema = "unknown_schema"
)

// Delivery is one record on its way out.
type Delivery struct {
	Record  *kgo.Record
	Outcome string // why it cannot be decided; Decided: it can
	Subject string // inside the bus; empty: its own cannot be read

	shape    *shape // nil: its schema cannot be known
	body     []byte
	event    verdict.Event
	basis    string // on which it was delivered
	withheld []string
	writers  []*codecs.Schema
	original *Original // what a thin delivery refers to; nil: it holds its data
}

// Prepare does what needs the registry, before the lease is looked at. The error says that the registry is out of reach.
func (x *Exit) Prepare(ctx context.Context, snap *verdict.Snapshot, sub *codecs.Subscription, r *kgo.Record) (*Delivery, error) {
	l := &Delivery{Record: r, Outcome: Malformed}
	l.event.Attr = func(name string) (string, bool) { return Header(r, "ce_"+name) }
	text := func(name string) string {
		v, _ := Header(r, name)
		return v
	}
	l.event.Type, l.event.Role, l.event.Source = text(codecs.HeaderType), text(codecs.HeaderSubjectRole), text(codecs.HeaderSource)
	l.event.Recipient = sub.Subscriber // a command is delivered to no one else
	l.basis = text(codecs.HeaderLegalBasis)
	if w := text(codecs.HeaderWithheld); w != "" {
		l.withheld = strings.Split(w, ",")
	}
	sealed := text(codecs.HeaderSubject)
	subject, err := x.cfg.Keys.For(sub.Subscriber).Open(sealed)
	if key := string(r.Key); err != nil || key != sealed && key != subject || text(codecs.HeaderID) == "" { // by the pairwise pseudonym on the subscriber's topic, by the subject inside
		return l, nil //nolint:nilerr // it is malformed, which is no error
	}
	l.Subject, l.event.Subject = subject, subject
	switch l.shape, err = x.shapes.of(ctx, r.Value); {
	case errors.As(err, new(codecs.Malformed)):
		return l, nil
	case errors.Is(err, codecs.ErrUnknownSchema):
		l.Outcome = UnknownSchema
		return l, nil
	case err != nil:
		return nil, err
	}
	_, l.body, _ = codecs.WireID(r.Value) // shapes has read it
	l.event.Body = l.body
	if l.event.Stamp, err = l.shape.Stamp(l.body); err != nil {
		return l, nil //nolint:nilerr // it is malformed, which is no error
	}
	if et := snap.EventType(l.event.Type); et != nil {
		if l.writers, err = x.writers.of(ctx, et.RegistrySubject); err != nil {
			return nil, err
		}
	}
	l.Outcome = Decided
	return l, nil
}

// Decide decides on a delivery, and gives the decision as it goes on record. permit is nil when it does not leave.
func (x *Exit) Decide(snap *verdict.Snapshot, sub *codecs.Subscription, l *Delivery, thin bool, now time.Time) (permit *verdict.Verdict, on Entry) {
	r := l.Record
	on = Entry{Key: l.Subject, Decision: codecs.Decision{Kind: x.cfg.Kind, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Follows: -1, DecidedAt: codecs.Millis(now),
		EventType: bounded(l.event.Type), Source: bounded(l.event.Source), Role: bounded(l.event.Role), Outcome: l.Outcome}}
	d := &on.Decision
	if l.Subject == "" { // its key may be anything
		sum := sha256.Sum256(r.Key)
		on.Key = hex.EncodeToString(sum[:8])
	}
	if et := snap.EventType(l.event.Type); et != nil {
		d.CatalogVersion = et.Version
	}
	if c, ok := Header(r, codecs.HeaderCorrelation); ok {
		d.LifeEventID, _ = x.cfg.Keys.For(sub.Subscriber).OpenID(c)
	}
	if own, ok := Header(r, codecs.HeaderLifeEvent); ok { // a follow-up's correlation is what caused it
		d.Correlation = d.LifeEventID
		d.LifeEventID, _ = x.cfg.Keys.For(sub.Subscriber).OpenID(own)
	}
	if l.Outcome != Decided {
		return nil, on
	}
	consents := x.cfg.Tables.Consents(l.Subject)
	if consents != nil {
		d.ConsentVersion = consents.Version
	}
	v, ok := l.verdict(snap, sub.ID, consents, now)
	if !ok {
		d.Outcome = Malformed
		return nil, on
	}
	if thin {
		v = v.Bare()
	}
	item := v.Item()
	if v.Permit {
		item.DeliveryID, _ = Header(r, codecs.HeaderID)
		item.FieldSet = v.FieldSet
		permit = &v
	}
	d.Verdicts = []codecs.VerdictItem{item}
	return permit, on
}

// verdict is on what the delivery refers to, as the router's was; or on what it holds.
func (l *Delivery) verdict(snap *verdict.Snapshot, subscription string, consents *codecs.Consents, now time.Time) (v verdict.Verdict, ok bool) {
	if l.original != nil {
		v, ok = snap.DecideOne(&l.event, subscription, consents, now)
		return v.Cut(l.original.held), ok
	}
	// The in-event list narrows consent alone and was obeyed when the delivery was made on consent. One that was made on
	// another basis does not have it any more: for consent it is unknown, and so is nobody's.
	l.event.HasList = l.basis != verdict.BasisConsent
	return snap.DecideAgain(&l.event, l.shape.Delivered, subscription, l.shape.Fields(l.withheld), l.writers, consents, now)
}

// Header gives a header's value.
func Header(r *kgo.Record, name string) (string, bool) {
	i := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == name })
	if i < 0 {
		return "", false
	}
	return string(r.Headers[i].Value), true
}

// bounded is a header's value as a decision may hold it.
func bounded(v string) string {
	const most = 1 << 10
	return strings.ToValidUTF8(v[:min(len(v), most)], "\uFFFD")
}

// Entry is a decision and whom it is about.
type Entry struct {
	Key      string
	Decision codecs.Decision
}

// Same says whether two decisions on one record say the same, whenever they were made.
func (e *Entry) Same(o *Entry) bool {
	a, b := e.Decision, o.Decision
	return a.Outcome == b.Outcome && a.CatalogVersion == b.CatalogVersion && a.ConsentVersion == b.ConsentVersion && slices.Equal(a.Verdicts, b.Verdicts)
}

// Unreadable makes the decision say that the delivery's body cannot be read.
func (e *Entry) Unreadable() { e.Decision.Outcome, e.Decision.Verdicts = Malformed, nil }

// writeWithin bounds how long a decision may be on its way.
const writeWithin = 10 * time.Second

// Write returns once every decision is on record. The producer is idempotent: a decision that was written and not acknowledged
// is one of a delivery that did not go, and stands on record all the same.
func (x *Exit) Write(ctx context.Context, entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	out := make([]*kgo.Record, len(entries))
	for i := range entries {
		value, err := x.cfg.Records.Decision.Encode(&entries[i].Decision)
		if err != nil {
			return fmt.Errorf("write a decision: %w", err)
		}
		out[i] = &kgo.Record{Topic: decisions, Key: []byte(entries[i].Key), Value: value}
	}
	return x.client.ProduceSync(ctx, out...).FirstErr()
}
