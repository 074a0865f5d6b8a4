// Package router is the goka group that decides: each event record is joined with its subject's consents and decided for
// every subscription that matches; what is permitted goes, cut to the permitted fields, to each subscriber's own topic, and
// every verdict into one decision.
//
// The rules are internal/verdict's; this package turns a Kafka record into its event and its verdicts into Kafka records.
package router

import (
	"sync"

	"civicbus/codecs"
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
	// Projection is the projected schema for a target and the id under which it is registered; nil when it is not. Never
	// the network.
	Projection func(t verdict.Target) (p *codecs.Projection, id int32)
	// Refused says why a delivery of this many bytes cannot be written to a topic, as far as is known: one of the
	// undeliverable reasons, or empty.
	Refused func(topic string, bytes int) string
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
	spare sync.Pool // of *codecs.Consents, for one callback each
}

// New makes the group's callbacks.
func New(env Env) *Group {
	if env.Consents == nil {
		env.Consents = verdict.NewPackedConsents(env.Records.Consents)
	}
	return &Group{env: env, spare: sync.Pool{New: func() any { return new(codecs.Consents) }}}
}

// Callbacks names a callback for each input of the group on the map.
func (g *Group) Callbacks() topology.Callbacks {
	all := topology.Callbacks{}
	for _, s := range topology.EventStreams {
		all[s.Name] = g.event
	}
	return all
}

// event decides one event record.
func (g *Group) event(ctx goka.Context, msg any) {
	r, outcome, detail := event.Read(&g.env.Env, ctx, kind, msg)
	if outcome != event.Decided {
		r.Bury(outcome, detail, "")
		r.Decide(r.Decision(outcome))
		return
	}
	spare := g.spare.Get().(*codecs.Consents)
	defer g.spare.Put(spare)
	consents := g.consents(ctx, spare)
	if event.Stopped(ctx) {
		return
	}
	ev := g.verdictEvent(r)
	snap := g.env.Snapshot()
	now := g.env.Now()
	verdicts := make([]verdict.Verdict, 0, 8)
	if r.Envelope.Only == "" {
		verdicts = snap.Decide(verdicts, ev, consents, now)
	} else if v, ok := snap.DecideOne(ev, r.Envelope.Only, consents, now); ok {
		verdicts = append(verdicts, v)
	}
	d := r.Decision(event.Decided)
	d.DecidedAt = codecs.Millis(now)
	if consents != nil {
		d.ConsentVersion = consents.Version
	}
	err := ev.Malformed
	if err == nil {
		out := delivery{g: g, r: r, ev: ev, snap: snap, lifeEvent: d.LifeEventID, in: ctx.Headers()}
		d.Verdicts, err = out.carryOut(verdicts)
	}
	if err != nil {
		d.Outcome = event.Malformed
		r.Bury(event.Malformed, err.Error(), "")
	}
	r.Decide(d)
}

// consents joins the subject's row and reads it into spare; one that cannot be read denies everything. What it answers holds
// until the callback ends, but for its texts, which stay.
func (g *Group) consents(ctx goka.Context, spare *codecs.Consents) *codecs.Consents {
	b, _ := ctx.Join(goka.Table(topology.TableTopic(topology.Consent.Name))).([]byte)
	if b == nil {
		return nil
	}
	return g.env.Consents.Unpack(b, spare)
}

// verdictEvent is the record as internal/verdict sees it.
func (g *Group) verdictEvent(r *event.Record) *verdict.Event {
	e := &r.Envelope
	headers := r.Ctx.Headers()
	ev := &verdict.Event{Type: e.Type, Role: e.Role, Source: e.Source, Subject: e.Subject, Recipient: e.Recipient, Index: e.Index,
		Authorized: e.Authorized, HasList: e.HasList, Schema: r.Schema, Body: r.Body,
		Attr: func(name string) (string, bool) {
			v, ok := headers["ce_"+name]
			return string(v), ok
		}}
	if e.Profile != nil {
		if stamp, err := g.env.Records.Attributes.Decode(e.Profile); err == nil {
			ev.Stamp = &stamp
		} // an unreadable stamp is no stamp: a filter over it is unknown, and nothing of it is delivered
	}
	return ev
}
