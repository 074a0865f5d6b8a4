package tables

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/verdict"
	"civicbus/topology"
)

var consentTable = topology.TableTopic(topology.Consent.Name)

// Reference is Source on a kafka.View of the catalog, trust and subscription tables.
type Reference struct {
	view     *kafka.View
	rows     *Rows
	registry *codecs.Registry

	mu  sync.Mutex
	ctx context.Context // of Run, for the registry's sake
}

// World is Current on a kafka.View: Reference and everybody's consents. A process has one.
type World struct {
	*Reference
	records *codecs.Records
}

// NewReference makes the view; Run fills it. records are bound.
func NewReference(conn kafka.Connection, registry *codecs.Registry, records *codecs.Records, age time.Duration, log *slog.Logger) (*Reference, error) {
	return newReference(conn, registry, records, age, log, CatalogTable, TrustTable, SubscriptionTable)
}

// NewWorld makes the view; Run fills it. records are bound.
func NewWorld(conn kafka.Connection, registry *codecs.Registry, records *codecs.Records, age time.Duration, log *slog.Logger) (*World, error) {
	r, err := newReference(conn, registry, records, age, log, CatalogTable, TrustTable, SubscriptionTable, consentTable)
	return &World{r, records}, err
}

func newReference(conn kafka.Connection, registry *codecs.Registry, records *codecs.Records, age time.Duration, log *slog.Logger, topics ...string) (*Reference, error) {
	r := &Reference{registry: registry, ctx: context.Background()}
	r.rows = NewRows(records, r.load, log)
	var err error
	r.view, err = kafka.NewView(conn, age, log, r.rows.Changed, topics...)
	return r, err
}

// Run keeps the tables current until the context ends. Call it once. An error says that nothing is decided any more.
func (r *Reference) Run(ctx context.Context) error {
	r.mu.Lock()
	r.ctx = ctx
	r.mu.Unlock()
	return r.view.Run(ctx)
}

// Wait returns once the tables are confirmed current.
func (r *Reference) Wait(ctx context.Context) error { return r.view.Wait(ctx) }

// Fresh is of Current.
func (r *Reference) Fresh() (time.Time, bool) { return r.view.Fresh() }

// Snapshot is of Current.
func (r *Reference) Snapshot() *verdict.Snapshot { return r.rows.Snapshot() }

// Consents is of Current.
func (w *World) Consents(subject string) *codecs.Consents {
	b := w.view.Row(consentTable, subject)
	if b == nil {
		return nil
	}
	row, err := w.records.Consents.Decode(b)
	if err != nil { // of a schema that the registry does not know, too
		return verdict.Unreadable()
	}
	return &row
}

const (
	loadFor   = 10 * time.Second // how long a schema that the registry does not know is waited for
	loadAgain = 100 * time.Millisecond
)

// load is Rows' await: while the registry is out of reach the row's table falls behind, and nothing is decided.
func (r *Reference) load(value []byte) {
	id, _, err := codecs.WireID(value)
	if err != nil {
		return
	}
	r.mu.Lock()
	ctx := r.ctx
	r.mu.Unlock()
	for begun := time.Now(); ; {
		_, err := r.registry.Load(ctx, id)
		if err == nil || ctx.Err() != nil || errors.Is(err, codecs.ErrUnknownSchema) && time.Since(begun) > loadFor {
			return
		}
		select {
		case <-time.After(loadAgain):
		case <-ctx.Done():
			return
		}
	}
}
