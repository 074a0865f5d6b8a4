package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/pseudonym"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The world of the router's benchmarks: 20 event types, 10 municipalities, 100 subscribers with a topic each, 1,000
// subscriptions on consent. Every event is of one type and one municipality, and five subscriptions match it.
const (
	municipalities = 10
	subscribers    = 100
	matching       = 5
	subjects       = 2_000
	busKey         = "the benchmark's bus key: its cluster ends with it"
	purpose        = "benchmark"
	stream         = "life.address"
)

// schema is about what a source writes of a move: 343 bytes on average, nested records, unions, an array.
const schema = `{"type":"record","name":"Moved","namespace":"bench","fields":[
{"name":"person","type":{"type":"record","name":"Person","fields":[
  {"name":"id","type":"string"},
  {"name":"name","type":["null","string"],"default":null,"civicbus.scopes":["identity"],"civicbus.owner":"person"},
  {"name":"birthDate","type":{"type":"int","logicalType":"date"},"civicbus.scopes":["identity"],"civicbus.owner":"person"}]}},
{"name":"municipality","type":"string","civicbus.scopes":["address"]},
{"name":"oldAddress","type":["null",{"type":"record","name":"Address","fields":[
  {"name":"street","type":"string","civicbus.scopes":["address"],"civicbus.owner":"person"},
  {"name":"postalCode","type":"string","civicbus.scopes":["address"],"civicbus.owner":"person"},
  {"name":"city","type":"string","civicbus.scopes":["address"],"civicbus.owner":"person"},
  {"name":"country","type":"string","civicbus.scopes":["address"],"civicbus.owner":"person"}]}],"default":null},
{"name":"newAddress","type":"Address"},
{"name":"registrar","type":"string"},
{"name":"languages","type":{"type":"array","items":"string"},"civicbus.scopes":["identity"],"civicbus.owner":"person"},
{"name":"registeredAt","type":{"type":"long","logicalType":"timestamp-millis"}},
{"name":"note","type":["null","string"],"default":null}]}`

// world is a cluster that is set up for a run.
type world struct {
	cfg     app.Config
	types   int
	client  *kgo.Client
	admin   *kadm.Client
	records *codecs.Records
	keys    *pseudonym.Keys
	writer  *codecs.Schema
}

func newWorld(ctx context.Context, c Config) (*world, error) {
	w := &world{cfg: c.node(), types: c.Types}
	if _, err := app.Apply(ctx, w.cfg); err != nil {
		return nil, err
	}
	operator, err := admin.Dial(ctx, admin.Config{Connection: w.cfg.Connection, Registry: w.cfg.Registry, BusKey: w.cfg.BusKey, Logger: w.cfg.Logger})
	if err != nil {
		return nil, err
	}
	defer operator.Close()
	for t := range w.types {
		if _, err := operator.RegisterSource(ctx, eventType(t), schema); err != nil {
			return nil, err
		}
	}
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	return w, w.load(ctx, operator, c.Say)
}

func (c *Config) node() app.Config {
	cfg := app.Config{BusKey: []byte(busKey), Instance: "bench", Shape: topology.Shape{Partitions: 8}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	cfg.Connection.Brokers, cfg.Registry.URL = c.Brokers, c.Registry
	return cfg
}

// connect makes what is needed to write and to read the records of a world that is there.
func (w *world) connect(ctx context.Context) error {
	registry, err := codecs.NewRegistry(w.cfg.Registry)
	if err != nil {
		return err
	}
	w.records = codecs.NewRecords()
	if err := w.records.Bind(ctx, registry); err != nil {
		return err
	}
	if w.writer, err = registry.Latest(ctx, eventType(0)); err != nil {
		return err
	}
	if w.keys, err = pseudonym.NewKeys(w.cfg.BusKey); err != nil {
		return err
	}
	if w.client, err = w.cfg.Connection.Client(); err != nil {
		return err
	}
	w.admin = kadm.NewClient(w.client)
	return nil
}

// Feed is what Config.Feed does, in this process.
func Feed(ctx context.Context, c Config, first, n int) error {
	c.defaults()
	w := &world{cfg: c.node(), types: c.Types}
	if err := w.connect(ctx); err != nil {
		return err
	}
	defer w.client.Close()
	events, err := w.events(n, first)
	if err != nil {
		return err
	}
	return w.client.ProduceSync(ctx, events...).FirstErr()
}

const source = "https://source.example"

func eventID(i int) string    { return "e-" + strconv.Itoa(i) }
func eventType(t int) string  { return fmt.Sprintf("bench.moved.t%02d", t) }
func subscriber(n int) string { return fmt.Sprintf("agency%03d.example", n) }
func municipality(m int) string {
	return []string{"Helsinki", "Espoo", "Tampere", "Vantaa", "Oulu", "Turku", "Lahti", "Kuopio", "Pori", "Joensuu"}[m]
}

// load puts the reference data through the groups that keep it, as an operator would.
func (w *world) load(ctx context.Context, operator *admin.Client, say func(string)) (err error) {
	cfg := w.cfg
	cfg.Parts = []string{"catalog", "trust", "subscription", "consent", app.PartKeepers}
	n, err := app.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- n.Run(running) }()
	defer func() { stop(); err = errors.Join(err, <-done) }()

	var orgs []codecs.Organisation
	var types_ []codecs.EventType
	entitled := []codecs.Entitlement{}
	for t := range w.types {
		types_ = append(types_, codecs.EventType{Type: eventType(t), Stream: stream, RegistrySubject: eventType(t), Category: "state-change", Owner: "source.example", Title: "moved", Classification: "confidential",
			Roles: []codecs.Role{{Name: "person", Path: "data.person.id", Scheme: "fi-hetu"}}})
		entitled = append(entitled, codecs.Entitlement{EventType: eventType(t), Purposes: []string{purpose}, Bases: []string{"consent"}})
	}
	for s := range subscribers {
		orgs = append(orgs, codecs.Organisation{ID: subscriber(s), Name: subscriber(s), DID: "did:web:" + subscriber(s), Status: "active", Receives: entitled, PreApproved: []string{purpose}})
	}
	orgs = append(orgs, codecs.Organisation{ID: "source.example", Name: "source", DID: "did:web:source.example", Status: "active", Source: source})
	var subs []codecs.Subscription
	for t := range w.types {
		for m := range municipalities {
			for k := range matching {
				// Ten subscribers a municipality; the even types go to five of them, the odd ones to the others.
				s := m*10 + (t%2)*matching + k
				subs = append(subs, codecs.Subscription{ID: fmt.Sprintf("sub-%02d-%d-%d", t, m, k), Subscriber: subscriber(s), EventTypes: []string{eventType(t)},
					Filter: fmt.Sprintf(`{"data.municipality":%q}`, municipality(m)), Purpose: purpose, Basis: "consent", Scopes: []string{"address"}, Delivery: codecs.Delivery{Kind: "kafka"}})
			}
		}
	}
	by := admin.By{Actor: "operator:bench"}
	with := func(requests []admin.Request, err error) error { return operator.InEffect(ctx, requests, err) }
	if err := with(operator.PutEventTypes(ctx, by, types_...)); err != nil {
		return err
	}
	if err := with(operator.PutOrganisations(ctx, by, orgs...)); err != nil {
		return err
	}
	if err := with(operator.PutSubscriptions(ctx, by, subs...)); err != nil {
		return err
	}
	say(fmt.Sprintf("%d subscriptions of %d subscribers in effect", len(subs), subscribers))
	if err := w.grants(ctx, operator); err != nil {
		return err
	}
	say(fmt.Sprintf("%d grants in effect", subjects*2*matching))
	return allActive(ctx, operator)
}

// grants commands ten grants for each subject, to the ten subscribers of its municipality, and waits until they are kept.
func (w *world) grants(ctx context.Context, operator *admin.Client) error {
	for i := range subjects {
		m := i % municipalities
		for k := range 2 * matching {
			cmd := codecs.ConsentCommand{Meta: codecs.Meta{ID: fmt.Sprintf("g-%d-%d", i, k), Actor: "person"}, Kind: "grant", Grant: codecs.Grant{ID: fmt.Sprintf("g%d", k),
				Recipient: subscriber(m*10 + k), Purpose: purpose, Scopes: []string{"address"}, Notice: "https://example.org/notice", Language: "fi", Method: "form"}}
			value, err := w.records.ConsentCommand.Encode(&cmd)
			if err != nil {
				return err
			}
			w.client.Produce(ctx, &kgo.Record{Topic: topology.ConsentCommands.Name, Key: []byte(w.subject(i)), Value: value}, nil)
		}
	}
	if err := w.client.Flush(ctx); err != nil {
		return err
	}
	return caughtUp(ctx, operator, topology.Consent.Name, askEach)
}

func (w *world) subject(i int) string { return w.keys.Subject("bench", strconv.Itoa(i)) }

// events makes n stamped events as the profile group would publish them.
func (w *world) events(n, from int) ([]*kgo.Record, error) {
	stamp, err := w.records.Attributes.Encode(&codecs.Attributes{Municipality: "Helsinki", Language: "fi"})
	if err != nil {
		return nil, err
	}
	out := make([]*kgo.Record, 0, n)
	for i := from; i < from+n; i++ {
		s := (i * 7919) % subjects
		m := s % municipalities
		data, err := moved(s, m)
		if err != nil {
			return nil, err
		}
		body, faults := w.writer.FromJSON(data)
		if len(faults) > 0 {
			return nil, fmt.Errorf("benchmark event: %v", faults)
		}
		subject := w.subject(s)
		h := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
		out = append(out, &kgo.Record{Topic: stream, Key: []byte(subject), Value: append(codecs.AppendWire(nil, w.writer.ID()), body...), Headers: []kgo.RecordHeader{
			h(codecs.HeaderSpecVersion, "1.0"), h(codecs.HeaderID, eventID(i)), h(codecs.HeaderSource, source), h(codecs.HeaderType, eventType(i%w.types)),
			h(codecs.HeaderTime, "2026-01-01T12:00:00Z"), h(codecs.HeaderSubject, subject), h(codecs.HeaderSubjectRole, "person"),
			h(codecs.HeaderDataSchema, w.cfg.Registry.URL+"/schemas/ids/"+strconv.Itoa(int(w.writer.ID()))), h(codecs.HeaderContentType, codecs.ContentTypeAvro),
			{Key: codecs.HeaderProfile, Value: stamp}, h(codecs.HeaderProfileVersion, "1"),
		}})
	}
	return out, nil
}

// moved is the data of one event as its source writes it.
func moved(s, m int) ([]byte, error) {
	return json.Marshal(map[string]any{
		"person":       map[string]any{"id": fmt.Sprintf("bench-%08d", s), "name": "Aino Maria Virtanen", "birthDate": "1990-03-04"},
		"municipality": municipality(m),
		"oldAddress":   map[string]any{"street": "Mannerheimintie 12 B 34", "postalCode": "00100", "city": "Helsinki", "country": "FI"},
		"newAddress":   map[string]any{"street": "Hallituskatu 1 A 5", "postalCode": "33200", "city": municipality(m), "country": "FI"},
		"registrar":    "DVV Helsinki", "languages": []string{"fi", "sv"}, "registeredAt": "2026-01-01T12:00:00Z", "note": nil,
	})
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
