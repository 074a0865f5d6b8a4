package realcluster

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

// The script's own test: three brokers, one of them killed while transactions go on, and revived. It starts a cluster
// of its own, so it runs only where one was started before, which shows that everything for it is there.
func TestThreeBrokersOneKilled(t *testing.T) {
	if FromEnv() == nil {
		t.Skip("needs Java and Maven: runs where CIVICBUS_TEST_BROKERS is set, as .ci/run does")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, err := Start(ctx, 3, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...), kgo.TransactionalID("t"), kgo.DefaultProduceTopic("t"), kgo.ConsumeTopics("t"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 3, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	written := 0
	write := func() {
		t.Helper()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for range 30 {
			if err := cl.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr(); err != nil {
				t.Fatal(err)
			}
			written++
		}
		if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	write()
	if err := c.Kill(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(ctx, 2); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("killed a dead broker: %v", err)
	}
	write()
	if err := c.Revive(ctx, 2); err != nil {
		t.Fatal(err)
	}
	write()
	for read := 0; read < written; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("after %d of %d records: %v", read, written, err)
		}
		read += fetches.NumRecords()
	}
	registry, err := sr.NewClient(sr.URLs(c.Registry))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registry.CreateSchema(ctx, "t-value", sr.Schema{Schema: `"string"`}); err != nil {
		t.Error(err)
	}
}

func TestForeignClusterIsNotBroken(t *testing.T) {
	c := &Cluster{Brokers: []string{"kafka.example:9092"}}
	for name, err := range map[string]error{"kill": c.Kill(t.Context(), 1), "stop": c.Stop(t.Context())} {
		if err == nil {
			t.Errorf("%s of a cluster that the script did not start", name)
		}
	}
}
