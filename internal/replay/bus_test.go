package replay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/gateway/gatewaytest"
	"civicbus/internal/kafka"
	"civicbus/internal/replay"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// bus is a running civicbus with what was delivered once.
type bus struct {
	*gatewaytest.Bus
	once map[string][]*kgo.Record // deliveries of the router, by subscriber's topic
	log  *kafka.Log
}

// stand gives every committed record of a topic as it is now, each partition in its order.
func (b *bus) stand(topic string) (all []*kgo.Record) {
	b.T.Helper()
	for p := range b.Config.Shape.Partitions {
		for at, whole := int64(0), false; !whole; {
			var records []*kgo.Record
			var err error
			if records, at, whole, err = b.log.Fetch(context.Background(), topic, p, at, 0); errors.Is(err, kafka.ErrNoTopic) {
				return nil
			}
			b.Must(err)
			all = append(all, records...)
		}
	}
	return all
}

// newBus publishes events events of each of so many people, who consent to so many subscribers, and waits until all are delivered.
func newBus(t *testing.T, subscribers, people, events int, change ...func(*app.Config)) *bus {
	t.Helper()
	b := &bus{Bus: gatewaytest.Start(t, subscribers, change...), once: map[string][]*kgo.Record{}}
	client, err := b.Config.Connection.Client()
	b.Must(err)
	t.Cleanup(client.Close)
	b.log = kafka.NewLog(client)
	for i := range subscribers {
		b.Consent(gatewaytest.Grants(people, gatewaytest.Subscriber(i), gatewaytest.Scope, gatewaytest.NameScope)...)
	}
	var all [][]byte
	for e := range events {
		for p := range people {
			all = append(all, gatewaytest.Moved(fmt.Sprintf("moved-%d-%d", p, e), p, fmt.Sprintf("Street %d", e)))
		}
	}
	b.Publish(all...)
	b.delivered(subscribers, people*events)
	return b
}

// delivered waits until each subscriber has as many deliveries of the router.
func (b *bus) delivered(subscribers, each int) {
	b.T.Helper()
	for i := range subscribers {
		b.Eventually(fmt.Sprintf("subscriber %d has %d deliveries", i, each), func() bool { return len(b.deliveries(i, false)) >= each })
		b.once[topicOf(i)] = b.deliveries(i, false)
	}
}

func topicOf(i int) string { return topology.SubscriberTopicName(gatewaytest.Subscriber(i)) }

// deliveries are what stands on a subscriber's topic, replayed or not, each partition in its order.
func (b *bus) deliveries(i int, replayed bool) (all []*kgo.Record) {
	b.T.Helper()
	for _, r := range b.stand(topicOf(i)) {
		if (header(r, codecs.HeaderReplayed) == "true") == replayed {
			all = append(all, r)
		}
	}
	return all
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func ids(records []*kgo.Record) map[string]int {
	all := map[string]int{}
	for _, r := range records {
		all[header(r, codecs.HeaderID)]++
	}
	return all
}

// config is what plans are made with.
func (b *bus) config() replay.Config {
	return replay.Config{Connection: b.Config.Connection, Registry: b.Registry, Records: b.Records, Keys: b.Keys, Partitions: b.Config.Shape.Partitions, Age: b.Config.LeaseAge}
}

var anna, bertil = admin.By{Actor: "operator:anna"}, admin.By{Actor: "operator:bertil"}

// ask asks for a replay, which then waits for a second person.
func (b *bus) ask(row codecs.Replay) codecs.Replay {
	b.T.Helper()
	scan, err := replay.Scan(b.T.Context(), b.Admin.Kafka(), &row)
	b.Must(err)
	row.Scan = scan
	b.InEffect(b.Admin.StartReplay(b.T.Context(), anna, row))
	return row
}

// start asks for a replay and approves it.
func (b *bus) start(row codecs.Replay) codecs.Replay {
	b.T.Helper()
	row = b.ask(row)
	b.InEffect(b.Admin.ChangeReplays(b.T.Context(), bertil, "approve", row.ID))
	return row
}

// row is a replay as its table has it.
func (b *bus) row(id string) codecs.Replay {
	b.T.Helper()
	rows, err := admin.ReplaysNamed(context.Background(), b.Admin, id)
	b.Must(err)
	return rows[0]
}

// over waits until a replay has ended, and gives its row.
func (b *bus) over(id string) (row codecs.Replay) {
	b.T.Helper()
	b.Eventually("replay "+id+" has ended", func() bool {
		row = b.row(id)
		return row.Status != "running"
	})
	return row
}

func (b *bus) progress(id string) replay.Progress {
	b.T.Helper()
	row := b.row(id)
	p, err := replay.ProgressOf(context.Background(), b.Admin.Kafka(), &row)
	b.Must(err)
	return p
}

// same demands that one delivery is another but for the mark.
func same(t *testing.T, again, once *kgo.Record) {
	t.Helper()
	if !bytes.Equal(again.Key, once.Key) || !bytes.Equal(again.Value, once.Value) || again.Partition != once.Partition {
		t.Errorf("replayed under key %q on partition %d %x, was %q, %d, %x", again.Key, again.Partition, again.Value, once.Key, once.Partition, once.Value)
	}
	if n := len(again.Headers) - 1; n < 0 || !slices.EqualFunc(again.Headers[:n], once.Headers, func(a, b kgo.RecordHeader) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }) {
		t.Errorf("replayed with %v, was %v", again.Headers, once.Headers)
	}
}

// count is how many verdicts of a row had a reason.
func count(counts []codecs.ReasonCount, reason string) int64 {
	for _, c := range counts {
		if c.Reason == reason {
			return c.Count
		}
	}
	return 0
}

// plan makes a plan.
func (b *bus) plan(row codecs.Replay) *replay.Plan {
	b.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p, err := replay.MakePlan(ctx, b.config(), b.World, row)
	b.Must(err)
	return p
}
