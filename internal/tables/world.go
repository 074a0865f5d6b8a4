package tables

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/verdict"
	"civicbus/topology"
)

var consentTable = topology.TableTopic(topology.Consent.Name)

// Reference is Source: a kafka.View of the catalog, trust and subscription tables, made anew when it breaks.
type Reference struct {
	make func() (*reading, error)
	log  *slog.Logger
	now  atomic.Pointer[reading]

	registry *codecs.Registry
	ctx      context.Context // of what is asked of the registry: until Run ends
	stop     context.CancelFunc
}

// reading is one reading of the tables.
type reading struct {
	view *kafka.View
	rows *Rows
}

// World is Current: Reference and everybody's consents. A process has one.
type World struct {
	*Reference
	records *codecs.Records
}

// Changed is told of each row once it was read, with the rows that were read so far; of a row that is gone too. When the tables
// are read anew it is told of every row again, and not of those that vanished meanwhile. Several goroutines call it, and the
// reading of a partition waits for it.
type Changed func(rows *verdict.Snapshot, table, key string)

// NewReference makes the view; Run fills it. records are bound; changed may be nil.
func NewReference(conn kafka.Connection, registry *codecs.Registry, records *codecs.Records, age time.Duration, log *slog.Logger, changed Changed) (*Reference, error) {
	return newReference(conn, registry, records, age, log, changed, CatalogTable, TrustTable, SubscriptionTable)
}

// NewWorld makes the view; Run fills it. records are bound.
func NewWorld(conn kafka.Connection, registry *codecs.Registry, records *codecs.Records, age time.Duration, log *slog.Logger) (*World, error) {
	r, err := newReference(conn, registry, records, age, log, nil, CatalogTable, TrustTable, SubscriptionTable, consentTable)
	return &World{r, records}, err
}

func newReference(conn kafka.Connection, registry *codecs.Registry, records *codecs.Records, age time.Duration, log *slog.Logger, changed Changed, topics ...string) (*Reference, error) {
	r := &Reference{registry: registry, log: log}
	r.ctx, r.stop = context.WithCancel(context.Background()) //nolint:gosec // the end of Run calls it; one that is never run holds nothing
	r.make = func() (*reading, error) {
		rows := NewRows(records, r.load, log)
		told := rows.Changed
		if changed != nil {
			told = func(table, key string, row []byte) {
				rows.Changed(table, key, row)
				changed(rows.Snapshot(), table, key)
			}
		}
		view, err := kafka.NewView(conn, age, log, told, topics...)
		return &reading{view, rows}, err
	}
	first, err := r.make()
	r.now.Store(first)
	return r, err
}

const (
	firstAgain = 100 * time.Millisecond
	lastAgain  = 30 * time.Second
)

// Run keeps the tables current until the context ends. Call it once. While they cannot be read, which is logged, Fresh is
// false; then they are read anew from the start.
func (r *Reference) Run(ctx context.Context) {
	defer context.AfterFunc(ctx, r.stop)()
	next := r.now.Load()
	for again := firstAgain; ; again = min(2*again, lastAgain) {
		began := time.Now()
		err := r.keep(ctx, next)
		if time.Since(began) > time.Minute {
			again = firstAgain
		}
		for made := false; !made; {
			if ctx.Err() != nil {
				return
			}
			r.log.Error("tables are not kept current: nothing is decided on them until they are read anew", "error", err, "in", again)
			wait(ctx, again)
			next, err = r.make()
			made = err == nil
		}
	}
}

// keep runs a reading until it breaks or the context ends. It takes the place of the one before only when it is current: who
// decides on a confirmation of that one must not meet tables that have hardly been read, and deny what is permitted.
func (r *Reference) keep(ctx context.Context, of *reading) error {
	ctx, stop := context.WithCancel(ctx)
	var current sync.WaitGroup
	defer current.Wait()
	defer stop()
	current.Go(func() {
		if of.view.Wait(ctx) == nil {
			r.now.Store(of)
		}
	})
	return of.view.Run(ctx)
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// Wait returns once the tables are confirmed current.
func (r *Reference) Wait(ctx context.Context) error {
	for {
		reading, cancel := context.WithTimeout(ctx, time.Second) // then there may be another
		err := r.now.Load().view.Wait(reading)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// Fresh is of Current.
func (r *Reference) Fresh() (time.Time, bool) { return r.now.Load().view.Fresh() }

// Snapshot is of Current.
func (r *Reference) Snapshot() *verdict.Snapshot { return r.now.Load().rows.Snapshot() }

// Consents is of Current.
func (w *World) Consents(subject string) *codecs.Consents {
	b := w.now.Load().view.Row(consentTable, subject)
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
	for begun := time.Now(); ; {
		_, err := r.registry.Load(r.ctx, id)
		if err == nil || r.ctx.Err() != nil || errors.Is(err, codecs.ErrUnknownSchema) && time.Since(begun) > loadFor {
			return
		}
		wait(r.ctx, loadAgain)
	}
}
