package usage

import (
	"context"
	"fmt"
	"testing"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/tester"
	"pgregory.net/rapid"
)

// id is the n-th delivery id.
func id(n int) string { return fmt.Sprintf("%016x%016x", n*2654435761, n) }

// Within what the row remembers, each delivery counts once and each denial as it comes.
func TestCountIsLikeTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var row codecs.UsageRow
		seen, denied := map[string]bool{}, map[string]int64{}
		var delivered, repeated int64
		for range rapid.IntRange(0, 400).Draw(t, "verdicts") {
			item := codecs.UsageItem{Permit: rapid.Bool().Draw(t, "permit"), At: rapid.Int64Range(1, 100).Draw(t, "at")}
			if item.Permit {
				item.DeliveryID = id(rapid.IntRange(0, codecs.MaxUsageRecent-1).Draw(t, "delivery"))
				if seen[item.DeliveryID] {
					repeated++
				} else {
					delivered++
				}
				seen[item.DeliveryID] = true
			} else {
				item.Reason = rapid.SampledFrom([]string{"no_grant", "objected", "deceased"}).Draw(t, "reason")
				denied[item.Reason]++
			}
			row = Count(row, item)
		}
		if row.Delivered != delivered || row.Repeated != repeated || len(row.Denied) != len(denied) {
			t.Fatalf("%d delivered, %d repeated, %d reasons; want %d, %d, %d", row.Delivered, row.Repeated, len(row.Denied), delivered, repeated, len(denied))
		}
		for _, d := range row.Denied {
			if denied[d.Reason] != d.Count {
				t.Fatalf("%s: %d, want %d", d.Reason, d.Count, denied[d.Reason])
			}
		}
	})
}

// The last 256 ids are remembered, whatever came before them.
func TestTheLastIDsAreRemembered(t *testing.T) {
	var row codecs.UsageRow
	const n = 3*codecs.MaxUsageRecent + 7
	for i := range n {
		row = Count(row, codecs.UsageItem{Permit: true, DeliveryID: id(i)})
	}
	for i := n - codecs.MaxUsageRecent; i < n; i++ {
		row = Count(row, codecs.UsageItem{Permit: true, DeliveryID: id(i)})
	}
	if row.Delivered != n || row.Repeated != codecs.MaxUsageRecent {
		t.Errorf("%d delivered, %d repeated", row.Delivered, row.Repeated)
	}
}

func TestTheRowIsBounded(t *testing.T) {
	records := codecs.NewRecords()
	if err := records.BindLocal(); err != nil {
		t.Fatal(err)
	}
	var row codecs.UsageRow
	for i := range 5_000 {
		row = Count(row, codecs.UsageItem{Permit: i%2 == 0, DeliveryID: id(i), Reason: fmt.Sprintf("a_reason_of_forty_characters_or_so_%04d", i%200)})
		row = Attempted(row, codecs.UsageItem{DeliveryID: id(i), EventType: "fi.dvv.person.address.changed", Attempt: 1, Outcome: "delivered", Status: 204, Millis: 30_000, At: 1_700_000_000_000})
	}
	b, err := records.UsageRow.Encode(&row)
	if err != nil {
		t.Fatal(err)
	}
	var denied int64
	for _, d := range row.Denied {
		denied += d.Count
	}
	if len(b) > 16<<10 || len(row.Denied) != codecs.MaxUsageReasons || denied != 2_500 {
		t.Errorf("%d bytes, %d reasons, %d denials", len(b), len(row.Denied), denied)
	}
}

// The last attempts at a webhook are known, the oldest first, and nothing is counted by them.
func TestTheLastAttemptsAreKnown(t *testing.T) {
	row := codecs.UsageRow{Subscriber: "kela.fi", Delivered: 7}
	const n = 3*codecs.MaxUsageAttempts + 5
	for i := range int32(n) {
		before := fmt.Sprint(row)
		next := Attempted(row, codecs.UsageItem{Subscriber: "kela.fi", DeliveryID: id(int(i)), Attempt: i + 1, Outcome: "failed", Cause: "status", Status: 500, At: int64(i)})
		if fmt.Sprint(row) != before {
			t.Fatal("the row that was given has changed")
		}
		row = next
	}
	if len(row.Attempts) != codecs.MaxUsageAttempts || row.Delivered != 7 {
		t.Fatalf("%d attempts, %d delivered", len(row.Attempts), row.Delivered)
	}
	for i, a := range row.Attempts {
		if want := int32(n - codecs.MaxUsageAttempts + i + 1); a.Attempt != want || a.DeliveryID != id(int(want)-1) || a.Status != 500 {
			t.Errorf("%d: %+v", i, a)
		}
	}
}

// A row that no counting made goes on within its bounds.
func TestAForeignRowIsCountedOn(t *testing.T) {
	for _, next := range []int32{-1, -1 << 31, 1<<31 - 1, codecs.MaxUsageRecent} {
		for _, size := range []int{0, 5, codecs.MaxUsageRecent*hashBytes - 1, codecs.MaxUsageRecent * hashBytes, 5 * codecs.MaxUsageRecent * hashBytes} {
			row := Count(codecs.UsageRow{Recent: make([]byte, size), Next: next}, codecs.UsageItem{Permit: true, DeliveryID: id(1)})
			row = Count(row, codecs.UsageItem{Permit: true, DeliveryID: id(2)})
			if len(row.Recent) > codecs.MaxUsageRecent*hashBytes+hashBytes || row.Delivered != 2 {
				t.Errorf("%d bytes and %d became %d bytes, %d delivered", size, next, len(row.Recent), row.Delivered)
			}
		}
	}
}

func TestVerdictsReachTheirSubscriptionsRow(t *testing.T) {
	records := codecs.NewRecords()
	if err := records.BindLocal(); err != nil {
		t.Fatal(err)
	}
	graph, err := topology.Build(topology.Usage, New(Env{Records: records, Partitions: 1}).Callbacks())
	if err != nil {
		t.Fatal(err)
	}
	k := tester.New(t)
	p, err := goka.NewProcessor(nil, graph, goka.WithTester(k), goka.WithNilHandling(goka.NilProcess))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	kind := "router"
	send := func(verdicts ...codecs.VerdictItem) {
		v, err := records.Decision.Encode(&codecs.Decision{Kind: kind, DecidedAt: 5, Verdicts: verdicts})
		if err != nil {
			t.Fatal(err)
		}
		k.Consume(topology.Decisions.Name, "k1.someone", v)
	}
	permit := codecs.VerdictItem{Subscription: "sub-a", Subscriber: "kela.fi", Purpose: "benefits", Permit: true, DeliveryID: id(1)}
	send(permit, codecs.VerdictItem{Subscription: "sub-b", Subscriber: "posti.fi", Reason: "no_grant"})
	send(permit)
	for _, kind = range []string{"gateway", "replay"} { // read or sent again, which does not count
		send(permit, codecs.VerdictItem{Subscription: "sub-b", Subscriber: "posti.fi", Reason: "grant_withdrawn"})
	}
	kind = "delivery" // an attempt: a permit was counted when the router gave it
	send(permit, codecs.VerdictItem{Subscription: "sub-b", Subscriber: "posti.fi", Reason: "grant_withdrawn"})
	report, err := records.DeliveryReport.Encode(&codecs.DeliveryReport{Subscription: "sub-a", Subscriber: "kela.fi", DeliveryID: id(1), Attempt: 2, Outcome: "delivered", Status: 200, At: 9})
	if err != nil {
		t.Fatal(err)
	}
	k.Consume(topology.DeliveryReports.Name, "k1.someone", report)
	k.Consume(topology.DeliveryReports.Name, "k1.someone", []byte("no report"))
	k.Consume(topology.Decisions.Name, "k1.someone", []byte("no decision"))
	k.Consume(topology.UsageItems.Name, "sub-a", []byte("no item"))
	for sub, want := range map[string]codecs.UsageRow{"sub-a": {Subscriber: "kela.fi", Purpose: "benefits", Delivered: 1, Repeated: 1},
		"sub-b": {Subscriber: "posti.fi", Denied: []codecs.UsageDenial{{Reason: "no_grant", Count: 1}, {Reason: "grant_withdrawn", Count: 1}}}} {
		b, _ := k.TableValue(goka.Table(topology.TableTopic("usage")), sub).([]byte)
		row, err := records.UsageRow.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if row.Subscriber != want.Subscriber || row.Purpose != want.Purpose || row.Delivered != want.Delivered || row.Repeated != want.Repeated ||
			fmt.Sprint(row.Denied) != fmt.Sprint(want.Denied) || row.First != 5 || row.Last != 5 {
			t.Errorf("%s: %+v", sub, row)
		}
		if sub == "sub-a" && (len(row.Attempts) != 1 || row.Attempts[0].DeliveryID != id(1) || row.Attempts[0].Attempt != 2) {
			t.Errorf("%+v", row.Attempts)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
