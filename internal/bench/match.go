package bench

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"
)

// matchHundredThousand decides the same kind of event with 100,000 subscriptions in place and with 10. Each event matches five of
// them, by equalities on its data and on its stamp. The events go through up to 4,096 of the groups of five, so that the large
// index is not measured from the processor's cache.
func matchHundredThousand(_ context.Context, c Config) (Result, error) {
	many, err := newCrowd(100_000)
	if err != nil {
		return Result{}, err
	}
	few, err := newCrowd(10)
	if err != nil {
		return Result{}, err
	}
	return c.compare("match_100k_vs_10", "us CPU/event", func(n int) (float64, error) { return many.decide(n) }, func(n int) (float64, error) { return few.decide(n) })
}

// compare measures both sides in turn, c.Runs times; each is given the number of events and returns its cost of one.
func (c *Config) compare(name, unit string, ours, theirs func(n int) (float64, error)) (Result, error) {
	var a, b, ratios []float64
	for run := range c.Runs {
		us, err := ours(c.Events)
		if err != nil {
			return Result{}, err
		}
		them, err := theirs(c.Events)
		if err != nil {
			return Result{}, err
		}
		a, b, ratios = append(a, us), append(b, them), append(ratios, us/them)
		c.Say(fmt.Sprintf("run %d: ours %.3f, theirs %.3f %s: %.4f", run+1, us, them, unit, us/them))
	}
	return Result{Name: name, Ratio: median(ratios), Ours: median(a), Theirs: median(b), Unit: unit, Runs: c.Runs}, nil
}

const agency = "agency.example"

// local is a world without a cluster: one event type, its subscribers trusted and entitled.
type local struct {
	snap     *verdict.Snapshot
	schema   *codecs.Schema
	consents *codecs.Consents
	event    verdict.Event
	stamps   []codecs.Attributes
}

func newLocal(subs []*codecs.Subscription, grants []codecs.Grant) (*local, error) {
	s, err := codecs.ParseSchema(schema)
	if err != nil {
		return nil, err
	}
	data, err := moved(0, 0)
	if err != nil {
		return nil, err
	}
	body, faults := s.FromJSON(data)
	if len(faults) > 0 {
		return nil, fmt.Errorf("benchmark event: %v", faults)
	}
	t := eventType(0)
	changes := verdict.Changes{
		EventTypes: map[string]*codecs.EventType{t: {Type: t, Version: 1, Stream: stream, RegistrySubject: t, Category: "state-change", Owner: "source.example",
			Roles: []codecs.Role{{Name: "person", Path: "data.person.id", Scheme: "fi-hetu"}}}},
		Organisations: map[string]*codecs.Organisation{}, Subscriptions: map[string]*codecs.Subscription{}}
	for _, sub := range subs {
		changes.Subscriptions[sub.ID] = sub
		changes.Organisations[sub.Subscriber] = &codecs.Organisation{ID: sub.Subscriber, Version: 1, Status: "active",
			Receives: []codecs.Entitlement{{EventType: t, Purposes: []string{purpose}, Bases: []string{"consent"}}}, PreApproved: []string{purpose}}
	}
	return &local{snap: verdict.NewSnapshot().With(changes), schema: s, consents: &codecs.Consents{Version: 1, Grants: grants},
		event: verdict.Event{Type: t, Role: "person", Source: source, Schema: s, Body: body}}, nil
}

func newCrowd(n int) (*local, error) {
	groups := n / matching
	subs := make([]*codecs.Subscription, 0, n)
	for i := range n {
		g := i % groups
		subs = append(subs, &codecs.Subscription{ID: fmt.Sprintf("sub-%06d", i), Version: 1, Subscriber: agency, EventTypes: []string{eventType(0)},
			Filter:  fmt.Sprintf(`{"data.municipality":"Helsinki","profile.municipality":"m%d","profile.postal_code":"p%d"}`, g%300, g),
			Purpose: purpose, Basis: "consent", Scopes: []string{"address"}, Status: "active"})
	}
	w, err := newLocal(subs, []codecs.Grant{{ID: "g", Version: 1, State: verdict.GrantGiven, Recipient: agency, Purpose: purpose,
		Scopes: []string{"address", "profile.municipality", "profile.postal_code"}}})
	if err != nil {
		return nil, err
	}
	for g := range min(groups, 4_096) {
		w.stamps = append(w.stamps, codecs.Attributes{Municipality: fmt.Sprint("m", g%300), PostalCode: fmt.Sprint("p", g)})
	}
	return w, nil
}

// decide returns the processor time of a decision in microseconds.
func (w *local) decide(n int) (float64, error) {
	runtime.GC()
	var dst []verdict.Verdict
	now := time.Now()
	began := processorTime()
	for i := range n {
		w.event.Stamp = &w.stamps[i*769%len(w.stamps)]
		if dst = w.snap.Decide(dst[:0], &w.event, w.consents, now); len(dst) != matching {
			return 0, fmt.Errorf("%d verdicts, want %d", len(dst), matching)
		}
	}
	spent := processorTime() - began
	if !dst[0].Permit {
		return 0, fmt.Errorf("denied: %s", dst[0].Reason)
	}
	return float64(spent.Nanoseconds()) / 1e3 / float64(n), nil
}
