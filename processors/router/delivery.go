package router

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/verdict"
	"civicbus/processors/event"
	"civicbus/topology"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
)

// delivery carries out the verdicts of one event record.
type delivery struct {
	g         *Group
	r         *event.Record
	ev        *verdict.Event
	snap      *verdict.Snapshot
	lifeEvent string
	in        goka.Headers
}

// attempt is what became of one permit: a record, or why there is none.
type attempt struct {
	record *kgo.Record
	reason string // one of the undeliverable reasons; empty: the record can be written
	detail string // for people
}

// carryOut writes the deliveries of all permits, and returns the verdicts as they go on record. A delivery that cannot be
// written becomes a denial with its reason and a dead letter that can be redriven, and pauses its subscription: it must not
// abort the transaction of everyone else, again and again.
//
// The error is a codecs.Malformed body, found where it was cut. Nothing is written then: each delivery is made before the
// first is written, so that an event is delivered to all who may have it or is one dead letter.
func (d *delivery) carryOut(verdicts []verdict.Verdict) ([]codecs.VerdictItem, error) {
	items, attempts := make([]codecs.VerdictItem, len(verdicts)), make([]attempt, len(verdicts))
	e := &d.r.Envelope
	for i := range verdicts {
		v, item := &verdicts[i], &items[i]
		*item = codecs.VerdictItem{Subscription: v.Sub.ID, SubscriptionVersion: v.Sub.Version, Subscriber: v.Sub.Subscriber, TrustVersion: v.TrustVersion,
			Permit: v.Permit, Reason: v.Reason, Basis: v.Basis, Purpose: v.Sub.Purpose, Reference: v.Reference, ReferenceVersion: v.ReferenceVersion}
		if !v.Permit {
			continue
		}
		item.DeliveryID, item.FieldSet = d.g.env.Keys.Delivery(e.Source, e.ID, e.Subject, v.Sub.ID), v.FieldSet
		if flaw.Planted(flaw.DeliveryByOffset) {
			item.DeliveryID = d.g.env.Keys.Delivery(e.Source, strconv.FormatInt(d.r.Ctx.Offset(), 10), e.Subject, v.Sub.ID)
		}
		var err error
		if attempts[i], err = d.attempt(v, item.DeliveryID); err != nil {
			return nil, err
		}
	}
	for i, a := range attempts {
		switch {
		case !verdicts[i].Permit:
		case a.reason == "":
			d.g.env.Emit(d.r.Ctx, a.record)
		default:
			items[i].Permit, items[i].Reason, items[i].DeliveryID, items[i].FieldSet = false, a.reason, "", 0
			d.r.Bury(a.reason, a.detail, verdicts[i].Sub.ID)
			if a.reason != UndeliverableSchema { // which is mended at the registry, not at the subscription
				d.pause(verdicts[i].Sub, a.reason)
			}
		}
	}
	return items, nil
}

// attempt makes the delivery of a permit and asks whether it can be written.
func (d *delivery) attempt(v *verdict.Verdict, id string) (attempt, error) {
	target, ok := d.snap.Target(v.Sub.Subscriber, d.r.Envelope.Type, d.r.Schema)
	if !ok {
		return attempt{reason: UndeliverableSchema, detail: "there is no projected schema for the subscription"}, nil
	}
	p, schema := d.g.env.Projection(target)
	if p == nil {
		return attempt{reason: UndeliverableSchema, detail: "the projected schema is not registered"}, nil
	}
	rec, err := d.record(v, id, p, schema)
	if err != nil {
		return attempt{}, err
	}
	reason := d.g.env.Refused(rec.Topic, recordBytes(rec))
	return attempt{record: rec, reason: reason, detail: details[reason]}, nil
}

var details = map[string]string{
	UndeliverableTopic:  "the topic does not exist",
	UndeliverableSize:   "the delivery is larger than the topic takes (max.message.bytes)",
	UndeliverableAccess: "Kafka does not let civicbus write to the topic",
}

// record is the delivery: CloudEvents in binary mode, the body under the subscriber's projected schema. The headers that are
// the event's own share its bytes, the others one buffer: they are most of what a delivery would allocate.
func (d *delivery) record(v *verdict.Verdict, id string, p *codecs.Projection, schema int32) (*kgo.Record, error) {
	value := codecs.AppendWire(make([]byte, 0, len(d.r.Body)+64), schema)
	value, withheld, err := d.snap.Project(value, d.ev, v, p)
	if err != nil {
		return nil, err
	}
	if flaw.Planted(flaw.BodyWhole) {
		value, withheld = d.r.Value, nil
	}
	e, pair := &d.r.Envelope, d.g.env.Keys.For(v.Sub.Subscriber)
	h := headers{list: make([]kgo.RecordHeader, 0, 16), text: make([]byte, 0, 384)}
	if h.text, err = pair.AppendSeal(h.text, e.Subject); err != nil {
		return nil, codecs.Malformed{What: codecs.HeaderSubject, Err: err}
	}
	subject := h.cut(0)
	h.share(codecs.HeaderSpecVersion, d.in[codecs.HeaderSpecVersion])
	h.add(codecs.HeaderID, id)
	h.share(codecs.HeaderSource, d.in[codecs.HeaderSource])
	h.share(codecs.HeaderType, d.in[codecs.HeaderType])
	h.share(codecs.HeaderTime, d.in[codecs.HeaderTime])
	h.share(codecs.HeaderSubject, subject)
	h.share(codecs.HeaderSubjectRole, d.in[codecs.HeaderSubjectRole])
	if i := strings.LastIndexByte(e.DataSchema, '/'); i >= 0 { // the source's, with the id of the projected schema in place of its own
		from := len(h.text)
		h.text = strconv.AppendInt(append(h.text, e.DataSchema[:i+1]...), int64(schema), 10)
		h.share(codecs.HeaderDataSchema, h.cut(from))
	}
	h.share(codecs.HeaderContentType, contentType)
	h.add(codecs.HeaderCorrelation, pair.SealID(d.lifeEvent))
	h.add(codecs.HeaderSubscription, v.Sub.ID)
	h.add(codecs.HeaderPurpose, v.Sub.Purpose)
	h.add(codecs.HeaderLegalBasis, v.Basis)
	h.add(codecs.HeaderReference, v.Reference)
	h.add(codecs.HeaderWithheld, withheld...)
	if e.Redriven {
		h.add(codecs.HeaderRedriven, "true")
	}
	rec := &kgo.Record{Topic: topology.SubscriberTopicName(v.Sub.Subscriber), Key: subject, Value: value, Headers: h.list}
	if v.Sub.Delivery.Kind == "webhook" {
		rec.Topic, rec.Key = topology.WebhookDeliveries.Name, []byte(e.Subject)
	}
	return rec, nil
}

var contentType = []byte(codecs.ContentTypeAvro)

// headers collects a record's headers; what has no value is left out.
type headers struct {
	list []kgo.RecordHeader
	text []byte // behind the values that add was given
}

// cut is what was appended to the buffer since from; when the buffer grows it stays as it is.
func (h *headers) cut(from int) []byte { return h.text[from:len(h.text):len(h.text)] }

// share adds a value without copying it.
func (h *headers) share(name string, value []byte) {
	if len(value) > 0 {
		h.list = append(h.list, kgo.RecordHeader{Key: name, Value: value})
	}
}

// add copies a value; several are joined by commas.
func (h *headers) add(name string, values ...string) {
	from := len(h.text)
	for i, v := range values {
		if i > 0 {
			h.text = append(h.text, ',')
		}
		h.text = append(h.text, v...)
	}
	h.share(name, h.cut(from))
}

// pause asks the subscription group to pause the subscription. The command's id follows from the record, so that the same
// record tried again asks only once.
func (d *delivery) pause(sub *codecs.Subscription, reason string) {
	ctx := d.r.Ctx
	sum := sha256.Sum256([]byte(string(ctx.Topic()) + "/" + strconv.Itoa(int(ctx.Partition())) + "/" + strconv.FormatInt(ctx.Offset(), 10) + "/" + sub.ID))
	cmd := codecs.SubscriptionCommand{Meta: codecs.Meta{ID: hex.EncodeToString(sum[:16]), Actor: "civicbus", IssuedAt: codecs.Millis(d.g.env.Now())},
		Kind: "pause", Subscription: codecs.Subscription{ID: sub.ID}, Reason: reason}
	value, err := d.g.env.Records.SubscriptionCommand.Encode(&cmd)
	if err != nil {
		ctx.Fail(err)
	}
	d.g.env.Emit(ctx, &kgo.Record{Topic: topology.SubscriptionCommands.Name, Key: []byte(sub.ID), Value: value})
}

// recordBytes is about what a record takes in a batch of its own: Kafka's limit counts the batch.
func recordBytes(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value) + 128
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value) + 8
	}
	return n
}
