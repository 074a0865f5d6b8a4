package leave

import (
	"context"
	"errors"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"
)

// shape is one projected schema with what is worked out of it once.
type shape struct {
	*verdict.Delivered

	mu    sync.Mutex
	masks map[int64]*codecs.Mask // by the field set that is shown
}

// maxMasks bounds the masks kept of a schema; those beyond are made anew at each use.
const maxMasks = 256

// mask is what of a delivery a verdict does not show.
func (s *shape) mask(v *verdict.Verdict) (*codecs.Mask, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.masks[v.FieldSet]; ok {
		return m, nil
	}
	m, err := s.Schema().Mask(s.Hidden(v))
	if err == nil && len(s.masks) < maxMasks {
		s.masks[v.FieldSet] = m
	}
	return m, err
}

// shapes keeps the projected schemas in use, by id. Safe for concurrent use.
type shapes struct {
	registry *codecs.Registry
	known    sync.Map // int32 -> *shape
}

func newShapes(registry *codecs.Registry) *shapes { return &shapes{registry: registry} }

// of gives the shape of a value's schema. The error is codecs.Malformed, codecs.ErrUnknownSchema, or that the registry is out
// of reach.
func (s *shapes) of(ctx context.Context, value []byte) (*shape, error) {
	id, _, err := codecs.WireID(value)
	if err != nil {
		return nil, err
	}
	if known, ok := s.known.Load(id); ok {
		return known.(*shape), nil
	}
	schema, err := s.registry.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	known, _ := s.known.LoadOrStore(id, &shape{Delivered: verdict.NewDelivered(schema), masks: map[int64]*codecs.Mask{}})
	return known.(*shape), nil
}

// writers knows the versions of types' own schemas, for a filter on what is not delivered. Safe for concurrent use.
type writers struct {
	registry *codecs.Registry

	mu    sync.Mutex
	known map[string]versions
}

type versions struct {
	all   []*codecs.Schema // the newest first
	asked time.Time
}

// writersFor is how long the versions of a registry subject are used before they are asked for again.
const writersFor = time.Minute

func newWriters(registry *codecs.Registry) *writers {
	return &writers{registry: registry, known: map[string]versions{}}
}

// of gives a registry subject's versions, the newest first; none when it has none.
func (w *writers) of(ctx context.Context, registrySubject string) ([]*codecs.Schema, error) {
	w.mu.Lock()
	v, ok := w.known[registrySubject]
	w.mu.Unlock()
	if ok && time.Since(v.asked) < writersFor {
		return v.all, nil
	}
	all, err := w.registry.Versions(ctx, registrySubject)
	if errors.Is(err, codecs.ErrUnknownSubject) {
		all, err = nil, nil
	}
	if err != nil {
		if ok { // what was known a while ago is better than nothing: a version is never taken back
			return v.all, nil
		}
		return nil, err
	}
	v = versions{make([]*codecs.Schema, 0, len(all)), time.Now()}
	for i := len(all) - 1; i >= 0; i-- {
		v.all = append(v.all, all[i])
	}
	w.mu.Lock()
	w.known[registrySubject] = v
	w.mu.Unlock()
	return v.all, nil
}
