package topology

import (
	"fmt"
	"slices"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
)

// raw is the codec of every edge: values stay bytes until the callback decodes them, so that bad bytes are a value that
// becomes a dead letter, not an error that stops the processor (goka stops on a codec error).
var raw = new(codec.Bytes)

// Callbacks holds one goka callback per input topic of a group, and one for its loop.
type Callbacks map[string]goka.ProcessCallback

// Build turns a group of the map into a goka graph. A missing or surplus callback is an error: a topic that nobody
// handles would be consumed and forgotten. more are edges that are no part of the map, such as timers.
func Build(g Group, callbacks Callbacks, more ...goka.Edge) (*goka.GroupGraph, error) {
	edges := slices.Clone(more)
	for _, s := range g.In {
		cb := callbacks[s.Name]
		if cb == nil {
			return nil, fmt.Errorf("build group %s: no callback for its input %s", g.Name, s.Name)
		}
		edges = append(edges, goka.Input(goka.Stream(s.Name), raw, cb))
	}
	for _, s := range g.loops() {
		if callbacks[s.Name] == nil {
			return nil, fmt.Errorf("build group %s: no callback for its loop %s", g.Name, s.Name)
		}
		edges = append(edges, goka.Loop(raw, callbacks[s.Name]))
	}
	if n := len(g.In) + len(g.loops()); len(callbacks) != n {
		return nil, fmt.Errorf("build group %s: %d callbacks for %d inputs", g.Name, len(callbacks), n)
	}
	for _, j := range g.Join {
		edges = append(edges, goka.Join(goka.Table(TableTopic(j)), raw))
	}
	for _, l := range g.Lookup {
		edges = append(edges, goka.Lookup(goka.Table(TableTopic(l)), raw))
	}
	for _, s := range g.Out {
		edges = append(edges, goka.Output(goka.Stream(s.Name), raw))
	}
	for _, s := range g.OutEach {
		edges = append(edges, goka.Output(goka.Stream(s.Name), raw))
	}
	if g.Table != "" {
		edges = append(edges, goka.Persist(raw))
	}
	graph := goka.DefineGroup(goka.Group(g.Name), edges...)
	if err := graph.Validate(); err != nil {
		return nil, fmt.Errorf("build group %s: %w", g.Name, err)
	}
	return graph, nil
}
