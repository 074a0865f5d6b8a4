// Package gatewaytest is a civicbus on an embedded cluster, for the tests of the gateway's parts: everything behind HTTP runs
// as it does in production.
package gatewaytest

import (
	"bytes"
	"civicbus/internal/tables"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/admission"
	"civicbus/internal/app"
	"civicbus/internal/embedded"
	"civicbus/internal/gateway/feed"
	"civicbus/internal/pseudonym"
	"civicbus/internal/refdata"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The world: one event type, which subscribers get by consent and an agency by law.
const (
	EventType = "test.moved"
	Source    = "register.test"
	Site      = "https://register.test"
	Agency    = "agency.test"
	AgencySub = "sub-agency"
	Purpose   = "mail"
	Scope     = "address"
	NameScope = "name"
)

// Schema is the event type's own. The secret is for nobody.
const Schema = `{"type":"record","name":"Moved","namespace":"test","fields":[
 {"name":"person","type":{"type":"record","name":"Person","fields":[{"name":"id","type":"string"},{"name":"name","type":"string"}]}},
 {"name":"street","type":"string"},{"name":"city","type":"string"},{"name":"secret","type":"string"}]}`

// within bounds every wait.
const within = time.Minute

// Bus is a running civicbus.
type Bus struct {
	T         testing.TB
	Cluster   *embedded.Cluster // nil on a real one
	Config    app.Config
	Node      *app.Node
	Admin     *admin.Client
	Registry  *codecs.Registry
	Records   *codecs.Records
	Keys      *pseudonym.Keys
	Publisher *admission.Publisher
	World     *tables.World
	Feed      *feed.Feed
}

// Start makes a cluster with the world on it, and runs every group and edge until the test ends.
func Start(t testing.TB, subscribers int, change ...func(*app.Config)) *Bus {
	t.Helper()
	ctx := context.Background()
	b := &Bus{T: t}
	var err error
	b.Config = app.Config{BusKey: []byte("the bus key of tests, of 32 bytes or more"), AuditKey: []byte("the audit key of tests, of 32 bytes or more"), LeaseAge: 300 * time.Millisecond,
		Shape: topology.Shape{Partitions: 4}, Instance: "test", Logger: slog.New(slog.DiscardHandler)}
	b.Cluster = Cluster(t, &b.Config)
	for _, c := range change {
		c(&b.Config)
	}
	_, err = app.Apply(ctx, b.Config)
	b.Must(err)
	b.Node, err = app.Connect(ctx, b.Config)
	b.Must(err)
	b.run(b.Node.Run)
	b.Admin, err = admin.Dial(ctx, admin.Config{Connection: b.Config.Connection, Registry: b.Config.Registry, BusKey: b.Config.BusKey})
	b.Must(err)
	t.Cleanup(b.Admin.Close)
	b.Records, err = b.Admin.Records(ctx)
	b.Must(err)
	b.Registry = b.Admin.Registry()
	b.Keys, err = pseudonym.NewKeys(b.Config.BusKey)
	b.Must(err)
	b.World, b.Feed = b.Instance()
	b.load(subscribers)
	b.Publisher, err = b.Node.Publisher()
	b.Must(err)
	t.Cleanup(b.Publisher.Close)
	return b
}

// Instance makes what another gateway beside the first stands on.
func (b *Bus) Instance() (*tables.World, *feed.Feed) {
	b.T.Helper()
	log := slog.New(slog.DiscardHandler)
	w, err := tables.NewWorld(b.Config.Connection, b.Registry, b.Records, b.Config.LeaseAge, log)
	b.Must(err)
	b.run(func(ctx context.Context) error { w.Run(ctx); return nil })
	f, err := feed.New(feed.Config{Connection: b.Config.Connection, Registry: b.Registry, Records: b.Records, Keys: b.Keys, Secret: b.Config.BusKey,
		Partitions: b.Config.Shape.Partitions, Tables: w, Age: b.Config.LeaseAge, Logger: log,
		DataRef: func(subscription, ref string) string { return "/api/subscriptions/" + subscription + "/events/" + ref }})
	b.Must(err)
	b.T.Cleanup(f.Close)
	return w, f
}

// run runs something until the test ends.
func (b *Bus) run(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	b.T.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.T.Error(err)
		}
	})
}

// Must ends the test on an error.
func (b *Bus) Must(err error) {
	b.T.Helper()
	if err != nil {
		b.T.Fatal(err)
	}
}

// Subscriber is the i-th organisation that subscribes by consent.
func Subscriber(i int) string { return fmt.Sprintf("s%d.test", i) }

// Subscription is the id of the i-th subscriber's subscription.
func Subscription(i int) string { return fmt.Sprintf("sub-s%d", i) }

// Organisation is the row of a subscriber.
func Organisation(id string) codecs.Organisation {
	return codecs.Organisation{ID: id, Name: id, DID: "did:web:" + id, Status: "active",
		Receives:       []codecs.Entitlement{{EventType: EventType, Purposes: []string{Purpose, "law"}, Bases: []string{"consent", "legal_obligation"}, Certification: "ISO27001"}},
		Certifications: []codecs.Certification{{Name: "ISO27001", ValidFrom: 1}}, PreApproved: []string{Purpose, "law"}}
}

// Row is the row of a subscriber's subscription.
func Row(i int) codecs.Subscription {
	return codecs.Subscription{ID: Subscription(i), Subscriber: Subscriber(i), EventTypes: []string{EventType}, Purpose: Purpose, Basis: "consent",
		Scopes: []string{Scope}, Delivery: codecs.Delivery{Kind: "kafka"}}
}

func (b *Bus) load(subscribers int) {
	b.T.Helper()
	ctx := context.Background()
	_, err := b.Admin.RegisterSource(ctx, EventType+"-value", Schema)
	b.Must(err)
	by := admin.By{Actor: "operator:anna"}
	organisations := []codecs.Organisation{{ID: Source, Name: Source, DID: "did:web:" + Source, Status: "active", Source: Site, Publishes: []string{EventType}}, Organisation(Agency)}
	subscriptions := []codecs.Subscription{{ID: AgencySub, Subscriber: Agency, EventTypes: []string{EventType}, Purpose: "law", Basis: "legal_obligation", Delivery: codecs.Delivery{Kind: "kafka"}}}
	for i := range subscribers {
		organisations, subscriptions = append(organisations, Organisation(Subscriber(i))), append(subscriptions, Row(i))
	}
	b.InEffect(b.Admin.PutOrganisations(ctx, by, organisations...))
	b.InEffect(b.Admin.PutEventTypes(ctx, by, codecs.EventType{Type: EventType, Stream: topology.Address.Name, RegistrySubject: EventType + "-value", Category: "state-change",
		Owner: Source, Title: "A person has moved", Classification: "confidential", Roles: []codecs.Role{{Name: "person", Path: "data.person.id", Scheme: "fi-hetu"}},
		Fields: []codecs.Field{{Path: "data.person.name", Owner: "person", Scopes: []string{NameScope}}, {Path: "data.street", Owner: "person", Scopes: []string{Scope}},
			{Path: "data.city", Scopes: []string{Scope}}},
		Rules: []codecs.Rule{{ID: "law-1", Recipient: Agency, Purpose: "law", Basis: "legal_obligation", Fields: []string{"data.person.name", "data.city"}, ValidFrom: 1, Citation: "Act 1"}}}))
	b.InEffect(b.Admin.PutSubscriptions(ctx, by, subscriptions...))
	var ids []string
	for _, s := range subscriptions {
		ids = append(ids, s.ID)
	}
	b.Active(ids...)
}

// Active waits until subscriptions are active.
func (b *Bus) Active(ids ...string) {
	b.T.Helper()
	for _, id := range ids {
		b.Eventually("subscription "+id+" is active", func() bool {
			s := b.World.Snapshot().Subscription(id)
			return s != nil && s.Status == "active"
		})
	}
}

// InEffect sends commands and waits until they are acknowledged.
func (b *Bus) InEffect(requests []admin.Request, err error) {
	b.T.Helper()
	b.Must(err)
	outcomes, err := b.Admin.Send(context.Background(), requests, admin.Wait{Timeout: within})
	b.Must(err)
	for _, o := range outcomes {
		if !o.InEffect {
			b.T.Fatalf("not in effect: %+v", o)
		}
	}
}

// Change asks to pause, resume or revoke a subscription and waits until it is acknowledged.
func (b *Bus) Change(kind, subscription string) {
	b.T.Helper()
	b.InEffect(b.Admin.ChangeSubscriptions(context.Background(), admin.By{Actor: "operator:anna"}, kind, "", subscription))
}

// Person is the i-th identity code of the range that is given to no one.
func Person(i int) string {
	const check = "0123456789ABCDEFHJKLMNPRSTUVWXY"
	number, day := 900+i%100, i/100
	d, m := day%28+1, day/28%12+1
	return fmt.Sprintf("%02d%02d84-%03d%c", d, m, number, check[(d*10_000_000+m*100_000+84*1000+number)%31])
}

// Subject is a person's bus pseudonym.
func (b *Bus) Subject(i int) string { return b.Keys.Subject("fi-hetu", Person(i)) }

// Grant is a person's consent to a subscriber.
func Grant(person int, subscriber string, scopes ...string) refdata.Consent {
	return refdata.Consent{Subject: refdata.Subject{Scheme: "fi-hetu", ID: Person(person)}, Command: codecs.ConsentCommand{Kind: "grant",
		Grant: codecs.Grant{ID: "g-" + subscriber + "-" + strings.Join(scopes, "-"), Recipient: subscriber, Purpose: Purpose, Scopes: scopes, Notice: "https://notice.test", Language: "fi", Method: "test"}}}
}

// Grants is the consent of each of the first n people.
func Grants(n int, subscriber string, scopes ...string) (all []refdata.Consent) {
	for i := range n {
		all = append(all, Grant(i, subscriber, scopes...))
	}
	return all
}

// Withdraw takes it back.
func Withdraw(person int, subscriber string) refdata.Consent {
	return refdata.Consent{Subject: refdata.Subject{Scheme: "fi-hetu", ID: Person(person)}, Command: codecs.ConsentCommand{Kind: "withdraw", Grant: codecs.Grant{Recipient: subscriber, Purpose: Purpose}}}
}

// Consent sends consent commands and waits until they are acknowledged.
func (b *Bus) Consent(documents ...refdata.Consent) {
	b.T.Helper()
	b.InEffect(b.Admin.ChangeConsents(context.Background(), admin.By{Actor: "person"}, documents...))
}

// Moved is an event of a person's move. The street tells events apart.
func Moved(id string, person int, street string) []byte {
	text, err := json.Marshal(map[string]any{"specversion": "1.0", "id": id, "source": Site, "type": EventType, "time": "2026-08-01T08:00:00Z",
		"datacontenttype": "application/json", "data": map[string]any{"person": map[string]any{"id": Person(person), "name": fmt.Sprint("Name ", person)},
			"street": street, "city": "Tampere", "secret": "secret of " + street}})
	if err != nil {
		panic(err)
	}
	return text
}

// Publish publishes events as the source, and demands that each is accepted.
func (b *Bus) Publish(events ...[]byte) {
	b.T.Helper()
	var inputs []*admission.Input
	for in, err := range admission.ReadEvents(bytes.NewReader(bytes.Join(events, []byte("\n"))), Source) {
		b.Must(err)
		inputs = append(inputs, in)
	}
	for begun := time.Now(); len(inputs) > 0; {
		var again []*admission.Input // what is out of reach for a moment is published again, as a source does
		for i, a := range b.Publisher.Publish(context.Background(), Source, inputs) {
			switch {
			case a.Status == admission.Unavailable && time.Since(begun) < within:
				again = append(again, inputs[i])
			case a.Status != admission.Accepted:
				b.T.Fatalf("event %d: %s %v %v", i, a.Status, a.Faults, a.Err)
			}
		}
		inputs = again
	}
}

// Eventually waits for a condition.
func (b *Bus) Eventually(what string, ok func() bool) {
	b.T.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			b.T.Fatalf("not within %s: %s; node: %v", within, what, b.Node.Ready())
		}
	}
}

// Decisions reads every decision of a kind that is on record now.
func (b *Bus) Decisions(kind string) []codecs.Decision {
	b.T.Helper()
	var mu sync.Mutex
	var all []codecs.Decision
	b.Must(b.read(topology.Decisions.Name, func(r *kgo.Record) {
		d, err := b.Records.Decision.Decode(r.Value)
		b.Must(err)
		if d.Kind == kind {
			mu.Lock()
			all = append(all, d)
			mu.Unlock()
		}
	}))
	return all
}
