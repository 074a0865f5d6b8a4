package codecs

import (
	"runtime"
	"strings"
	"sync"
	"weak"
)

// projections are those of one writer's schema that are in use, by their paths. It does not keep them: who uses one does.
type projections struct {
	mu    sync.Mutex
	known map[string]weak.Pointer[Projection]
}

// find gives the projection of a list of paths, nil if none is in use.
func (p *projections) find(paths []string) *Projection {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[strings.Join(paths, "\n")].Value()
}

// keep makes a projection the one of its paths, and gives that which was there first.
func (p *projections) keep(made *Projection) *Projection {
	name := strings.Join(made.paths, "\n") // no name in a schema has a line's end
	p.mu.Lock()
	defer p.mu.Unlock()
	if had := p.known[name].Value(); had != nil {
		return had
	}
	if p.known == nil {
		p.known = map[string]weak.Pointer[Projection]{}
	}
	p.known[name] = weak.Make(made)
	runtime.AddCleanup(made, p.forget, name)
	return made
}

// forget ends an entry of which nothing is left, but not that of a projection made since.
func (p *projections) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[name].Value() == nil {
		delete(p.known, name)
	}
}
