package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
)

// Registry is a Schema Registry with the Confluent REST interface, for Avro only. Beyond srfake it parses every schema
// before it takes it, refuses one that breaks the compatibility level of its registry subject, and keeps what it
// accepted in a journal, so that ids and versions are the same after a restart.
//
// It knows no modes (always READWRITE) and no contexts. A registry subject deleted softly takes no new version, where
// Confluent's would come back to life; deleted permanently it can be used again.
type Registry struct {
	log   *slog.Logger
	store *srfake.Registry
	http  http.Handler

	mu      sync.Mutex // held over a whole request: check, apply, journal
	journal *journal
	broken  error                            // why the journal could not be written; no request is answered after that
	levels  map[string]sr.CompatibilityLevel // by registry subject; "" is the level of all others
	highest map[string]int                   // the highest version ever given, by registry subject
	texts   map[string]bool                  // of every schema ever registered, in one form
	lastID  int

	failing atomic.Int32 // the HTTP status of every answer; 0: work

	serving sync.Mutex // guards server and address
	server  *http.Server
	address string
}

// startRegistry restores what the journal at path holds (empty: keep none) and listens on address.
func startRegistry(ctx context.Context, address, path string, superuser *User, log *slog.Logger) (*Registry, error) {
	r := newRegistry(address, log)
	if superuser != nil {
		r.http = guarded(r.http, *superuser)
	}
	if path != "" {
		var err error
		if r.journal, err = openJournal(path, r.restore); err != nil {
			return nil, fmt.Errorf("read registry journal %s: %w", path, err)
		}
	}
	if err := r.Start(ctx); err != nil {
		return nil, errors.Join(err, r.journal.close())
	}
	return r, nil
}

func newRegistry(address string, log *slog.Logger) *Registry {
	r := &Registry{
		log:     log,
		store:   srfake.NewRegistry(),
		levels:  map[string]sr.CompatibilityLevel{"": sr.CompatBackward}, // Confluent's default
		highest: map[string]int{},
		texts:   map[string]bool{},
		address: address,
	}
	r.http = r.routes()
	return r
}

// RegistryHandler is a registry in memory that listens nowhere: for tests that may not use the network.
func RegistryHandler() http.Handler { return newRegistry("", slog.New(slog.DiscardHandler)).http }

// URL returns the base URL, without a slash at its end. It stays the same over Stop and Start.
func (r *Registry) URL() string {
	r.serving.Lock()
	defer r.serving.Unlock()
	return "http://" + r.address
}

// Fail makes the registry answer every request with this HTTP status, as one in trouble does, until Fail(0).
func (r *Registry) Fail(status int) { r.failing.Store(int32(status)) }

// Stop breaks every connection and refuses new ones, as a registry that is down does, until Start.
func (r *Registry) Stop() error {
	r.serving.Lock()
	defer r.serving.Unlock()
	if r.server == nil {
		return nil
	}
	err := r.server.Close()
	r.server = nil
	return err
}

// Start listens again, on the port of the first time. It does nothing while the registry listens. ctx bounds the call.
func (r *Registry) Start(ctx context.Context) error {
	r.serving.Lock()
	defer r.serving.Unlock()
	if r.server != nil {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", r.address)
	if err != nil {
		return fmt.Errorf("start embedded registry: %w", err)
	}
	r.address = l.Addr().String()
	server := &http.Server{Handler: r.http, ReadHeaderTimeout: 5 * time.Second}
	r.server = server
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			r.log.Error("embedded registry stopped listening", "error", err)
		}
	}()
	return nil
}

func (r *Registry) close() error {
	err := r.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.broken = http.ErrServerClosed
	}
	return errors.Join(err, r.journal.close())
}

// restore applies one change of the journal. What was accepted once is not checked again: a stricter check in a later
// version of civicbus must not lose a schema that records were written with.
func (r *Registry) restore(c change) error {
	switch c.Op {
	case opRegister:
		id, version, err := r.put(c.Subject, sr.Schema{Schema: c.Schema, References: c.References})
		if err != nil {
			return err
		}
		if id != c.ID || version != c.Version {
			return fmt.Errorf("%s: restored with id %d as version %d, but was id %d, version %d", c.Subject, id, version, c.ID, c.Version)
		}
		return nil
	case opLevel:
		return r.setLevel(c.Subject, c.Level)
	case opDelete:
		if a := r.remove(c); a.status >= http.StatusMultipleChoices {
			return fmt.Errorf("delete %s: %s", c.Subject, a.body.String())
		}
		return nil
	}
	return fmt.Errorf("unknown change %q", c.Op)
}

// put hands a schema that was checked to srfake, which compares it with every other one that it has, parsing each: nearly all that the
// registry did in a process that starts. The first of a registry subject, of a text that no other has, is given its id here.
func (r *Registry) put(subject string, schema sr.Schema) (id, version int, err error) {
	var v any
	if err := json.Unmarshal([]byte(schema.Schema), &v); err != nil {
		return 0, 0, err
	}
	form, err := json.Marshal(v)
	if err != nil {
		return 0, 0, err
	}
	first := r.highest[subject] == 0 && !r.texts[string(form)] && schema.Type == sr.TypeAvro && len(schema.References) == 0
	if first && subject != "" && len(subject) <= 255 && !strings.ContainsRune(subject, 0) { // what srfake takes for a name
		id, version = r.lastID+1, 1
		r.store.SeedSchema(subject, version, id, schema)
	} else if id, version, err = r.store.RegisterSchema(subject, schema); err != nil {
		return 0, 0, err
	}
	r.texts[string(form)], r.highest[subject], r.lastID = true, version, max(r.lastID, id)
	return id, version, nil
}

// accept journals a change that was just applied. When that is impossible the registry stops answering: whoever saw
// the change could lose it at the next start.
func (r *Registry) accept(c change) error {
	if err := r.journal.append(c); err != nil {
		r.broken = fmt.Errorf("write registry journal: %w", err)
		r.log.Error("embedded registry refuses all requests until it is started again", "error", r.broken)
		return r.broken
	}
	return nil
}

// setLevel sets the compatibility level of a registry subject, or of all when subject is empty; no level takes it away.
func (r *Registry) setLevel(subject, level string) error {
	if level == "" {
		delete(r.levels, subject)
		return nil
	}
	var l sr.CompatibilityLevel
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return err
	}
	r.levels[subject] = l
	return nil
}

// level returns the compatibility level in force for a registry subject.
func (r *Registry) level(subject string) sr.CompatibilityLevel {
	if l, ok := r.levels[subject]; ok {
		return l
	}
	return r.levels[""]
}

// kept returns the versions of a registry subject that are not deleted, oldest first.
func (r *Registry) kept(subject string) []sr.SubjectSchema {
	var all []sr.SubjectSchema
	for v := 1; v <= r.highest[subject]; v++ {
		if s, ok := r.store.GetSchema(subject, v); ok {
			all = append(all, s)
		}
	}
	return all
}
