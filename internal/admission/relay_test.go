package admission

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"civicbus/codecs"
)

func TestRelayMovesInboxes(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	b.births(0, 0, 20)
	b.births(1, 0, 20)
	r := b.relay("a")
	b.committed(AdmittedTopic, 80)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	b.onceInOrder(b.all(AdmittedTopic), 2, 20)
	// A second life starts where the first ended.
	b.births(0, 20, 25)
	b.births(1, 20, 25)
	r = b.relay("a")
	b.committed(AdmittedTopic, 100)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	b.onceInOrder(b.all(AdmittedTopic), 2, 25)
}

// TestTwoRelaysShare: a second instance joins and leaves under load.
func TestTwoRelaysShare(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	const n = 60
	first := b.relay("a")
	b.births(0, 0, 20)
	b.births(1, 0, 20)
	b.committed(AdmittedTopic, 80)
	second := b.relay("b")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := b.cluster.WaitGroupStable(ctx, "relay", 2); err != nil {
		t.Fatal(err)
	}
	b.births(0, 20, 40)
	b.births(1, 20, 40)
	b.committed(AdmittedTopic, 160)
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	gone, err := NewRelay(RelayConfig{Options: []kgo.Opt{kgo.SeedBrokers(b.cluster.ListenAddrs()...)}, Instance: "b", Door: b.door,
		Resolver: b.resolver, Tables: b.tables, Inboxes: func() []string { return nil }, Lease: b.lease, Letters: b.letters})
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	b.births(0, 40, n)
	b.births(1, 40, n)
	b.committed(AdmittedTopic, 4*n)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	b.onceInOrder(b.all(AdmittedTopic), 2, n)
}

// TestBadRecordsBecomeLetters: each with its cause and its place, the good ones around them pass.
func TestBadRecordsBecomeLetters(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	good := b.birth(t, child, mother)
	bad := func(change func(*Input)) *Input {
		in := b.birth(t, child, mother)
		change(in)
		return in
	}
	for _, in := range []*Input{
		good,
		bad(func(in *Input) { in.Value = []byte{0xff} }),
		bad(func(in *Input) { in.Value = nil }),
		bad(func(in *Input) { in.Attributes = nil }),
		bad(func(in *Input) { in.Attributes["source"] = "https://prh.fi" }),
		bad(func(in *Input) { in.Attributes["type"] = "fi.dvv.nothing" }),
		b.birth(t, child),
		good,
	} {
		b.send("inbox.dvv.fi", 0, in)
	}
	r := b.relay("a")
	b.committed(AdmittedTopic, 4)
	b.committed(DeadLettersTopic, 6)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	var causes []string
	for _, rec := range b.all(DeadLettersTopic) {
		letter, err := b.letters.Decode(rec.Value)
		if err != nil {
			t.Fatal(err)
		}
		in, err := FromDeadLetter(&letter)
		place := "-"
		if err == nil {
			place = fmt.Sprint(in.Origin.Topic, "/", in.Origin.Partition, "/", in.Origin.Offset)
		}
		causes = append(causes, letter.Cause+" "+place)
	}
	want := []string{"malformed inbox.dvv.fi/0/1", "refused -", "refused inbox.dvv.fi/0/3", "refused inbox.dvv.fi/0/4", "unknown_type inbox.dvv.fi/0/5", "no_subject inbox.dvv.fi/0/6"}
	if fmt.Sprint(causes) != fmt.Sprint(want) {
		t.Errorf("letters\n%q, want\n%q", causes, want)
	}
}

// TestAnUnknownSchemaWaitsAlone: its partition waits and then goes on past it, the others do not wait at all.
func TestAnUnknownSchemaWaitsAlone(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	in := b.birth(t, child, mother)
	in.Attributes["id"] = "p0-0"
	b.send("inbox.dvv.fi", 0, in)
	strange := b.birth(t, child, mother)
	strange.Value = append(codecs.AppendWire(nil, 99999), strange.Value[codecs.WireHeaderBytes:]...)
	b.send("inbox.dvv.fi", 0, strange)
	b.send("inbox.dvv.fi", 0, strange)
	begun := time.Now()
	r := b.relay("a")
	b.births(0, 1, 3)
	b.births(1, 0, 3)
	b.committed(AdmittedTopic, 2+6) // before it, and the other partition
	if waited := time.Since(begun); waited > time.Second && len(b.all(DeadLettersTopic)) == 0 {
		t.Logf("slow machine: %s", waited)
	}
	b.committed(AdmittedTopic, 12)
	if waited := time.Since(begun); waited < time.Second {
		t.Errorf("given up after %s, before the second it was to wait", waited)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	b.onceInOrder(b.all(AdmittedTopic), 2, 3)
	letters := b.all(DeadLettersTopic)
	if len(letters) != 2 {
		t.Fatalf("%d dead letters", len(letters))
	}
	if letter, err := b.letters.Decode(letters[0].Value); err != nil || letter.Cause != UnknownSchema {
		t.Errorf("%s, %v", letter.Cause, err)
	}
}

// TestRelayAdmitsOnlyUnderItsLease: without one it waits; a batch that outlived it is aborted.
func TestRelayAdmitsOnlyUnderItsLease(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	b.lease.set(true, 0)
	ended := b.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, TopLevel: true, Observe: true, Count: -1})
	r := b.relay("a", func(c *RelayConfig) { c.LeaseAge = 2 * time.Second })
	b.births(0, 0, 5)
	b.births(1, 0, 5)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := b.cluster.WaitGroupStable(ctx, "relay", 1); err != nil {
		t.Fatal(err)
	}
	if got := b.all(AdmittedTopic); len(got) > 0 {
		t.Fatalf("%d records without a lease", len(got))
	}
	b.lease.set(false, 3*time.Second) // confirmed too long ago by the time of the commit
	if err := ended.Wait(ctx, 3); err != nil {
		t.Fatal(err)
	}
	b.lease.set(false, 0)
	b.committed(AdmittedTopic, 20)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	b.onceInOrder(b.all(AdmittedTopic), 2, 5)
	if ended.Hits() < 4 {
		t.Errorf("%d transactions", ended.Hits())
	}
}

// TestRelayFollowsTheTrustTable: inboxes come and go while it runs.
func TestRelayFollowsTheTrustTable(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	b.inboxes = nil
	r := b.relay("a")
	b.births(0, 0, 3)
	b.births(1, 0, 3)
	inboxes := func(o ...string) { b.mu.Lock(); b.inboxes = o; b.mu.Unlock() }
	inboxes("prh.fi")
	b.send("inbox.prh.fi", 0, b.company(t, company))
	b.committed(AdmittedTopic, 1)
	inboxes("dvv.fi", "prh.fi", "not there.fi", "absent.fi")
	b.committed(AdmittedTopic, 13)
	inboxes("dvv.fi")
	b.births(0, 3, 4)
	b.births(1, 3, 4)
	b.committed(AdmittedTopic, 17)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestNewRelayNamesWhatIsMissing(t *testing.T) {
	if _, err := NewRelay(RelayConfig{}); err == nil {
		t.Error("an empty configuration passes")
	}
}
