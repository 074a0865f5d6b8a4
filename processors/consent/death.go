package consent

import (
	"time"

	"github.com/lovoo/goka"

	"civicbus/codecs"
	"civicbus/processors/command"
	"civicbus/topology"
)

// Headers of an event record that a death is told by; its body is not read.
const (
	headerType = codecs.HeaderType
	headerRole = codecs.HeaderSubjectRole
	headerOnly = codecs.HeaderOnly
)

// busActor is who ends grants when someone dies.
const busActor = "civicbus"

// Death is the goka callback for the stream of deaths. An event whose type ends consents, by the catalog, ends those of the
// subject in the type's first role; the others that it is about (a widow) keep theirs. What the catalog does not know is
// left to the router, which makes it a dead letter; redriven, it comes here again. What is redriven for one subscription alone was
// understood here the first time, and must not end again what a revive has corrected since.
//
// The event's id in the row is its place on the stream, so that the same record handled again changes nothing.
func (g *Group) Death(ctx goka.Context, _ any) {
	if !g.Key(ctx.Key()) || g.Env.Misplaced(ctx) || len(ctx.Headers()[headerOnly]) > 0 {
		return // the router reads the same record, and makes it a dead letter
	}
	headers := ctx.Headers()
	et := g.Env.Snapshot().EventType(string(headers[headerType]))
	if command.Stopping(ctx) {
		return
	}
	if et == nil || !et.EndsConsents || len(et.Roles) == 0 || et.Roles[0].Name != string(headers[headerRole]) {
		return
	}
	order := command.Order{
		Meta:   codecs.Meta{ID: command.Position(string(ctx.Topic()), ctx.Partition(), ctx.Offset()), Actor: busActor},
		Stream: topology.Death.Name,
		Kind:   Death,
	}
	g.Settle(ctx, order, func(row *codecs.Consents, now time.Time) (*codecs.Consents, codecs.CommandResult) {
		return EndByDeath(row, order, now)
	})
}

// EndByDeath ends the grants that the row holds: EndedAt becomes now, and while it is set no grant holds and none is
// accepted. Their state stays as the subject left it: a death is no withdrawal, the record of consent must not say so, and a
// death that turns out to be a mistake can be taken back (revive). A second death changes nothing. Objections and
// restrictions stay.
func EndByDeath(row *codecs.Consents, order command.Order, now time.Time) (next *codecs.Consents, result codecs.CommandResult) {
	return command.Decide(row, ledger, order, now, func(row *codecs.Consents) (*codecs.Consents, command.Refusal) {
		if row != nil && (row.Restriction == Erasure || row.EndedAt != 0) {
			return nil, command.Refusal{}
		}
		c := begin(row, order.Meta.Actor, now)
		c.next.EndedAt = max(c.at, c.lastAnswer())
		return c.changed()
	})
}
