package app

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/processors/event/eventtest"
	"civicbus/topology"
)

const kelaSubject = "subscriber.kela.fi-fi.test.Birth"

func (p *projections) at(t *testing.T, w *eventtest.World, subscriber string) (*codecs.Projection, int32) {
	t.Helper()
	target, ok := w.Snapshot.Target(subscriber, eventtest.Birth, w.Schema)
	if !ok {
		t.Fatalf("%s needs no projection", subscriber)
	}
	return p.find(target)
}

func TestProjectionsAreRegisteredBeforeTheyAreNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := until(t)
		w := eventtest.New(t)
		p := newProjections(ctx, w.Registry, silent)
		if got, _ := p.at(t, w, eventtest.Kela); got != nil {
			t.Fatal("found before it is registered")
		}
		if p.settled(w.Snapshot, eventtest.Birth, w.Schema) {
			t.Fatal("settled before anything is registered")
		}
		synctest.Wait()
		if first, again := p.settled(w.Snapshot, eventtest.Birth, w.Schema), p.settled(w.Snapshot, eventtest.Birth, w.Schema); !first || !again {
			t.Fatal("not settled")
		}
		got, id := p.at(t, w, eventtest.Kela)
		newest, err := w.Registry.Latest(ctx, kelaSubject)
		if err != nil || got == nil || newest.ID() != id || newest.JSON() != got.JSON() {
			t.Fatalf("registered %v under %d, %v", newest, id, err)
		}
		if !p.settled(w.Snapshot, "fi.test.unknown", w.Schema) {
			t.Error("a type without subscriptions is not settled")
		}

		// A subscription that may get more makes its events wait for the schema that holds it; the other's are as they were.
		w.Subs["sub-kela-2"] = eventtest.Subscription("sub-kela-2", eventtest.Kela, verdict.BasisConsent)
		w.Changed()
		if p.settled(w.Snapshot, eventtest.Birth, w.Schema) {
			t.Fatal("settled on the schema of before")
		}
		synctest.Wait()
		if !p.settled(w.Snapshot, eventtest.Birth, w.Schema) {
			t.Fatal("not settled on the second schema")
		}
		if wider, widerID := p.at(t, w, eventtest.Kela); wider == nil || widerID == id || len(wider.Paths()) <= len(got.Paths()) {
			t.Errorf("the second projection is %v under %d", wider, widerID)
		}
		cancel()
		synctest.Wait()
	})
}

// A projection that the registry refuses does not hold its events: their deliveries become dead letters.
func TestARefusedProjectionHoldsNobody(t *testing.T) {
	const other = `{"type":"record","name":"Birth","namespace":"fi.test","fields":[{"name":"place","type":"int"}]}`
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := until(t)
		w := eventtest.New(t)
		w.Subs["sub-vero"] = eventtest.Subscription("sub-vero", eventtest.Vero, verdict.BasisConsent)
		w.Subs["sub-law"].Basis = verdict.BasisConsent
		w.Changed()
		if _, err := w.Registry.Register(ctx, kelaSubject, other); err != nil {
			t.Fatal(err)
		}
		p := newProjections(ctx, w.Registry, silent)
		p.settled(w.Snapshot, eventtest.Birth, w.Schema)
		synctest.Wait()
		if !p.settled(w.Snapshot, eventtest.Birth, w.Schema) {
			t.Fatal("not settled")
		}
		if got, id := p.at(t, w, eventtest.Kela); got != nil || id != 0 {
			t.Errorf("a refused projection is used, under %d", id)
		}
		if got, _ := p.at(t, w, eventtest.Vero); got == nil {
			t.Error("another subscriber's projection is missing")
		}
		if err := newProjections(ctx, w.Registry, silent).ensure(ctx, w.Snapshot, eventtest.Birth, w.Schema); err != nil {
			t.Errorf("admission waits for what will not come: %v", err)
		}
		time.Sleep(10 * retryRefused)
		if got, _ := p.at(t, w, eventtest.Kela); got != nil {
			t.Error("the registry took what it had refused")
		}
		p.mu.Lock()
		p.registry = codecs.NewLocalRegistry() // the schema that stood against it is gone
		p.mu.Unlock()
		time.Sleep(20 * retryRefused)
		if got, id := p.at(t, w, eventtest.Kela); got == nil || id == 0 {
			t.Error("the registry would take the projection now, and was not asked again")
		}
		cancel()
		synctest.Wait()
	})
}

func TestProjectionsWaitForTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := until(t)
		w := eventtest.New(t)
		p := newProjections(ctx, nowhere(t), silent)
		for range 10 {
			if p.settled(w.Snapshot, eventtest.Birth, w.Schema) {
				t.Fatal("settled without the registry")
			}
			time.Sleep(time.Second)
		}
		if err := p.ensure(ctx, w.Snapshot, eventtest.Birth, w.Schema); err == nil || errors.Is(err, codecs.ErrIncompatible) {
			t.Errorf("ensured without the registry: %v", err)
		}
		p.registry = w.Registry // it is back
		p.settled(w.Snapshot, eventtest.Birth, w.Schema)
		synctest.Wait()
		if !p.settled(w.Snapshot, eventtest.Birth, w.Schema) {
			t.Error("not settled once the registry is back")
		}
		p.registry = nowhere(t) // and gone again: what is known needs nobody
		if err := p.ensure(ctx, w.Snapshot, eventtest.Birth, w.Schema); err != nil {
			t.Error(err)
		}
		cancel()
		synctest.Wait()
	})
}

func TestEnsureRegistersAndWaits(t *testing.T) {
	ctx := context.Background()
	w := eventtest.New(t)
	p := newProjections(ctx, w.Registry, silent)
	if err := p.ensure(ctx, w.Snapshot, eventtest.Birth, w.Schema); err != nil {
		t.Fatal(err)
	}
	if got, _ := p.at(t, w, eventtest.Kela); got == nil || !p.settled(w.Snapshot, eventtest.Birth, w.Schema) {
		t.Error("not registered")
	}
}

// An event waits for the topics of all subscribers of its type.
func TestEventsWaitForTheirOutlets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		w := eventtest.New(t)
		w.Subs["sub-vero"] = eventtest.Subscription("sub-vero", eventtest.Vero, verdict.BasisConsent)
		w.Changed()
		p, o := newProjections(ctx, w.Registry, silent), newOutlets(nil, silent)
		if err := p.ensure(ctx, w.Snapshot, eventtest.Birth, w.Schema); err != nil || !p.settled(w.Snapshot, eventtest.Birth, w.Schema) {
			t.Fatal(err)
		}
		seen := func(subscriber string) { o.at(topology.SubscriberTopicName(subscriber)).present = true }
		for i, step := range []func(){func() {}, func() { seen(eventtest.Kela) }, func() { seen(eventtest.Vero) }} {
			step()
			if p.outletsSettled(eventtest.Birth, w.Schema, o) != (i == 2) {
				t.Errorf("with %d topics there", i)
			}
		}
	})
}
