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

// World is Current and Source on a kafka.View. A process has one.
type World struct {
	*Rows
	view     *kafka.View
	registry *codecs.Registry
	records  *codecs.Records

	mu  sync.Mutex
	ctx context.Context // of Run, for the registry's sake
}

var consentTable = topology.TableTopic(topology.Consent.Name)

// NewWorld makes the view; Run fills it. records are bound.
func NewWorld(conn kafka.Connection, registry *codecs.Registry, records *codecs.Records, age time.Duration, log *slog.Logger) (*World, error) {
	w := &World{registry: registry, records: records, ctx: context.Background()}
	w.Rows = NewRows(records, w.load, log)
	var err error
	w.view, err = kafka.NewView(conn, age, log, w.changed, CatalogTable, TrustTable, SubscriptionTable, consentTable)
	return w, err
}

// Run keeps the tables current until the context ends. Call it once. An error says that nothing is decided any more.
func (w *World) Run(ctx context.Context) error {
	w.mu.Lock()
	w.ctx = ctx
	w.mu.Unlock()
	return w.view.Run(ctx)
}

// Wait returns once the tables are confirmed current.
func (w *World) Wait(ctx context.Context) error { return w.view.Wait(ctx) }

// Fresh is of Current.
func (w *World) Fresh() (time.Time, bool) { return w.view.Fresh() }

// changed is the view's.
func (w *World) changed(table, key string, row []byte) {
	if table == consentTable {
		_ = w.load(row) // so that Consents can decode it; a row that it cannot decode denies everything
		return
	}
	w.Changed(table, key, row)
}

const (
	loadFor   = 10 * time.Second // how long a schema that the registry does not know is waited for
	loadAgain = 100 * time.Millisecond
)

// load makes the schema that a row was written with known. While the registry is out of reach the table falls behind, and
// nothing is decided.
func (w *World) load(value []byte) error {
	id, _, err := codecs.WireID(value)
	if value == nil || err != nil {
		return err
	}
	w.mu.Lock()
	ctx := w.ctx
	w.mu.Unlock()
	for begun := time.Now(); ; {
		_, err := w.registry.Load(ctx, id)
		if err == nil || ctx.Err() != nil || errors.Is(err, codecs.ErrUnknownSchema) && time.Since(begun) > loadFor {
			return err
		}
		select {
		case <-time.After(loadAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Consents is of Current.
func (w *World) Consents(subject string) *codecs.Consents {
	b := w.view.Row(consentTable, subject)
	if b == nil {
		return nil
	}
	row, err := w.records.Consents.Decode(b)
	if err != nil {
		return verdict.Unreadable()
	}
	return &row
}
