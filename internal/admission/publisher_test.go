package admission

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"civicbus/codecs"
)

func (b *bus) publisher(change ...func(*PublisherConfig)) *Publisher {
	b.t.Helper()
	cfg := PublisherConfig{Options: []kgo.Opt{kgo.SeedBrokers(b.cluster.ListenAddrs()...)}, Door: b.door, Resolver: b.resolver,
		Tables: b.tables, Lease: b.lease, Letters: b.letters}
	for _, c := range change {
		c(&cfg)
	}
	p, err := NewPublisher(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(p.Close)
	return p
}

func TestPublishAnswersEachItem(t *testing.T) {
	b := newBus(t)
	stranger := b.birth(t, child, mother)
	stranger.Attributes["source"] = "https://prh.fi"
	unknown := b.birth(t, child, mother)
	unknown.Value = append(codecs.AppendWire(nil, 99999), unknown.Value[codecs.WireHeaderBytes:]...)
	forged := b.birth(t, child, mother, father)
	forged.Organisation = "prh.fi" // the caller's organisation counts, not what the input says
	inputs := []*Input{forged, b.birth(t, child), stranger, unknown, b.birth(t, child, mother)}
	answers := b.publisher().Publish(context.Background(), "dvv.fi", inputs)
	var got []string
	for _, a := range answers {
		got = append(got, fmt.Sprint(a.Status, " ", a.Subjects, " ", reasons(a.Faults), " ", a.Err))
	}
	want := []string{
		"accepted 3 [] <nil>", "held 0 [data.mother.id no_subject] <nil>", "refused 0 [source source_mismatch] <nil>",
		"refused 0 [data unknown_schema] <nil>", "accepted 2 [] <nil>",
	}
	if !slices.Equal(got, want) {
		t.Errorf("answers\n%q, want\n%q", got, want)
	}
	// An answer is given only once Kafka has the event: what was accepted and held is there now, and nothing else.
	if n := len(b.all(AdmittedTopic)); n != 5 {
		t.Errorf("%d records on admitted", n)
	}
	letters := b.all(DeadLettersTopic)
	if len(letters) != 1 || string(letters[0].Key) != answers[1].LifeEvent {
		t.Errorf("%d dead letters", len(letters))
	}
}

func TestPublishKeepsOrder(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	var inputs []*Input
	for i := range 3 * publishAtOnce {
		in := b.birth(t, child, mother)
		in.Attributes["id"] = fmt.Sprintf("p0-%d", i)
		inputs = append(inputs, in)
	}
	for i, a := range b.publisher().Publish(context.Background(), "dvv.fi", inputs) {
		if a.Status != Accepted {
			t.Fatalf("item %d: %+v", i, a)
		}
	}
	b.onceInOrder(b.all(AdmittedTopic), 1, len(inputs))
}

// TestPublishSaysWhenItDoesNotKnow: nothing that could not be written, judged or looked up is called accepted or refused.
func TestPublishSaysWhenItDoesNotKnow(t *testing.T) {
	t.Parallel()
	short := func(c *PublisherConfig) { c.Timeout = 300 * time.Millisecond }
	for name, test := range map[string]struct{ break_, mend func(*bus) }{
		"lease": {func(b *bus) { b.lease.set(true, 0) }, func(b *bus) { b.lease.set(false, 0) }},
		"registry": {func(b *bus) { b.flaky.down.Store(true) }, func(b *bus) {
			b.flaky.down.Store(false)
			b.resolver.mu.Lock()
			b.resolver.paused = time.Time{}
			b.resolver.mu.Unlock()
		}},
		"Kafka": {func(b *bus) {
			b.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: AdmittedTopic, Err: kerr.InvalidRecord, Count: 4})
		}, func(b *bus) { b.cluster.Fault() }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBus(t)
			p := b.publisher(short)
			test.break_(b)
			answer := p.Publish(context.Background(), "dvv.fi", []*Input{b.birth(t, child, mother)})[0]
			if answer.Status != Unavailable || answer.Err == nil || holdsAny(answer.Err.Error()) {
				t.Fatalf("%+v", answer)
			}
			test.mend(b)
			b.until("published again, it is accepted", func() bool {
				return p.Publish(context.Background(), "dvv.fi", []*Input{b.birth(t, child, mother)})[0].Status == Accepted
			})
		})
	}
}

// TestPrepareComesFirst: no event of a schema is admitted before what hangs on that schema is made, and it is made once.
func TestPrepareComesFirst(t *testing.T) {
	b := newBus(t)
	calls, ready := 0, false
	b.resolver = NewResolver(b.flaky, func(_ context.Context, eventType string, schema *codecs.Schema) error {
		calls++
		if !ready {
			return errDown
		}
		if eventType != "fi.dvv.person.birth" || schema.ID() != b.schemas["fi.dvv.birth"].ID() {
			t.Errorf("prepare %s for %d", eventType, schema.ID())
		}
		return nil
	})
	b.door.Belongs = b.resolver.Belongs
	p := b.publisher()
	one := func() Status {
		return p.Publish(context.Background(), "dvv.fi", []*Input{b.birth(t, child, mother)})[0].Status
	}
	if got := one(); got != Unavailable {
		t.Errorf("before: %s", got)
	}
	ready = true
	if a, b := one(), one(); a != Accepted || b != Accepted || calls != 2 {
		t.Errorf("after: %s, %s, %d calls", a, b, calls)
	}
}
