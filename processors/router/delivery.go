package router

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/verdict"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// attempt is what became of one permit: a record, or why there is none.
type attempt struct {
	record *kgo.Record
	reason string // one of the undeliverable reasons; empty: the record can be written
}

// carryOut writes the deliveries of all permits, and returns the verdicts as they go on record. A delivery that cannot be
// written becomes a denial with its reason and a dead letter that can be redriven, and pauses its subscription: it must not
// abort the transaction of everyone else, again and again.
//
// The error is a codecs.Malformed body, found where it was cut. Nothing is written then: each delivery is made before the
// first is written, so that an event is delivered to all who may have it or is one dead letter.
func (w *work) carryOut(lifeEvent string) ([]codecs.VerdictItem, error) {
	w.items, w.attempts, w.headers, w.text = w.items[:0], w.attempts[:0], w.headers[:0], w.text[:0]
	w.records = slices.Grow(w.records[:0], len(w.verdicts)) // they are pointed at
	e := &w.record.Envelope
	w.cut.Begin(&w.seen)
	for i := range w.verdicts {
		v := &w.verdicts[i]
		item := codecs.VerdictItem{Subscription: v.Sub.ID, SubscriptionVersion: v.Sub.Version, Subscriber: v.Sub.Subscriber, TrustVersion: v.TrustVersion,
			Permit: v.Permit, Reason: v.Reason, Basis: v.Basis, Purpose: v.Sub.Purpose, Reference: v.Reference, ReferenceVersion: v.ReferenceVersion}
		var a attempt
		if v.Permit {
			id := w.id(e, v.Sub.ID)
			item.DeliveryID, item.FieldSet = text(id), v.FieldSet
			var err error
			if a, err = w.attempt(v, id, lifeEvent); err != nil {
				return nil, err
			}
		}
		w.items, w.attempts = append(w.items, item), append(w.attempts, a)
	}
	for i, a := range w.attempts {
		switch item := &w.items[i]; {
		case !item.Permit:
		case a.reason == "":
			w.g.env.Emit(w.record.Ctx, a.record)
		default:
			item.Permit, item.Reason, item.DeliveryID, item.FieldSet = false, a.reason, "", 0
			w.record.Bury(a.reason, details[a.reason], item.Subscription)
			if a.reason != UndeliverableSchema { // which is mended at the registry, not at the subscription
				w.pause(w.verdicts[i].Sub, a.reason)
			}
		}
	}
	return w.items, nil
}

// id is the delivery id; it stays until the record has been handled.
func (w *work) id(e *codecs.Envelope, subscription string) []byte {
	from, id := len(w.text), e.ID
	if flaw.Planted(flaw.DeliveryByOffset) {
		id = strconv.FormatInt(w.record.Offset, 10)
	}
	w.text = w.g.env.Keys.AppendDelivery(w.text, e.Source, id, e.Subject, subscription)
	return w.since(from)
}

// attempt makes the delivery of a permit and asks whether it can be written.
func (w *work) attempt(v *verdict.Verdict, id []byte, lifeEvent string) (attempt, error) {
	to, ok := w.route(v.Sub)
	if !ok {
		return attempt{reason: UndeliverableSchema}, nil
	}
	rec, err := w.delivery(v, id, lifeEvent, to)
	if err != nil {
		return attempt{}, err
	}
	return attempt{record: rec, reason: w.g.env.Refused(rec.Topic, w.size+len(rec.Key)+len(rec.Value))}, nil
}

// route is how deliveries of the record's type and schema go to a subscription; false while its projected schema is not registered.
func (w *work) route(sub *codecs.Subscription) (route, bool) {
	key := routeKey{sub, w.record.Type, w.record.Schema}
	if to, ok := w.routes[key]; ok {
		return to, true
	}
	target, ok := w.snap.Target(sub.Subscriber, w.record.Envelope.Type, w.record.Schema)
	if !ok {
		return route{}, false
	}
	to := route{topic: topology.SubscriberTopicName(sub.Subscriber), pair: w.g.env.Keys.For(sub.Subscriber)}
	if to.projection, to.schema = w.g.env.Projection(target); to.projection == nil {
		return route{}, false
	}
	w.routes[key] = to
	return to, true
}

var details = map[string]string{
	UndeliverableTopic:  "the topic does not exist",
	UndeliverableSize:   "the delivery is larger than the topic takes (max.message.bytes)",
	UndeliverableAccess: "Kafka does not let civicbus write to the topic",
	UndeliverableSchema: "there is no registered projected schema for the subscription",
}

// delivery is the record: CloudEvents in binary mode, the body under the subscriber's projected schema. The headers that are
// the event's own share its bytes, all else stands in the one buffer of the work.
func (w *work) delivery(v *verdict.Verdict, id []byte, lifeEvent string, to route) (*kgo.Record, error) {
	r, e := &w.record, &w.record.Envelope
	at := len(w.text)
	var withheld *verdict.Withheld
	var err error
	if w.text, withheld, err = w.cut.Project(codecs.AppendWire(w.text, to.schema), v, to.projection); err != nil {
		return nil, err
	}
	value := w.since(at)
	if flaw.Planted(flaw.BodyWhole) {
		value, withheld = r.Value, nil
	}
	at = len(w.text)
	if w.text, err = to.pair.AppendSeal(w.text, e.Subject); err != nil {
		return nil, codecs.Malformed{What: codecs.HeaderSubject, Err: err}
	}
	subject := w.since(at)
	first := len(w.headers)
	w.size = 128
	w.share(codecs.HeaderSpecVersion, specVersion)
	w.share(codecs.HeaderID, id)
	w.share(codecs.HeaderSource, octets(e.Source))
	w.share(codecs.HeaderType, octets(e.Type))
	w.share(codecs.HeaderTime, octets(e.Time))
	w.share(codecs.HeaderSubject, subject)
	w.share(codecs.HeaderSubjectRole, octets(e.Role))
	if i := strings.LastIndexByte(e.DataSchema, '/'); i >= 0 { // the source's, with the id of the projected schema in place of its own
		at = len(w.text)
		w.text = strconv.AppendInt(append(w.text, e.DataSchema[:i+1]...), int64(to.schema), 10)
		w.share(codecs.HeaderDataSchema, w.since(at))
	}
	w.share(codecs.HeaderContentType, contentType)
	at = len(w.text)
	w.text = to.pair.AppendSealID(w.text, lifeEvent)
	w.share(codecs.HeaderCorrelation, w.since(at))
	w.share(codecs.HeaderSubscription, octets(v.Sub.ID))
	w.share(codecs.HeaderPurpose, octets(v.Sub.Purpose))
	w.share(codecs.HeaderLegalBasis, octets(v.Basis))
	w.share(codecs.HeaderReference, octets(v.Reference))
	if withheld != nil {
		w.share(codecs.HeaderWithheld, withheld.Text)
	}
	if e.Redriven {
		w.share(codecs.HeaderRedriven, redriven)
	}
	w.records = append(w.records, kgo.Record{Topic: to.topic, Key: subject, Value: value,
		Headers: w.headers[first:len(w.headers):len(w.headers)]})
	rec := &w.records[len(w.records)-1]
	if v.Sub.Delivery.Kind == "webhook" {
		rec.Topic, rec.Key = topology.WebhookDeliveries.Name, octets(e.Subject)
	}
	return rec, nil
}

var (
	specVersion = []byte("1.0")
	contentType = []byte(codecs.ContentTypeAvro)
	redriven    = []byte("true")
)

// since is what was appended to the buffer after from; where the buffer grows, it stays as it is.
func (w *work) since(from int) []byte { return w.text[from:len(w.text):len(w.text)] }

// share adds a header to the record that is being made, without copying its value; one without a value is left out.
func (w *work) share(name string, value []byte) {
	if len(value) > 0 {
		w.size += len(name) + len(value) + 8
		w.headers = append(w.headers, kgo.RecordHeader{Key: name, Value: value})
	}
}

// text is a text over the same memory, and octets are its bytes: neither is written again.
func text(b []byte) string   { return unsafe.String(unsafe.SliceData(b), len(b)) }
func octets(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// pause asks the subscription group to pause the subscription. The command's id follows from the record, so that the same
// record tried again asks only once.
func (w *work) pause(sub *codecs.Subscription, reason string) {
	r := &w.record
	sum := sha256.Sum256([]byte(r.Topic + "/" + strconv.Itoa(int(r.Partition)) + "/" + strconv.FormatInt(r.Offset, 10) + "/" + sub.ID))
	cmd := codecs.SubscriptionCommand{Meta: codecs.Meta{ID: hex.EncodeToString(sum[:16]), Actor: "civicbus", IssuedAt: codecs.Millis(w.g.env.Now())},
		Kind: "pause", Subscription: codecs.Subscription{ID: sub.ID}, Reason: reason}
	value, err := w.g.env.Records.SubscriptionCommand.Encode(&cmd)
	if err != nil {
		r.Ctx.Fail(err)
	}
	w.g.env.Emit(r.Ctx, &kgo.Record{Topic: topology.SubscriptionCommands.Name, Key: []byte(sub.ID), Value: value})
}
