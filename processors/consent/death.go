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
	headerType     = "ce_type"
	headerRole     = "ce_subjectrole"
	headerRedriven = "ce_redriven"
)

// busActor is who ends grants when someone dies.
const busActor = "civicbus"

// Death is the goka callback for the stream of deaths. An event whose type ends consents, by the catalog, ends those of the
// subject in the type's first role; the others that it is about (a widow) keep theirs. What the catalog does not know is
// left to the router, which makes it a dead letter; redriven, it comes here again.
//
// The event's id in the row is its place on the stream, so that the same record handled again changes nothing.
func (g *Group) Death(ctx goka.Context, _ any) {
	if !g.Key(ctx.Key()) {
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
	redriven := len(headers[headerRedriven]) > 0
	g.Settle(ctx, order, func(row *codecs.Consents, now time.Time) (*codecs.Consents, codecs.CommandResult) {
		return EndByDeath(row, order, redriven, now)
	})
}

// EndByDeath ends the grants that the row holds: EndedAt becomes now, and what was given until then no longer holds. Their
// state stays as the subject left it: a death is no withdrawal, and the record of consent must not say so. It moves EndedAt
// of an earlier death on, but not for a redriven event, which tells of the past. Objections and restrictions stay.
func EndByDeath(row *codecs.Consents, order command.Order, redriven bool, now time.Time) (next *codecs.Consents, result codecs.CommandResult) {
	return command.Decide(row, ledger, order, now, func(row *codecs.Consents) (*codecs.Consents, command.Refusal) {
		if row != nil && (row.Restriction == Erasure || redriven && row.EndedAt != 0) {
			return nil, command.Refusal{}
		}
		c := begin(row, order.Meta.Actor, now)
		c.next.EndedAt = max(c.at, c.lastAnswer())
		return c.changed()
	})
}
