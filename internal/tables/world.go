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
	view     *kafka.View
	registry *codecs.Registry
	records  *codecs.Records
	log      *slog.Logger
	consents string // the table's topic

	mu      sync.Mutex
	ctx     context.Context // of Run, for the registry's sake
	dirty   bool
	pending verdict.Changes
	current *verdict.Snapshot
}

var (
	catalogTable      = topology.TableTopic(topology.Catalog.Name)
	trustTable        = topology.TableTopic(topology.Trust.Name)
	subscriptionTable = topology.TableTopic(topology.Subscription.Name)
	consentTable      = topology.TableTopic(topology.Consent.Name)
)

// NewWorld makes the view; Run fills it. records are bound.
func NewWorld(conn kafka.Connection, registry *codecs.Registry, records *codecs.Records, age time.Duration, log *slog.Logger) (*World, error) {
	w := &World{registry: registry, records: records, log: log, consents: consentTable, ctx: context.Background(), current: verdict.NewSnapshot(), pending: noChanges()}
	var err error
	w.view, err = kafka.NewView(conn, age, log, w.changed, catalogTable, trustTable, subscriptionTable, consentTable)
	return w, err
}

func noChanges() verdict.Changes {
	return verdict.Changes{EventTypes: map[string]*codecs.EventType{}, Organisations: map[string]*codecs.Organisation{}, Subscriptions: map[string]*codecs.Subscription{}}
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

// changed is the view's: a row is in the next snapshot before the lease counts it as read.
func (w *World) changed(table, key string, row []byte) {
	switch table {
	case catalogTable:
		r := rowOf(w, table, w.records.EventType, row)
		w.put(func() { w.pending.EventTypes[key] = r })
	case trustTable:
		r := rowOf(w, table, w.records.Organisation, row)
		w.put(func() { w.pending.Organisations[key] = r })
	case subscriptionTable:
		r := rowOf(w, table, w.records.Subscription, row)
		w.put(func() { w.pending.Subscriptions[key] = r })
	case consentTable:
		_ = w.load(row) // so that Consents can decode it; a row that it cannot decode denies everything
	}
}

// rowOf decodes a row; one that cannot be decoded counts as absent: what is not known entitles nobody.
func rowOf[T any](w *World, table string, record *codecs.Record[T], value []byte) *T {
	if value == nil {
		return nil
	}
	err := w.load(value)
	if err == nil {
		var row T
		if row, err = record.Decode(value); err == nil {
			return &row
		}
	}
	w.log.Error("table row cannot be decoded and counts as absent", "table", table, "error", err)
	return nil
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

func (w *World) put(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	w.dirty = true
}

// Snapshot is of Current.
func (w *World) Snapshot() *verdict.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dirty {
		w.current, w.pending, w.dirty = w.current.With(w.pending), noChanges(), false
	}
	return w.current
}

// Consents is of Current.
func (w *World) Consents(subject string) *codecs.Consents {
	b := w.view.Row(w.consents, subject)
	if b == nil {
		return nil
	}
	row, err := w.records.Consents.Decode(b)
	if err != nil {
		return verdict.Unreadable()
	}
	return &row
}
