// Package profile is the goka group between admission and the event streams: it drops repeats, keeps per subject what
// events tell of it, and publishes each event stamped with that state as of this event.
//
// The stamp travels with the event, so that whoever decides it later, after a replay too, filters and enriches on what was
// known then, and no decision has to wait for another table.
package profile

import (
	"strconv"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/processors/event"
	"civicbus/topology"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
)

const kind = "profile"

// Group handles the inputs of the group. Its callbacks are safe for concurrent use.
type Group struct {
	env   event.Env
	stamp stamper
}

// New makes the group's callbacks.
func New(env event.Env) *Group { return &Group{env: env} }

// Callbacks names a callback for each input of the group on the map.
func (g *Group) Callbacks() topology.Callbacks {
	return topology.Callbacks{topology.Admitted.Name: g.admitted, topology.ConsentCommands.Name: g.command}
}

// admitted handles one admitted event of one subject.
func (g *Group) admitted(ctx goka.Context, msg any) {
	r := new(event.Record)
	outcome, detail := r.Read(&g.env, ctx, kind, event.InputOf(ctx, msg))
	if outcome != event.Decided {
		r.Bury(outcome, detail, "")
		r.Decide(r.Decision(outcome))
		return
	}
	row, ok := g.row(ctx)
	if event.Stopped(ctx) {
		return
	}
	if !ok {
		r.Bury(event.RowUnreadable, "the subject's profile row cannot be decoded", "")
		r.Decide(r.Decision(event.RowUnreadable))
		return
	}
	now := codecs.Millis(g.env.Now())
	hash := Hash(&r.Envelope)
	if !r.Envelope.Redriven && Repeated(&row, hash, now) && !flaw.Planted(flaw.RepeatPassed) {
		if !flaw.Planted(flaw.RepeatUnrecorded) {
			r.Decide(r.Decision(event.Repeat))
		}
		return
	}
	told, err := g.stamp.told(r)
	if err != nil {
		r.Bury(event.Malformed, err.Error(), "")
		r.Decide(r.Decision(event.Malformed))
		return
	}
	next := Fold(row, told, hash, now)
	if flaw.Planted(flaw.RowTwice) {
		next = Fold(next, told, hash, now)
	}
	value, err := g.env.Records.Profile.Encode(&next)
	if err != nil {
		ctx.Fail(err)
	}
	ctx.SetValue(value)
	g.publish(r, &next)
}

// row is the subject's row; ok is false if there is one that cannot be decoded.
func (g *Group) row(ctx goka.Context) (row codecs.Profile, ok bool) {
	b, _ := ctx.Value().([]byte)
	if b == nil {
		return codecs.Profile{}, true
	}
	row, err := g.env.Records.Profile.Decode(b)
	return row, err == nil
}

// publish puts the event on its type's stream, stamped.
func (g *Group) publish(r *event.Record, row *codecs.Profile) {
	out := &kgo.Record{Topic: r.Type.Stream, Key: []byte(r.Key), Value: r.Value}
	for _, h := range r.Headers {
		if h.Key != codecs.HeaderProfile && h.Key != codecs.HeaderProfileVersion {
			out.Headers = append(out.Headers, h)
		}
	}
	if row.Attributes != (codecs.Attributes{}) {
		stamp, err := g.env.Records.Attributes.Encode(&row.Attributes)
		if err != nil {
			r.Ctx.Fail(err)
		}
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: codecs.HeaderProfile, Value: stamp},
			kgo.RecordHeader{Key: codecs.HeaderProfileVersion, Value: strconv.AppendInt(nil, row.Version, 10)})
	}
	g.env.Emit(r.Ctx, out)
}

// command reads the consent commands for one kind alone: an erasure takes the subject's row away.
func (g *Group) command(ctx goka.Context, msg any) {
	b, _ := msg.([]byte)
	cmd, err := g.env.Records.ConsentCommand.Decode(b)
	if err != nil {
		return // the consent group, whose command it is, makes it a dead letter
	}
	if cmd.Kind != "erase" {
		return
	}
	if row := ctx.Value(); !event.Stopped(ctx) && row != nil {
		ctx.Delete()
	}
}
