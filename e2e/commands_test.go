package e2e

import (
	"crypto/rand"
	"encoding/hex"
	"time"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
	"civicbus/internal/refdata"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// order is a command that was sent.
type order struct {
	id, what   string
	table, key string
}

func send[T any](b *bus, stream topology.Stream, group, key string, record *codecs.Record[T], cmd *T, id, what string) *order {
	b.t.Helper()
	value, err := record.Encode(cmd)
	b.must(err)
	b.must(b.client.ProduceSync(b.t.Context(), &kgo.Record{Topic: stream.Name, Key: []byte(key), Value: value}).FirstErr())
	return &order{id, what, topology.TableTopic(group), key}
}

func meta(actor string) codecs.Meta {
	var id [8]byte
	_, _ = rand.Read(id[:])
	return codecs.Meta{ID: hex.EncodeToString(id[:]), Actor: actor, IssuedAt: time.Now().UnixMilli()}
}

// trust commands put, suspend, resume or revoke.
func (b *bus) trust(kind string, o codecs.Organisation) *order {
	b.t.Helper()
	m := meta("operator:anna")
	return send(b, topology.TrustCommands, "trust", o.ID, b.records.TrustCommand, &codecs.TrustCommand{Meta: m, Kind: kind, Organisation: o}, m.ID, kind+" "+o.ID)
}

// catalog puts an event type.
func (b *bus) catalog(e codecs.EventType) *order {
	b.t.Helper()
	m := meta("operator:anna")
	return send(b, topology.CatalogCommands, "catalog", e.Type, b.records.CatalogCommand, &codecs.CatalogCommand{Meta: m, Kind: "put", EventType: e}, m.ID, "put "+e.Type)
}

func (b *bus) subscription(kind, actor string, s codecs.Subscription) *order {
	b.t.Helper()
	m := meta(actor)
	return send(b, topology.SubscriptionCommands, "subscription", s.ID, b.records.SubscriptionCommand,
		&codecs.SubscriptionCommand{Meta: m, Kind: kind, Subscription: s, Reason: reasonOf(kind)}, m.ID, kind+" "+s.ID)
}

func reasonOf(kind string) string {
	switch kind {
	case "pause", "revoke":
		return "requested"
	}
	return ""
}

func (b *bus) consents(cs ...refdata.Consent) []*order {
	b.t.Helper()
	var all []*order
	for _, c := range cs {
		all = append(all, b.consent(b.subject(c.Subject.Scheme, c.Subject.ID), c.Command))
	}
	return all
}

func (b *bus) consent(subject string, cmd codecs.ConsentCommand) *order {
	b.t.Helper()
	cmd.Meta = meta("person")
	return send(b, topology.ConsentCommands, "consent", subject, b.records.ConsentCommand, &cmd, cmd.Meta.ID, cmd.Kind)
}

func (b *bus) subject(scheme, id string) string {
	b.t.Helper()
	canonical, err := pseudonym.Canonicalise(scheme, id)
	b.must(err)
	return b.keys.Subject(scheme, canonical)
}

// result waits for a command's answer.
func (b *bus) result(o *order) codecs.CommandResult {
	b.t.Helper()
	var r codecs.CommandResult
	b.eventually("an answer to "+o.what, func() (ok bool) {
		r, ok = b.results.find(func(_ string, r *codecs.CommandResult) bool { return r.CommandID == o.id })
		return ok
	})
	return r
}

// inEffect waits until the commands are accepted and acknowledged: the lease's age after a read_committed reader saw the
// changed rows in the tables' own topics (DESIGN.md 3.2).
func (b *bus) inEffect(orders ...*order) {
	b.t.Helper()
	for _, o := range orders {
		r := b.result(o)
		if r.Status != "accepted" {
			b.t.Fatalf("%s: refused: %s %v", o.what, r.Reason, r.Faults)
		}
		b.eventually("the row of "+o.what, func() bool { return b.tables.version(o.table, o.key) >= r.Version })
	}
	b.pass(b.cfg.LeaseAge)
}

// row is a subscription's row now.
func (b *bus) row(id string) codecs.Subscription {
	b.t.Helper()
	value := b.tables.row("subscription-table", id)
	if value == nil {
		return codecs.Subscription{}
	}
	s, err := b.records.Subscription.Decode(value)
	b.must(err)
	return s
}

// awaitStatus waits for a subscription's status.
func (b *bus) awaitStatus(id, status string) {
	b.t.Helper()
	b.eventually("subscription "+id+" is "+status, func() bool { return b.row(id).Status == status })
}

// approve approves what is pending, and waits until all are active and in effect.
func (b *bus) approve(subs []codecs.Subscription) {
	b.t.Helper()
	var a []*order
	for _, s := range subs {
		if r := b.row(s.ID); r.Status == "pending" {
			a = append(a, b.subscription("approve", "operator:bertil", codecs.Subscription{ID: s.ID}))
		}
	}
	b.inEffect(a...)
	for _, s := range subs {
		b.awaitStatus(s.ID, "active")
	}
	b.pass(b.cfg.LeaseAge)
}
