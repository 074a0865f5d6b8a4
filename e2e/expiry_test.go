package e2e

import (
	"fmt"
	"slices"
	"testing"

	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestEverythingExpires lets everything expire that groups have read, the markers of its transactions included, as retention does
// with a partition to which nothing is written: nothing is lost by that, and whoever is started again goes on.
func TestEverythingExpires(t *testing.T) {
	b := start(t)
	b.smallWorld(func(w *examples.World) {
		for i := range w.Organisations {
			w.Organisations[i].Inbox = w.Organisations[i].ID == register
		}
	})
	op := b.operator()
	who := people(0, 20)
	move := func(street string) {
		for i, p := range who {
			b.accept(register, moved(fmt.Sprintf("move-%s-%d", street, i), p, street))
		}
		for i, p := range who {
			b.decision(fmt.Sprintf("move-%s-%d", street, i), p)
		}
	}
	move("1")
	b.sourceInTransaction(register, "from-inbox", moved("from-inbox", who[0], "2"))
	b.decision("from-inbox", who[0])
	nothingWaits := func() {
		b.eventually("nothing waits", func() bool {
			lags, err := op.Lag(t.Context())
			b.must(err)
			return !slices.ContainsFunc(lags, func(l admin.Lag) bool { return l.Records > 0 })
		})
	}
	nothingWaits()
	b.nodes["a"].stop()
	topics := []string{topology.InboxTopicName(register)}
	for _, g := range topology.Groups {
		for _, s := range g.Consumes() {
			topics = append(topics, s.Name)
		}
	}
	ends, err := b.admin.ListCommittedOffsets(t.Context(), topics...)
	b.must(err)
	deleted, err := b.admin.DeleteRecords(t.Context(), ends.Offsets())
	b.must(err)
	b.must(deleted.Error())

	b.run("a").ready()
	if gaps, err := op.Gaps(t.Context(), ""); err != nil || len(gaps) > 0 {
		t.Errorf("gaps %+v, %v", gaps, err)
	}
	move("3")
	b.sourceInTransaction(register, "from-inbox-again", moved("from-inbox-again", who[0], "4"))
	b.decision("from-inbox-again", who[0])
	nothingWaits()
	if f := b.verified().Findings; len(f) > 0 {
		t.Errorf("the audit log: %v", f)
	}
}

// sourceInTransaction publishes an event to a source's own inbox, as a source does that uses transactions.
func (b *bus) sourceInTransaction(organisation, id string, event []byte) {
	b.t.Helper()
	client, err := b.cfg.Connection.Client(kgo.TransactionalID("source-" + id))
	b.must(err)
	defer client.Close()
	b.must(client.BeginTransaction())
	b.must(client.ProduceSync(b.t.Context(), &kgo.Record{Topic: topology.InboxTopicName(organisation), Value: event, Headers: []kgo.RecordHeader{
		{Key: "content-type", Value: []byte("application/cloudevents+json")}}}).FirstErr())
	b.must(client.EndTransaction(b.t.Context(), kgo.TryCommit))
}
