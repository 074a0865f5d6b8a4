// Package router is the goka group that decides: each event record is joined with its subject's consents and decided for
// every subscription that matches; what is permitted goes, cut to the permitted fields, to each subscriber's own topic, and
// every verdict into one decision.
//
// The rules are internal/verdict's; this package turns a Kafka record into its event and its verdicts into Kafka records.
package router

import (
	"errors"
	"strings"
	"sync"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/internal/verdict"
	"civicbus/processors/event"
	"civicbus/topology"

	"github.com/lovoo/goka"
)

const kind = "router"

// Env is what the router needs beside event.Env. Everything in it is safe for concurrent use.
type Env struct {
	event.Env
	// Consents reads the joined rows, which the engine keeps as it packs them; whole rows are read too. nil: one of its own.
	Consents *verdict.PackedConsents
	// Inputs appends the records that goka calls a callback for; nil: the one that its context tells of.
	Inputs func(in []event.Input, ctx goka.Context, msg any) []event.Input
	// Joined is the row of a joined table for a key of the partition that the callback was called for; an error says that it is
	// not known (any more). nil: goka's Join, whatever the key.
	Joined func(ctx goka.Context, table, key string) ([]byte, error)
	// Deliver is Emit for deliveries, whose headers are encoded; nil: Emit.
	Deliver func(ctx goka.Context, o *kafka.Output)
	// Projection is the projected schema for a target and the id under which it is registered; nil when it is not. Never
	// the network.
	Projection func(t verdict.Target) (p *codecs.Projection, id int32)
	// Refused says why a delivery of this many bytes cannot be written to a topic, as far as is known: one of the
	// undeliverable reasons, or empty.
	Refused func(topic string, bytes int) string
	// DataRef appends the address of a thin delivery's data; nil: thin deliveries have none.
	DataRef func(dst []byte, subscription string, to *pseudonym.Reference) []byte
}

// Reasons of a verdict that was a permit and could not be written; also causes of dead letters. Closed list.
const (
	UndeliverableTopic  = "undeliverable_topic"  // the subscriber's topic does not exist
	UndeliverableSize   = "undeliverable_size"   // larger than the topic takes
	UndeliverableAccess = "undeliverable_access" // Kafka does not let civicbus write there
	UndeliverableSchema = "undeliverable_schema" // its projected schema is not registered (yet)
)

// Group handles the inputs of the group. Its callbacks are safe for concurrent use.
type Group struct {
	env   Env
	works sync.Pool // of *work
}

// New makes the group's callbacks.
func New(env Env) *Group {
	if env.Consents == nil {
		env.Consents = verdict.NewPackedConsents(env.Records.Consents)
	}
	if env.Inputs == nil {
		env.Inputs = func(in []event.Input, ctx goka.Context, msg any) []event.Input {
			return append(in, event.InputOf(ctx, msg))
		}
	}
	if env.Joined == nil {
		env.Joined = func(ctx goka.Context, table, _ string) ([]byte, error) {
			row, _ := ctx.Join(goka.Table(table)).([]byte)
			return row, nil
		}
	}
	if env.Deliver == nil {
		env.Deliver = func(ctx goka.Context, o *kafka.Output) { env.Emit(ctx, o.Record()) }
	}
	g := &Group{env: env}
	g.works.New = func() any { return newWork(g) }
	return g
}

// Callbacks names a callback for each input of the group on the map.
func (g *Group) Callbacks() topology.Callbacks {
	all := topology.Callbacks{}
	for _, s := range topology.EventStreams {
		all[s.Name] = g.run
	}
	return all
}

var errOver = errors.New("the session is over")

// run decides the records of one message, in order.
func (g *Group) run(ctx goka.Context, msg any) {
	w := g.works.Get().(*work)
	defer g.works.Put(w)
	if w.inputs = g.env.Inputs(w.inputs[:0], ctx, msg); len(w.inputs) == 0 {
		ctx.DeferCommit()(errOver)
		return
	}
	for i := range w.inputs {
		if !w.event(ctx, w.inputs[i]) {
			return
		}
	}
}

// work is what deciding one record takes, kept for the next one: an event costs no allocation.
type work struct {
	g        *Group
	inputs   []event.Input
	record   event.Record
	seen     verdict.Event // the record, as internal/verdict sees it
	cause    string        // the life event that caused it; its own where nothing did
	stamp    codecs.Attributes
	consents codecs.Consents
	verdicts []verdict.Verdict
	items    []codecs.VerdictItem
	attempts []attempt
	text     []byte // values, keys and headers of all deliveries, and ids
	attr     func(name string) (string, bool)

	cut    verdict.Cutting
	snap   *verdict.Snapshot
	routes map[routeKey]*route // under snap
}

// routeKey names what deliveries of one type and writer schema to one subscription have in common, and route is that.
type routeKey struct {
	sub    *codecs.Subscription
	kind   *codecs.EventType
	writer *codecs.Schema
}

type route struct {
	projection *codecs.Projection
	schema     int32 // id of the projected schema
	topic      string
	pair       *pseudonym.Pairwise
	digest     pseudonym.SubscriptionDigest

	deliverable []string // of the writer schema, once a thin delivery needs it

	source, role, dataSchema string // of the events that headers are for
	headers                  []byte // those that do not change from event to event, encoded
	count                    int    // of them
}

func newWork(g *Group) *work {
	w := &work{g: g, routes: map[routeKey]*route{}}
	w.attr = w.attribute
	return w
}

// event decides one event record; false when nothing may be concluded any more, because the session is being stopped.
func (w *work) event(ctx goka.Context, in event.Input) bool {
	env, r := &w.g.env, &w.record
	if outcome, detail := r.Read(&env.Env, ctx, kind, in); outcome != event.Decided {
		r.Bury(outcome, detail, "")
		r.Decide(r.Decision(outcome))
		return true
	}
	row, err := env.Joined(ctx, consentTable, in.Key)
	if err != nil {
		ctx.DeferCommit()(err)
		return false
	}
	if event.Stopped(ctx) {
		return false
	}
	consents := w.unpacked(row)
	d := r.Decision(event.Decided)
	w.see(d.LifeEventID)
	snap, now := env.Snapshot(), env.Now()
	if snap != w.snap {
		w.snap = snap
		clear(w.routes)
	}
	w.verdicts = w.verdicts[:0]
	if r.Envelope.Only == "" {
		w.verdicts = snap.Decide(w.verdicts, &w.seen, consents, now)
	} else if v, ok := snap.DecideOne(&w.seen, r.Envelope.Only, consents, now); ok {
		w.verdicts = append(w.verdicts, v)
	}
	d.DecidedAt = codecs.Millis(now)
	if consents != nil {
		d.ConsentVersion = consents.Version
	}
	d.Subjects = int32(r.Envelope.Subjects)
	if w.seen.FollowUp {
		d.Correlation = w.cause
	}
	if err = w.seen.Malformed; err == nil {
		d.Verdicts, err = w.carryOut(d.LifeEventID)
	}
	if err != nil {
		d.Outcome = event.Malformed
		r.Bury(event.Malformed, err.Error(), "")
	}
	r.Decide(d)
	return true
}

// unpacked is the subject's consents; a row that cannot be read denies everything. It holds for this record, but for its
// texts, which stay.
func (w *work) unpacked(row []byte) *codecs.Consents {
	if row == nil {
		return nil
	}
	return w.g.env.Consents.Unpack(row, &w.consents)
}

var consentTable = topology.TableTopic(topology.Consent.Name)

// see makes of the record what internal/verdict sees of it.
func (w *work) see(lifeEvent string) {
	e := &w.record.Envelope
	w.cause = e.Cause(lifeEvent)
	w.seen = verdict.Event{Type: e.Type, Role: e.Role, Source: e.Source, Subject: e.Subject, Recipient: e.Recipient, Publisher: e.Organisation, FollowUp: w.cause != lifeEvent, Index: e.Index,
		Authorized: e.Authorized, HasList: e.HasList, Schema: w.record.Schema, Body: w.record.Body, Attr: w.attr}
	if e.Profile != nil {
		var err error
		if w.stamp, err = w.g.env.Records.Attributes.Decode(e.Profile); err == nil {
			w.seen.Stamp = &w.stamp
		} // an unreadable stamp is no stamp: a filter over it is unknown, and nothing of it is delivered
	}
}

// attribute is verdict.Event.Attr.
func (w *work) attribute(name string) (value string, ok bool) {
	for _, h := range w.record.Headers {
		if rest, is := strings.CutPrefix(h.Key, "ce_"); is && rest == name {
			value, ok = string(h.Value), true
		}
	}
	return value, ok
}
