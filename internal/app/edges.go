package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admission"
	"civicbus/internal/kafka"
	"civicbus/internal/tables"
	"civicbus/internal/verdict"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// edges are the parts of a node that are no goka groups: the relay of Kafka inboxes, and the keepers, which create
// subscribers' and sources' topics and activate subscriptions, and access, which gives organisations their rights on Kafka. They
// share one view of trust, catalog and subscriptions.
type edges struct {
	node    *Node
	letters *letters
	tables  *tables.Reference
	wake    chan struct{} // has room for one: a row changed
	moved   chan struct{} // the same, for access
	mu      sync.Mutex
	known   map[string]bool // topics that are as wanted
	gone    map[string]bool // inboxes of revoked organisations that are not there any more
	orgs    map[string]*codecs.Organisation
	subs    map[string]*activation
}

// activation is a subscription whose row says activating, and since when this process has seen it.
type activation struct {
	version int64
	seen    time.Time
	asked   time.Time
}

func newEdges(n *Node) (*edges, error) {
	e := &edges{node: n, letters: newLetters(n), wake: make(chan struct{}, 1), moved: make(chan struct{}, 1),
		known: map[string]bool{}, gone: map[string]bool{}, orgs: map[string]*codecs.Organisation{}, subs: map[string]*activation{}}
	var err error
	e.tables, err = tables.NewReference(n.conn, n.registry, n.records, n.cfg.LeaseAge, n.log, e.changed)
	return e, err
}

func (e *edges) changed(rows *verdict.Snapshot, table, key string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch table {
	case tables.TrustTable:
		e.orgs[key] = rows.Organisation(key)
	case tables.SubscriptionTable:
		sub := rows.Subscription(key)
		switch a := e.subs[key]; {
		case sub == nil || sub.Status != verdict.StatusActivating:
			delete(e.subs, key)
		case a == nil || a.version != sub.Version:
			e.subs[key] = &activation{version: sub.Version, seen: time.Now()}
		}
	default:
		return
	}
	for _, c := range []chan struct{}{e.wake, e.moved} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (e *edges) run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, end := context.WithCancel(ctx) // also when the relay cannot go on
	defer end()
	wg.Go(func() { e.tables.Run(ctx) })
	if e.node.runs(PartKeepers) {
		wg.Go(func() { e.keep(ctx) })
		wg.Go(func() { e.letters.run(ctx) })
	}
	if e.node.runs(PartAccess) {
		wg.Go(func() { e.access(ctx) })
	}
	if e.node.runs(PartRelay) {
		return e.relay(ctx)
	}
	<-ctx.Done()
	return nil
}

// relay moves inboxes into admitted until the context ends.
func (e *edges) relay(ctx context.Context) error {
	n := e.node
	opts, err := n.conn.Opts()
	if err != nil {
		return err
	}
	resolver := e.resolver()
	relay, err := admission.NewRelay(admission.RelayConfig{Options: opts, Instance: n.cfg.Instance, Door: n.door(resolver.Belongs), Resolver: resolver,
		Tables: func() admission.Tables { return e.tables.Snapshot() }, Inboxes: e.inboxes, Lease: e.tables, LeaseAge: n.cfg.LeaseAge,
		Letters: n.records.DeadLetter, Session: n.cfg.Session, Logger: n.log, Metrics: n.metrics.admission, Tracer: n.cfg.Tracer})
	if err != nil {
		return err
	}
	return relay.Run(ctx)
}

// resolver prepares what admission may not fetch: an event's schema is let in only when its projections are registered.
func (e *edges) resolver() *admission.Resolver {
	return admission.NewResolver(e.node.registry, func(ctx context.Context, eventType string, s *codecs.Schema) error {
		return e.node.projections.ensure(ctx, e.tables.Snapshot(), eventType, s)
	})
}

// Publisher makes the way in for callers in this process; the node must run an edge, whose view it uses. Close it.
func (n *Node) Publisher() (*admission.Publisher, error) {
	if n.edges == nil {
		return nil, errors.New("publish: the node runs no edge")
	}
	opts, err := n.conn.Opts()
	if err != nil {
		return nil, err
	}
	resolver := n.edges.resolver()
	return admission.NewPublisher(admission.PublisherConfig{Options: opts, Door: n.door(resolver.Belongs), Resolver: resolver,
		Tables: func() admission.Tables { return n.edges.tables.Snapshot() }, Lease: n.edges.tables, Letters: n.records.DeadLetter, Metrics: n.metrics.admission, Tracer: n.cfg.Tracer})
}

func (e *edges) inboxes() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []string
	for id, org := range e.orgs {
		if org != nil && org.Inbox && e.known[topology.InboxTopicName(id)] {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	return all
}

// keep creates topics and activates subscriptions until the context ends.
func (e *edges) keep(ctx context.Context) {
	cl, err := e.node.conn.Client()
	if err != nil {
		e.node.log.Error("start the keepers", "error", err)
		return
	}
	defer cl.Close()
	for ctx.Err() == nil {
		again := e.topics(ctx)
		again = e.activate(ctx, cl) || again
		var tick <-chan time.Time
		if again {
			tick = time.After(e.node.cfg.LeaseAge / 4)
		}
		select {
		case <-e.wake:
		case <-tick:
		case <-ctx.Done():
		}
	}
}

// topics creates what the trust registry's organisations need; true when it must look again.
func (e *edges) topics(ctx context.Context) bool {
	e.mu.Lock()
	var want []topology.Topic
	var retired []string
	for id, org := range e.orgs {
		if org == nil {
			continue
		}
		if org.Status == verdict.StatusRevoked { // what an operator deleted of a revoked one is not made again
			if t := topology.InboxTopicName(id); org.Inbox && !e.known[t] && !e.gone[t] {
				retired = append(retired, t)
			}
			continue
		}
		if t := topology.SubscriberTopic(id, e.node.cfg.Shape); len(org.Receives) > 0 && !e.known[t.Name] {
			want = append(want, t)
		}
		if t := topology.InboxTopic(id, e.node.cfg.Shape); org.Inbox && !e.known[t.Name] {
			want = append(want, t)
		}
	}
	e.mu.Unlock()
	if err := e.retire(ctx, retired); err != nil {
		if ctx.Err() == nil {
			e.node.log.Warn("look for the inboxes of revoked organisations: retrying", "error", err)
		}
		return true
	}
	if len(want) == 0 {
		return false
	}
	if _, err := kafka.Apply(ctx, e.node.admin, want, e.node.cfg.Replicas); err != nil {
		if ctx.Err() == nil {
			e.node.log.Warn("create the organisations' topics: retrying", "error", err)
		}
		return true
	}
	e.mu.Lock()
	for _, t := range want {
		e.known[t.Name] = true
	}
	e.mu.Unlock()
	return false
}

// retire looks which inboxes of revoked organisations are still there: what stands in them is relayed, and refused on record.
func (e *edges) retire(ctx context.Context, inboxes []string) error {
	if len(inboxes) == 0 {
		return nil
	}
	listed, err := e.node.admin.ListTopics(ctx, inboxes...)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range inboxes {
		if t, ok := listed[name]; ok && t.Err == nil {
			e.known[name] = true
		} else {
			e.gone[name] = true
		}
	}
	return nil
}

// activate sends `activated` for each subscription whose activating row has been in effect for the lease's age: from then
// on no router decides without it, so every event at or after the streams' ends is decided under it. True when some wait.
func (e *edges) activate(ctx context.Context, cl *kgo.Client) bool {
	e.mu.Lock()
	due := map[string]int64{}
	now := time.Now()
	rows := e.tables.Snapshot()
	for id, a := range e.subs {
		if !a.asked.IsZero() && rows.Subscription(id) == nil { // it vanished while the tables were read anew
			delete(e.subs, id)
			continue
		}
		if now.Sub(a.seen) >= e.node.cfg.LeaseAge && now.Sub(a.asked) > 5*time.Second {
			due[id] = a.version
		}
	}
	waiting := len(e.subs) > 0
	e.mu.Unlock()
	if len(due) == 0 {
		return waiting
	}
	err := e.sendActivated(ctx, cl, due)
	if err != nil {
		if ctx.Err() == nil {
			e.node.log.Warn("activate subscriptions: retrying", "error", err)
		}
		return true
	}
	e.mu.Lock()
	for id := range due {
		if a := e.subs[id]; a != nil {
			a.asked = now
		}
	}
	e.mu.Unlock()
	return true
}

func (e *edges) sendActivated(ctx context.Context, cl *kgo.Client, due map[string]int64) error {
	names := make([]string, 0, len(topology.EventStreams))
	for _, s := range topology.EventStreams {
		names = append(names, s.Name)
	}
	ends, err := e.node.admin.ListEndOffsets(ctx, names...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("list the ends of the event streams: %w", err)
	}
	var from []codecs.StreamPosition
	for _, o := range ends.Offsets().Sorted() {
		from = append(from, codecs.StreamPosition{Topic: o.Topic, Partition: o.Partition, Offset: o.At})
	}
	var errs []error
	for id, version := range due {
		cmd := codecs.SubscriptionCommand{Meta: codecs.Meta{ID: fmt.Sprintf("activated-%s-%d", id, version), Actor: "civicbus", IssuedAt: codecs.Millis(e.node.cfg.Now()), IfVersion: version},
			Kind: "activated", Subscription: codecs.Subscription{ID: id, From: from}}
		value, err := e.node.records.SubscriptionCommand.Encode(&cmd)
		if err == nil {
			err = cl.ProduceSync(ctx, &kgo.Record{Topic: topology.SubscriptionCommands.Name, Key: []byte(id), Value: value}).FirstErr()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
