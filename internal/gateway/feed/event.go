package feed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"
)

// Event is one delivery as it leaves.
type Event struct {
	ID    string   // the delivery's
	JSON  []byte   // a CloudEvent in JSON format
	Data  []byte   // the data in it; nil in a thin one
	After Position // where a reader stands who has it

	Attributes []Attribute // what JSON says beside the data, in its order
}

// Attribute is a CloudEvents attribute.
type Attribute struct{ Name, Value string }

// outcomes of a record that gets no verdict, as of the router's decisions.
const (
	decided       = "decided"
	malformed     = "malformed"
	unknownSchema = "unknown_schema"
)

// leaving is one record on its way out.
type leaving struct {
	record   *record
	shape    *shape // nil: its schema cannot be known
	outcome  string // why it cannot be decided; decided: it can
	subject  string // inside the bus
	body     []byte
	event    verdict.Event
	basis    string // on which it was delivered
	withheld []string
	writers  []*codecs.Schema
}

// prepare does what needs the registry, before the lease is looked at. The error says that the registry is out of reach.
func (f *Feed) prepare(ctx context.Context, snap *verdict.Snapshot, sub *codecs.Subscription, r *record) (*leaving, error) {
	l := &leaving{record: r, outcome: malformed}
	l.event.Attr = func(name string) (string, bool) {
		v, ok := header(r, "ce_"+name)
		return v, ok
	}
	text := func(name string) string {
		v, _ := header(r, name)
		return v
	}
	l.event.Type, l.event.Role, l.event.Source = text(codecs.HeaderType), text(codecs.HeaderSubjectRole), text(codecs.HeaderSource)
	l.event.Recipient = sub.Subscriber // a command is delivered to no one else
	l.basis = text(codecs.HeaderLegalBasis)
	if w := text(codecs.HeaderWithheld); w != "" {
		l.withheld = strings.Split(w, ",")
	}
	subject, err := f.cfg.Keys.For(sub.Subscriber).Open(text(codecs.HeaderSubject))
	if err != nil || string(r.Key) != text(codecs.HeaderSubject) || text(codecs.HeaderID) == "" {
		return l, nil //nolint:nilerr // it is malformed, which is no error
	}
	l.subject, l.event.Subject = subject, subject
	switch l.shape, err = f.shapes.of(ctx, r.Value); {
	case errors.As(err, new(codecs.Malformed)):
		return l, nil
	case errors.Is(err, codecs.ErrUnknownSchema):
		l.outcome = unknownSchema
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
		if l.writers, err = f.writers.of(ctx, et.RegistrySubject); err != nil {
			return nil, err
		}
	}
	l.outcome = decided
	return l, nil
}

// decide decides on a delivery, and gives the decision's record. permit is nil when it does not leave.
func (f *Feed) decide(snap *verdict.Snapshot, sub *codecs.Subscription, l *leaving, thin bool, now time.Time) (permit *verdict.Verdict, on entry) {
	r := l.record
	on = entry{key: l.subject, decision: codecs.Decision{Kind: Kind, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Follows: -1, DecidedAt: codecs.Millis(now),
		EventType: bounded(l.event.Type), Source: bounded(l.event.Source), Role: bounded(l.event.Role), Outcome: l.outcome}}
	d := &on.decision
	if l.subject == "" { // its key may be anything
		sum := sha256.Sum256(r.Key)
		on.key = hex.EncodeToString(sum[:8])
	}
	if et := snap.EventType(l.event.Type); et != nil {
		d.CatalogVersion = et.Version
	}
	if c, ok := header(r, codecs.HeaderCorrelation); ok {
		d.LifeEventID, _ = f.cfg.Keys.For(sub.Subscriber).OpenID(c)
	}
	if l.outcome != decided {
		return nil, on
	}
	consents := f.cfg.Tables.Consents(l.subject)
	if consents != nil {
		d.ConsentVersion = consents.Version
	}
	// The in-event list narrows consent alone and was obeyed when the delivery was made on consent. One that was made on
	// another basis does not have it any more: for consent it is unknown, and so is nobody's.
	l.event.HasList = l.basis != verdict.BasisConsent
	v, ok := snap.DecideAgain(&l.event, l.shape.Delivered, sub.ID, l.shape.Fields(l.withheld), l.writers, consents, now)
	if !ok {
		d.Outcome = malformed
		return nil, on
	}
	if thin {
		v = v.Cut(nil)
	}
	item := codecs.VerdictItem{Subscription: v.Sub.ID, SubscriptionVersion: v.Sub.Version, Subscriber: v.Sub.Subscriber, TrustVersion: v.TrustVersion,
		Permit: v.Permit, Reason: v.Reason, Basis: v.Basis, Purpose: v.Sub.Purpose, Reference: v.Reference, ReferenceVersion: v.ReferenceVersion}
	if v.Permit {
		item.DeliveryID, _ = header(r, codecs.HeaderID)
		item.FieldSet = v.FieldSet
		permit = &v
	}
	d.Verdicts = []codecs.VerdictItem{item}
	return permit, on
}

// event writes what leaves. The error is a codecs.Malformed body.
func (f *Feed) event(snap *verdict.Snapshot, l *leaving, v *verdict.Verdict, thin bool) (Event, error) {
	r := l.record
	var e Event
	e.ID, _ = header(r, codecs.HeaderID)
	add := func(name, value string) {
		if value != "" {
			e.Attributes = append(e.Attributes, Attribute{name, value})
		}
	}
	for _, name := range [...]string{"specversion", "id", "source", "type", "time", "subject", "subjectrole", "dataschema"} {
		value, _ := header(r, "ce_"+name)
		add(name, value)
	}
	if correlation, ok := header(r, codecs.HeaderCorrelation); ok {
		add("correlationid", correlation)
	}
	add("subscription", v.Sub.ID)
	add("purpose", v.Sub.Purpose)
	add("legalbasis", v.Basis)
	add("grantreference", v.Reference)
	if redriven, ok := header(r, codecs.HeaderRedriven); ok {
		add("redriven", redriven)
	}
	if thin {
		add("dataref", f.cfg.DataRef(v.Sub.ID, f.cursors.seal(v.Sub.ID, cursorRecord, int64(r.Partition), r.Offset)))
		e.JSON = append(members(e.Attributes), '}')
		return e, nil
	}
	add("withheld", strings.Join(snap.Withheld(l.shape.Delivered, v, l.event.Type, l.withheld), ","))
	mask, err := l.shape.mask(v)
	if err != nil {
		return e, err
	}
	e.JSON = append(members(e.Attributes), `,"datacontenttype":"application/json","data":`...)
	begin := len(e.JSON)
	if e.JSON, err = l.shape.Schema().ToJSONMasked(e.JSON, l.body, mask); err != nil {
		return e, err
	}
	e.JSON = append(e.JSON, '}')
	e.Data = e.JSON[begin : len(e.JSON)-1 : len(e.JSON)-1]
	return e, nil
}

// members begins a JSON object with attributes.
func members(all []Attribute) []byte {
	out := []byte{'{'}
	for i, a := range all {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, quoted(a.Name)...), ':'), quoted(a.Value)...)
	}
	return out
}

func quoted(text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(strings.ToValidUTF8(text, "\uFFFD")) // a string always encodes
	return bytes.TrimRight(b.Bytes(), "\n")
}

// header gives a header's value.
func header(r *record, name string) (string, bool) {
	i := slices.IndexFunc(r.Headers, func(h kgoHeader) bool { return h.Key == name })
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
