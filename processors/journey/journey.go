// Package journey is the goka group that keeps what became of a life event at those who received it. Router decisions tell who
// that was, events that report an outcome what they did; both are keyed by subject and travel over the group's loop to the
// row of their life event. When all have reported, or the time is over, each subject is told by an event of civicbus's own; a
// confirmation becomes a command to the one service that asked for it.
//
// The rules are internal/journeys'. What the group emits passes admission as every event does, and is decided by the router as
// every event is: it has no way of its own to anybody.
//
// Beside the rows of life events the table has one for each subject, which names its journeys: so an erasure finds them.
package journey

import (
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admission"
	"civicbus/internal/journeys"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/internal/verdict"
	"civicbus/processors/event"
	"civicbus/topology"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
)

const kind = "journey"

// What Env.Count counts. Closed list.
const (
	CountNotified  = "notified"  // a subject was told
	CountClosed    = "closed"    // a subject was told that nothing is waited for any more
	CountConfirmed = "confirmed" // a confirmation went to its service
	CountDenied    = "denied"    // a confirmation came from an organisation that may not be told of its subject's services
	CountRefused   = "refused"   // admission did not let an event of the group's own in
	CountMissed    = "missed"    // a row had no room
	CountExpired   = "expired"   // a row's time was over
)

// Env is what the group needs beside event.Env.
type Env struct {
	event.Env
	Door  *admission.Door   // by which its own events are let in; its Belongs knows their schemas
	Count func(what string) // nil: not counted
	// Consents reads the joined rows, which the engine keeps as it packs them; nil: one of its own.
	Consents *verdict.PackedConsents
	// Joined is the row of a joined table for a key of the partition that the callback was called for; an error says that it is
	// not known (any more). nil: goka's Join.
	Joined func(ctx goka.Context, table, key string) ([]byte, error)
}

// Group handles the inputs, the loop and the timers of the group. Its callbacks are safe for concurrent use.
type Group struct{ env Env }

// New makes the group's callbacks.
func New(env Env) *Group {
	if env.Count == nil {
		env.Count = func(string) {}
	}
	if env.Consents == nil {
		env.Consents = verdict.NewPackedConsents(env.Records.Consents)
	}
	if env.Joined == nil {
		env.Joined = func(ctx goka.Context, table, _ string) ([]byte, error) {
			row, _ := ctx.Join(goka.Table(table)).([]byte)
			return row, nil
		}
	}
	return &Group{env}
}

// Callbacks names a callback for each input and for the loop.
func (g *Group) Callbacks() topology.Callbacks {
	return topology.Callbacks{topology.Decisions.Name: g.decided, topology.Services.Name: g.answered, topology.Notifications.Name: g.answered,
		topology.Orders.Name: g.answered, topology.ConsentCommands.Name: g.command, topology.JourneyInputs.Name: g.learnt}
}

// decided sends what a router decision says to the row of its life event: one of several records by the first of them, which has all
// permits (event.Record.Decide). A decision that cannot be decoded is the audit
// group's to bury.
func (g *Group) decided(ctx goka.Context, msg any) {
	value, _ := msg.([]byte)
	d, err := g.env.Records.Decision.Decode(value)
	if err != nil || d.Kind != topology.Router.Name || d.Follows < 0 || d.Outcome != event.Decided || !g.subject(ctx) {
		return
	}
	snap := g.env.Snapshot()
	et := snap.EventType(d.EventType)
	if et == nil || et.JourneyHours == 0 {
		return
	}
	in := codecs.JourneyInput{Kind: journeys.Decided, Subject: ctx.Key(), EventType: d.EventType, Records: max(d.Subjects, 1), Hours: et.JourneyHours, At: d.DecidedAt}
	for i := range d.Verdicts {
		v := &d.Verdicts[i]
		if v.Reason == verdict.ReasonRestricted || v.Reason == verdict.ReasonConsentsUnreadable { // nothing is kept of whom nobody may know of
			in.Subject, in.Services = "", nil
			break
		}
		if v.Permit {
			in.Services = append(in.Services, codecs.JourneyService{ID: v.Subscriber, Purpose: v.Purpose, Awaited: reports(snap, v.Subscriber, d.EventType)})
		}
	}
	row, ok := g.row(ctx)
	if event.Stopped(ctx) {
		return
	}
	if in.Subject != "" && ok {
		g.set(ctx, join(row, d.LifeEventID, codecs.Millis(g.env.Now()), d.DecidedAt+(time.Duration(et.JourneyHours)*time.Hour+journeys.Kept).Milliseconds()))
	}
	g.loop(ctx, d.LifeEventID, &in)
}

// reports says whether an organisation may publish outcomes of a type.
func reports(snap *verdict.Snapshot, organisation, eventType string) bool {
	o := snap.Organisation(organisation)
	return o != nil && slices.ContainsFunc(o.Publishes, func(t string) bool {
		et := snap.EventType(t)
		return et != nil && !et.Retired && et.Outcome.Path != "" && slices.Contains(et.Outcome.Of, eventType)
	})
}

// join is a subject's own row with one more journey; those whose time is over leave, and where there are too many the oldest.
func join(row codecs.Journey, lifeEvent string, now, until int64) codecs.Journey {
	mine := slices.DeleteFunc(slices.Clone(row.Mine), func(r codecs.JourneyRef) bool { return r.LifeEvent == lifeEvent || r.Until <= now })
	mine = append(mine, codecs.JourneyRef{LifeEvent: lifeEvent, Until: until})
	if n := len(mine) - codecs.MaxJourneysOfSubject; n > 0 {
		mine = mine[n:]
	}
	return of(mine)
}

// of is the row of a subject with these journeys; it is due when the first of them is over.
func of(mine []codecs.JourneyRef) codecs.Journey {
	row := codecs.Journey{Mine: mine}
	for _, r := range mine {
		if row.Due == 0 || r.Until < row.Due {
			row.Due = r.Until
		}
	}
	return row
}

// answered sends what a follow-up reports, or confirms, to the row of the life event that caused it. What cannot be read is the
// router's to bury; what is redriven for one subscription was read here the first time.
func (g *Group) answered(ctx goka.Context, msg any) {
	r := new(event.Record)
	if outcome, _ := r.Read(&g.env.Env, ctx, kind, event.InputOf(ctx, msg)); outcome != event.Decided || r.Envelope.Only != "" || event.Stopped(ctx) {
		return
	}
	e := &r.Envelope
	own := g.env.Keys.LifeEvent(e.Source, e.ID)
	cause := e.Cause(own)
	if cause == own {
		return
	}
	in := codecs.JourneyInput{Subject: r.Key, Report: own, At: codecs.Millis(g.env.Now())}
	switch {
	case e.Type == journeys.ConfirmType:
		if e.Recipient != journeys.Organisation {
			return
		}
		if in.Kind, in.Service = journeys.Confirmed, told(r, "data.service"); in.Service == "" || !g.permitted(ctx, r, cause) {
			return
		}
	case r.Type.Outcome.Path != "":
		in.Records = int32(max(e.Subjects, 1))
		in.Kind, in.Service, in.State = journeys.Reported, e.Organisation, verdict.OutcomeOf(&r.Type.Outcome, told(r, r.Type.Outcome.Path))
		if in.State == "" {
			return
		}
	default:
		return
	}
	if in.Service != "" {
		g.loop(ctx, cause, &in)
	}
}

// told is the text at a path; empty when there is none.
func told(r *event.Record, path string) string {
	values, err := r.Schema.Texts(r.Body, path)
	if err != nil || len(values) != 1 || values[0].Kind != codecs.String {
		return ""
	}
	return string(values[0].Bytes)
}

// command reads the consent commands for one kind alone: an erasure takes the subject out of every row.
func (g *Group) command(ctx goka.Context, msg any) {
	value, _ := msg.([]byte)
	cmd, err := g.env.Records.ConsentCommand.Decode(value)
	if err != nil || cmd.Kind != "erase" || !g.subject(ctx) {
		return // the consent group makes a dead letter of what is no command
	}
	row, ok := g.row(ctx)
	if event.Stopped(ctx) || ok && len(row.Mine) == 0 {
		return
	}
	for _, r := range row.Mine {
		g.loop(ctx, r.LifeEvent, &codecs.JourneyInput{Kind: journeys.Erased, Subject: ctx.Key()})
	}
	ctx.Delete()
}

// learnt puts one input into the row of its life event.
func (g *Group) learnt(ctx goka.Context, msg any) {
	value, _ := msg.([]byte)
	in, err := g.env.Records.JourneyInput.Decode(value)
	if err != nil || kafka.PartitionOf(ctx.Key(), g.env.Partitions) != ctx.Partition() || pseudonym.IsSubject(ctx.Key()) {
		return // not written by this group
	}
	row, ok := g.row(ctx) // one that cannot be decoded begins anew
	if event.Stopped(ctx) {
		return
	}
	if in.Kind == journeys.Erased && ok && row.Due == 0 {
		return // it is gone already
	}
	next, confirmed, notices, ok := journeys.Apply(row, &in, codecs.Millis(g.env.Now()))
	for ; row.Missed < next.Missed; row.Missed++ {
		g.env.Count(CountMissed)
	}
	for _, c := range confirmed {
		g.confirm(ctx, c)
	}
	g.tell(ctx, &next, notices)
	if !ok {
		ctx.Delete()
		return
	}
	g.set(ctx, next)
}

// Elapsed is the callback of the group's timers: the time of one row has come.
func (g *Group) Elapsed(ctx goka.Context) {
	row, ok := g.row(ctx)
	now := codecs.Millis(g.env.Now())
	if event.Stopped(ctx) || ok && (row.Due == 0 || row.Due > now) {
		return
	}
	switch {
	case !ok:
		ctx.Delete()
	case len(row.Mine) > 0:
		if mine := slices.DeleteFunc(slices.Clone(row.Mine), func(r codecs.JourneyRef) bool { return r.Until <= now }); len(mine) > 0 {
			g.set(ctx, of(mine))
		} else {
			ctx.Delete()
		}
	default:
		next, notices, kept := journeys.Elapse(row, now)
		g.tell(ctx, &next, notices)
		if kept {
			g.set(ctx, next)
		} else {
			g.env.Count(CountExpired)
			ctx.Delete()
		}
	}
}

// subject says whether the record in hand is keyed by a subject of its partition.
func (g *Group) subject(ctx goka.Context) bool {
	return pseudonym.IsSubject(ctx.Key()) && kafka.PartitionOf(ctx.Key(), g.env.Partitions) == ctx.Partition()
}

// row is the row of the key in hand; ok is false if there is one that cannot be decoded.
func (g *Group) row(ctx goka.Context) (row codecs.Journey, ok bool) {
	b, _ := ctx.Value().([]byte)
	if b == nil {
		return row, true
	}
	row, err := g.env.Records.Journey.Decode(b)
	return row, err == nil
}

func (g *Group) set(ctx goka.Context, row codecs.Journey) {
	b, err := g.env.Records.Journey.Encode(&row)
	if err != nil {
		ctx.Fail(err)
	}
	ctx.SetValue(b)
}

func (g *Group) loop(ctx goka.Context, lifeEvent string, in *codecs.JourneyInput) {
	b, err := g.env.Records.JourneyInput.Encode(in)
	if err != nil {
		ctx.Fail(err)
	}
	ctx.Loopback(lifeEvent, b)
}

// tell publishes an event of civicbus's own for each subject that is to be told.
func (g *Group) tell(ctx goka.Context, row *codecs.Journey, notices []journeys.Notice) {
	for _, n := range notices {
		v, ok := journeys.View(row, n.Subject, g.env.Snapshot())
		if !ok {
			continue
		}
		round, count := "updated", CountNotified
		if n.Closed {
			round, count = "closed", CountClosed
		}
		value, err := g.env.Records.JourneyUpdated.Encode(&v)
		if err != nil {
			ctx.Fail(err)
		}
		g.publish(ctx, journeys.UpdatedType, journeys.ID(round, ctx.Key(), n.Subject, n.Round), n.Subject, "", value, count)
	}
}

// confirm publishes the command that tells a service what a subject has confirmed.
func (g *Group) confirm(ctx goka.Context, c journeys.Confirmation) {
	value, err := g.env.Records.JourneyConfirmed.Encode(&codecs.JourneyConfirmed{EventType: c.EventType, ConfirmedAt: codecs.Millis(g.env.Now())})
	if err != nil {
		ctx.Fail(err)
	}
	g.publish(ctx, journeys.ConfirmedType, journeys.ID("confirmed", ctx.Key(), c.Subject, c.Service, c.Report), c.Subject, c.Service, value, CountConfirmed)
}

// publish lets an event of civicbus's own in by the one door. What the door refuses (civicbus is not in the trust registry, its
// type not in the catalog) is a dead letter, which can be redriven once that is mended.
func (g *Group) publish(ctx goka.Context, eventType, id, subject, recipient string, value []byte, count string) {
	snap, now := g.env.Snapshot(), g.env.Now()
	var schema *codecs.Schema // known: this process has registered it
	if wire, _, err := codecs.WireID(value); err == nil {
		schema, _ = g.env.Schema(wire)
	}
	in := journeys.Event(journeys.SourceOf(snap.Organisation(journeys.Organisation)), eventType, id, ctx.Key(), subject, recipient, now, value, schema)
	result := g.env.Door.Admit(in, snap, now)
	for _, rec := range result.Records {
		out := &kgo.Record{Topic: topology.Admitted.Name, Key: rec.Key, Value: rec.Value}
		for _, h := range rec.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		g.env.Emit(ctx, out)
	}
	if result.Letter != nil {
		letter, err := g.env.Records.DeadLetter.Encode(result.Letter)
		if err != nil {
			ctx.Fail(err)
		}
		g.env.Emit(ctx, &kgo.Record{Topic: topology.DeadLetters.Name, Key: []byte(ctx.Key()), Value: letter})
		count = CountRefused
	}
	g.env.Count(count)
}
