package replay

import (
	"fmt"
	"strconv"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
	"civicbus/internal/verdict"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// delivery is the record of a permit: the router's, with the mark. A test holds one against the other. The error is a
// codecs.Malformed body.
func (a *again) delivery(snap *verdict.Snapshot, e *event, d *deliver) (*kgo.Record, error) {
	ev := verdict.Event{Body: e.body, Index: e.env.Index, Stamp: e.stamp}
	v := d.permit
	if thin(d.sub) {
		bare := v.Bare()
		v = &bare
	}
	value, withheld, err := snap.Project(codecs.AppendWire(nil, d.to.id), &ev, v, d.to.projection)
	if err != nil {
		return nil, err
	}
	if thin(d.sub) { // that nothing is there is no verdict on the fields
		withheld = nil
	}
	pair := a.cfg.Keys.For(d.sub.Subscriber)
	subject, err := pair.Seal(e.env.Subject)
	if err != nil {
		return nil, codecs.Malformed{What: codecs.HeaderSubject, Err: err}
	}
	r := &kgo.Record{Topic: topology.SubscriberTopicName(d.sub.Subscriber), Key: []byte(subject), Value: value}
	if d.sub.Delivery.Kind == "webhook" {
		r.Topic, r.Key = topology.WebhookDeliveries.Name, []byte(e.env.Subject)
	}
	add := func(name, value string) {
		if value != "" {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
	}
	add(codecs.HeaderSpecVersion, "1.0")
	add(codecs.HeaderSource, e.env.Source)
	add(codecs.HeaderType, e.env.Type)
	add(codecs.HeaderSubjectRole, e.env.Role)
	if i := strings.LastIndexByte(e.env.DataSchema, '/'); i >= 0 { // the source's, with the id of the projected schema in place of its own
		add(codecs.HeaderDataSchema, e.env.DataSchema[:i+1]+strconv.Itoa(int(d.to.id)))
	}
	add(codecs.HeaderContentType, codecs.ContentTypeAvro)
	add(codecs.HeaderSubscription, d.sub.ID)
	add(codecs.HeaderPurpose, d.sub.Purpose)
	add(codecs.HeaderLegalBasis, d.sub.Basis)
	add(codecs.HeaderID, d.item.DeliveryID)
	add(codecs.HeaderTime, e.env.Time)
	add(codecs.HeaderSubject, subject)
	own := e.decision.LifeEventID
	cause := e.env.Cause(own)
	add(codecs.HeaderCorrelation, pair.SealID(cause))
	if cause != own {
		add(codecs.HeaderLifeEvent, pair.SealID(own))
	}
	add(codecs.HeaderReference, v.Reference)
	add(codecs.HeaderWithheld, strings.Join(withheld, ","))
	if e.env.Redriven {
		add(codecs.HeaderRedriven, "true")
	}
	if d.sub.Delivery.Thin && a.cfg.DataRef != nil {
		add(codecs.HeaderDataRef, string(a.cfg.DataRef(nil, d.sub.ID, &pseudonym.Reference{Stream: e.event.Topic, Partition: e.event.Partition, Offset: e.event.Offset,
			Held: verdict.AppendHeld(nil, verdict.Deliverable(e.schema), d.permit.Fields)})))
	}
	add(codecs.HeaderReplayed, "true")
	if d.sub.Delivery.Kind == "webhook" { // for its sender, who does not let it leave
		add(codecs.HeaderTrace, e.env.Trace)
	}
	return r, nil
}

// onRecord is the record of a decision.
func (a *again) onRecord(key string, d *codecs.Decision) (*kgo.Record, error) {
	value, err := a.cfg.Records.Decision.Encode(d)
	if err != nil {
		return nil, fmt.Errorf("write a decision: %w", err)
	}
	return &kgo.Record{Topic: decisions, Key: []byte(key), Value: value}, nil
}
