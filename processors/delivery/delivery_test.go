package delivery

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/processors/event"
	"civicbus/topology"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/tester"
	"github.com/twmb/franz-go/pkg/kgo"
)

// bench is the group on goka's tester.
type bench struct {
	t       *testing.T
	k       *tester.Tester
	records *codecs.Records
	keys    *pseudonym.Keys
	emitted []*kgo.Record
	arrived []int64
	buried  []string
}

const partitions = 1

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, k: tester.New(t), records: codecs.NewRecords()}
	b.must(b.records.BindLocal())
	var err error
	b.keys, err = pseudonym.NewKeys([]byte("a bus key for tests, of 32 bytes or more"))
	b.must(err)
	g := New(Env{Env: event.Env{Records: b.records, Keys: b.keys, Now: func() time.Time { return time.UnixMilli(1_000_000) }, Partitions: partitions,
		Emit: func(_ goka.Context, r *kgo.Record) { b.emitted = append(b.emitted, r) }},
		Arrived: func(in event.Input) { b.arrived = append(b.arrived, in.Offset) }, Buried: func(cause string) { b.buried = append(b.buried, cause) }})
	graph, err := topology.Build(topology.Delivery, g.Callbacks())
	b.must(err)
	p, err := goka.NewProcessor(nil, graph, goka.WithTester(b.k), goka.WithNilHandling(goka.NilProcess), goka.WithHasher(kafka.Hasher))
	b.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) subject(id string) string { return b.keys.Subject("fi-hetu", id) }

// deliver lets one delivery arrive; headers beside those that it must have.
func (b *bench) deliver(key, subscription string, value []byte) {
	b.t.Helper()
	h := goka.Headers{}
	if subscription != "" {
		h[codecs.HeaderSubscription], h[codecs.HeaderID] = []byte(subscription), []byte("00ff")
	}
	b.k.Consume(topology.WebhookDeliveries.Name, key, value, tester.WithHeaders(h))
}

func (b *bench) report(subject string, r codecs.DeliveryReport) {
	b.t.Helper()
	value, err := b.records.DeliveryReport.Encode(&r)
	b.must(err)
	b.k.Consume(topology.DeliveryReports.Name, subject, value)
}

func (b *bench) row(subject string) []codecs.WaitingDelivery {
	b.t.Helper()
	value, _ := b.k.TableValue(goka.Table(topology.TableTopic(topology.Delivery.Name)), subject).([]byte)
	if value == nil {
		return nil
	}
	row, err := b.records.DeliveryRow.Decode(value)
	b.must(err)
	return row.Waiting
}

// take gives what was emitted on a topic since, decoded.
func take[T any](b *bench, topic string, record *codecs.Record[T]) (all []T) {
	b.t.Helper()
	var rest []*kgo.Record
	for _, r := range b.emitted {
		if r.Topic != topic {
			rest = append(rest, r)
			continue
		}
		v, err := record.Decode(r.Value)
		b.must(err)
		all = append(all, v)
	}
	b.emitted = rest
	return all
}

func TestGroupKeepsWhatWaits(t *testing.T) {
	b := newBench(t)
	one, other := b.subject("a"), b.subject("b")
	for range 3 {
		b.deliver(one, "sub-a", []byte("x"))
	}
	b.deliver(other, "sub-a", []byte("x"))
	w := b.row(one)
	if len(w) != 3 || len(b.row(other)) != 1 || len(b.arrived) != 4 || w[0].Offset >= w[1].Offset || w[1].Offset >= w[2].Offset || w[0].Since != 1_000_000 || w[0].Due != 1_000_000 {
		t.Fatalf("%+v", w)
	}
	report := codecs.DeliveryReport{Offset: w[0].Offset, Subscription: "sub-a", DeliveryID: "00ff", Attempt: 1, Outcome: Failed, At: 2_000_000}
	b.report(one, report)
	b.report(one, report) // again: it counts once
	if got := b.row(one); got[0].Attempts != 1 || got[0].Due <= 2_000_000 {
		t.Fatalf("%+v", got[0])
	}
	report.Attempt, report.Outcome = 2, Delivered
	b.report(one, report)
	if got := b.row(one); len(got) != 2 || got[0].Offset != w[1].Offset {
		t.Fatalf("%+v", got)
	}
	b.report(other, codecs.DeliveryReport{Offset: b.row(other)[0].Offset, Subscription: "sub-a", Attempt: 1, Outcome: Denied})
	if b.row(other) != nil {
		t.Error("a row of nothing is left")
	}
	b.report(other, codecs.DeliveryReport{Offset: 1, Subscription: "sub-a", Attempt: 1, Outcome: Delivered})
	b.k.Consume(topology.DeliveryReports.Name, one, []byte("no report"))
	if len(b.emitted) != 0 || len(b.row(one)) != 2 {
		t.Errorf("%d records were emitted", len(b.emitted))
	}
}

func TestGroupBuriesAndPauses(t *testing.T) {
	b := newBench(t)
	one := b.subject("a")
	for range codecs.MaxWaiting {
		b.deliver(one, "sub-a", []byte("x"))
	}
	newest := b.row(one)[codecs.MaxWaiting-1].Offset
	b.deliver(one, "sub-b", []byte("y")) // costs sub-a its newest
	letters := take(b, topology.DeadLetters.Name, b.records.DeadLetter)
	if len(letters) != 1 || letters[0].Cause != QueueFull || letters[0].Offset != newest || letters[0].Subscription != "sub-a" || letters[0].Value != nil ||
		letters[0].Topic != topology.WebhookDeliveries.Name || string(letters[0].Key) != one || letters[0].Group != Kind {
		t.Fatalf("%+v", letters)
	}
	pauses := take(b, topology.SubscriptionCommands.Name, b.records.SubscriptionCommand)
	if len(pauses) != 1 || pauses[0].Kind != "pause" || pauses[0].Subscription.ID != "sub-a" || pauses[0].Reason != PausedFull || pauses[0].Meta.Actor != "civicbus" {
		t.Fatalf("%+v", pauses)
	}
	if w := b.row(one); len(w) != codecs.MaxWaiting || w[codecs.MaxWaiting-1].Subscription != "sub-b" {
		t.Errorf("%d wait", len(w))
	}
	b.deliver(one, "sub-a", []byte("z")) // it is itself what does not fit
	letters = take(b, topology.DeadLetters.Name, b.records.DeadLetter)
	if len(letters) != 1 || string(letters[0].Value) != "z" || letters[0].Subscription != "sub-a" {
		t.Fatalf("%+v", letters)
	}
	take(b, topology.SubscriptionCommands.Name, b.records.SubscriptionCommand)

	last := b.row(one)[codecs.MaxWaiting-1]
	b.report(one, codecs.DeliveryReport{Offset: last.Offset, Subscription: "sub-b", Attempt: 1, Outcome: Gone, Status: 410, At: 5})
	if p := take(b, topology.SubscriptionCommands.Name, b.records.SubscriptionCommand); len(p) != 1 || p[0].Reason != PausedGone {
		t.Errorf("%+v", p)
	}
	for attempt := int32(2); attempt <= MaxAttempts; attempt++ {
		b.report(one, codecs.DeliveryReport{Offset: last.Offset, Subscription: "sub-b", Attempt: attempt, Outcome: Failed, Status: 500, At: int64(attempt) * 1000, Value: []byte("y"),
			Headers: []codecs.Header{{Key: codecs.HeaderID, Value: []byte("00ff")}}})
	}
	letters = take(b, topology.DeadLetters.Name, b.records.DeadLetter)
	if len(letters) != 1 || letters[0].Cause != Undeliverable || string(letters[0].Value) != "y" || len(letters[0].Headers) != 1 || letters[0].Offset != last.Offset ||
		letters[0].Detail != "attempted 10 times, first 1970-01-01T00:00:00Z, last 1970-01-01T00:00:10Z; the last answer had status 500" {
		t.Fatalf("%+v", letters)
	}
	if fmt.Sprint(b.buried) != fmt.Sprint([]string{QueueFull, QueueFull, Undeliverable}) {
		t.Errorf("buried %v", b.buried)
	}
}

func TestGroupRefusesWhatItCannotDeliver(t *testing.T) {
	b := newBench(t)
	one := b.subject("a")
	b.deliver("no subject", "sub-a", []byte("x"))
	b.deliver(one, "", []byte("x"))
	b.deliver(one, strings.Repeat("s", 200), []byte("x"))
	b.deliver(one, "sub-a", nil)
	letters, decisions := take(b, topology.DeadLetters.Name, b.records.DeadLetter), take(b, topology.Decisions.Name, b.records.Decision)
	if len(letters) != 4 || len(decisions) != 4 || b.row(one) != nil || len(b.arrived) != 0 {
		t.Fatalf("%d letters, %d decisions", len(letters), len(decisions))
	}
	for i, want := range []string{event.Misplaced, event.Malformed, event.Malformed, event.Malformed} {
		if letters[i].Cause != want || decisions[i].Outcome != want || decisions[i].Kind != Kind || decisions[i].Follows != -1 {
			t.Errorf("%d: %s, %+v", i, letters[i].Cause, decisions[i])
		}
	}
}

func TestAnErasureLeavesNothingWaiting(t *testing.T) {
	b := newBench(t)
	one, other := b.subject("a"), b.subject("b")
	for _, s := range []string{one, one, other} {
		b.deliver(s, "sub-a", []byte("x"))
	}
	command := func(kind string) {
		value, err := b.records.ConsentCommand.Encode(&codecs.ConsentCommand{Kind: kind})
		b.must(err)
		b.k.Consume(topology.ConsentCommands.Name, one, value)
	}
	command("withdraw")
	if len(b.row(one)) != 2 {
		t.Fatal("a withdrawal is decided when a delivery is due")
	}
	command("erase")
	command("erase")
	decisions := take(b, topology.Decisions.Name, b.records.Decision)
	if b.row(one) != nil || len(b.row(other)) != 1 || len(decisions) != 2 || decisions[0].Outcome != Erased || decisions[0].Topic != topology.WebhookDeliveries.Name {
		t.Errorf("%v wait, %+v", b.row(one), decisions)
	}
}
