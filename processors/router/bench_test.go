package router

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/processors/event/eventtest"
)

// BenchmarkEvent is one event through the callback, without Kafka and without goka's own cost: five of a thousand
// subscriptions permit it, each of another subscriber, the others filter it out; the subject has sixteen full grants.
func BenchmarkEvent(b *testing.B) {
	w := eventtest.New(b)
	clear(w.Subs)
	consents := codecs.Consents{Version: 9, AppliedIDs: make([]string, 16), AppliedVersions: make([]int64, 16)}
	for i := range consents.AppliedIDs {
		consents.AppliedIDs[i] = fmt.Sprintf("command-%024d", i)
	}
	for i := range 1000 {
		id := fmt.Sprintf("agency%03d.fi", i%100)
		if i < 100 {
			w.Orgs[id] = eventtest.Organisation(id)
		}
		sub := eventtest.Subscription(fmt.Sprintf("sub-%04d", i), id, verdict.BasisConsent)
		sub.Scopes = []string{"name"}
		sub.Filter = fmt.Sprintf(`{"data.place":"town %d"}`, i)
		if i < 5 {
			sub.Filter = `{"data.place":"Espoo"}`
		}
		w.Subs[sub.ID] = sub
		if i < 16 {
			g := eventtest.Grant(fmt.Sprintf("grant-%024d", i), id, "name", "place")
			g.Notice, g.Language, g.Method, g.ChangedBy = "https://wallet.example/notices/"+strings.Repeat("x", 40), "fi", "wallet", "wallet:1"
			g.Jurisdiction, g.StorageLocation, g.Retention, g.WithdrawalMethod = "FI", "FI", "P2Y", "https://wallet.example/withdraw"
			consents.Grants = append(consents.Grants, g)
		}
	}
	w.Changed()
	row, err := w.Records.Consents.Encode(&consents)
	if err != nil {
		b.Fatal(err)
	}
	packed := verdict.NewPackedConsents(w.Records.Consents)
	env := Env{Env: w.Env(), Consents: packed, Projection: newRegistered(w).find, Refused: func(string, int) string { return "" }}
	permits, decisions := 0, 0
	env.Emit = func(_ goka.Context, r *kgo.Record) {
		if strings.HasPrefix(r.Topic, "subscriber.") {
			permits++
		} else {
			decisions++
		}
	}
	env.Seen = nil
	g := New(env)
	subject := w.Subject("a")
	headers, value := w.Headers(eventtest.Birth, "birth-1", subject, "child"), w.Value(eventtest.Data())
	ctx := &eventtest.Context{On: "life.birth", Of: subject, With: headers, Joined: packed.Pack(nil, row), Stopped: context.Background()}
	b.ReportAllocs()
	b.ResetTimer()
	n := 0
	for b.Loop() {
		g.run(ctx, value)
		n++
	}
	if permits != 5*n || decisions != n {
		b.Fatalf("%d deliveries and %d decisions of %d events", permits, decisions, n)
	}
	b.ReportMetric(float64(len(row)), "consentbytes")
}
