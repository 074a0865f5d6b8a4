package codecs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/riferrei/srclient"
)

// What a registry can answer besides a schema. Every other error means that the registry is out of reach: nothing is
// known then, and the caller waits or holds.
var (
	ErrUnknownSchema  = errors.New("schema id is not known to the registry")
	ErrUnknownSubject = errors.New("registry subject is not known to the registry")
	ErrIncompatible   = errors.New("schema is not compatible")
	ErrInvalidSchema  = errors.New("schema is not valid Avro")
)

// FullTransitive is the compatibility level of every registry subject that civicbus writes.
const FullTransitive = "FULL_TRANSITIVE"

// RegistryConfig says where the Schema Registry is.
type RegistryConfig struct {
	URL      string        // http or https
	User     string        // of basic authentication; empty: none
	Password string        // of basic authentication
	Timeout  time.Duration // of one request; zero: 5 s

	Transport http.RoundTripper // carries the requests; nil: http.DefaultTransport
}

// Registry is a Schema Registry seen through a cache. A schema id never changes its meaning, so what is loaded stays.
// It is safe for concurrent use; requests for one id or one (registry subject, schema) share one round trip.
type Registry struct {
	store store

	mu         sync.RWMutex
	byID       map[int32]*Schema
	registered map[registration]*Schema
	flights    map[any]*flight
}

type registration struct{ subject, schema string }

// store is the registry behind the cache.
type store interface {
	schema(id int32) (text string, err error)
	register(subject, text string) (id int32, err error)
	version(subject string, version int) (id int32, text string, err error) // 0: the latest
	versions(subject string) ([]int, error)
	setCompatibility(subject, level string) error
}

// flight is one request under way; done is closed when the result stands.
type flight struct {
	done   chan struct{}
	schema *Schema
	err    error
}

// NewRegistry checks the configuration; it opens no connection.
func NewRegistry(c RegistryConfig) (*Registry, error) {
	u, err := url.Parse(c.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("schema registry URL is not an http or https URL: %q", bounded(c.URL))
	}
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	u.Path = trimSlash(u.Path)
	client := srclient.NewSchemaRegistryClient(u.String(),
		srclient.WithClient(&http.Client{Timeout: c.Timeout, Transport: boundedTransport{c.Transport}}))
	client.CachingEnabled(false) // its cache would answer "latest" with what was latest once
	client.SetCredentials(c.User, c.Password)
	return newRegistry(&remoteStore{client: client}), nil
}

func newRegistry(s store) *Registry {
	return &Registry{store: s, byID: map[int32]*Schema{}, registered: map[registration]*Schema{}, flights: map[any]*flight{}}
}

func trimSlash(path string) string {
	for len(path) > 0 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	return path
}

// Cached gives a schema that was loaded or registered before. It never waits for the network: for callbacks.
func (r *Registry) Cached(id int32) (*Schema, bool) {
	r.mu.RLock()
	s, ok := r.byID[id]
	r.mu.RUnlock()
	return s, ok
}

// Load gives the schema of an id, from the cache or the registry. ErrUnknownSchema: the registry answered that it has
// none, or has one that is no Avro schema within the limits. An unknown id is asked for again at the next call.
func (r *Registry) Load(ctx context.Context, id int32) (*Schema, error) {
	if s, ok := r.Cached(id); ok {
		return s, nil
	}
	return r.once(ctx, id, func() (*Schema, error) {
		if s, ok := r.Cached(id); ok { // another flight landed between the look above and this one's start
			return s, nil
		}
		text, err := r.store.schema(id)
		if err != nil {
			return nil, fmt.Errorf("load schema %d: %w", id, err)
		}
		return r.keep(id, text)
	})
}

// Register makes a schema the newest version of a registry subject, or finds it among its versions. ErrIncompatible
// carries the registry's reason, ErrInvalidSchema says that the schema is none. Registering the same again costs nothing.
func (r *Registry) Register(ctx context.Context, registrySubject, schema string) (*Schema, error) {
	key := registration{registrySubject, schema}
	r.mu.RLock()
	s, ok := r.registered[key]
	r.mu.RUnlock()
	if ok {
		return s, nil
	}
	return r.once(ctx, key, func() (*Schema, error) {
		if _, err := ParseSchema(schema); err != nil {
			return nil, fmt.Errorf("register %s: %w: %w", registrySubject, ErrInvalidSchema, err)
		}
		id, err := r.store.register(registrySubject, schema)
		if err != nil {
			return nil, fmt.Errorf("register %s: %w", registrySubject, err)
		}
		s, err := r.keep(id, schema)
		if err != nil {
			return nil, fmt.Errorf("register %s: %w", registrySubject, err)
		}
		r.mu.Lock()
		r.registered[key] = s
		r.mu.Unlock()
		return s, nil
	})
}

// Latest gives the newest version of a registry subject, asked anew each time. ErrUnknownSubject: it has none.
func (r *Registry) Latest(ctx context.Context, registrySubject string) (*Schema, error) {
	return r.version(ctx, registrySubject, 0)
}

// Versions gives every version of a registry subject, the oldest first, asked anew each time. ErrUnknownSubject: it has
// none.
func (r *Registry) Versions(ctx context.Context, registrySubject string) ([]*Schema, error) {
	numbers, err := wait(ctx, func() ([]int, error) { return r.store.versions(registrySubject) })
	if err != nil {
		return nil, fmt.Errorf("list versions of %s: %w", registrySubject, err)
	}
	out := make([]*Schema, 0, len(numbers))
	for _, n := range numbers {
		s, err := r.version(ctx, registrySubject, n)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func (r *Registry) version(ctx context.Context, registrySubject string, version int) (*Schema, error) {
	return wait(ctx, func() (*Schema, error) {
		id, text, err := r.store.version(registrySubject, version)
		if err != nil {
			return nil, fmt.Errorf("read registry subject %s: %w", registrySubject, err)
		}
		return r.keep(id, text)
	})
}

// SetCompatibility sets the compatibility level of a registry subject, such as FullTransitive.
func (r *Registry) SetCompatibility(ctx context.Context, registrySubject, level string) error {
	_, err := wait(ctx, func() (struct{}, error) { return struct{}{}, r.store.setCompatibility(registrySubject, level) })
	if err != nil {
		return fmt.Errorf("set compatibility of %s: %w", registrySubject, err)
	}
	return nil
}

// keep parses and caches what the registry gave. Two schemas of one id are one: the first stays.
func (r *Registry) keep(id int32, text string) (*Schema, error) {
	if s, ok := r.Cached(id); ok {
		return s, nil
	}
	s, err := ParseSchema(text)
	if err != nil {
		return nil, fmt.Errorf("schema %d: %w: %w", id, ErrUnknownSchema, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if first, ok := r.byID[id]; ok {
		return first, nil
	}
	s = s.WithID(id)
	r.byID[id] = s
	return s, nil
}

// once runs one request for a key, however many ask; each waits no longer than its own context. The request itself
// goes on when the first asker gives up (srclient takes no context), and ends with its own timeout.
func (r *Registry) once(ctx context.Context, key any, ask func() (*Schema, error)) (*Schema, error) {
	r.mu.Lock()
	f, under := r.flights[key]
	if !under {
		f = &flight{done: make(chan struct{})}
		r.flights[key] = f
	}
	r.mu.Unlock()
	if !under {
		go func() {
			f.schema, f.err = ask()
			r.mu.Lock()
			delete(r.flights, key)
			r.mu.Unlock()
			close(f.done)
		}()
	}
	select {
	case <-f.done:
		return f.schema, f.err
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the schema registry: %w", ctx.Err())
	}
}

// wait runs a request that takes no context and stops waiting for it with the context.
func wait[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := ask()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var zero T
		return zero, fmt.Errorf("wait for the schema registry: %w", ctx.Err())
	}
}

// boundedTransport refuses answers that srclient does not bear: it reads them whole, however large, and takes a JSON null
// for a schema, which ends the process (srclient v0.7.4, getVersion; found by feeding it changed answers).
type boundedTransport struct{ next http.RoundTripper }

func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4*MaxSchemaBytes+1))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("read the registry's answer: %w", err)
	}
	if len(body) > 4*MaxSchemaBytes {
		return nil, fmt.Errorf("read the registry's answer: larger than %d bytes", 4*MaxSchemaBytes)
	}
	if bytes.Equal(bytes.TrimSpace(body), []byte("null")) {
		return nil, errors.New("read the registry's answer: null is none")
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}
