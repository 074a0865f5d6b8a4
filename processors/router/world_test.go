package router

import (
	"context"

	"civicbus/codecs"
	"civicbus/internal/projections"
	"civicbus/internal/verdict"
	"civicbus/processors/event/eventtest"
)

// registered keeps projections as internal/app does: made and registered once, then found.
type registered struct {
	w     *eventtest.World
	known map[target]projection
}

type target struct {
	subscriber, eventType string
	set                   int64
}

type projection struct {
	*codecs.Projection
	id int32
}

func newRegistered(w *eventtest.World) *registered {
	return &registered{w: w, known: map[target]projection{}}
}

func (r *registered) find(t verdict.Target) (*codecs.Projection, int32) {
	k := target{t.Subscriber, t.EventType, t.Set}
	if _, ok := r.known[k]; !ok {
		p, id, err := projections.Register(context.Background(), r.w.Registry, t)
		if err != nil {
			r.w.T.Fatal(err)
		}
		r.known[k] = projection{p, id}
	}
	return r.known[k].Projection, r.known[k].id
}
