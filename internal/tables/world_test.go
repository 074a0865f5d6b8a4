package tables_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/embedded"
	"civicbus/internal/kafka"
	"civicbus/internal/tables"
	"civicbus/internal/verdict"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// When a table is made anew the tables are read again. Until they are current, whoever still decides on what was confirmed before
// meets the rows of before: on tables that have hardly been read everything would be denied.
func TestTablesAreReadAnew(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := embedded.Start(ctx, embedded.Config{})
	must(err)
	defer func() { must(cluster.Close()) }()
	conn := kafka.Connection{Brokers: cluster.Brokers()}
	client, err := conn.Client(kgo.DefaultProduceTopic(tables.TrustTable))
	must(err)
	defer client.Close()
	admin := kadm.NewClient(client)
	_, err = admin.CreateTopics(ctx, 1, 1, nil, tables.CatalogTable, tables.TrustTable, tables.SubscriptionTable)
	must(err)
	registry, err := codecs.NewRegistry(codecs.RegistryConfig{URL: cluster.RegistryURL()})
	must(err)
	records := codecs.NewRecords()
	must(records.Bind(ctx, registry))
	row, err := records.Organisation.Encode(&codecs.Organisation{ID: "kela.fi", Version: 3})
	must(err)
	gone := &kgo.Record{Topic: tables.CatalogTable, Key: []byte("gone")} // so that a table made anew is shorter than what was read
	must(client.ProduceSync(ctx, &kgo.Record{Key: []byte("kela.fi"), Value: row}, gone).FirstErr())

	broken := make(chan struct{})
	log := slog.New(slog.NewTextHandler(closing(sync.OnceFunc(func() { close(broken) })), &slog.HandlerOptions{Level: slog.LevelError}))
	var told atomic.Int64
	r, err := tables.NewReference(conn, registry, records, 300*time.Millisecond, log, func(rows *verdict.Snapshot, table, key string) {
		if table == tables.TrustTable && rows.Organisation(key) != nil {
			told.Add(1)
		}
	})
	must(err)
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(running) }()
	defer func() { stop(); <-ended }()
	must(r.Wait(ctx))
	there := func() {
		t.Helper()
		if o := r.Snapshot().Organisation("kela.fi"); o == nil || o.Version != 3 {
			t.Fatalf("organisation %+v", o)
		}
	}
	there()

	_, err = admin.DeleteTopic(ctx, tables.CatalogTable)
	must(err)
	for {
		if _, err := admin.CreateTopic(ctx, 1, 1, nil, tables.CatalogTable); err == nil {
			break
		}
		must(ctx.Err())
	}
	for said := broken; ; {
		there()
		must(ctx.Err())
		select {
		case <-said:
			said = nil
		default:
		}
		if _, fresh := r.Fresh(); fresh && said == nil {
			if told.Load() < 2 {
				t.Errorf("told %d times of the organisation, want it again when it is read anew", told.Load())
			}
			return
		}
	}
}

// closing is told of what is logged.
type closing func()

func (c closing) Write(p []byte) (int, error) { c(); return len(p), nil }
