package app

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"civicbus/codecs"
	shared "civicbus/internal/projections"
	"civicbus/internal/verdict"
	"civicbus/topology"
)

// projections registers the projected schemas that deliveries are written under (DESIGN.md section 4), and keeps them. A
// record waits before goka until those of its type and writer schema are registered. Safe for concurrent use.
type projections struct {
	ctx      context.Context
	registry *codecs.Registry
	log      *slog.Logger

	mu     sync.RWMutex
	known  map[projectionKey]*registered
	busy   map[projectionKey]bool
	ready  map[readyKey]*verdict.Snapshot // for which snapshot everything was found registered
	topics map[readyKey]outputs           // that deliveries may go to under that snapshot
}

// outputs are topics, and how many had been lost when all of them were last found to be there, or known not to be.
type outputs struct {
	names   []string
	settled bool
	gone    uint64
}

type projectionKey struct {
	subscriber, eventType string
	writer                int32
	paths                 int64 // verdict.Target.Set
}

type readyKey struct {
	eventType string
	writer    int32
}

// registered is a projection under its registry id; one that the registry refuses has none, and its deliveries become
// dead letters: a source that breaks its own schema's compatibility must not stop everyone else's events. It is asked for
// again now and then, since what stood against it can be taken away.
type registered struct {
	projection *codecs.Projection
	id         int32
}

func newProjections(ctx context.Context, registry *codecs.Registry, log *slog.Logger) *projections {
	return &projections{ctx: ctx, registry: registry, log: log,
		known: map[projectionKey]*registered{}, busy: map[projectionKey]bool{}, ready: map[readyKey]*verdict.Snapshot{}, topics: map[readyKey]outputs{}}
}

func key(t verdict.Target) projectionKey {
	return projectionKey{t.Subscriber, t.EventType, t.Writer.ID(), t.Set}
}

// find is router.Env.Projection.
func (p *projections) find(t verdict.Target) (*codecs.Projection, int32) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if r := p.known[key(t)]; r != nil {
		return r.projection, r.id
	}
	return nil, 0
}

// settled says whether every projected schema that deliveries of a type may need is registered, or refused; else it
// registers them in the background.
func (p *projections) settled(snap *verdict.Snapshot, eventType string, writer *codecs.Schema) bool {
	rk := readyKey{eventType, writer.ID()}
	p.mu.RLock()
	done := p.ready[rk] == snap
	p.mu.RUnlock()
	if done {
		return true
	}
	done = true
	var topics []string
	for _, t := range snap.Targets(eventType, writer) {
		k := key(t)
		topics = append(topics, topology.SubscriberTopicName(t.Subscriber))
		p.mu.Lock()
		if p.known[k] == nil {
			done = false
			if !p.busy[k] {
				p.busy[k] = true
				go func() {
					if err := p.register(p.ctx, t, k); err != nil && p.ctx.Err() == nil {
						p.log.Warn("register projected schema: its events wait", "subscriber", t.Subscriber, "type", t.EventType, "error", err)
						pause(p.ctx, retryEach)
					}
					p.mu.Lock()
					delete(p.busy, k)
					p.mu.Unlock()
				}()
			}
		}
		p.mu.Unlock()
	}
	if done {
		p.mu.Lock()
		p.ready[rk], p.topics[rk] = snap, outputs{names: topics}
		p.mu.Unlock()
	}
	return done
}

// outletsSettled says whether it is known of every subscriber's topic that deliveries of a type may go to.
func (p *projections) outletsSettled(eventType string, writer *codecs.Schema, o *outlets) bool {
	rk, gone := readyKey{eventType, writer.ID()}, o.gone.Load()
	p.mu.RLock()
	out := p.topics[rk]
	p.mu.RUnlock()
	if out.settled && out.gone == gone {
		return true
	}
	out.settled, out.gone = true, gone
	for _, t := range out.names {
		out.settled = o.settled(t) && out.settled
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.topics[rk]; len(now.names) == len(out.names) && (len(out.names) == 0 || &now.names[0] == &out.names[0]) { // not made anew meanwhile
		p.topics[rk] = out
	}
	return out.settled
}

// ensure registers what settled would, and waits: admission lets no schema in whose projections are not registered.
func (p *projections) ensure(ctx context.Context, snap *verdict.Snapshot, eventType string, writer *codecs.Schema) error {
	for _, t := range snap.Targets(eventType, writer) {
		k := key(t)
		p.mu.RLock()
		have := p.known[k] != nil
		p.mu.RUnlock()
		if have {
			continue
		}
		if err := p.register(ctx, t, k); err != nil {
			return err
		}
	}
	return nil
}

func (p *projections) register(ctx context.Context, t verdict.Target, k projectionKey) error {
	r := &registered{}
	switch projection, id, err := shared.Register(ctx, p.registry, t); {
	case err == nil:
		r.projection, r.id = projection, id
	case errors.Is(err, codecs.ErrIncompatible), errors.Is(err, codecs.ErrInvalidSchema):
		p.log.Error("projected schema refused: deliveries under it become dead letters", "registry_subject", shared.Subject(t), "error", err)
	default:
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if had := p.known[k]; had != nil && (had.projection != nil || r.projection == nil) {
		return nil // someone else was first, and asks again if need be
	}
	p.known[k] = r
	if r.projection == nil {
		go p.again(t, k)
	}
	return nil
}

// A refused projection is asked for again first after retryRefused, then after twice as long each time, up to retryRefusedMost.
const (
	retryRefused     = 5 * time.Second
	retryRefusedMost = 10 * time.Minute
)

// again asks for a refused projection until the registry takes it or the process stops.
func (p *projections) again(t verdict.Target, k projectionKey) {
	for wait := retryRefused; ; wait = min(2*wait, retryRefusedMost) {
		if pause(p.ctx, wait); p.ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		done, registry := p.known[k].projection != nil, p.registry // done: ensure was first
		p.mu.Unlock()
		if done {
			return
		}
		projection, id, err := shared.Register(p.ctx, registry, t)
		if err != nil {
			continue // refused as before, which has been logged, or the registry is out of reach
		}
		p.log.Info("projected schema registered after all", "registry_subject", shared.Subject(t))
		p.mu.Lock()
		p.known[k] = &registered{projection, id}
		p.mu.Unlock()
		return
	}
}
