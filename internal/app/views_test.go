package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"civicbus/codecs"
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
	v := newViews(w.Records, newSchemas(context.Background(), w.Registry, silent), silent)
	empty := v.snapshot()
	if empty != v.snapshot() {
		t.Error("a new snapshot without a change")
	}
	v.changed(catalogTable, eventtest.Birth, encode(t, w.Records.EventType, w.Types[eventtest.Birth]))
	v.changed(trustTable, eventtest.Kela, encode(t, w.Records.Organisation, w.Orgs[eventtest.Kela]))
	v.changed(subscriptionTable, "sub-law", encode(t, w.Records.Subscription, w.Subs["sub-law"]))
	v.changed("profile-table", "sub-law", []byte("not looked at"))
	snap := v.snapshot()
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
	v.changed(subscriptionTable, "sub-law", encode(t, w.Records.Subscription, &newer))
	if v.snapshot().Subscription("sub-law").Version != 3 || snap.Subscription("sub-law").Version != 2 {
		t.Error("the newer row")
	}
	v.changed(subscriptionTable, "sub-law", nil)
	if v.snapshot().Subscription("sub-law") != nil || v.snapshot().EventType(eventtest.Birth) == nil {
		t.Error("a row that is gone")
	}
}

// A row that cannot be read takes away what was there: what is not known entitles nobody.
func TestARowThatCannotBeReadIsAbsent(t *testing.T) {
	w := eventtest.New(t)
	good := map[string][]byte{catalogTable: encode(t, w.Records.EventType, w.Types[eventtest.Birth]),
		trustTable: encode(t, w.Records.Organisation, w.Orgs[eventtest.Kela]), subscriptionTable: encode(t, w.Records.Subscription, w.Subs["sub-law"])}
	for name, bad := range map[string][]byte{"no wire format": []byte("{}"), "empty": {}, "cut": good[trustTable][:9],
		"another record": encode(t, w.Records.CommandResult, &codecs.CommandResult{})} {
		v := newViews(w.Records, newSchemas(context.Background(), w.Registry, silent), silent)
		for _, step := range []struct {
			what string
			rows map[string][]byte
			want bool
		}{{"good rows", good, true}, {name, map[string][]byte{catalogTable: bad, trustTable: bad, subscriptionTable: bad}, false}} {
			for table, row := range step.rows {
				v.changed(table, "key", row)
			}
			snap := v.snapshot()
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
		v := newViews(w.Records, newSchemas(ctx, w.Registry, silent), silent)
		v.changed(trustTable, eventtest.Kela, encode(t, w.Records.Organisation, w.Orgs[eventtest.Kela]))
		began := time.Now()
		v.changed(trustTable, eventtest.Kela, wire(4242))
		if waited := time.Since(began); waited < unknownAfter || v.snapshot().Organisation(eventtest.Kela) != nil {
			t.Errorf("after %s: %+v", waited, v.snapshot().Organisation(eventtest.Kela))
		}
		cancel()
		synctest.Wait()
	})
}
