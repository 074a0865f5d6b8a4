package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/pseudonym"
	"civicbus/topology"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The world of webhooks: a hundred subscribers with one each, five of which an event goes to.
const (
	hooks         = 100
	hooksMatching = 5
	hooksRate     = 100   // events a second
	hooksTurn     = 1_000 // events of a side before the other's turn comes, for four turns
	hooksPeople   = 2_000
	hookDead      = 0 // the receiver that takes connections and never answers
	hookLate      = 10 * time.Second
)

// DeliveryRun is what `bench delivery` measures beside the ratio of the 99 of 100, in milliseconds from the append of an event to its
// stream until a receiver has it, of the receivers that live.
type DeliveryRun struct {
	Subscribers int        `json:"subscribers"`
	Rate        int        `json:"events_per_second"`
	Deliveries  int        `json:"deliveries"` // of a run, to those that live
	Lost        int        `json:"lost"`       // of all runs
	P50         [2]float64 `json:"p50_ms"`     // with one dead, without
	P99         [2]float64 `json:"p99_ms"`
}

// hookWorld is the cluster, the receivers and what they got.
type hookWorld struct {
	cfg      app.Config
	operator *admin.Client
	client   *kgo.Client
	keys     *pseudonym.Keys
	writer   *codecs.Schema
	next     int

	dead  atomic.Bool
	hold  chan struct{} // closed when the dead receiver lives again; made anew for each run
	ahead atomic.Int64  // of the nodes' clock

	mu   sync.Mutex
	sent map[string]time.Time // by street: when its event was appended
	took map[string][]float64 // by street: of each of its deliveries, in milliseconds
}

// deliveryBench sends the same number of events twice in turn, once while one of a hundred receivers never answers: what the others
// wait must stay what it is without it.
func deliveryBench(ctx context.Context, c Config) (Result, error) {
	w := &hookWorld{cfg: soakConfig(c.Brokers, c.Registry), hold: make(chan struct{}), sent: map[string]time.Time{}, took: map[string][]float64{}}
	w.cfg.Instance, w.cfg.Webhooks.Development = "delivery", true
	w.cfg.Now = func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }
	server, base, err := w.serve(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = server.Close() }()
	stop, err := w.connect(ctx, base)
	if err != nil {
		return Result{}, err
	}
	defer stop()
	cfg := w.cfg
	cfg.Parts, cfg.Metrics = []string{topology.Router.Name, topology.Delivery.Name}, prometheus.NewRegistry()
	n, err := app.Connect(ctx, cfg)
	if err != nil {
		return Result{}, err
	}
	running, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- n.Run(running) }()
	for n.Ready() != nil && ctx.Err() == nil {
		wait(ctx, askEach)
	}
	r, err := w.runs(ctx, c, n)
	w.revive()
	end()
	return r, errors.Join(err, <-ended)
}

func (w *hookWorld) runs(ctx context.Context, c Config, n *app.Node) (Result, error) {
	r := Result{Name: "delivery", Unit: "ms", Runs: c.Runs, Delivery: &DeliveryRun{Subscribers: hooks, Rate: hooksRate}}
	var p50, p99 [2][]float64
	var ratios []float64
	for run := range c.Runs {
		got, err := w.sides(ctx, c, n, r.Delivery)
		if err != nil {
			return r, err
		}
		for side := range got {
			slices.Sort(got[side])
			p50[side], p99[side] = append(p50[side], at(got[side], 0.50)), append(p99[side], at(got[side], 0.99))
		}
		r.Delivery.Deliveries = len(got[0])
		ratios = append(ratios, p99[0][run]/p99[1][run])
		c.Say(fmt.Sprintf("run %d: p99 %.2f ms with one dead, %.2f ms without", run+1, p99[0][run], p99[1][run]))
	}
	for side := range 2 {
		r.Delivery.P50[side], r.Delivery.P99[side] = median(p50[side]), median(p99[side])
	}
	r.Ours, r.Theirs, r.Ratio = r.Delivery.P99[0], r.Delivery.P99[1], median(ratios)
	return r, nil
}

// sides is one run: c.Events with one dead, and as many without, in turns that change places, since a machine's hiccups decide what
// 99 of 100 wait: in one stretch they would all be one side's.
func (w *hookWorld) sides(ctx context.Context, c Config, n *app.Node, d *DeliveryRun) (got [2][]float64, err error) {
	turns := min(4, max(1, c.Events/hooksTurn))
	for _, side := range []int{0, 1, 1, 0, 0, 1, 1, 0}[:2*turns] {
		if _, err := w.run(ctx, 2*hooks/hooksMatching, d); err != nil { // handshakes and connections: the clock may have been set since
			return got, err
		}
		if side == 0 {
			w.hold = make(chan struct{})
			w.dead.Store(true)
		}
		part, err := w.run(ctx, c.Events/turns, d)
		if err != nil {
			return got, err
		}
		got[side] = append(got[side], part...)
		if side == 0 {
			w.revive()
			if err := w.drain(ctx, n); err != nil {
				return got, err
			}
		}
	}
	return got, nil
}

// revive lets the dead receiver answer what it holds.
func (w *hookWorld) revive() {
	if w.dead.Swap(false) {
		close(w.hold)
	}
}

// drain waits until nothing waits any more; the nodes' clock is set forward, so that what is to be tried again is due.
func (w *hookWorld) drain(ctx context.Context, n *app.Node) error {
	for {
		families, err := n.Metrics().Gather()
		if err != nil {
			return err
		}
		for _, f := range families {
			if f.GetName() == "civicbus_webhook_waiting_deliveries" && f.GetMetric()[0].GetGauge().GetValue() == 0 {
				return nil
			}
		}
		w.ahead.Add(int64(10 * time.Minute))
		if !wait(ctx, askEach) {
			return ctx.Err()
		}
	}
}

// run appends events at the rate and waits for their deliveries to the receivers that live; what they took.
func (w *hookWorld) run(ctx context.Context, events int, d *DeliveryRun) ([]float64, error) {
	first := w.next
	tick := time.NewTicker(time.Second / hooksRate)
	defer tick.Stop()
	for range events {
		record, street, err := w.event(w.next)
		if err != nil {
			return nil, err
		}
		w.next++
		w.mu.Lock()
		w.sent[street] = time.Now()
		w.mu.Unlock()
		w.client.Produce(ctx, record, nil)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := w.client.Flush(ctx); err != nil {
		return nil, err
	}
	want := 0
	for i := first; i < w.next; i++ {
		want += hooksMatching
		if group(i) == hookDead/hooksMatching {
			want--
		}
	}
	var got []float64
	for begun := time.Now(); ; {
		got = got[:0]
		w.mu.Lock()
		for i := first; i < w.next; i++ {
			got = append(got, w.took[strconv.Itoa(i)]...)
		}
		w.mu.Unlock()
		if len(got) >= want {
			break
		}
		if time.Since(begun) > hookLate {
			d.Lost += want - len(got)
			break
		}
		if !wait(ctx, askEach) {
			return nil, ctx.Err()
		}
	}
	if len(got) == 0 {
		return nil, errors.New("no delivery came")
	}
	return got, nil
}

// group is what an event is about.
func group(i int) int { return i % (hooks / hooksMatching) }

// serve answers for every receiver.
func (w *hookWorld) serve(ctx context.Context) (*http.Server, string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		number := strings.TrimPrefix(r.URL.Path, "/")
		if number == strconv.Itoa(hookDead) && w.dead.Load() {
			select {
			case <-w.hold:
			case <-r.Context().Done():
			}
			return
		}
		if r.Method == http.MethodOptions {
			out.Header().Set("WebHook-Allowed-Origin", "*")
			return
		}
		body, err := io.ReadAll(r.Body)
		_, street, found := strings.Cut(string(body), `"street":"`)
		if err != nil || !found || number == strconv.Itoa(hookDead) {
			return
		}
		street, _, _ = strings.Cut(street, `"`)
		now := time.Now()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.took[street] = append(w.took[street], float64(now.Sub(w.sent[street]).Microseconds())/1000)
	})}
	go func() { _ = server.Serve(l) }() // until Close
	return server, "http://" + l.Addr().String(), nil
}

const hookSchema = `{"type":"record","name":"Moved","namespace":"hooks","fields":[{"name":"id","type":"string"},{"name":"group","type":"string"},{"name":"street","type":"string"}]}`

// connect sets the cluster up, with the world in effect.
func (w *hookWorld) connect(ctx context.Context, base string) (stop func(), err error) {
	if _, err = app.Apply(ctx, w.cfg); err != nil {
		return nil, err
	}
	if w.operator, err = admin.Dial(ctx, admin.Config{Connection: w.cfg.Connection, Registry: w.cfg.Registry, BusKey: w.cfg.BusKey, Logger: w.cfg.Logger}); err != nil {
		return nil, err
	}
	stop = w.operator.Close
	if w.client, err = w.cfg.Connection.Client(kgo.ProducerLinger(0)); err != nil {
		return stop, err
	}
	stop = func() { w.operator.Close(); w.client.Close() }
	if w.keys, err = pseudonym.NewKeys(w.cfg.BusKey); err != nil {
		return stop, err
	}
	cfg := w.cfg
	cfg.Parts = []string{"catalog", "trust", "subscription", app.PartKeepers}
	n, err := app.Connect(ctx, cfg)
	if err != nil {
		return stop, err
	}
	running, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- n.Run(running) }()
	err = w.load(ctx, base)
	end()
	if err = errors.Join(err, <-ended); err != nil {
		return stop, err
	}
	w.writer, err = w.operator.Registry().Latest(ctx, gatewayType)
	return stop, err
}

func (w *hookWorld) load(ctx context.Context, base string) error {
	if _, err := w.operator.RegisterSource(ctx, gatewayType, hookSchema); err != nil {
		return err
	}
	et := codecs.EventType{Type: gatewayType, Stream: stream, RegistrySubject: gatewayType, Category: "state-change", Owner: gatewaySource, Title: "moved",
		Classification: "confidential", Roles: []codecs.Role{{Name: "person", Path: "data.id", Scheme: soakScheme}}}
	var organisations []codecs.Organisation
	var subscriptions []codecs.Subscription
	for i := range hooks {
		id := subscriber(i)
		et.Rules = append(et.Rules, codecs.Rule{ID: "rule-" + id, Recipient: id, Purpose: purpose, Basis: "public_task", Fields: []string{"data.group", "data.street"}, ValidFrom: 1, Citation: "Act 1"})
		organisations = append(organisations, codecs.Organisation{ID: id, Name: id, DID: "did:web:" + id, Status: "active", PreApproved: []string{purpose},
			Receives: []codecs.Entitlement{{EventType: gatewayType, Purposes: []string{purpose}, Bases: []string{"public_task"}}}})
		subscriptions = append(subscriptions, codecs.Subscription{ID: fmt.Sprintf("hook-%03d", i), Subscriber: id, EventTypes: []string{gatewayType}, Filter: fmt.Sprintf(`{"data.group":%q}`, gatewayGroup(i/hooksMatching)),
			Purpose: purpose, Basis: "public_task", Delivery: codecs.Delivery{Kind: "webhook", Sink: base + "/" + strconv.Itoa(i)}})
	}
	by := admin.By{Actor: "operator:bench"}
	with := func(requests []admin.Request, err error) error { return w.operator.InEffect(ctx, requests, err) }
	return errors.Join(with(w.operator.PutOrganisations(ctx, by, organisations...)), with(w.operator.PutEventTypes(ctx, by, et)), with(w.operator.PutSubscriptions(ctx, by, subscriptions...)), allActive(ctx, w.operator))
}

// event is the i-th stamped event; its street is its number.
func (w *hookWorld) event(i int) (r *kgo.Record, street string, err error) {
	street = strconv.Itoa(i)
	body, faults := w.writer.FromJSON(fmt.Appendf(nil, `{"id":"%d","group":"%s","street":"%s"}`, i%hooksPeople, gatewayGroup(group(i)), street))
	if len(faults) > 0 {
		return nil, "", fmt.Errorf("benchmark event: %v", faults)
	}
	subject := w.keys.Subject(soakScheme, strconv.Itoa(i%hooksPeople))
	h := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
	return &kgo.Record{Topic: stream, Key: []byte(subject), Value: append(codecs.AppendWire(nil, w.writer.ID()), body...), Headers: []kgo.RecordHeader{
		h(codecs.HeaderSpecVersion, "1.0"), h(codecs.HeaderID, eventID(i)), h(codecs.HeaderSource, source), h(codecs.HeaderType, gatewayType), h(codecs.HeaderTime, "2026-01-01T12:00:00Z"),
		h(codecs.HeaderSubject, subject), h(codecs.HeaderSubjectRole, "person"), h(codecs.HeaderContentType, codecs.ContentTypeAvro)}}, street, nil
}
