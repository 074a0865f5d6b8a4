package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"civicbus/codecs"
)

const (
	pet    = `{"type":"record","name":"Pet","fields":[{"name":"name","type":"string"}]}`
	newPet = `{"type":"record","name":"Pet","fields":[{"name":"name","type":"string"},{"name":"age","type":["null","int"],"default":null}]}`
)

func register(t *testing.T, r *codecs.Registry, subject, text string) *codecs.Schema {
	t.Helper()
	s, err := r.Register(context.Background(), subject, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchemasSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := until(t)
		registry := codecs.NewLocalRegistry()
		s := newSchemas(ctx, registry, silent)
		known := register(t, registry, "pet-value", pet)
		for name, value := range map[string][]byte{"known": wire(known.ID()), "malformed": {1, 2}, "tombstone": nil} {
			if !s.settled(value) {
				t.Errorf("%s is not settled", name)
			}
		}
		// An id that the registry does not know is waited for, from its first answer on.
		unknown := wire(12345)
		began := time.Now()
		for !s.settled(unknown) {
			if time.Since(began) > time.Minute {
				t.Fatal("never settled")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if waited := time.Since(began); waited <= unknownAfter || waited > unknownAfter+time.Second {
			t.Errorf("given up after %s", waited)
		}
		// One that it learns meanwhile is known at once, and never given up.
		late := codecs.NewLocalRegistry()
		id := register(t, late, "pet-value", newPet).ID()
		if s.settled(wire(id)) {
			t.Fatal("settled before it is known")
		}
		time.Sleep(unknownAfter / 2)
		register(t, registry, "pet-value", newPet)
		if !s.settled(wire(id)) {
			t.Error("not settled though it is known")
		}
		// await ends with what it waits for, or with the process.
		s.await(wire(54321))
		cancel()
		s.await(wire(99999))
		synctest.Wait()
	})
}

// While the registry is out of reach nothing is known of an id: its records wait, however long.
func TestSchemasWaitForTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := until(t)
		s := newSchemas(ctx, nowhere(t), silent)
		for range 60 {
			if s.settled(wire(7)) || s.fresh("pet-value") {
				t.Fatal("settled without an answer")
			}
			time.Sleep(time.Second)
		}
		if s.latest("pet-value") != nil {
			t.Error("a schema out of nothing")
		}
		cancel()
		synctest.Wait()
	})
}

// The answer "this is the newest" is used for newestFor, then asked for again.
func TestNewestSchemas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := until(t)
		registry := codecs.NewLocalRegistry()
		s := newSchemas(ctx, registry, silent)
		first := register(t, registry, "pet-value", pet)
		fresh := func(subject string) {
			t.Helper()
			if s.fresh(subject) {
				t.Fatalf("%s is fresh before it was asked for", subject)
			}
			synctest.Wait()
			if !s.fresh(subject) {
				t.Fatalf("%s is not fresh after the answer", subject)
			}
		}
		fresh("pet-value")
		fresh("no-value")
		if s.latest("pet-value") != first || s.latest("no-value") != nil || s.latest("other-value") != nil {
			t.Error("the newest schema is another")
		}
		second := register(t, registry, "pet-value", newPet)
		time.Sleep(newestFor - time.Millisecond)
		if !s.fresh("pet-value") || s.latest("pet-value") != first {
			t.Error("asked again too soon")
		}
		time.Sleep(time.Millisecond)
		fresh("pet-value")
		if s.latest("pet-value") != second {
			t.Error("the newest schema is the old one")
		}
		cancel()
		synctest.Wait()
	})
}
