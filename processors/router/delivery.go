package router

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/processors/event"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// delivery carries out the verdicts of one event record.
type delivery struct {
	g         *Group
	r         *event.Record
	ev        *verdict.Event
	snap      *verdict.Snapshot
	lifeEvent string
}

// carryOut writes the delivery of a permit, and returns the verdict as it goes on record. A delivery that cannot be written
// becomes a denial with its reason and a dead letter that can be redriven, and pauses its subscription: it must not abort
// the transaction of everyone else, again and again.
func (d *delivery) carryOut(v *verdict.Verdict) codecs.VerdictItem {
	item := codecs.VerdictItem{Subscription: v.Sub.ID, SubscriptionVersion: v.Sub.Version, Subscriber: v.Sub.Subscriber, TrustVersion: v.TrustVersion,
		Permit: v.Permit, Reason: v.Reason, Basis: v.Basis, Purpose: v.Sub.Purpose, Reference: v.Reference, ReferenceVersion: v.ReferenceVersion}
	if !v.Permit {
		return item
	}
	e := &d.r.Envelope
	item.DeliveryID = d.g.env.Keys.Delivery(e.Source, e.ID, e.Subject, v.Sub.ID)
	item.FieldSet = v.FieldSet
	rec, reason, detail := d.record(v, item.DeliveryID)
	if reason == "" {
		reason = d.g.env.Refused(rec.Topic, recordBytes(rec))
	}
	if reason == "" {
		d.g.env.Emit(d.r.Ctx, rec)
		return item
	}
	item.Permit, item.Reason, item.DeliveryID, item.FieldSet = false, reason, "", 0
	d.r.Bury(reason, detail, v.Sub.ID)
	if reason != UndeliverableSchema {
		d.pause(v.Sub, reason)
	}
	return item
}

// record is the delivery: CloudEvents in binary mode, the body under the subscriber's projected schema.
func (d *delivery) record(v *verdict.Verdict, id string) (rec *kgo.Record, reason, detail string) {
	e := &d.r.Envelope
	target, ok := d.snap.Target(v.Sub.Subscriber, e.Type, d.r.Schema)
	if !ok {
		return nil, UndeliverableSchema, "there is no projected schema for the subscription"
	}
	p, schema := d.g.env.Projection(target)
	if p == nil {
		return nil, UndeliverableSchema, "the projected schema is not registered"
	}
	value := codecs.AppendWire(make([]byte, 0, len(d.r.Body)+64), schema)
	value, withheld, err := d.snap.Project(value, d.ev, v, p)
	if err != nil {
		return nil, event.Malformed, err.Error()
	}
	pair := d.g.env.Keys.For(v.Sub.Subscriber)
	subject, err := pair.Seal(e.Subject)
	if err != nil {
		return nil, event.Malformed, "the subject is no pseudonym"
	}
	h := make([]kgo.RecordHeader, 0, 16)
	add := func(name, value string) {
		if value != "" {
			h = append(h, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
	}
	add(codecs.HeaderSpecVersion, "1.0")
	add(codecs.HeaderID, id)
	add(codecs.HeaderSource, e.Source)
	add(codecs.HeaderType, e.Type)
	add(codecs.HeaderTime, e.Time)
	add(codecs.HeaderSubject, subject)
	add(codecs.HeaderSubjectRole, e.Role)
	add(codecs.HeaderDataSchema, schemaURL(e.DataSchema, schema))
	add(codecs.HeaderContentType, codecs.ContentTypeAvro)
	add(codecs.HeaderCorrelation, pair.SealID(d.lifeEvent))
	add(codecs.HeaderSubscription, v.Sub.ID)
	add(codecs.HeaderPurpose, v.Sub.Purpose)
	add(codecs.HeaderLegalBasis, v.Basis)
	add(codecs.HeaderReference, v.Reference)
	add(codecs.HeaderWithheld, strings.Join(withheld, ","))
	if e.Redriven {
		add(codecs.HeaderRedriven, "true")
	}
	rec = &kgo.Record{Topic: topology.SubscriberTopicName(v.Sub.Subscriber), Key: []byte(subject), Value: value, Headers: h}
	if v.Sub.Delivery.Kind == "webhook" {
		rec.Topic, rec.Key = topology.WebhookDeliveries.Name, []byte(e.Subject)
	}
	return rec, "", ""
}

// schemaURL is the source's ce_dataschema with the id of the projected schema in place of its own.
func schemaURL(source string, id int32) string {
	if i := strings.LastIndexByte(source, '/'); i >= 0 {
		return source[:i+1] + strconv.Itoa(int(id))
	}
	return ""
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
