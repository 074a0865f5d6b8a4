package app

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"civicbus/codecs"
)

// schemas knows which schemas a record needs, and gets them in the background, so that callbacks never touch the network: a
// record waits before goka until what it needs is here. Safe for concurrent use.
type schemas struct {
	ctx      context.Context
	registry *codecs.Registry
	log      *slog.Logger

	mu     sync.Mutex
	ids    map[int32]*lookup
	newest map[string]*newest
}

type lookup struct {
	busy    bool
	unknown time.Time // since when the registry has said that it does not know the id; zero: it has not
}

type newest struct {
	busy   bool
	at     time.Time // of the last answer
	schema *codecs.Schema
}

const (
	// unknownAfter is how long an id that the registry does not know is waited for: a registry with replicas may learn it late.
	unknownAfter = 10 * time.Second
	// newestFor is how long the answer "this is the newest schema" is used.
	newestFor = 2 * time.Second
	retryEach = 250 * time.Millisecond
)

func newSchemas(ctx context.Context, registry *codecs.Registry, log *slog.Logger) *schemas {
	return &schemas{ctx: ctx, registry: registry, log: log, ids: map[int32]*lookup{}, newest: map[string]*newest{}}
}

// settled says whether it is known what a wire format id stands for, or that it stands for nothing; else it finds out.
func (s *schemas) settled(value []byte) bool {
	id, _, err := codecs.WireID(value)
	if err != nil {
		return true // malformed: nothing to look up
	}
	if _, ok := s.registry.Cached(id); ok {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.ids[id]
	if l == nil {
		l = &lookup{}
		s.ids[id] = l
	}
	if !l.unknown.IsZero() && time.Since(l.unknown) > unknownAfter {
		return true
	}
	if !l.busy {
		l.busy = true
		go s.load(id, l)
	}
	return false
}

func (s *schemas) load(id int32, l *lookup) {
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	_, err := s.registry.Load(ctx, id)
	s.mu.Lock()
	switch {
	case err == nil:
		delete(s.ids, id)
	case errors.Is(err, codecs.ErrUnknownSchema):
		if l.unknown.IsZero() {
			l.unknown = time.Now()
		}
	case s.ctx.Err() == nil:
		s.log.Warn("load schema: its records wait", "id", id, "error", err)
	}
	s.mu.Unlock()
	if err != nil {
		pause(s.ctx, retryEach)
	}
	s.mu.Lock()
	l.busy = false
	s.mu.Unlock()
}

// await blocks until the schema of a row is here or known not to be: for table rows, whose table then falls behind.
func (s *schemas) await(value []byte) {
	for !s.settled(value) && s.ctx.Err() == nil {
		pause(s.ctx, 5*time.Millisecond)
	}
}

// fresh says whether the newest schema of a registry subject has been asked for lately; else it asks.
func (s *schemas) fresh(registrySubject string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.newest[registrySubject]
	if n == nil {
		n = &newest{}
		s.newest[registrySubject] = n
	}
	if time.Since(n.at) < newestFor {
		return true
	}
	if !n.busy {
		n.busy = true
		go s.refresh(registrySubject, n)
	}
	return false
}

func (s *schemas) refresh(registrySubject string, n *newest) {
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	schema, err := s.registry.Latest(ctx, registrySubject)
	unknown := errors.Is(err, codecs.ErrUnknownSubject)
	if err != nil && !unknown {
		if s.ctx.Err() == nil {
			s.log.Warn("look up the newest schema: its commands wait", "registry_subject", registrySubject, "error", err)
		}
		pause(s.ctx, retryEach)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.busy = false
	if err == nil || unknown {
		n.at, n.schema = time.Now(), schema
	}
}

// latest is the newest schema of a registry subject as far as it has been asked for; nil: it has none.
func (s *schemas) latest(registrySubject string) *codecs.Schema {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.newest[registrySubject]; n != nil {
		return n.schema
	}
	return nil
}

// pause waits, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
