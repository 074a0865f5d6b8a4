package tables

import (
	"log/slog"
	"sync"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/verdict"
	"civicbus/topology"
)

// Topics of the tables that Rows knows.
var (
	CatalogTable      = topology.TableTopic(topology.Catalog.Name)
	TrustTable        = topology.TableTopic(topology.Trust.Name)
	SubscriptionTable = topology.TableTopic(topology.Subscription.Name)
)

// Rows makes snapshots of the rows of the catalog, trust and subscription tables, as they are read. Safe for concurrent use.
type Rows struct {
	records *codecs.Records
	await   func(value []byte)
	log     *slog.Logger

	mu      sync.Mutex
	dirty   bool // pending holds something
	pending verdict.Changes
	current *verdict.Snapshot
}

// NewRows begins with none. await returns when the schema that a value was written with is loaded, or known not to be there.
func NewRows(records *codecs.Records, await func(value []byte), log *slog.Logger) *Rows {
	return &Rows{records: records, await: await, log: log, pending: noChanges(), current: verdict.NewSnapshot()}
}

func noChanges() verdict.Changes {
	return verdict.Changes{EventTypes: map[string]*codecs.EventType{}, Organisations: map[string]*codecs.Organisation{}, Subscriptions: map[string]*codecs.Subscription{}}
}

// Changed is what a kafka.View or a group calls for each row; nil: it is gone. It waits for the schema that the row was
// written with, whichever table's it is, so that nobody meets a row that the network's help is needed for. The row is in the
// next snapshot when it returns, which is before the lease counts it as read.
func (r *Rows) Changed(table, key string, row []byte) {
	if row != nil {
		r.await(row)
	}
	switch table {
	case CatalogTable:
		v := read(r, table, r.records.EventType, row)
		if flaw.Planted(flaw.CatalogStale) && r.Snapshot().EventType(key) != nil {
			return
		}
		r.put(func(c *verdict.Changes) { c.EventTypes[key] = v })
	case TrustTable:
		v := read(r, table, r.records.Organisation, row)
		if flaw.Planted(flaw.TrustStale) && r.Snapshot().Organisation(key) != nil {
			return
		}
		r.put(func(c *verdict.Changes) { c.Organisations[key] = v })
	case SubscriptionTable:
		v := read(r, table, r.records.Subscription, row)
		r.put(func(c *verdict.Changes) { c.Subscriptions[key] = v })
	}
}

// read decodes a row; one that cannot be decoded counts as absent: what is not known entitles nobody.
func read[T any](r *Rows, table string, record *codecs.Record[T], row []byte) *T {
	if row == nil {
		return nil
	}
	v, err := record.Decode(row)
	if err != nil {
		r.log.Error("table row cannot be decoded and counts as absent", "table", table, "error", err)
		return nil
	}
	return &v
}

func (r *Rows) put(change func(*verdict.Changes)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.pending)
	r.dirty = true
}

// Snapshot is the state with every row that was read so far.
func (r *Rows) Snapshot() *verdict.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dirty {
		r.current, r.pending, r.dirty = r.current.With(r.pending), noChanges(), false
	}
	return r.current
}
