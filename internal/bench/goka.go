package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/verdict"
	"civicbus/topology"

	"github.com/linkedin/goavro/v2"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/lovoo/goka/storage"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	gokaConsents  = "bench-goka-consents"
	gokaDecisions = "bench-goka-decisions"
	gokaPrefix    = "bench-goka-"
)

// usual is the router as one writes it with goka as it comes: its default client, LevelDB for the joined table, goavro for every
// record, subscriptions in a map. It writes the deliveries that the router writes, byte for byte, and a decision with the
// same fields, at least once. Its consents are in a topic of its own, written without transactions: goka's own recovery waits for
// ever behind a transaction's marker.
type usual struct {
	w                          *world
	event, consents, decisions *goavro.Codec
	decisionID                 int32
	subs                       map[string][]usualSub // by event type and municipality
	done                       atomic.Int64
}

type usualSub struct {
	id, subscriber, topic string
	codec                 *goavro.Codec
	schema                int32
	cut                   *cutting
	withheld              string
}

func routerVsGoka(ctx context.Context, c Config) (Result, error) {
	w, err := newWorld(ctx, c)
	if err != nil {
		return Result{}, err
	}
	defer w.client.Close()
	var app *usual // made when the router has registered the projected schemas
	var ours, theirs, ratios []float64
	for run := range c.Runs {
		first, n := run*(warmEvents+c.Events), warmEvents+c.Events
		before, err := w.ends(ctx)
		if err != nil {
			return Result{}, err
		}
		runtime.GC()
		router, err := w.route(ctx, c, first)
		if err != nil {
			return Result{}, err
		}
		if run == 0 {
			if app, err = newUsual(ctx, w); err != nil {
				return Result{}, err
			}
			events, err := w.events(n, first)
			if err != nil {
				return Result{}, err
			}
			if err := app.check(ctx, before, events, n); err != nil {
				return Result{}, err
			}
		}
		runtime.GC()
		spent, err := app.run(ctx, fmt.Sprintf("%srouter-%d", gokaPrefix, run), before[stream], n)
		if err != nil {
			return Result{}, err
		}
		ours = append(ours, float64(router.Microseconds())/float64(c.Events))
		theirs = append(theirs, spent)
		ratios = append(ratios, ours[run]/theirs[run])
		c.Say(fmt.Sprintf("run %d: router %.1f us, goka %.1f us an event: %.3f", run+1, ours[run], theirs[run], ratios[run]))
	}
	return Result{Name: "router_vs_goka", Ratio: median(ratios), Ours: median(ours), Theirs: median(theirs), Unit: "us CPU/event", Runs: c.Runs}, nil
}

func createTopics(ctx context.Context, cl *kgo.Client, partitions int32, names []string) error {
	made, err := kadm.NewClient(cl).CreateTopics(ctx, partitions, 1, nil, names...)
	if err != nil {
		return err
	}
	return made.Error()
}

func newUsual(ctx context.Context, w *world) (*usual, error) {
	topics := []string{gokaConsents, gokaDecisions}
	for s := range subscribers {
		topics = append(topics, gokaPrefix+topology.SubscriberTopicName(subscriber(s)))
	}
	if err := createTopics(ctx, w.client, w.cfg.Shape.Partitions, topics); err != nil {
		return nil, err
	}
	if err := w.copyConsents(ctx); err != nil {
		return nil, err
	}
	registry, err := codecs.NewRegistry(w.cfg.Registry)
	if err != nil {
		return nil, err
	}
	a := &usual{w: w, subs: map[string][]usualSub{}}
	latest := func(subject string) (*codecs.Schema, *goavro.Codec, error) {
		s, err := registry.Latest(ctx, subject)
		if err != nil {
			return nil, nil, err
		}
		c, err := goavro.NewCodec(s.JSON())
		return s, c, err
	}
	if _, a.event, err = latest(eventType(0)); err != nil {
		return nil, err
	}
	if _, a.consents, err = latest(w.records.Consents.RegistrySubject()); err != nil {
		return nil, err
	}
	s, c, err := latest(w.records.Decision.RegistrySubject())
	if err != nil {
		return nil, err
	}
	a.decisions, a.decisionID = c, s.ID()
	permitted := []string{"data.municipality"}
	for _, address := range []string{"oldAddress", "newAddress"} {
		for _, f := range []string{"street", "postalCode", "city", "country"} {
			permitted = append(permitted, "data."+address+"."+f)
		}
	}
	for t := range a.w.types {
		for m := range municipalities {
			for k := range matching {
				org := subscriber(m*10 + (t%2)*matching + k)
				s, c, err := latest(topology.SubscriberTopicName(org) + "-bench.Moved")
				if err != nil {
					return nil, err
				}
				cut, err := newCutting(s.JSON(), schema, permitted)
				if err != nil {
					return nil, err
				}
				key := eventType(t) + "/" + municipality(m)
				a.subs[key] = append(a.subs[key], usualSub{id: fmt.Sprintf("sub-%02d-%d-%d", t, m, k), subscriber: org, topic: topology.SubscriberTopicName(org), codec: c, schema: s.ID(), cut: cut,
					withheld: "data.languages,data.person.birthDate,data.person.name"})
			}
		}
	}
	return a, nil
}

// copyConsents writes the rows of the consent table to the usual app's own topic.
func (w *world) copyConsents(ctx context.Context) error {
	table := topology.TableTopic(topology.Consent.Name)
	v, err := kafka.NewView(w.cfg.Connection, 500*time.Millisecond, quiet(), nil, table)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- v.Run(running) }()
	err = v.Wait(ctx)
	var rows []*kgo.Record
	v.Rows(table, func(key string, row []byte) {
		rows = append(rows, &kgo.Record{Topic: gokaConsents, Key: []byte(key), Value: bytes.Clone(row)})
	})
	stop()
	if err := errors.Join(err, <-done); err != nil {
		return err
	}
	return w.client.ProduceSync(ctx, rows...).FirstErr()
}

// output is one record to be emitted.
type output struct {
	topic, key string
	value      []byte
	headers    goka.Headers
}

// decide is the app's work for one event: decode, match, look at the consents, cut, encode.
func (a *usual) decide(h goka.Headers, subject string, partition int32, offset int64, value, row []byte) ([]output, error) {
	native, _, err := a.event.NativeFromBinary(value[5:])
	if err != nil {
		return nil, err
	}
	event := native.(map[string]any)
	var grants []any
	var consentVersion any = int64(0)
	if row != nil {
		native, _, err := a.consents.NativeFromBinary(row[5:])
		if err != nil {
			return nil, err
		}
		grants, consentVersion = native.(map[string]any)["grants"].([]any), native.(map[string]any)["version"]
	}
	id, kind, now := string(h[codecs.HeaderID]), string(h[codecs.HeaderType]), time.Now()
	lifeEvent := a.w.keys.LifeEvent(source, id)
	var out []output
	verdicts := []any{}
	for _, sub := range a.subs[kind+"/"+event["municipality"].(string)] {
		grant := granted(grants, sub.subscriber, now)
		if grant == nil {
			continue
		}
		pair := a.w.keys.For(sub.subscriber)
		pairwise, err := pair.Seal(subject)
		if err != nil {
			return nil, err
		}
		body, err := sub.codec.BinaryFromNative(wire(sub.schema), sub.cut.apply(event))
		if err != nil {
			return nil, err
		}
		dataSchema := string(h[codecs.HeaderDataSchema])
		delivery := a.w.keys.Delivery(source, id, subject, sub.id)
		out = append(out, output{sub.topic, pairwise, body, goka.Headers{codecs.HeaderSpecVersion: h[codecs.HeaderSpecVersion], codecs.HeaderID: []byte(delivery),
			codecs.HeaderSource: h[codecs.HeaderSource], codecs.HeaderType: h[codecs.HeaderType], codecs.HeaderTime: h[codecs.HeaderTime], codecs.HeaderSubject: []byte(pairwise),
			codecs.HeaderSubjectRole: h[codecs.HeaderSubjectRole], codecs.HeaderDataSchema: []byte(dataSchema[:strings.LastIndexByte(dataSchema, '/')+1] + strconv.Itoa(int(sub.schema))),
			codecs.HeaderContentType: h[codecs.HeaderContentType], codecs.HeaderCorrelation: []byte(pair.SealID(lifeEvent)), codecs.HeaderSubscription: []byte(sub.id),
			codecs.HeaderPurpose: []byte(purpose), codecs.HeaderLegalBasis: []byte("consent"), codecs.HeaderReference: []byte(grant["id"].(string)),
			codecs.HeaderWithheld: []byte(sub.withheld)}})
		verdicts = append(verdicts, map[string]any{"subscription": sub.id, "subscription_version": int64(2), "subscriber": sub.subscriber, "trust_version": int64(1), "permit": true,
			"reason": "consent", "basis": "consent", "purpose": purpose, "reference": grant["id"], "reference_version": grant["version"], "delivery_id": delivery, "field_set": int64(-1 << 60)})
	}
	value, err = a.decisions.BinaryFromNative(wire(a.decisionID), map[string]any{"kind": "router", "topic": stream, "partition": partition, "offset": offset, "follows": offset,
		"decided_at": now, "life_event_id": lifeEvent, "event_type": kind, "source": source, "role": "person", "outcome": "decided", "catalog_version": int64(1),
		"consent_version": consentVersion, "profile_version": int64(1), "verdicts": verdicts})
	return append(out, output{topic: gokaDecisions, key: subject, value: value}), err
}

func wire(id int32) []byte { return binary.BigEndian.AppendUint32([]byte{0}, uint32(id)) }

func granted(grants []any, recipient string, now time.Time) map[string]any {
	for _, g := range grants {
		g := g.(map[string]any)
		if g["recipient"] == recipient && g["purpose"] == purpose && g["state"] == verdict.GrantGiven && slices.Contains(g["scopes"].([]any), any("address")) &&
			!now.Before(g["valid_from"].(time.Time)) {
			return g
		}
	}
	return nil
}

func (a *usual) callback(ctx goka.Context, msg any) {
	row, _ := ctx.Join(gokaConsents).([]byte)
	out, err := a.decide(ctx.Headers(), ctx.Key(), ctx.Partition(), ctx.Offset(), msg.([]byte), row)
	if err != nil {
		ctx.Fail(err)
	}
	for _, o := range out {
		if o.headers == nil {
			ctx.Emit(goka.Stream(o.topic), o.key, o.value)
			continue
		}
		ctx.Emit(goka.Stream(gokaPrefix+o.topic), o.key, o.value, goka.WithCtxEmitHeaders(o.headers))
	}
	a.done.Add(1)
}

// check compares the deliveries of the first event with those that the router wrote.
func (a *usual) check(ctx context.Context, before offsets, events []*kgo.Record, n int) error {
	written, err := a.w.written(ctx, before, n)
	if err != nil {
		return err
	}
	first, h := events[0], goka.Headers{}
	for _, one := range first.Headers {
		h[one.Key] = one.Value
	}
	row, err := a.row(ctx, string(first.Key))
	if err != nil {
		return err
	}
	out, err := a.decide(h, string(first.Key), 0, 0, first.Value, row)
	if err != nil {
		return err
	}
	if len(out) != matching+1 {
		return fmt.Errorf("the usual app makes %d records of the first event, want %d", len(out), matching+1)
	}
	for _, r := range written[a.w.keys.LifeEvent(source, string(h[codecs.HeaderID]))] {
		i := slices.IndexFunc(out, func(o output) bool { return o.topic == r.Topic })
		if i < 0 {
			if r.Topic == topology.Decisions.Name {
				if d := len(r.Value) - len(out[matching].value); d < -64 || d > 64 {
					return fmt.Errorf("decisions of %d and %d bytes", len(r.Value), len(out[matching].value))
				}
				continue
			}
			return fmt.Errorf("the usual app writes nothing to %s", r.Topic)
		}
		o := out[i]
		if !bytes.Equal(o.value, r.Value) || o.key != string(r.Key) || len(o.headers) != len(r.Headers) {
			return fmt.Errorf("the first event's deliveries to %s differ: %x and %x, %d and %d headers", r.Topic, r.Value, o.value, len(r.Headers), len(o.headers))
		}
		for _, one := range r.Headers {
			if !bytes.Equal(o.headers[one.Key], one.Value) {
				return fmt.Errorf("header %s of the first event's delivery differs: %q and %q", one.Key, one.Value, o.headers[one.Key])
			}
		}
	}
	return nil
}

func (a *usual) row(ctx context.Context, key string) ([]byte, error) {
	cl, err := a.w.cfg.Connection.Client(kgo.ConsumeTopics(gokaConsents), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	for {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		for it := fetches.RecordIter(); !it.Done(); {
			if r := it.Next(); string(r.Key) == key {
				return r.Value, nil
			}
		}
	}
}

// run lets the app decide n events from where the stream ended before, and returns its processor time an event, in microseconds.
// As with the router, its start and the first events are left out: time counts from when warmEvents were decided, or a
// few more, until the app has stopped, everything written.
func (a *usual) run(ctx context.Context, group string, from map[int32]int64, n int) (float64, error) {
	var start kadm.Offsets = map[string]map[int32]kadm.Offset{}
	for p, o := range from {
		start.Add(kadm.Offset{Topic: stream, Partition: p, At: o, LeaderEpoch: -1})
	}
	if err := a.w.admin.CommitAllOffsets(ctx, group, start); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "civicbus-bench")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	edges := []goka.Edge{goka.Input(stream, new(codec.Bytes), a.callback), goka.Join(gokaConsents, new(codec.Bytes)), goka.Output(gokaDecisions, new(codec.Bytes))}
	for s := range subscribers {
		edges = append(edges, goka.Output(goka.Stream(gokaPrefix+topology.SubscriberTopicName(subscriber(s))), new(codec.Bytes)))
	}
	a.done.Store(0)
	p, err := goka.NewProcessor(a.w.cfg.Connection.Brokers, goka.DefineGroup(goka.Group(group), edges...), goka.WithStorageBuilder(storage.DefaultBuilder(dir)),
		goka.WithLogger(log.New(io.Discard, "", 0)))
	if err != nil {
		return 0, err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(running) }()
	wait := func(count int) error {
		for a.done.Load() < int64(count) {
			select {
			case <-time.After(5 * time.Millisecond):
			case err := <-ended:
				return errors.Join(errors.New("the goka app ended"), err)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	defer stop()
	if err := wait(warmEvents); err != nil {
		return 0, err
	}
	began, warm := processorTime(), a.done.Load()
	if err := wait(n); err != nil {
		return 0, err
	}
	stop()
	err = <-ended
	if warm >= int64(n) {
		return 0, errors.Join(fmt.Errorf("%d events are too few: all were decided before time could be taken", n), err)
	}
	return float64((processorTime() - began).Microseconds()) / float64(int64(n)-warm), err
}
