// Package projections makes projected schemas known to the schema registry (DESIGN.md section 4). Whoever lets an event in
// or delivers one must have done so before; both register by this one rule, so both find the same.
package projections

import (
	"context"
	"errors"
	"fmt"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/topology"
)

// Subject is the registry subject of one subscriber's projections of a writer schema (TopicRecordNameStrategy).
func Subject(t verdict.Target) string {
	return topology.SubscriberTopicName(t.Subscriber) + "-" + t.Writer.FullName()
}

// Register makes the projected schema of a target the newest of its registry subject, or finds it there; id is the one that
// deliveries carry. codecs.ErrIncompatible and codecs.ErrInvalidSchema say that there will be none; other errors that the
// registry is out of reach.
func Register(ctx context.Context, registry *codecs.Registry, t verdict.Target) (p *codecs.Projection, id int32, err error) {
	if p, err = t.Writer.Projection(t.Paths); err != nil {
		return nil, 0, fmt.Errorf("project %s for %s: %w: %w", t.EventType, t.Subscriber, codecs.ErrInvalidSchema, err)
	}
	if err := registry.SetCompatibility(ctx, Subject(t), codecs.FullTransitive); err != nil {
		return nil, 0, err
	}
	s, err := registry.Register(ctx, Subject(t), p.JSON())
	if err != nil {
		return nil, 0, err
	}
	return p, s.ID(), nil
}

// Prepare registers every target's projected schema. What the registry refuses becomes dead letters later: it must not keep
// everyone else's events out. The error says that the registry is out of reach.
func Prepare(ctx context.Context, registry *codecs.Registry, targets []verdict.Target) error {
	for _, t := range targets {
		if _, _, err := Register(ctx, registry, t); err != nil && !errors.Is(err, codecs.ErrIncompatible) && !errors.Is(err, codecs.ErrInvalidSchema) {
			return err
		}
	}
	return nil
}
