// Package eventtest is the world in which the groups that handle event records are tested: one event type with every kind of
// role, organisations that may receive it, keys, a registry in memory, and what a group emitted.
package eventtest

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/internal/verdict"
	"civicbus/processors/event"
	"civicbus/topology"
)

// Start is the time at which a world's clock stands until it is moved.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Names of a world: its event types, their source, and two subscribers.
const (
	Birth  = "fi.test.birth"
	Order  = "fi.test.order" // of category command
	Source = "https://dvv.fi"
	Kela   = "kela.fi"
	Vero   = "vero.fi"
)

// Hetu is the national id in the data of every event.
const Hetu = "010594Y9032"

// birthSchema has a field for each way in which an event tells of a subject: at the top, in a nullable record, in an array.
const birthSchema = `{"type":"record","name":"Birth","namespace":"fi.test","fields":[
 {"name":"place","type":"string","civicbus.scopes":["place"]},
 {"name":"zip","type":["null","string"],"default":null,"civicbus.scopes":["place"]},
 {"name":"child","civicbus.owner":"child","type":{"type":"record","name":"Child","fields":[
   {"name":"id","type":"string"},
   {"name":"name","type":"string","civicbus.scopes":["name"]},
   {"name":"weight","type":"int","civicbus.scopes":["health"]}]}},
 {"name":"mother","civicbus.owner":"mother","type":["null",{"type":"record","name":"Mother","fields":[
   {"name":"id","type":"string"},
   {"name":"name","type":"string","civicbus.scopes":["name"]},
   {"name":"tongue","type":"string","civicbus.scopes":["name"]}]}]},
 {"name":"siblings","civicbus.owner":"sibling","type":{"type":"array","items":{"type":"record","name":"Sibling","fields":[
   {"name":"id","type":"string"},
   {"name":"town","type":"string","civicbus.scopes":["place"]}]}}}]}`

// World is what a group runs in. It is not safe for concurrent use; change what is in it, then call Changed.
type World struct {
	T          testing.TB
	Registry   *codecs.Registry
	Records    *codecs.Records
	Keys       *pseudonym.Keys
	Now        time.Time
	Partitions int32
	Schema     *codecs.Schema // of every type
	Types      map[string]*codecs.EventType
	Orgs       map[string]*codecs.Organisation
	Subs       map[string]*codecs.Subscription
	Snapshot   *verdict.Snapshot

	Out      []*kgo.Record // emitted, in order
	Outcomes []string      // counted
}

// New makes a world in which one subscription, Kela's sub-law, is permitted by a legal obligation.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{T: t, Registry: codecs.NewLocalRegistry(), Records: codecs.NewRecords(), Now: Start, Partitions: 1}
	var err error
	if err = w.Records.Bind(context.Background(), w.Registry); err == nil {
		w.Schema, err = w.Registry.Register(context.Background(), "birth-value", birthSchema)
	}
	if err == nil {
		w.Keys, err = pseudonym.NewKeys(bytes.Repeat([]byte{7}, 32))
	}
	if err != nil {
		t.Fatal(err)
	}
	roles := []codecs.Role{{Name: "child", Path: "data.child.id", Scheme: "fi-hetu"},
		{Name: "mother", Path: "data.mother.id", Scheme: "fi-hetu", Optional: true},
		{Name: "sibling", Path: "data.siblings[].id", Scheme: "fi-hetu", Many: true}}
	w.Types = map[string]*codecs.EventType{
		Birth: {Type: Birth, Version: 7, Stream: "life.birth", RegistrySubject: "birth-value", Category: "domain", Roles: roles,
			Profile: []codecs.Stamp{{Role: "child", Attribute: "municipality", Path: "data.place"}, {Role: "child", Attribute: "postal_code", Path: "data.zip"},
				{Role: "child", Attribute: "industry", Path: "data.gone"}, {Role: "mother", Attribute: "language", Path: "data.mother.tongue"},
				{Role: "sibling", Attribute: "municipality", Path: "data.siblings[].town"}},
			Rules: []codecs.Rule{w.rule("law-1", Kela)}},
		Order: {Type: Order, Version: 8, Stream: "commands", RegistrySubject: "birth-value", Category: "command", Roles: roles,
			Rules: []codecs.Rule{w.rule("law-2", Kela), w.rule("law-3", Vero)}},
	}
	w.Orgs = map[string]*codecs.Organisation{}
	for _, id := range []string{Kela, Vero} {
		w.Orgs[id] = Organisation(id)
	}
	w.Subs = map[string]*codecs.Subscription{"sub-law": Subscription("sub-law", Kela, verdict.BasisLegalObligation)}
	w.Changed()
	return w
}

// Organisation may receive every type of a world, for the purpose benefit, on every basis that worlds use.
func Organisation(id string) *codecs.Organisation {
	o := &codecs.Organisation{ID: id, Version: 3, Status: "active"}
	for _, eventType := range []string{Birth, Order} {
		o.Receives = append(o.Receives, codecs.Entitlement{EventType: eventType, Purposes: []string{"benefit"},
			Bases: []string{verdict.BasisConsent, verdict.BasisLegalObligation}})
	}
	return o
}

// Subscription is an active one to every type of a world, for the purpose benefit.
func Subscription(id, subscriber, basis string) *codecs.Subscription {
	return &codecs.Subscription{ID: id, Version: 2, Subscriber: subscriber, EventTypes: []string{Birth, Order}, Purpose: "benefit", Basis: basis,
		Status: verdict.StatusActive, Delivery: codecs.Delivery{Kind: "kafka"}}
}

// Grant is one that holds, given for the purpose benefit.
func Grant(id, recipient string, scopes ...string) codecs.Grant {
	return codecs.Grant{ID: id, Version: 5, State: verdict.GrantGiven, Recipient: recipient, Purpose: "benefit", Scopes: scopes, GivenAt: Start.UnixMilli() - 1000}
}

func (w *World) rule(id, recipient string) codecs.Rule {
	return codecs.Rule{ID: id, Recipient: recipient, Purpose: "benefit", Basis: verdict.BasisLegalObligation, Fields: []string{"data.child", "profile.municipality"},
		ValidFrom: Start.UnixMilli() - 1000, Citation: "Act 1"}
}

// Changed compiles the rows as they are now.
func (w *World) Changed() {
	w.Snapshot = verdict.NewSnapshot().With(verdict.Changes{EventTypes: w.Types, Organisations: w.Orgs, Subscriptions: w.Subs})
}

// Env is the world as a group sees it.
func (w *World) Env() event.Env {
	return event.Env{Records: w.Records, Keys: w.Keys, Now: func() time.Time { return w.Now }, Partitions: w.Partitions,
		Snapshot: func() *verdict.Snapshot { return w.Snapshot }, Schema: w.Registry.Cached,
		Emit: func(_ goka.Context, r *kgo.Record) { w.Out = append(w.Out, kept(r)) },
		Seen: func(kind, outcome string) { w.Outcomes = append(w.Outcomes, kind+" "+outcome) }}
}

// kept is the record as it is now: the group may use its memory again, as it may with the engine.
func kept(r *kgo.Record) *kgo.Record {
	c := &kgo.Record{Topic: r.Topic, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)}
	for _, h := range r.Headers {
		c.Headers = append(c.Headers, kgo.RecordHeader{Key: h.Key, Value: bytes.Clone(h.Value)})
	}
	return c
}

// Data is that of one birth in goavro's native form; change it before it is encoded.
func Data() map[string]any {
	return map[string]any{
		"place": "Espoo", "zip": map[string]any{"string": "02100"},
		"child":    map[string]any{"id": Hetu, "name": "Aino", "weight": 3500},
		"mother":   map[string]any{"fi.test.Mother": map[string]any{"id": "020594X903P", "name": "Liisa", "tongue": "fi"}},
		"siblings": []any{map[string]any{"id": "030594W903B", "town": "Turku"}, map[string]any{"id": "040594V9030", "town": "Oulu"}},
	}
}

// Value is the data in wire format.
func (w *World) Value(data map[string]any) []byte {
	w.T.Helper()
	codec, err := w.Schema.Goavro()
	if err != nil {
		w.T.Fatal(err)
	}
	value, err := codec.BinaryFromNative(codecs.AppendWire(nil, w.Schema.ID()), data)
	if err != nil {
		w.T.Fatal(err)
	}
	return value
}

// Subject is some person's bus pseudonym.
func (w *World) Subject(who string) string { return w.Keys.Subject("some", who) }

// SubjectOn is a person's whose key belongs to a partition of so many.
func (w *World) SubjectOn(partition, partitions int32) string {
	for i := 0; ; i++ {
		if s := w.Subject(fmt.Sprint("person ", i)); kafka.Partition([]byte(s), partitions) == partition {
			return s
		}
	}
}

// Headers are those of an admitted event about a subject in a role.
func (w *World) Headers(eventType, id, subject, role string) goka.Headers {
	return goka.Headers{
		codecs.HeaderSpecVersion: []byte("1.0"), codecs.HeaderID: []byte(id), codecs.HeaderSource: []byte(Source), codecs.HeaderType: []byte(eventType),
		codecs.HeaderTime: []byte("2026-02-28T08:00:00Z"), codecs.HeaderSubject: []byte(subject), codecs.HeaderSubjectRole: []byte(role),
		codecs.HeaderDataSchema:  fmt.Appendf(nil, "http://registry:8081/schemas/ids/%d", w.Schema.ID()),
		codecs.HeaderContentType: []byte(codecs.ContentTypeAvro), codecs.HeaderCorrelation: []byte(w.Keys.LifeEvent(Source, id)),
		codecs.HeaderRecordedTime: []byte("2026-03-01T12:00:00Z"), codecs.HeaderOrganisation: []byte("dvv.fi"), "ce_traceparent": []byte("00-1-2-03"),
	}
}

// Take gives what was emitted to a topic and forgets it.
func (w *World) Take(topic string) []*kgo.Record {
	var taken, left []*kgo.Record
	for _, r := range w.Out {
		if r.Topic == topic {
			taken = append(taken, r)
		} else {
			left = append(left, r)
		}
	}
	w.Out = left
	return taken
}

// One is the only record emitted to a topic; the test ends when there are none or several.
func (w *World) One(topic string) *kgo.Record {
	w.T.Helper()
	taken := w.Take(topic)
	if len(taken) != 1 {
		w.T.Fatalf("%d records on %s, want one", len(taken), topic)
	}
	return taken[0]
}

// Decision is the only one emitted, and its key.
func (w *World) Decision() (codecs.Decision, string) {
	w.T.Helper()
	r := w.One(topology.Decisions.Name)
	return decode(w, w.Records.Decision, r.Value), string(r.Key)
}

// Letter is the only dead letter emitted, and its key.
func (w *World) Letter() (codecs.DeadLetter, string) {
	w.T.Helper()
	r := w.One(topology.DeadLetters.Name)
	return decode(w, w.Records.DeadLetter, r.Value), string(r.Key)
}

// Quiet fails the test if anything was emitted that was not taken.
func (w *World) Quiet() {
	w.T.Helper()
	for _, r := range w.Out {
		w.T.Errorf("a record too many on %s", r.Topic)
	}
	w.Out = nil
}

func decode[T any](w *World, record *codecs.Record[T], value []byte) T {
	w.T.Helper()
	v, err := record.Decode(value)
	if err != nil {
		w.T.Fatal(err)
	}
	return v
}

// HeadersOf are a record's headers by name; the test fails where one stands twice.
func HeadersOf(t testing.TB, r *kgo.Record) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, h := range r.Headers {
		if _, twice := all[h.Key]; twice {
			t.Errorf("header %s stands twice", h.Key)
		}
		all[h.Key] = string(h.Value)
	}
	return all
}
