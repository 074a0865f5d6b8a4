package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admission"
	"civicbus/internal/projections"
	"civicbus/internal/tables"
)

// world is catalog, trust and subscriptions as they are now, held whole and kept current.
type world struct {
	*tables.Reference
	c    *Client
	stop func()
}

// hold reads the tables and returns once they are confirmed current.
func (c *Client) hold(ctx context.Context) (*world, error) {
	settings, err := c.Settings(ctx)
	if err != nil {
		return nil, err
	}
	w := &world{c: c}
	if w.Reference, err = tables.NewReference(c.cfg.Connection, c.registry, c.records, ageOf(settings), c.cfg.Logger, nil); err != nil {
		return nil, err
	}
	w.stop, err = c.keep(ctx, w.Reference)
	return w, err
}

// World holds every table that verdicts are made on, current until stop is called. It reads each subject's consents.
func (c *Client) World(ctx context.Context) (w *tables.World, age time.Duration, stop func(), err error) {
	settings, err := c.Settings(ctx)
	if err != nil {
		return nil, 0, nil, err
	}
	if w, err = tables.NewWorld(c.cfg.Connection, c.registry, c.records, ageOf(settings), c.cfg.Logger); err != nil {
		return nil, 0, nil, err
	}
	stop, err = c.keep(ctx, w.Reference)
	return w, ageOf(settings), stop, err
}

func ageOf(s *codecs.Settings) time.Duration {
	return time.Duration(s.LeaseAgeMillis) * time.Millisecond
}

// keep runs tables until stop is called, and returns once they are confirmed current. After an error they do not run.
func (c *Client) keep(ctx context.Context, of *tables.Reference) (stop func(), err error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		of.Run(running)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	if err := of.Wait(ctx); err != nil {
		stop()
		return nil, fmt.Errorf("read the tables: %w", err)
	}
	return stop, nil
}

// prepare registers the projected schemas of an event type's deliveries.
func (w *world) prepare(ctx context.Context, eventType string, schema *codecs.Schema) error {
	return projections.Prepare(ctx, w.c.registry, w.Snapshot().Targets(eventType, schema))
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
		return nil, err
	}
	resolver := admission.NewResolver(c.registry, w.prepare)
	p, err := admission.NewPublisher(admission.PublisherConfig{Options: opts, Resolver: resolver, Lease: w, Letters: c.records.DeadLetter,
		Door:   &admission.Door{Keys: keys, Belongs: resolver.Belongs, RegistryURL: c.cfg.Registry.URL},
		Tables: func() admission.Tables { return w.Snapshot() }})
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
