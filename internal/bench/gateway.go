package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/gateway/identity"
	"civicbus/internal/gateway/web"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The gateway's world: one source, 50 subscribers with 20 subscriptions each, a group of five of which an event goes to.
// crowd says how many read.
const (
	gatewayType        = "gateway.moved"
	gatewaySource      = "source.example"
	gatewaySubscribers = 50
	gatewayMatching    = 5
	gatewayPeople      = 2_000
	gatewayBatch       = 100
	gatewaySingles     = 1_000 // events that are published one by one
)

const gatewaySchema = `{"type":"record","name":"Moved","namespace":"gateway","fields":[
{"name":"id","type":"string"},{"name":"group","type":"string"},{"name":"name","type":"string"},{"name":"street","type":"string"},
{"name":"note","type":["null","string"],"default":null}]}`

// GatewayRun is what `bench gateway` measures beside the ratio of processor time.
type GatewayRun struct {
	Readers    int     `json:"readers"`      // WebSockets on one gateway, one a subscription
	Stuck      int     `json:"stuck"`        // of these: they read nothing and acknowledge nothing
	Published  int     `json:"published"`    // events
	Deliveries int     `json:"deliveries"`   // that the others had to get
	Lost       int     `json:"lost"`         // of these
	Repeated   int     `json:"repeated"`     // given twice
	CutOff     int     `json:"cut_off"`      // stuck readers whose connection ended with slow_reader
	PerSecond  float64 `json:"per_second"`   // deliveries received, from the first event published until the last was received
	HeapBefore float64 `json:"heap_mb"`      // in use with every reader connected, their clients in the same process; the groups and the broker in others
	HeapHalf   float64 `json:"heap_half_mb"` // when half of the deliveries had come
	HeapAfter  float64 `json:"heap_end_mb"`  // and when all had

	BatchMillis    [2]float64 `json:"batch_p50_ms"` // of a batch of 100: through the gateway, straight to Kafka
	SingleP50      [2]float64 `json:"single_p50_ms"`
	SingleP99      [2]float64 `json:"single_p99_ms"`
	BatchRatio     float64    `json:"batch_p50_ratio"`
	SingleP50Ratio float64    `json:"single_p50_ratio"`
	SingleP99Ratio float64    `json:"single_p99_ratio"`
}

// crowd is who reads.
type crowd struct {
	readers int           // one a subscription; a multiple of gatewayMatching
	stuck   int           // of these; 0: none
	wait    time.Duration // longer than a gateway bears a reader that does not read
}

// stuckReader says whether a reader is one that does not read.
func (c crowd) stuckReader(i int) bool { return c.stuck > 0 && i%(c.readers/c.stuck) == 0 }

// group is what the i-th event is about; readers of one group get the same events.
func (c crowd) group(i int) int { return i % (c.readers / gatewayMatching) }

// gatewayWorld is the cluster, the node under measurement and its gateway.
type gatewayWorld struct {
	crowd
	cfg      app.Config
	operator *admin.Client
	issuer   *identity.Development
	http     *http.Client
	base     string
	client   *kgo.Client
	writer   *codecs.Schema
	next     int // number of the next event
}

// gatewayBench publishes the same events through a gateway in this process (JSON over HTTP, tokens, admission, and Kafka's
// answer) and straight to Kafka (ready Avro, the same headers and acknowledgements), in turn, both from this process. Then a
// thousand readers, of whom one in a hundred is stuck, get what was published: none of the others may lose anything.
func gatewayBench(ctx context.Context, c Config) (Result, error) {
	return gatewayFor(ctx, c, crowd{readers: 1_000, stuck: 10, wait: 45 * time.Second})
}

func gatewayFor(ctx context.Context, c Config, who crowd) (Result, error) {
	w, stop, err := newGatewayWorld(ctx, c, who)
	if err != nil {
		return Result{}, err
	}
	defer stop()
	r := Result{Name: "gateway", Unit: "us CPU/event", Runs: c.Runs, Gateway: &GatewayRun{Readers: who.readers, Stuck: who.stuck}}
	if err := w.running(ctx, []string{app.PartGateway}, func() error { return w.publishing(ctx, c, &r) }); err != nil {
		return r, err
	}
	c.Say(fmt.Sprintf("publishing: gateway %.1f us, straight to Kafka %.1f us an event: %.2f", r.Ours, r.Theirs, r.Ratio))
	var parts []string // all of them
	if c.Node != nil { // the gateway and its readers are alone in this process
		rest, err := c.Node(ctx, "gateway-groups")
		if err != nil {
			return r, err
		}
		defer func() { _ = rest() }()
		parts = []string{app.PartGateway}
	}
	return r, w.running(ctx, parts, func() error { return w.reading(ctx, c, r.Gateway) })
}

func newGatewayWorld(ctx context.Context, c Config, who crowd) (w *gatewayWorld, stop func(), err error) {
	w = &gatewayWorld{crowd: who, cfg: soakConfig(c.Brokers, c.Registry), http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	w.cfg.Instance = "gateway"
	dir, err := os.MkdirTemp("", "civicbus-bench")
	if err != nil {
		return nil, nil, err
	}
	stop = func() {
		if w.operator != nil {
			w.operator.Close()
		}
		if w.client != nil {
			w.client.Close()
		}
		_ = os.RemoveAll(dir)
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	key := filepath.Join(dir, "development.key")
	w.cfg.Gateway.Listen, w.cfg.Gateway.DevelopmentKey, w.cfg.Gateway.Limit = "127.0.0.1:0", key, web.Limit{Requests: 10_000_000, Window: time.Minute}
	if w.issuer, err = identity.OpenDevelopment(key); err != nil {
		return nil, nil, err
	}
	if _, err = app.Apply(ctx, w.cfg); err != nil {
		return nil, nil, err
	}
	if w.operator, err = admin.Dial(ctx, admin.Config{Connection: w.cfg.Connection, Registry: w.cfg.Registry, BusKey: w.cfg.BusKey, Logger: w.cfg.Logger}); err != nil {
		return nil, nil, err
	}
	if w.client, err = w.cfg.Connection.Client(); err != nil {
		return nil, nil, err
	}
	if err = w.running(ctx, []string{"catalog", "trust", "subscription", app.PartKeepers}, func() error { return w.load(ctx) }); err != nil {
		return nil, nil, err
	}
	w.writer, err = w.operator.Registry().Latest(ctx, gatewayType)
	c.Say(fmt.Sprintf("%d subscriptions of %d subscribers in effect", who.readers, gatewaySubscribers))
	return w, stop, err
}

// running runs parts of a node in this process while f works; nil: all of them.
func (w *gatewayWorld) running(ctx context.Context, parts []string, f func() error) error {
	cfg := w.cfg
	cfg.Parts = parts
	listening := make(chan string, 1)
	cfg.Gateway.Addr = func(a net.Addr) { listening <- "http://" + a.String() }
	n, err := app.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	if len(parts) == 0 || slices.Contains(parts, app.PartGateway) {
		w.base = <-listening
	}
	for n.Ready() != nil && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	err = f()
	stop()
	return errors.Join(err, <-ended)
}

func (w *gatewayWorld) load(ctx context.Context) error {
	if _, err := w.operator.RegisterSource(ctx, gatewayType, gatewaySchema); err != nil {
		return err
	}
	et := codecs.EventType{Type: gatewayType, Stream: stream, RegistrySubject: gatewayType, Category: "state-change", Owner: gatewaySource, Title: "moved",
		Classification: "confidential", Roles: []codecs.Role{{Name: "person", Path: "data.id", Scheme: soakScheme}}}
	organisations := []codecs.Organisation{{ID: gatewaySource, Name: "source", DID: "did:web:" + gatewaySource, Status: "active", Source: source, Publishes: []string{gatewayType}}}
	for s := range gatewaySubscribers {
		id := soakSubscriber(s)
		et.Rules = append(et.Rules, codecs.Rule{ID: "rule-" + id, Recipient: id, Purpose: purpose, Basis: "public_task", Fields: []string{"data.group", "data.name", "data.street"}, ValidFrom: 1, Citation: "Act 1"})
		organisations = append(organisations, codecs.Organisation{ID: id, Name: id, DID: "did:web:" + id, Status: "active", PreApproved: []string{purpose},
			Receives: []codecs.Entitlement{{EventType: gatewayType, Purposes: []string{purpose}, Bases: []string{"public_task"}}}})
	}
	var subscriptions []codecs.Subscription
	for i := range w.readers {
		subscriptions = append(subscriptions, codecs.Subscription{ID: gatewaySubscription(i), Subscriber: soakSubscriber(i % gatewaySubscribers), EventTypes: []string{gatewayType},
			Filter: fmt.Sprintf(`{"data.group":%q}`, gatewayGroup(i/gatewayMatching)), Purpose: purpose, Basis: "public_task", Delivery: codecs.Delivery{Kind: "kafka"}})
	}
	by := admin.By{Actor: "operator:bench"}
	with := func(requests []admin.Request, err error) error { return w.operator.InEffect(ctx, requests, err) }
	if err := with(w.operator.PutOrganisations(ctx, by, organisations...)); err != nil {
		return err
	}
	if err := with(w.operator.PutEventTypes(ctx, by, et)); err != nil {
		return err
	}
	if err := with(w.operator.PutSubscriptions(ctx, by, subscriptions...)); err != nil {
		return err
	}
	return allActive(ctx, w.operator)
}

func gatewaySubscription(i int) string { return fmt.Sprintf("reader-%04d", i) }
func gatewayGroup(i int) string        { return fmt.Sprintf("group-%03d", i) }

// token is an organisation's.
func (w *gatewayWorld) token(organisation string) (string, error) {
	return w.issuer.Token(identity.Grant{Organisation: organisation, Scopes: web.Scopes(), Lifetime: 24 * time.Hour}, time.Now())
}

// event is the i-th event's data as its source writes it, and the event with it.
func (w *gatewayWorld) event(i int) (data, event string) {
	data = fmt.Sprintf(`{"id":"%s","group":"%s","name":"Aino Maria Virtanen","street":"Hallituskatu %d A 5","note":null}`, soakSubject(int32(i%gatewayPeople)), gatewayGroup(w.group(i)), i)
	return data, fmt.Sprintf(`{"specversion":"1.0","id":"%s","source":"%s","type":"%s","time":"2026-01-01T12:00:00Z","datacontenttype":"application/json","data":%s}`, eventID(i), source, gatewayType, data)
}

// straight is the same event as its source would write it to Kafka.
func (w *gatewayWorld) straight(i int) (*kgo.Record, error) {
	data, _ := w.event(i)
	body, faults := w.writer.FromJSON([]byte(data))
	if len(faults) > 0 {
		return nil, fmt.Errorf("benchmark event: %v", faults)
	}
	h := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
	return &kgo.Record{Topic: rawEvents, Key: []byte(soakSubject(int32(i % gatewayPeople))), Value: append(codecs.AppendWire(nil, w.writer.ID()), body...), Headers: []kgo.RecordHeader{
		h(codecs.HeaderSpecVersion, "1.0"), h(codecs.HeaderID, eventID(i)), h(codecs.HeaderSource, source), h(codecs.HeaderType, gatewayType),
		h(codecs.HeaderTime, "2026-01-01T12:00:00Z"), h(codecs.HeaderContentType, codecs.ContentTypeAvro)}}, nil
}

// heapNow is the memory in use, in megabytes.
func heapNow() float64 {
	runtime.GC()
	runtime.GC() // what had finalizers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// timed is how long something took, in milliseconds.
func timed(f func() error) (float64, error) {
	began := time.Now()
	err := f()
	return float64(time.Since(began).Microseconds()) / 1000, err
}

// tally is what the readers got.
type tally struct {
	mu       sync.Mutex
	got      []map[uint64]bool // by reader: ids of deliveries, made as large as they will be, so that the heap's growth is the gateway's
	repeated int
	total    int
	cut      int
	changed  chan struct{} // has room for one
	late     chan struct{} // closed when the stuck readers look at last
}

func (t *tally) take(reader int, delivery string) {
	id, _ := strconv.ParseUint(delivery[:min(16, len(delivery))], 16, 64) // the first half of 32 hexadecimal digits
	t.mu.Lock()
	if t.got[reader][id] {
		t.repeated++
	} else {
		t.got[reader][id] = true
		t.total++
	}
	t.mu.Unlock()
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// topicOfRaw makes the topic that the other side writes to.
func (w *gatewayWorld) topicOfRaw(ctx context.Context) error {
	_, err := kadm.NewClient(w.client).CreateTopic(ctx, w.cfg.Shape.Partitions, 1, nil, rawEvents)
	return err
}
