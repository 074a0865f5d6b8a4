package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"civicbus/codecs"
	"civicbus/internal/delivery"
	"civicbus/internal/kafka"
	"civicbus/internal/tables"
	"civicbus/processors/event/eventtest"
	"civicbus/topology"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// nodeOf is a node over a test's world, without Kafka.
func nodeOf(ctx context.Context, w *eventtest.World, partitions int32) *Node {
	return &Node{cfg: Config{Shape: topology.Shape{Partitions: partitions}, BusKey: key32(2), AuditKey: key32(3), Now: func() time.Time { return w.Now }}, log: silent, registry: w.Registry, records: w.Records,
		keys: w.Keys, schemas: newSchemas(ctx, w.Registry, silent), projections: newProjections(ctx, w.Registry, silent), outlets: newOutlets(nil, silent),
		metrics: newMetrics(prometheus.NewRegistry(), 0)}
}

// Every group of the map has callbacks for exactly its inputs.
func TestEveryGroupHasItsProcessor(t *testing.T) {
	w := eventtest.New(t)
	n := nodeOf(t.Context(), w, 8)
	n.webhooks = &webhooks{node: n, metrics: delivery.NewMetrics(prometheus.NewRegistry())}
	for _, def := range topology.Groups {
		callbacks, ready, err := newGroup(n, def).callbacks(tables.NewRows(w.Records, n.schemas.await, silent))
		if err != nil || ready == nil {
			t.Fatalf("%s: %v", def.Name, err)
		}
		if _, err := topology.Build(def, callbacks); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := newGroup(n, topology.Group{Name: "other"}).callbacks(nil); err == nil {
		t.Error("a group without a processor was started")
	}
}

// A command on a partition that its key does not belong to is a dead letter in every group that takes commands.
func TestCommandsKnowTheirPartition(t *testing.T) {
	const partitions = 8
	w := eventtest.New(t)
	n := nodeOf(t.Context(), w, partitions)
	for _, of := range []struct {
		group   topology.Group
		key     string
		command []byte // one that the group refuses
	}{
		{topology.Catalog, "fi.test.type", encode(t, w.Records.CatalogCommand, &codecs.CatalogCommand{})},
		{topology.Trust, "kela.fi", encode(t, w.Records.TrustCommand, &codecs.TrustCommand{})},
		{topology.Subscription, "sub-1", encode(t, w.Records.SubscriptionCommand, &codecs.SubscriptionCommand{})},
		{topology.Consent, w.Subject("a"), encode(t, w.Records.ConsentCommand, &codecs.ConsentCommand{})},
	} {
		callbacks, _, err := newGroup(n, of.group).callbacks(tables.NewRows(w.Records, n.schemas.await, silent))
		if err != nil {
			t.Fatal(err)
		}
		for p := range int32(partitions) {
			ctx := &eventtest.Context{On: of.group.In[0].Name, Part: p, Of: of.key, Stopped: t.Context()}
			callbacks[ctx.On](ctx, of.command)
			want := topology.DeadLetters.Name
			if kafka.Partition([]byte(of.key), partitions) == p {
				want = topology.CommandResults.Name
			}
			if len(ctx.Emitted) != 1 || ctx.Emitted[0] != want {
				t.Errorf("%s, partition %d: emitted to %v, want %s", of.group.Name, p, ctx.Emitted, want)
			}
		}
	}
}

// A record is handed on only when everything is here that its callback may not fetch.
func TestWhatRecordsWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := until(t)
		w := eventtest.New(t)
		n := nodeOf(ctx, w, 8)
		v := tables.NewRows(w.Records, n.schemas.await, silent)
		v.Changed(tables.CatalogTable, eventtest.Birth, encode(t, w.Records.EventType, w.Types[eventtest.Birth]))
		v.Changed(tables.TrustTable, eventtest.Kela, encode(t, w.Records.Organisation, w.Orgs[eventtest.Kela]))
		v.Changed(tables.SubscriptionTable, "sub-law", encode(t, w.Records.Subscription, w.Subs["sub-law"]))
		wait := &waiting{node: n, views: v}
		event := &kgo.Record{Value: w.Value(eventtest.Data()), Headers: []kgo.RecordHeader{{Key: codecs.HeaderType, Value: []byte(eventtest.Birth)}}}
		catalog := func(registrySubject string) *kgo.Record {
			return &kgo.Record{Value: encode(t, w.Records.CatalogCommand, &codecs.CatalogCommand{EventType: codecs.EventType{RegistrySubject: registrySubject}})}
		}
		subscription := func(types ...string) *kgo.Record {
			return &kgo.Record{Value: encode(t, w.Records.SubscriptionCommand, &codecs.SubscriptionCommand{Subscription: codecs.Subscription{EventTypes: types}})}
		}
		step := func(name string, ready func(*kgo.Record) bool, r *kgo.Record, want bool) {
			t.Helper()
			if ready(r) != want {
				t.Errorf("%s: want ready %v", name, want)
			}
		}
		for name, ready := range map[string]func(*kgo.Record) bool{"record": wait.record, "catalog": wait.catalog, "subscription": wait.subscription, "event": wait.event} {
			step(name+", a tombstone", ready, &kgo.Record{}, true)
			step(name+", malformed", ready, &kgo.Record{Value: []byte("{}")}, true)
			step(name+", an unknown schema", ready, &kgo.Record{Value: wire(777)}, false)
		}
		step("an event whose projections are not registered", wait.event, event, false)
		step("a type without a registry subject", wait.catalog, catalog(""), true)
		step("a type whose schema was not asked for", wait.catalog, catalog("pet-value"), false)
		step("a subscription to unknown types", wait.subscription, subscription("a.b", "c.d"), true)
		step("a subscription to a type whose schema was not asked for", wait.subscription, subscription("a.b", eventtest.Birth), false)
		synctest.Wait()
		step("a type whose schema was asked for, and is none", wait.catalog, catalog("pet-value"), true)
		step("a subscription to a type whose schema is here", wait.subscription, subscription("a.b", eventtest.Birth), true)
		step("an event whose topics were not seen", wait.event, event, false)
		n.outlets.at(kelaTopic).present = true
		step("an event with all of it", wait.event, event, true)
		cancel()
		synctest.Wait()
	})
}
