package admission

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"civicbus/codecs"
)

// Schemas is what admission asks a schema registry; *codecs.Registry answers it.
type Schemas interface {
	Cached(id int32) (*codecs.Schema, bool)
	Load(ctx context.Context, id int32) (*codecs.Schema, error)
	Latest(ctx context.Context, registrySubject string) (*codecs.Schema, error)
	Versions(ctx context.Context, registrySubject string) ([]*codecs.Schema, error)
}

const (
	latestFor   = 5 * time.Second // how long the newest version of a registry subject is taken for the newest
	foreignFor  = time.Second     // how long a schema is taken for not belonging, so that a flood of it costs few questions
	pauseFor    = 250 * time.Millisecond
	resolveWait = 5 * time.Second // of one event's questions to the registry
)

// ErrRegistryPaused is the answer while the registry was found out of reach a moment ago: events that need it wait, and
// those whose schemas are known go on.
var ErrRegistryPaused = errors.New("schema registry was out of reach a moment ago")

// Resolver does what Admit must not: it asks the registry, before Admit is asked. Safe for concurrent use.
type Resolver struct {
	schemas Schemas
	// prepare is called once for each (event type, schema) before the first event of it is admitted; nil: nothing to do.
	// An error holds the event. The router's projected schemas are registered here, so that no callback ever needs to.
	prepare func(ctx context.Context, eventType string, schema *codecs.Schema) error

	mu       sync.Mutex
	belongs  map[belonging]time.Time // zero: it belongs, for ever; else until when it is taken not to
	latest   map[string]newest
	prepared map[preparation]bool
	paused   time.Time // the registry is not asked before
}

type (
	belonging struct {
		registrySubject string
		id              int32
	}
	newest struct {
		schema *codecs.Schema
		until  time.Time
	}
	preparation struct {
		eventType string
		id        int32
	}
)

// NewResolver makes one over a registry; prepare may be nil.
func NewResolver(schemas Schemas, prepare func(ctx context.Context, eventType string, schema *codecs.Schema) error) *Resolver {
	return &Resolver{schemas: schemas, prepare: prepare, belongs: map[belonging]time.Time{},
		latest: map[string]newest{}, prepared: map[preparation]bool{}}
}

// Belongs is Door.Belongs for what Resolve has asked.
func (r *Resolver) Belongs(registrySubject string, id int32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, asked := r.belongs[belonging{registrySubject, id}]
	return asked && until.IsZero()
}

// Resolve makes an event ready for Admit: it loads the schema, asks whether it is the type's, and turns JSON data into
// Avro under the type's newest schema. What is wrong with the event becomes a fault in it. codecs.ErrUnknownSchema says that
// the registry does not know the id (yet); every other error, that the event must wait for the registry. Nothing is asked
// for an event that Admit refuses without looking at its data: who may not publish shall not keep the registry busy.
func (r *Resolver) Resolve(ctx context.Context, door *Door, in *Input, tables Tables) error {
	if in.unasked = !door.passes(in, tables); in.unasked {
		return nil
	}
	et := tables.EventType(in.Attributes["type"])
	ctx, cancel := context.WithTimeout(ctx, resolveWait)
	defer cancel()
	if in.JSON != nil && len(in.Value) == 0 {
		if err := r.convert(ctx, in, et); err != nil || len(in.Faults) > 0 {
			return err
		}
	}
	if len(in.Value) > MaxValueBytes {
		return nil
	}
	id, _, err := codecs.WireID(in.Value)
	if err != nil {
		return nil
	}
	if in.Schema == nil || in.Schema.ID() != id {
		if in.Schema, err = r.load(ctx, id); err != nil {
			return err
		}
	}
	member, err := r.member(ctx, et.RegistrySubject, id)
	if err != nil {
		return err
	}
	in.resolved = et.RegistrySubject
	if !member {
		return nil
	}
	return r.ready(ctx, et.Type, in.Schema)
}

// current reports whether what Resolve asked about is what Admit will need under these tables, which may be newer ones.
func (in *Input) current(door *Door, tables Tables) bool {
	if in.unasked {
		return !door.passes(in, tables)
	}
	et := tables.EventType(in.Attributes["type"])
	return et == nil || in.resolved == "" || in.resolved == et.RegistrySubject
}

// passes reports whether an event's envelope is well formed and its organisation may publish it.
func (d *Door) passes(in *Input, tables Tables) bool {
	j := judgement{door: d, in: in, tables: tables}
	return j.envelope() && j.trust()
}

// convert turns JSON data into Avro.
func (r *Resolver) convert(ctx context.Context, in *Input, et *codecs.EventType) error {
	schema, err := r.newest(ctx, et.RegistrySubject)
	if errors.Is(err, codecs.ErrUnknownSubject) {
		in.fault("data", NoSchema, "the type has no schema yet")
		return nil
	}
	if err != nil {
		return err
	}
	body, faults := schema.FromJSON(in.JSON)
	if len(faults) > 0 {
		in.Faults = append(in.Faults, scrub(faults)...)
		return nil
	}
	in.Value = append(codecs.AppendWire(make([]byte, 0, codecs.WireHeaderBytes+len(body)), schema.ID()), body...)
	in.Schema = schema
	return nil
}

func (r *Resolver) load(ctx context.Context, id int32) (*codecs.Schema, error) {
	if schema, ok := r.schemas.Cached(id); ok {
		return schema, nil
	}
	return ask(r, func() (*codecs.Schema, error) { return r.schemas.Load(ctx, id) })
}

func (r *Resolver) newest(ctx context.Context, registrySubject string) (*codecs.Schema, error) {
	r.mu.Lock()
	known := r.latest[registrySubject]
	r.mu.Unlock()
	if known.schema != nil && time.Now().Before(known.until) {
		return known.schema, nil
	}
	schema, err := ask(r, func() (*codecs.Schema, error) { return r.schemas.Latest(ctx, registrySubject) })
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latest[registrySubject] = newest{schema, time.Now().Add(latestFor)}
	r.belongs[belonging{registrySubject, schema.ID()}] = time.Time{}
	return schema, nil
}

// member asks whether the registry subject has the schema among its versions.
func (r *Resolver) member(ctx context.Context, registrySubject string, id int32) (bool, error) {
	r.mu.Lock()
	until, asked := r.belongs[belonging{registrySubject, id}]
	r.mu.Unlock()
	if asked && until.IsZero() {
		return true, nil
	}
	if asked && time.Now().Before(until) {
		return false, nil
	}
	versions, err := ask(r, func() ([]*codecs.Schema, error) { return r.schemas.Versions(ctx, registrySubject) })
	if err != nil && !errors.Is(err, codecs.ErrUnknownSubject) {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.belongs[belonging{registrySubject, id}] = time.Now().Add(foreignFor)
	for _, v := range versions {
		r.belongs[belonging{registrySubject, v.ID()}] = time.Time{}
	}
	return r.belongs[belonging{registrySubject, id}].IsZero(), nil
}

func (r *Resolver) ready(ctx context.Context, eventType string, schema *codecs.Schema) error {
	if r.prepare == nil {
		return nil
	}
	p := preparation{eventType, schema.ID()}
	r.mu.Lock()
	done := r.prepared[p]
	r.mu.Unlock()
	if done {
		return nil
	}
	if err := r.prepare(ctx, eventType, schema); err != nil {
		return fmt.Errorf("prepare %s for schema %d: %w", eventType, schema.ID(), err)
	}
	r.mu.Lock()
	r.prepared[p] = true
	r.mu.Unlock()
	return nil
}

// ask asks the registry, but not again within a moment of its being out of reach.
func ask[T any](r *Resolver, question func() (T, error)) (answer T, err error) {
	r.mu.Lock()
	paused := time.Now().Before(r.paused)
	r.mu.Unlock()
	if paused {
		return answer, ErrRegistryPaused
	}
	answer, err = question()
	if err != nil && !errors.Is(err, codecs.ErrUnknownSchema) && !errors.Is(err, codecs.ErrUnknownSubject) {
		r.mu.Lock()
		r.paused = time.Now().Add(pauseFor)
		r.mu.Unlock()
	}
	return answer, err
}
