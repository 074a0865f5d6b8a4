package codecs

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/avro"

	"civicbus/schemas"
)

var (
	// ErrNotBound says that a Record was used before Bind or BindLocal.
	ErrNotBound = errors.New("record is not bound to a schema registry")
	// ErrNotLoaded says that a value's schema id was never loaded. Ids are loaded before a record is handed on, so a
	// callback that meets it has found a bug, not bad bytes.
	ErrNotLoaded = errors.New("schema id is not loaded")
)

// Record encodes and decodes one of civicbus's own record types in the registry's wire format. It writes the newest
// schema of package schemas and reads every version, older or newer, that the registry has. Bind comes first; after it,
// it is safe for concurrent use. Callbacks may use it: neither Encode nor Decode ever waits for the network.
type Record[T any] struct {
	name  string
	topic string

	mu       sync.RWMutex
	registry *Registry
	id       int32
	newest   *avro.Schema
	readers  map[int32]*avro.Schema // by the writer's schema id
}

// NewRecord describes the record of a name in package schemas on a topic. Its registry subject is "{topic}-value".
func NewRecord[T any](name, topic string) *Record[T] {
	return &Record[T]{name: name, topic: topic, readers: map[int32]*avro.Schema{}}
}

// Name is the name in package schemas.
func (r *Record[T]) Name() string { return r.name }

// RegistrySubject is where the record's schemas are registered.
func (r *Record[T]) RegistrySubject() string { return r.topic + "-value" }

// Bind registers every published version, the oldest first, and loads what else the registry subject holds, so that
// values of a newer release decode too. It returns the registry's errors; a second Bind starts over.
func (r *Record[T]) Bind(ctx context.Context, registry *Registry) error {
	versions := schemas.Versions(r.name)
	if len(versions) == 0 {
		return fmt.Errorf("bind record %s: no such schema", r.name)
	}
	if err := registry.SetCompatibility(ctx, r.RegistrySubject(), FullTransitive); err != nil {
		return fmt.Errorf("bind record %s: %w", r.name, err)
	}
	var newest *Schema
	for _, text := range versions {
		s, err := registry.Register(ctx, r.RegistrySubject(), text)
		if err != nil {
			return fmt.Errorf("bind record %s: %w", r.name, err)
		}
		newest = s
	}
	if _, err := registry.Versions(ctx, r.RegistrySubject()); err != nil {
		return fmt.Errorf("bind record %s: %w", r.name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.registry, r.id, r.newest = registry, newest.ID(), newest.avro
	r.readers = map[int32]*avro.Schema{r.id: r.newest}
	return nil
}

// BindLocal binds to ids that every process agrees on and no server knows: for tests and tools.
func (r *Record[T]) BindLocal() error { return r.Bind(context.Background(), NewLocalRegistry()) }

// ID is the schema id that Encode writes; 0 before Bind.
func (r *Record[T]) ID() int32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.id
}

// Encode gives the value in wire format. It fails before Bind (ErrNotBound) and on a string that is not UTF-8.
func (r *Record[T]) Encode(v *T) ([]byte, error) { return r.Append(nil, v) }

// Append appends the value in wire format to dst.
func (r *Record[T]) Append(dst []byte, v *T) ([]byte, error) {
	r.mu.RLock()
	id, schema := r.id, r.newest
	r.mu.RUnlock()
	if schema == nil {
		return dst, fmt.Errorf("encode %s: %w", r.name, ErrNotBound)
	}
	out, err := schema.AppendEncode(AppendWire(dst, id), v)
	if err != nil {
		return dst, fmt.Errorf("encode %s: %w", r.name, err)
	}
	return out, nil
}

// Decode reads a value in wire format, written with any version of the record's schema. Bad bytes, a tombstone (nil) and
// a schema of another record are a Malformed; ErrNotLoaded and ErrNotBound are not the value's fault.
func (r *Record[T]) Decode(value []byte) (T, error) {
	var v T
	id, body, err := WireID(value)
	if err != nil {
		return v, err
	}
	schema, err := r.reader(id)
	if err != nil {
		return v, err
	}
	if len(body) > unscannedBytes {
		if err := r.scan(id, body); err != nil {
			return v, err
		}
	}
	rest, err := schema.Decode(body, &v)
	if err == nil && len(rest) > 0 {
		err = errTrailing
	}
	if err != nil {
		var zero T
		return zero, Malformed{What: r.name, Err: errBody}
	}
	return v, nil
}

// DecodeLoading is Decode for edges, which may wait for the registry: a schema that is not loaded yet, such as a newer
// release's, is loaded first. An error that is not Malformed may be the registry's.
func (r *Record[T]) DecodeLoading(ctx context.Context, value []byte) (T, error) {
	v, err := r.Decode(value)
	if !errors.Is(err, ErrNotLoaded) {
		return v, err
	}
	id, _, err := WireID(value)
	if err != nil {
		return v, err
	}
	r.mu.RLock()
	registry := r.registry
	r.mu.RUnlock()
	if _, err := registry.Load(ctx, id); err != nil {
		return v, err
	}
	return r.Decode(value)
}

// Bounds of how often the library may copy what it has of an array: it makes a new slice for each block of one, so that an
// array of single items in blocks of their own takes the square of its bytes. What civicbus writes has one block an array;
// Java's blocking encoder makes one for each 64 KiB.
const (
	maxBlocks      = 32
	unscannedBytes = 2 << 10 // of a body that is too short to hurt
)

// scan looks through a long body before it is decoded.
func (r *Record[T]) scan(id int32, body []byte) error {
	r.mu.RLock()
	registry := r.registry
	r.mu.RUnlock()
	writer, ok := registry.Cached(id)
	if !ok {
		return fmt.Errorf("decode %s: schema %d: %w", r.name, id, ErrNotLoaded)
	}
	if err := writer.validate(body, maxBlocks); err != nil {
		return Malformed{What: r.name, Err: err}
	}
	return nil
}

// errBody stands for the library's own error, which may quote the data.
var errBody = errors.New("bytes are not a value of the schema")

// reader gives what decodes a writer's schema into T, resolved once per id.
func (r *Record[T]) reader(id int32) (*avro.Schema, error) {
	r.mu.RLock()
	schema, registry, newest := r.readers[id], r.registry, r.newest
	r.mu.RUnlock()
	if schema != nil {
		return schema, nil
	}
	if registry == nil {
		return nil, fmt.Errorf("decode %s: %w", r.name, ErrNotBound)
	}
	writer, ok := registry.Cached(id)
	if !ok {
		return nil, fmt.Errorf("decode %s: schema %d: %w", r.name, id, ErrNotLoaded)
	}
	schema, err := avro.Resolve(writer.avro, newest)
	if err != nil {
		return nil, Malformed{What: r.name, Err: fmt.Errorf("schema %d is of another record: %w", id, err)}
	}
	r.mu.Lock()
	r.readers[id] = schema
	r.mu.Unlock()
	return schema, nil
}
