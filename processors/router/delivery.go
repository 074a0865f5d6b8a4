package router

import (
	"strconv"
	"strings"
	"unsafe"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/internal/verdict"
	"civicbus/topology"
)

// attempt is what became of one permit: a delivery, or why there is none.
type attempt struct {
	output kafka.Output
	id     []byte // of the delivery; it stays until the record has been handled
	reason string // one of the undeliverable reasons; empty: it can be written
}

// carryOut writes the deliveries of all permits, and returns the verdicts as they go on record. A delivery that cannot be
// written becomes a denial with its reason and a dead letter that can be redriven, and pauses its subscription: it must not
// abort the transaction of everyone else, again and again.
//
// The error is a codecs.Malformed body, found where it was cut. Nothing is written then: each delivery is made before the
// first is written, so that an event is delivered to all who may have it or is one dead letter.
func (w *work) carryOut(lifeEvent string) ([]codecs.VerdictItem, error) {
	w.items, w.attempts, w.text = w.items[:0], w.attempts[:0], w.text[:0]
	e := &w.record.Envelope
	w.cut.Begin(&w.seen)
	of := w.deliveries(e, lifeEvent)
	for i := range w.verdicts {
		v := &w.verdicts[i]
		item := v.Item()
		var a attempt
		if v.Permit {
			item.FieldSet = v.FieldSet
			var err error
			if a, err = w.attempt(v, &of, lifeEvent); err != nil {
				return nil, err
			}
		}
		w.items, w.attempts = append(w.items, item), append(w.attempts, a)
	}
	for i := range w.attempts {
		a := &w.attempts[i]
		switch item := &w.items[i]; {
		case !item.Permit:
		case a.reason == "":
			item.DeliveryID = text(a.id)
			w.g.env.Deliver(w.record.Ctx, &a.output)
		default:
			item.Permit, item.Reason, item.FieldSet = false, a.reason, 0
			w.record.Bury(a.reason, details[a.reason], item.Subscription)
			if a.reason != UndeliverableSchema { // which is mended at the registry, not at the subscription
				w.record.Pause(w.verdicts[i].Sub.ID, a.reason)
			}
		}
	}
	return w.items, nil
}

// deliveries is what the ids of the record's deliveries begin with.
func (w *work) deliveries(e *codecs.Envelope, lifeEvent string) pseudonym.Deliveries {
	if flaw.Planted(flaw.DeliveryByOffset) {
		lifeEvent = w.g.env.Keys.LifeEvent(e.Source, strconv.FormatInt(w.record.Offset, 10))
	}
	of, _ := w.g.env.Keys.DeliveriesOf(lifeEvent, e.Subject) // the record was read: both are what they must be
	return of
}

// attempt makes the delivery of a permit and asks whether it can be written.
func (w *work) attempt(v *verdict.Verdict, of *pseudonym.Deliveries, lifeEvent string) (attempt, error) {
	to, ok := w.route(v.Sub)
	if !ok {
		return attempt{reason: UndeliverableSchema}, nil
	}
	from := len(w.text)
	w.text = w.g.env.Keys.AppendDelivery(w.text, of, &to.digest)
	id := w.since(from)
	out, err := w.delivery(v, id, lifeEvent, to)
	if err != nil {
		return attempt{}, err
	}
	const batch = 128 // about what a batch takes beside its records: Kafka's limit counts the batch
	return attempt{output: out, id: id, reason: w.g.env.Refused(out.Topic, batch+len(out.Key)+len(out.Value)+len(out.Headers))}, nil
}

// route is how deliveries of the record's type and schema go to a subscription; false while its projected schema is not registered.
func (w *work) route(sub *codecs.Subscription) (*route, bool) {
	e := &w.record.Envelope
	key := routeKey{sub, w.record.Type, w.record.Schema}
	to, ok := w.routes[key]
	if !ok {
		target, ok := w.snap.Target(sub.Subscriber, e.Type, w.record.Schema)
		if !ok {
			return nil, false
		}
		to = &route{topic: topology.SubscriberTopicName(sub.Subscriber), pair: w.g.env.Keys.For(sub.Subscriber), digest: pseudonym.DigestOf(sub.ID)}
		if to.projection, to.schema = w.g.env.Projection(target); to.projection == nil {
			return nil, false
		}
		w.routes[key] = to
	}
	if to.headers == nil || to.source != e.Source || to.role != e.Role || to.dataSchema != e.DataSchema {
		to.encode(e, sub)
	}
	return to, true
}

// encode makes the headers that are the same for each event of a source, role and data schema.
func (to *route) encode(e *codecs.Envelope, sub *codecs.Subscription) {
	to.source, to.role, to.dataSchema = strings.Clone(e.Source), strings.Clone(e.Role), strings.Clone(e.DataSchema)
	h := headers{text: to.headers[:0]}
	h.add(codecs.HeaderSpecVersion, []byte("1.0"))
	h.add(codecs.HeaderSource, []byte(e.Source))
	h.add(codecs.HeaderType, []byte(e.Type))
	h.add(codecs.HeaderSubjectRole, []byte(e.Role))
	if i := strings.LastIndexByte(e.DataSchema, '/'); i >= 0 { // the source's, with the id of the projected schema in place of its own
		h.add(codecs.HeaderDataSchema, strconv.AppendInt([]byte(e.DataSchema[:i+1]), int64(to.schema), 10))
	}
	h.add(codecs.HeaderContentType, []byte(codecs.ContentTypeAvro))
	h.add(codecs.HeaderSubscription, []byte(sub.ID))
	h.add(codecs.HeaderPurpose, []byte(sub.Purpose))
	h.add(codecs.HeaderLegalBasis, []byte(sub.Basis))
	to.headers, to.count = h.text, h.n
}

// headers are encoded one behind the other; one without a value is left out.
type headers struct {
	text []byte
	n    int
}

func (h *headers) add(name string, value []byte) {
	if len(value) > 0 {
		h.text = kafka.AppendHeader(h.text, name, value)
		h.n++
	}
}

var details = map[string]string{
	UndeliverableTopic:  "the topic does not exist",
	UndeliverableSize:   "the delivery is larger than the topic takes (max.message.bytes)",
	UndeliverableAccess: "Kafka does not let civicbus write to the topic",
	UndeliverableSchema: "there is no registered projected schema for the subscription",
}

// delivery is the record: CloudEvents in binary mode, the body under the subscriber's projected schema. Everything in it stands in
// the one buffer of the work.
func (w *work) delivery(v *verdict.Verdict, id []byte, lifeEvent string, to *route) (kafka.Output, error) {
	r, e := &w.record, &w.record.Envelope
	thin, webhook := v.Sub.Delivery.Thin, v.Sub.Delivery.Kind == "webhook"
	shown := v
	if thin && !webhook { // what goes to a webhook is decided again, on what it holds; nobody else reads it
		bare := v.Bare()
		shown = &bare
	}
	at := len(w.text)
	var withheld *verdict.Withheld
	var err error
	if w.text, withheld, err = w.cut.Project(codecs.AppendWire(w.text, to.schema), shown, to.projection); err != nil {
		return kafka.Output{}, err
	}
	value := w.since(at)
	var ref []byte
	if thin {
		ref = w.reference(v, to)
		if !webhook { // that nothing is there is no verdict on the fields
			withheld = nil
		}
	}
	if flaw.Planted(flaw.BodyWhole) {
		value, withheld = r.Value, nil
	}
	at = len(w.text)
	if w.text, err = to.pair.AppendSeal(w.text, e.Subject); err != nil {
		return kafka.Output{}, codecs.Malformed{What: codecs.HeaderSubject, Err: err}
	}
	subject := w.since(at)
	at = len(w.text)
	w.text = to.pair.AppendSealID(w.text, w.cause)
	correlation := w.since(at)
	var own []byte
	if w.seen.FollowUp {
		at = len(w.text)
		w.text = to.pair.AppendSealID(w.text, lifeEvent)
		own = w.since(at)
	}
	at = len(w.text)
	h := headers{append(w.text, to.headers...), to.count}
	h.add(codecs.HeaderID, id)
	h.add(codecs.HeaderTime, octets(e.Time))
	h.add(codecs.HeaderSubject, subject)
	h.add(codecs.HeaderCorrelation, correlation)
	h.add(codecs.HeaderLifeEvent, own)
	h.add(codecs.HeaderReference, octets(v.Reference))
	if withheld != nil {
		h.add(codecs.HeaderWithheld, withheld.Text)
	}
	if e.Redriven {
		h.add(codecs.HeaderRedriven, []byte("true"))
	}
	h.add(codecs.HeaderDataRef, ref)
	if webhook { // for its sender, who lets neither of them leave
		h.add(codecs.HeaderRecordedTime, octets(e.Recorded))
		h.add(codecs.HeaderTrace, octets(e.Trace))
	}
	w.text = h.text
	out := kafka.Output{Topic: to.topic, Key: subject, Value: value, Headers: w.since(at), Count: h.n}
	if webhook {
		out.Topic, out.Key = topology.WebhookDeliveries.Name, octets(e.Subject)
	}
	return out, nil
}

// reference is the address of what a permit permits of the record, for a delivery that does not hold it.
func (w *work) reference(v *verdict.Verdict, to *route) []byte {
	if w.g.env.DataRef == nil {
		return nil
	}
	if to.deliverable == nil {
		to.deliverable = verdict.Deliverable(w.record.Schema)
	}
	r := &w.record
	return w.g.env.DataRef(nil, v.Sub.ID, &pseudonym.Reference{Stream: r.Topic, Partition: r.Partition, Offset: r.Offset,
		Held: verdict.AppendHeld(nil, to.deliverable, v.Fields)})
}

// since is what was appended to the buffer after from; where the buffer grows, it stays as it is.
func (w *work) since(from int) []byte { return w.text[from:len(w.text):len(w.text)] }

// text is a text over the same memory, and octets are its bytes: neither is written again.
func text(b []byte) string   { return unsafe.String(unsafe.SliceData(b), len(b)) }
func octets(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
