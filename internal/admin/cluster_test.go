package admin_test

import (
	"log/slog"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/embedded"
	"civicbus/internal/kafka"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// leaseAge is the clusters'; a test that measures it needs it well above the noise of a busy machine.
const leaseAge = 500 * time.Millisecond

var busKey = []byte("the bus key of tests, of 32 bytes or more")

// bench is a cluster of its own with civicbus set up on it, and a client of it.
type bench struct {
	*admin.Client
	t       *testing.T
	cluster *embedded.Cluster
	cfg     app.Config
	kafka   *kgo.Client
	records *codecs.Records
}

// setUp makes a cluster with the topics and the settings, and starts no group.
func setUp(t *testing.T) *bench {
	t.Helper()
	b := bare(t)
	if _, err := app.Apply(t.Context(), b.cfg); err != nil {
		t.Fatal(err)
	}
	b.dial(busKey)
	var err error
	if b.records, err = b.Records(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.kafka, err = b.cfg.Connection.Client(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.kafka.Close)
	return b
}

// bare makes a cluster with nothing on it, and connects nobody.
func bare(t *testing.T) *bench {
	t.Helper()
	cluster, err := embedded.Start(t.Context(), embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bench{t: t, cluster: cluster, cfg: app.Config{Connection: kafka.Connection{Brokers: cluster.Brokers()},
		Registry: codecs.RegistryConfig{URL: cluster.RegistryURL()}, BusKey: busKey, LeaseAge: leaseAge,
		Shape: topology.Shape{Partitions: 4}, Instance: "test", Logger: slog.New(slog.DiscardHandler)}}
}

// dial connects a client with a bus key.
func (b *bench) dial(key []byte) {
	b.t.Helper()
	c, err := admin.Dial(b.t.Context(), admin.Config{Connection: b.cfg.Connection, Registry: b.cfg.Registry, BusKey: key})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Close)
	b.Client = c
}

// run starts a node with everything, until the test ends.
func (b *bench) run() *bench {
	b.t.Helper()
	b.t.Cleanup(b.start())
	return b
}

// example loads the example world's reference data, every subscription approved.
func (b *bench) example() *bench {
	b.t.Helper()
	ctx := b.t.Context()
	world, err := examples.Load()
	if err != nil {
		b.t.Fatal(err)
	}
	for subject, schema := range world.Schemas {
		if _, err := b.RegisterSource(ctx, subject, schema); err != nil {
			b.t.Fatal(err)
		}
	}
	by := admin.By{Actor: "operator:anna"}
	b.inEffect(b.PutOrganisations(ctx, by, world.Organisations...))
	b.inEffect(b.PutEventTypes(ctx, by, world.EventTypes...))
	b.inEffect(b.PutSubscriptions(ctx, by, world.Subscriptions...))
	b.inEffect(b.ChangeConsents(ctx, by, world.Consents...))
	rows, err := admin.Subscriptions.All(ctx, b.Client)
	if err != nil {
		b.t.Fatal(err)
	}
	var pending []string
	for id, s := range rows {
		if s.Status == "pending" {
			pending = append(pending, id)
		}
	}
	b.inEffect(b.ChangeSubscriptions(ctx, admin.By{Actor: "operator:bertta"}, "approve", "", pending...))
	for {
		active := 0
		rows, err := admin.Subscriptions.All(ctx, b.Client)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, s := range rows {
			if s.Status == "active" {
				active++
			}
		}
		if active == len(world.Subscriptions) {
			return b
		}
	}
}

// inEffect sends requests and demands that all take effect.
func (b *bench) inEffect(requests []admin.Request, err error) []admin.Outcome {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	outcomes, err := b.Send(b.t.Context(), requests, admin.Wait{Timeout: time.Minute})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, o := range outcomes {
		if !o.InEffect {
			b.t.Fatalf("not in effect: %+v", o)
		}
	}
	return outcomes
}

// write produces records and demands that they are there.
func (b *bench) write(records ...*kgo.Record) {
	b.t.Helper()
	if err := b.kafka.ProduceSync(b.t.Context(), records...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

func encode[T any](t *testing.T, record *codecs.Record[T], value T) []byte {
	t.Helper()
	b, err := record.Encode(&value)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
