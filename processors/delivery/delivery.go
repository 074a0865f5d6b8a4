// Package delivery is the goka group that keeps which webhook deliveries wait, for what and until when. It sends nothing: beside
// it in the same process a sender (internal/delivery) sees its rows as they are committed, attempts what is due, and reports
// on the group's loop what came of it.
//
// Its rules:
//   - A row has what waits about one subject, in the order of the input: where the delivery stands on webhook-deliveries, how
//     often it was attempted, and when it is due. So nothing is lost by a restart, and no timer forgotten.
//   - A row is bounded. What does not fit is a dead letter, and its subscription is paused.
//   - A report counts once: it says which attempt it is about. What follows from it (the row, a dead letter, a pause) is one
//     transaction.
//   - An erasure takes away everything that waits about the subject.
package delivery

import (
	"fmt"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/processors/event"
	"civicbus/topology"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Kind is that of the decisions about webhook deliveries, the sender's too.
const Kind = "delivery"

// Erased is the outcome of the decision on a delivery that waited about an erased subject.
const Erased = "erased"

// Env is what the group needs beside event.Env, of which it uses neither Snapshot nor Schema.
type Env struct {
	event.Env
	// Arrived is told of each delivery that begins to wait, so that its sender need not read it again; nil: nobody.
	Arrived func(in event.Input)
	// Buried counts dead letters by cause; nil: not counted.
	Buried func(cause string)
}

// Group handles the inputs and the loop of the group. Its callbacks are safe for concurrent use.
type Group struct{ env Env }

// New makes the group's callbacks.
func New(env Env) *Group {
	if env.Arrived == nil {
		env.Arrived = func(event.Input) {}
	}
	if env.Buried == nil {
		env.Buried = func(string) {}
	}
	return &Group{env}
}

// Callbacks names a callback for each input and for the loop.
func (g *Group) Callbacks() topology.Callbacks {
	return topology.Callbacks{topology.WebhookDeliveries.Name: g.arrived, topology.ConsentCommands.Name: g.command, topology.DeliveryReports.Name: g.reported}
}

// arrived lets one delivery wait for its first attempt, or for those about its subject before it.
func (g *Group) arrived(ctx goka.Context, msg any) {
	in := event.InputOf(ctx, msg)
	subscription, id := headers(in)
	switch {
	case !g.placed(in):
		g.refuse(ctx, in, event.Misplaced, "the key is no subject of this partition")
		return
	case in.Value == nil, id == "", subscription == "", len(subscription) > maxSubscription:
		g.refuse(ctx, in, event.Malformed, "it lacks its id, its subscription or its value")
		return
	}
	row, ok := g.row(ctx)
	if event.Stopped(ctx) {
		return
	}
	if !ok {
		g.refuse(ctx, in, event.RowUnreadable, "the subject's row of waiting deliveries cannot be decoded")
		return
	}
	now := codecs.Millis(g.env.Now())
	next, left := Enqueue(row, codecs.WaitingDelivery{Offset: in.Offset, Subscription: subscription, Since: now, Due: now})
	if left == nil || left.Offset != in.Offset {
		g.env.Arrived(in)
	}
	if left != nil {
		from := in
		if left.Offset != in.Offset { // it is kept on its topic, and found there by its offset
			from.Offset, from.Value, from.Headers = left.Offset, nil, nil
		}
		g.bury(ctx, from, QueueFull, fmt.Sprintf("%d deliveries about the subject wait; %s", codecs.MaxWaiting, told(left)), left.Subscription)
		g.record(ctx, in).Pause(left.Subscription, PausedFull)
	}
	g.set(ctx, next)
}

// maxSubscription bounds the id of a subscription; see processors/command.
const maxSubscription = 128

// placed says whether the record is where it belongs.
func (g *Group) placed(in event.Input) bool {
	return pseudonym.IsSubject(in.Key) && kafka.PartitionOf(in.Key, g.env.Partitions) == in.Partition
}

// headers are the delivery's subscription and id.
func headers(in event.Input) (subscription, id string) {
	for _, h := range in.Headers {
		switch h.Key {
		case codecs.HeaderSubscription:
			subscription = string(h.Value)
		case codecs.HeaderID:
			id = string(h.Value)
		}
	}
	return subscription, id
}

// reported settles one report.
func (g *Group) reported(ctx goka.Context, msg any) {
	value, _ := msg.([]byte)
	report, err := g.env.Records.DeliveryReport.Decode(value)
	if err != nil {
		return // not written by a sender
	}
	row, ok := g.row(ctx)
	if event.Stopped(ctx) || !ok {
		return
	}
	next, c := Settle(row, &report)
	if !c.Known {
		return
	}
	in := event.Input{Topic: topology.WebhookDeliveries.Name, Partition: ctx.Partition(), Offset: report.Offset, Key: ctx.Key(), Value: report.Value}
	for _, h := range report.Headers {
		in.Headers = append(in.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	if c.Bury != "" {
		detail := told(&c.Was)
		if report.Status > 0 {
			detail += fmt.Sprintf("; the last answer had status %d", report.Status)
		}
		g.bury(ctx, in, c.Bury, detail, report.Subscription)
	}
	if c.Pause != "" {
		g.record(ctx, event.Input{Topic: string(ctx.Topic()), Partition: ctx.Partition(), Offset: ctx.Offset()}).Pause(report.Subscription, c.Pause)
	}
	g.set(ctx, next)
}

// command reads the consent commands for one kind alone: after an erasure nothing waits about the subject.
func (g *Group) command(ctx goka.Context, msg any) {
	b, _ := msg.([]byte)
	cmd, err := g.env.Records.ConsentCommand.Decode(b)
	if err != nil || cmd.Kind != "erase" {
		return // the consent group makes a dead letter of what is no command
	}
	row, ok := g.row(ctx)
	if event.Stopped(ctx) || ok && len(row.Waiting) == 0 {
		return
	}
	for _, w := range row.Waiting {
		r := g.record(ctx, event.Input{Topic: topology.WebhookDeliveries.Name, Partition: ctx.Partition(), Offset: w.Offset, Follows: -1, Key: ctx.Key()})
		d := r.Decision(Erased)
		d.Follows = -1
		r.Decide(d)
	}
	ctx.Delete()
}

// row is the subject's row; ok is false if there is one that cannot be decoded.
func (g *Group) row(ctx goka.Context) (row codecs.DeliveryRow, ok bool) {
	b, _ := ctx.Value().([]byte)
	if b == nil {
		return row, true
	}
	row, err := g.env.Records.DeliveryRow.Decode(b)
	return row, err == nil
}

func (g *Group) set(ctx goka.Context, row codecs.DeliveryRow) {
	if len(row.Waiting) == 0 {
		ctx.Delete()
		return
	}
	b, err := g.env.Records.DeliveryRow.Encode(&row)
	if err != nil {
		ctx.Fail(err)
	}
	ctx.SetValue(b)
}

// record is what dead letters and decisions are made of.
func (g *Group) record(ctx goka.Context, in event.Input) *event.Record {
	return &event.Record{Env: &g.env.Env, Ctx: ctx, Kind: Kind, Input: in}
}

// refuse handles what can never be delivered.
func (g *Group) refuse(ctx goka.Context, in event.Input, outcome, detail string) {
	g.bury(ctx, in, outcome, detail, "")
	r := g.record(ctx, in)
	d := r.Decision(outcome)
	d.Follows = -1 // only the router's and profile's decisions cover their inputs
	r.Decide(d)
}

func (g *Group) bury(ctx goka.Context, in event.Input, cause, detail, subscription string) {
	g.record(ctx, in).Bury(cause, detail, subscription)
	g.env.Buried(cause)
}

// told says how often a delivery was attempted, and when.
func told(w *codecs.WaitingDelivery) string {
	if w.Attempts == 0 {
		return "it was not attempted"
	}
	at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
	return fmt.Sprintf("attempted %d times, first %s, last %s", w.Attempts, at(w.First), at(w.Last))
}
