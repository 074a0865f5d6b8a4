package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/tables"
	"civicbus/processors/audit"
	"civicbus/processors/catalog"
	"civicbus/processors/command"
	"civicbus/processors/consent"
	"civicbus/processors/event"
	"civicbus/processors/journey"
	"civicbus/processors/profile"
	"civicbus/processors/replay"
	"civicbus/processors/router"
	"civicbus/processors/subscription"
	"civicbus/processors/trust"
	"civicbus/processors/usage"
	"civicbus/topology"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
)

// group runs one goka group of the map in this node, and starts it again when it failed.
type group struct {
	node *Node
	def  topology.Group
	log  *slog.Logger

	engine  atomic.Pointer[kafka.Engine] // nil while none runs
	elapsed func(goka.Context)           // callback of its timers, once its callbacks are made; nil: it has none
	before  atomic.Int64                 // table records read by engines that have ended
}

func newGroup(n *Node, def topology.Group) *group {
	return &group{node: n, def: def, log: n.log.With("group", def.Name)}
}

// run keeps the group running until the context ends. A failure (a dependency broken, a bug) is logged and the group
// started again from what is committed, ever slower up to half a minute.
func (g *group) run(ctx context.Context) error {
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 30*time.Second) {
		began := time.Now()
		err := g.once(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // what fails while the node stops was stopped
		}
		if time.Since(began) > time.Minute {
			wait = 100 * time.Millisecond
		}
		g.log.Error("group ended, it is started again", "error", err, "in", wait)
		g.node.metrics.restarted(g.def.Name)
		pause(ctx, wait)
	}
	return nil
}

func (g *group) once(ctx context.Context) error {
	n := g.node
	v := tables.NewRows(n.records, n.schemas.await, g.log)
	callbacks, ready, err := g.callbacks(v) // a journey group is made there
	if err != nil {
		return err
	}
	changed, due, timers := g.timers(v)
	graph, err := topology.Build(g.def, callbacks, timers...)
	if err != nil {
		return err
	}
	cfg := kafka.GroupConfig{Connection: n.conn, Graph: graph, Instance: n.cfg.Instance, LeaseAge: n.cfg.LeaseAge, Interval: n.cfg.Interval,
		Runs: g.def.Name == topology.Router.Name, TxnTimeout: n.cfg.TxnTimeout, Session: n.cfg.Session, Ready: ready, Changed: changed, Due: due, Failed: n.outlets.failed,
		Pack:      map[string]kafka.Pack{topology.TableTopic(topology.Consent.Name): n.consents.Pack},
		Committed: g.committed(), Logger: n.log, Metrics: n.metrics.engine}
	if g.def.Name == topology.Router.Name {
		cfg.Trail.Topic, cfg.Trail.Own = topology.Decisions.Name, g.decidedHere
	}
	if g.def.Name == topology.Delivery.Name {
		cfg.Changed = n.webhooks.changed(v.Changed)
	}
	if n.cfg.HoldTable != nil {
		cfg.HoldTable = func(topic string, p int32) bool { return n.cfg.HoldTable(g.def.Name, topic, p) }
	}
	engine, err := kafka.NewEngine(cfg)
	if err != nil {
		return err
	}
	g.engine.Store(engine)
	defer func() {
		g.engine.Store(nil)
		g.before.Add(engine.Loaded())
		_ = engine.Close()
	}()
	processor, err := goka.NewProcessor(nil, graph, engine.Options()...)
	if err != nil {
		return fmt.Errorf("start group %s: %w", g.def.Name, err)
	}
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		drain, done := context.WithTimeout(context.Background(), settleTime)
		defer done()
		engine.Drain(drain)
		cancel()
	})
	defer stop()
	if err := processor.Run(runCtx); err != nil {
		return err
	}
	return errors.New("goka's processor ended without an error")
}

// decidedHere says whether a record of audit-decisions is a decision of the group's.
func (g *group) decidedHere(r *kgo.Record) bool {
	d, err := g.node.records.Decision.Decode(r.Value)
	return err == nil && d.Kind == g.def.Name
}

// committed is kafka.GroupConfig.Committed; nil where nobody wants to know.
func (g *group) committed() func([]*kgo.Record, time.Time) {
	n, router := g.node, g.def.Name == topology.Router.Name
	if !router && n.cfg.Tracer == nil {
		return nil
	}
	return func(records []*kgo.Record, began time.Time) {
		if router {
			n.metrics.routed(records)
		}
		n.cfg.Tracer.Handled(g.def.Name, records, began)
	}
}

// callbacks makes the group's callbacks, and what a record must wait for before it is handed to them.
func (g *group) callbacks(v *tables.Rows) (topology.Callbacks, func(*kgo.Record) bool, error) {
	n := g.node
	commands := command.Env{Records: n.records, Now: n.cfg.Now, Partitions: n.cfg.Shape.Partitions, Snapshot: v.Snapshot, Schema: n.schemas.latest, Follows: event.Follows}
	events := event.Env{Records: n.records, Keys: n.keys, Now: n.cfg.Now, Partitions: n.cfg.Shape.Partitions, Snapshot: v.Snapshot,
		Schema: n.registry.Cached, Emit: g.emit, Seen: n.metrics.decision}
	wait := &waiting{node: n, views: v}
	switch g.def.Name {
	case topology.Catalog.Name:
		return catalog.New(commands).Callbacks(), wait.catalog, nil
	case topology.Trust.Name:
		return trust.New(commands).Callbacks(), wait.record, nil
	case topology.Subscription.Name:
		return subscription.New(commands).Callbacks(), wait.subscription, nil
	case topology.Consent.Name:
		return consent.New(commands).Callbacks(), wait.record, nil
	case topology.Profile.Name:
		return profile.New(events).Callbacks(), wait.record, nil
	case topology.Router.Name:
		address, err := dataRef(n.cfg.BusKey, n.cfg.Gateway.PublicURL)
		if err != nil {
			return nil, nil, err
		}
		return router.New(router.Env{Env: events, Consents: n.consents, Projection: n.projections.find, Refused: n.outlets.refused,
			Inputs: g.inputs, Joined: g.joined, Deliver: g.deliver, DataRef: address}).Callbacks(), wait.event, nil
	case topology.Audit.Name:
		keys, err := audit.NewKeys(n.cfg.AuditKey)
		if err != nil {
			return nil, nil, err
		}
		return audit.New(audit.Env{Records: n.records, Keys: keys, Now: n.cfg.Now, Partitions: n.cfg.Shape.Partitions,
			Row: g.ownRow, SetRow: g.setOwnRow}).Callbacks(), wait.record, nil
	case topology.Delivery.Name:
		return n.webhooks.callbacks(events), wait.record, nil
	case topology.Journey.Name:
		j := journey.New(journey.Env{Env: events, Door: n.door(n.ownEvent), Count: n.metrics.journey, Consents: n.consents, Joined: g.joined})
		g.elapsed = j.Elapsed
		return j.Callbacks(), wait.record, nil
	case topology.Replay.Name:
		return replay.New(commands).Callbacks(), wait.record, nil
	case topology.Usage.Name:
		return usage.New(usage.Env{Records: n.records, Partitions: n.cfg.Shape.Partitions}).Callbacks(), wait.record, nil
	}
	return nil, nil, fmt.Errorf("start group %s: it has no processor", g.def.Name)
}

// errStopped says that the group has no engine any more.
var errStopped = errors.New("the group is stopped")

func (g *group) ownRow(partition int32, key string) ([]byte, error) {
	e := g.engine.Load()
	if e == nil {
		return nil, errStopped
	}
	return e.OwnRow(partition, key)
}

func (g *group) setOwnRow(partition int32, key string, row []byte) error {
	e := g.engine.Load()
	if e == nil {
		return errStopped
	}
	return e.SetOwnRow(partition, key, row)
}

// inputs is router.Env.Inputs.
func (g *group) inputs(in []event.Input, ctx goka.Context, _ any) []event.Input {
	e := g.engine.Load()
	if e == nil {
		return in
	}
	return event.InputsOf(e.Run(string(ctx.Topic()), ctx.Partition(), ctx.Offset()), in)
}

// joined is Joined of router.Env and journey.Env.
func (g *group) joined(ctx goka.Context, table, key string) ([]byte, error) {
	e := g.engine.Load()
	if e == nil {
		return nil, errStopped
	}
	return e.Joined(table, ctx.Partition(), key)
}

// deliver is router.Env.Deliver.
func (g *group) deliver(_ goka.Context, o *kafka.Output) {
	if e := g.engine.Load(); e != nil {
		e.Deliver(o)
	}
}

// emit adds a record to the transaction that the callback's own record is in.
func (g *group) emit(_ goka.Context, r *kgo.Record) {
	e := g.engine.Load()
	if e != nil {
		e.Produce(r)
	}
}

func (g *group) status() kafka.Status {
	e := g.engine.Load()
	if e == nil {
		return kafka.Status{Group: g.def.Name, State: "stopped"}
	}
	return e.Status()
}

func (g *group) loaded() int64 {
	n := g.before.Load()
	if e := g.engine.Load(); e != nil {
		n += e.Loaded()
	}
	return n
}

func (g *group) leave(ctx context.Context) error {
	return kafka.Leave(ctx, g.node.conn, g.def.Name, g.node.cfg.Instance)
}

// waiting says what a record must wait for before goka gets it: everything that its callback must have and may not fetch.
type waiting struct {
	node  *Node
	views *tables.Rows
}

// record waits for the schema of the record's value.
func (w *waiting) record(r *kgo.Record) bool {
	return r.Value == nil || w.node.schemas.settled(r.Value)
}

// catalog waits for the newest schema that the entry is checked against.
func (w *waiting) catalog(r *kgo.Record) bool {
	if !w.record(r) {
		return false
	}
	cmd, err := w.node.records.CatalogCommand.Decode(r.Value)
	return err != nil || cmd.EventType.RegistrySubject == "" || w.node.schemas.fresh(cmd.EventType.RegistrySubject)
}

// subscription waits for the newest schemas of the event types that the subscription names.
func (w *waiting) subscription(r *kgo.Record) bool {
	if !w.record(r) {
		return false
	}
	cmd, err := w.node.records.SubscriptionCommand.Decode(r.Value)
	if err != nil {
		return true
	}
	snap := w.views.Snapshot()
	types := cmd.Subscription.EventTypes
	if len(types) > maxTypesLooked {
		types = types[:maxTypesLooked]
	}
	settled := true
	for _, t := range types {
		if et := snap.EventType(t); et != nil {
			settled = w.node.schemas.fresh(et.RegistrySubject) && settled
		}
	}
	return settled
}

// maxTypesLooked bounds what one command can make this process look up.
const maxTypesLooked = 256

// event waits for the schema of an event, the projected schemas of its deliveries, and the topics that they go to.
func (w *waiting) event(r *kgo.Record) bool {
	if !w.record(r) {
		return false
	}
	id, _, err := codecs.WireID(r.Value)
	if err != nil {
		return true
	}
	schema, ok := w.node.registry.Cached(id)
	if !ok {
		return true
	}
	eventType := ""
	for _, h := range r.Headers {
		if h.Key == codecs.HeaderType {
			eventType = string(h.Value)
		}
	}
	snap := w.views.Snapshot()
	if !w.node.projections.settled(snap, eventType, schema) {
		return false
	}
	return w.node.projections.outletsSettled(eventType, schema, w.node.outlets)
}
