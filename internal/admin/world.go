package admin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admission"
	"civicbus/internal/kafka"
	"civicbus/internal/projections"
	"civicbus/internal/verdict"
)

// world is catalog, trust and subscriptions as they are now, held whole and kept current.
type world struct {
	c    *Client
	ctx  context.Context
	view *kafka.View
	stop func()

	mu      sync.Mutex
	pending verdict.Changes
	dirty   bool
	current *verdict.Snapshot
}

// hold reads the tables and returns once they are confirmed current.
func (c *Client) hold(ctx context.Context) (*world, error) {
	settings, err := c.Settings(ctx)
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &world{c: c, ctx: running, current: verdict.NewSnapshot(), pending: noChanges()}
	age := time.Duration(settings.LeaseAgeMillis) * time.Millisecond
	w.view, err = kafka.NewView(c.cfg.Connection, age, c.cfg.Logger, w.changed, EventTypes.topic(), Organisations.topic(), Subscriptions.topic())
	if err != nil {
		cancel()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := w.view.Run(running); err != nil {
			c.cfg.Logger.Error("tables are not kept current any more: nothing is admitted", "error", err)
		}
	}()
	w.stop = func() {
		cancel()
		<-ended
	}
	if err := w.view.Wait(ctx); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

func noChanges() verdict.Changes {
	return verdict.Changes{EventTypes: map[string]*codecs.EventType{}, Organisations: map[string]*codecs.Organisation{}, Subscriptions: map[string]*codecs.Subscription{}}
}

// changed is the view's: a row is in the next snapshot before the lease counts it as read.
func (w *world) changed(table, key string, row []byte) {
	switch table {
	case EventTypes.topic():
		r := rowOf(w, EventTypes, row)
		w.put(func() { w.pending.EventTypes[key] = r })
	case Organisations.topic():
		r := rowOf(w, Organisations, row)
		w.put(func() { w.pending.Organisations[key] = r })
	case Subscriptions.topic():
		r := rowOf(w, Subscriptions, row)
		w.put(func() { w.pending.Subscriptions[key] = r })
	}
}

// rowOf decodes a row; one that cannot be decoded counts as absent: what is not known entitles nobody.
func rowOf[T any](w *world, t Table[T], value []byte) *T {
	if value == nil {
		return nil
	}
	row, err := decode(w.ctx, w.c, t.record(w.c.records), value)
	if err != nil {
		w.c.cfg.Logger.Error("table row cannot be decoded and counts as absent", "table", t.topic(), "error", err)
		return nil
	}
	return &row
}

func (w *world) put(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	w.dirty = true
}

func (w *world) snapshot() *verdict.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dirty {
		w.current, w.pending, w.dirty = w.current.With(w.pending), noChanges(), false
	}
	return w.current
}

// prepare registers the projected schemas of an event type's deliveries; what the registry refuses becomes dead letters
// later, and must not keep everyone else's events out.
func (w *world) prepare(ctx context.Context, eventType string, schema *codecs.Schema) error {
	for _, t := range w.snapshot().Targets(eventType, schema) {
		if _, _, err := projections.Register(ctx, w.c.registry, t); err != nil && !errors.Is(err, codecs.ErrIncompatible) {
			return err
		}
	}
	return nil
}

// Publisher lets events in through admission, on tables that it keeps current. Close it.
type Publisher struct {
	*admission.Publisher
	world *world
}

// NewPublisher reads the tables that admission needs and returns once they are current. It needs the bus key.
func (c *Client) NewPublisher(ctx context.Context) (*Publisher, error) {
	keys, err := c.pseudonyms(ctx)
	if err != nil {
		return nil, err
	}
	opts, err := c.cfg.Connection.Opts()
	if err != nil {
		return nil, err
	}
	w, err := c.hold(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the tables that admission needs: %w", err)
	}
	resolver := admission.NewResolver(c.registry, w.prepare)
	p, err := admission.NewPublisher(admission.PublisherConfig{Options: opts, Resolver: resolver, Lease: w.view, Letters: c.records.DeadLetter,
		Door:   &admission.Door{Keys: keys, Belongs: resolver.Belongs, RegistryURL: c.cfg.Registry.URL},
		Tables: func() admission.Tables { return w.snapshot() }})
	if err != nil {
		w.stop()
		return nil, err
	}
	return &Publisher{p, w}, nil
}

// Close ends the publisher and drops its tables.
func (p *Publisher) Close() {
	p.Publisher.Close()
	p.world.stop()
}

// Events publishes what admission.ReadEvents reads, as an organisation's in their order, and
// hands each answer on with the event's number, from 1. An error of answered or of what is read ends it; what was answered
// until then stands.
func (p *Publisher) Events(ctx context.Context, organisation string, events EventReader, answered func(number int, a admission.Answer) error) error {
	number := 0
	var batch []*admission.Input
	flush := func() error {
		for _, a := range p.Publish(ctx, organisation, batch) {
			number++
			if err := answered(number, a); err != nil {
				return err
			}
		}
		batch = batch[:0]
		return ctx.Err()
	}
	for in, err := range events {
		if err != nil {
			return errors.Join(flush(), err)
		}
		if batch = append(batch, in); len(batch) == publishBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// publishBatch is how many events are under way at once.
const publishBatch = 200

// EventReader is what admission.ReadEvents gives.
type EventReader = func(yield func(*admission.Input, error) bool)
