package app

import (
	"log/slog"
	"sync"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/verdict"
	"civicbus/topology"
)

var (
	catalogTable      = topology.TableTopic(topology.Catalog.Name)
	trustTable        = topology.TableTopic(topology.Trust.Name)
	subscriptionTable = topology.TableTopic(topology.Subscription.Name)
)

// views compiles the rows of the catalog, trust and subscription tables, as they are read, into a verdict.Snapshot. A row
// is in the next snapshot before the lease counts it as applied. Safe for concurrent use.
type views struct {
	records *codecs.Records
	schemas *schemas
	log     *slog.Logger

	mu      sync.Mutex
	dirty   bool // pending holds something
	pending verdict.Changes
	current *verdict.Snapshot
}

func newViews(records *codecs.Records, schemas *schemas, log *slog.Logger) *views {
	v := &views{records: records, schemas: schemas, log: log, current: verdict.NewSnapshot()}
	v.pending = noChanges()
	return v
}

func noChanges() verdict.Changes {
	return verdict.Changes{EventTypes: map[string]*codecs.EventType{}, Organisations: map[string]*codecs.Organisation{}, Subscriptions: map[string]*codecs.Subscription{}}
}

// changed is kafka.GroupConfig.Changed. It waits for the schema that a row was written with, so that no callback meets a
// row that it could decode only with the network's help.
func (v *views) changed(table, key string, row []byte) {
	if row != nil {
		v.schemas.await(row)
	}
	switch table {
	case catalogTable:
		r := read(v, table, row, v.records.EventType)
		if flaw.Planted(flaw.CatalogStale) && v.snapshot().EventType(key) != nil {
			return
		}
		v.put(func(c *verdict.Changes) { c.EventTypes[key] = r })
	case trustTable:
		r := read(v, table, row, v.records.Organisation)
		if flaw.Planted(flaw.TrustStale) && v.snapshot().Organisation(key) != nil {
			return
		}
		v.put(func(c *verdict.Changes) { c.Organisations[key] = r })
	case subscriptionTable:
		r := read(v, table, row, v.records.Subscription)
		v.put(func(c *verdict.Changes) { c.Subscriptions[key] = r })
	}
}

// read decodes one row; nil when it is gone. One that cannot be decoded counts as gone: what is not known entitles nobody.
func read[T any](v *views, table string, row []byte, record *codecs.Record[T]) *T {
	if row == nil {
		return nil
	}
	r, err := record.Decode(row)
	if err != nil {
		v.log.Error("table row cannot be decoded and counts as absent", "table", table, "error", err)
		return nil
	}
	return &r
}

func (v *views) put(change func(*verdict.Changes)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(&v.pending)
	v.dirty = true
}

// snapshot is the state with everything that was read so far.
func (v *views) snapshot() *verdict.Snapshot {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.dirty {
		v.dirty = false
		v.current = v.current.With(v.pending)
		v.pending = noChanges()
	}
	return v.current
}
