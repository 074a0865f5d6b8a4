package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"civicbus/codecs"
	"civicbus/internal/tables"
	"civicbus/processors/event/eventtest"
)

func encode[T any](t *testing.T, r *codecs.Record[T], v *T) []byte {
	t.Helper()
	b, err := r.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A row is in the snapshot as soon as changed returns, which is before the lease counts it as applied; an old snapshot
// stays as it was.
func TestRowsAreInTheNextSnapshot(t *testing.T) {
	w := eventtest.New(t)
	v := tables.NewRows(w.Records, newSchemas(context.Background(), w.Registry, silent).await, silent)
	empty := v.Snapshot()
	if empty != v.Snapshot() {
		t.Error("a new snapshot without a change")
	}
	v.Changed(tables.CatalogTable, eventtest.Birth, encode(t, w.Records.EventType, w.Types[eventtest.Birth]))
	v.Changed(tables.TrustTable, eventtest.Kela, encode(t, w.Records.Organisation, w.Orgs[eventtest.Kela]))
	v.Changed(tables.SubscriptionTable, "sub-law", encode(t, w.Records.Subscription, w.Subs["sub-law"]))
	v.Changed("profile-table", "sub-law", []byte("not looked at"))
	snap := v.Snapshot()
	if et := snap.EventType(eventtest.Birth); et == nil || et.Version != 7 {
		t.Errorf("event type %+v", et)
	}
	if o := snap.Organisation(eventtest.Kela); o == nil || o.Version != 3 {
		t.Errorf("organisation %+v", o)
	}
	if s := snap.Subscription("sub-law"); s == nil || s.Version != 2 {
		t.Errorf("subscription %+v", s)
	}
	if empty.EventType(eventtest.Birth) != nil {
		t.Error("the snapshot of before has changed")
	}
	newer := *w.Subs["sub-law"]
	newer.Version = 3
	v.Changed(tables.SubscriptionTable, "sub-law", encode(t, w.Records.Subscription, &newer))
	if v.Snapshot().Subscription("sub-law").Version != 3 || snap.Subscription("sub-law").Version != 2 {
		t.Error("the newer row")
	}
	v.Changed(tables.SubscriptionTable, "sub-law", nil)
	if v.Snapshot().Subscription("sub-law") != nil || v.Snapshot().EventType(eventtest.Birth) == nil {
		t.Error("a row that is gone")
	}
}

// A row that cannot be read takes away what was there: what is not known entitles nobody.
func TestARowThatCannotBeReadIsAbsent(t *testing.T) {
	w := eventtest.New(t)
	good := map[string][]byte{tables.CatalogTable: encode(t, w.Records.EventType, w.Types[eventtest.Birth]),
		tables.TrustTable: encode(t, w.Records.Organisation, w.Orgs[eventtest.Kela]), tables.SubscriptionTable: encode(t, w.Records.Subscription, w.Subs["sub-law"])}
	for name, bad := range map[string][]byte{"no wire format": []byte("{}"), "empty": {}, "cut": good[tables.TrustTable][:9],
		"another record": encode(t, w.Records.CommandResult, &codecs.CommandResult{})} {
		v := tables.NewRows(w.Records, newSchemas(context.Background(), w.Registry, silent).await, silent)
		for _, step := range []struct {
			what string
			rows map[string][]byte
			want bool
		}{{"good rows", good, true}, {name, map[string][]byte{tables.CatalogTable: bad, tables.TrustTable: bad, tables.SubscriptionTable: bad}, false}} {
			for table, row := range step.rows {
				v.Changed(table, "key", row)
			}
			snap := v.Snapshot()
			if snap.EventType("key") != nil != step.want || snap.Organisation("key") != nil != step.want || snap.Subscription("key") != nil != step.want {
				t.Errorf("%s: want rows there: %v", step.what, step.want)
			}
		}
	}
}

// A row under a schema that is not here yet holds its table back until the registry has answered.
func TestARowWaitsForItsSchema(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := until(t)
		w := eventtest.New(t)
		v := tables.NewRows(w.Records, newSchemas(ctx, w.Registry, silent).await, silent)
		v.Changed(tables.TrustTable, eventtest.Kela, encode(t, w.Records.Organisation, w.Orgs[eventtest.Kela]))
		began := time.Now()
		v.Changed(tables.TrustTable, eventtest.Kela, wire(4242))
		if waited := time.Since(began); waited < unknownAfter || v.Snapshot().Organisation(eventtest.Kela) != nil {
			t.Errorf("after %s: %+v", waited, v.Snapshot().Organisation(eventtest.Kela))
		}
		cancel()
		synctest.Wait()
	})
}
