package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/topology"
)

// Act is one part of the story, as it was seen.
type Act struct {
	Name, Title string
	Lines       []Seen
	Faults      []string // where it differs from what was expected; empty: as expected
}

// story is the world of the story while it is told.
type story struct {
	p     *Player
	of    *examples.Story
	web   *caller
	in    *inbox
	hooks *receivers
	since int               // where the story's own decisions begin among all that were read
	whose map[string]string // subscriber by subscription
	rows  map[string]codecs.Subscription
}

// acts are what happens, by name; what is to be seen is examples/story/story.yaml's.
var acts = map[string]func(*story, context.Context) error{
	"birth":        (*story).birth,
	"outcomes":     (*story).outcomes,
	"confirmation": (*story).confirmation,
	"outage":       (*story).outage,
	"replay":       (*story).replay,
}

// Story tells the story over real connections and hands each act on. The error is of the cluster, or says for what was waited in
// vain; what differs from the expectation is in Act.Faults. It needs Config.Gateway and Config.Token, and comes after the scenarios: it
// moves subscriptions to other ways.
func (p *Player) Story(ctx context.Context, want *examples.Story, tell func(Act)) (err error) {
	since, err := p.quiet(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s := &story{p: p, of: want, since: since, web: &caller{base: p.gateway, token: p.token}, in: newInbox(), whose: map[string]string{}, rows: map[string]codecs.Subscription{}}
	for _, sub := range p.world.Subscriptions {
		s.whose[sub.ID], s.rows[sub.ID] = sub.Subscriber, sub
	}
	if s.hooks, err = newReceivers(ctx, s.in, s.whose); err != nil {
		cancel(err)
		return err
	}
	defer s.hooks.close()
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel(nil)
	if err := s.subscribe(ctx); err != nil {
		return err
	}
	if err := s.open(ctx, func(read func(context.Context) error) {
		reading.Go(func() {
			if err := read(ctx); err != nil {
				cancel(err)
			}
		})
	}); err != nil {
		return err
	}
	seen := 0
	for i, act := range want.Acts {
		do := acts[act.Name]
		if do == nil {
			return fmt.Errorf("the story has an act %q that nobody can play", act.Name)
		}
		if err := do(s, ctx); err != nil {
			return fmt.Errorf("%s: %w", act.Title, err)
		}
		if i == len(want.Acts)-1 {
			if err := s.settle(ctx); err != nil {
				return err
			}
		}
		lines, _ := s.in.from(seen)
		seen += len(lines)
		told := Act{Name: act.Name, Title: act.Title, Lines: lines}
		told.Faults = CompareAct(act, told)
		tell(told)
	}
	return nil
}

// subscribe sends deliveries to the agencies' webhooks: an operator asks for it, another one approves the new address, and each
// agency gets its secret.
func (s *story) subscribe(ctx context.Context) error {
	var rows []codecs.Subscription
	ids := slices.Sorted(maps.Keys(s.of.Ways.Webhooks))
	for _, id := range ids {
		row := s.rows[id]
		row.Delivery = codecs.Delivery{Kind: "webhook", Sink: s.hooks.base + "/" + id, Mode: s.of.Ways.Webhooks[id]}
		rows = append(rows, row)
	}
	requests, err := s.p.client.PutSubscriptions(ctx, admin.By{Actor: asker}, rows...)
	if err := s.p.client.InEffect(ctx, requests, err); err != nil {
		return err
	}
	if err := s.p.activate(ctx, func(string) {}); err != nil {
		return err
	}
	failed := make(chan error)
	for _, id := range ids {
		go func() {
			var answer struct{ Secret string }
			err := s.web.do(ctx, Who{Organisation: s.whose[id]}, http.MethodPost, "/api/subscriptions/"+id+"/secret", nil, &answer)
			if err == nil {
				err = s.hooks.sign(id, answer.Secret)
			}
			failed <- err
		}()
	}
	for range ids {
		err = errors.Join(err, <-failed)
	}
	return err
}

// open connects everyone who reads by himself.
func (s *story) open(ctx context.Context, start func(read func(context.Context) error)) error {
	for _, way := range []struct {
		names []string
		open  func(context.Context, string) (func(context.Context) error, error)
	}{{s.of.Ways.Topics, s.topic}, {s.of.Ways.Pulls, s.pull}, {s.of.Ways.WebSockets, s.socket}} {
		for _, name := range way.names {
			read, err := way.open(ctx, name)
			if err != nil {
				return err
			}
			start(read)
		}
	}
	return nil
}

// quiet waits until all that was published is decided and its decisions are read, and says how many those are.
func (p *Player) quiet(ctx context.Context) (decisions int, err error) {
	if err := poll(ctx, func() (bool, error) {
		lags, err := p.client.Lag(ctx, topology.Profile.Name, topology.Journey.Name, topology.Router.Name, topology.Delivery.Name)
		return !slices.ContainsFunc(lags, func(l admin.Lag) bool { return l.Records > 0 }), err
	}); err != nil {
		return 0, err
	}
	err = p.log.catchUp(ctx)
	return len(p.log.all), err
}

// settle waits until everything that was permitted since the story began has arrived, or was denied when it was to leave: what nobody
// expects shows then too.
func (s *story) settle(ctx context.Context) error {
	if _, err := s.p.quiet(ctx); err != nil {
		return err
	}
	type about struct{ life, role, subscription string }
	permitted := map[about]string{} // delivery
	for _, d := range s.p.log.all[s.since:] {
		for _, v := range d.Verdicts {
			switch key := (about{d.LifeEventID, d.Role, v.Subscription}); {
			case d.Kind == topology.Router.Name && v.Permit:
				permitted[key] = v.DeliveryID
			case d.Kind == topology.Delivery.Name && !v.Permit:
				delete(permitted, key)
			}
		}
	}
	missing := map[string]string{}
	err := s.in.wait(ctx, 0, "all that was permitted", func(seen []Seen) bool {
		clear(missing)
		for of, id := range permitted {
			missing[id] = of.subscription
		}
		for _, l := range seen {
			delete(missing, l.id)
		}
		return len(missing) == 0
	})
	if err != nil {
		return fmt.Errorf("%w: what did not arrive is of %v", err, slices.Sorted(maps.Values(missing)))
	}
	return nil
}

// at is where the act that begins now begins among what is seen.
func (s *story) at() int {
	seen, _ := s.in.from(0)
	return len(seen)
}

// post publishes one of the story's events over HTTP; correlation is of the delivery that it answers, if it answers one.
func (s *story) post(ctx context.Context, id, correlation string) error {
	text := s.of.Event(id)
	var event struct {
		Source, Type string
		Data         any
	}
	err := json.Unmarshal(text, &event)
	if err == nil && correlation != "" {
		text, err = correlated(text, correlation)
	}
	if err != nil {
		return fmt.Errorf("event %s: %w", id, err)
	}
	organisation, begun := s.p.world.Publisher(event.Source), time.Since(s.in.began)
	a, err := s.web.ask(ctx, Who{Organisation: organisation}, http.MethodPost, "/api/events", "application/cloudevents+json", text)
	if err != nil {
		return err
	}
	var got struct{ Status string }
	if err := a.into(&got); err != nil {
		return err
	}
	s.in.add(Seen{Line: examples.Line{Who: organisation, How: "POST /api/events", What: event.Type, Says: got.Status, Note: says(event.Data)}, At: begun})
	return nil
}

// answer publishes an event as the follow-up of the last delivery to a subscription of its publisher's.
func (s *story) answer(ctx context.Context, subscription, id string) error {
	seen, _ := s.in.from(0)
	for _, got := range slices.Backward(seen) {
		if got.Subscription == subscription && got.correlation != "" {
			return s.post(ctx, id, got.correlation)
		}
	}
	return fmt.Errorf("event %s answers a delivery to %s: there is none", id, subscription)
}

// did notes what somebody did.
func (s *story) did(who, how, what, says string) {
	s.in.add(Seen{Line: examples.Line{Who: who, How: how, What: what, Says: says}})
}
