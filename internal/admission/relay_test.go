package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"civicbus/codecs"
)

func TestRelayMovesInboxes(t *testing.T) {
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

// TestRelayExactlyOnce: brokers refuse, answers get lost, relays are cut off the network and replaced; every event comes
// through once and in order, and every fault was met.
func TestRelayExactlyOnce(t *testing.T) {
	b := newBus(t)
	const rounds, each = 18, 8
	var faults []*kfake.FaultHandle
	fault := func(key kmsg.Key, err *kerr.Error) {
		f := kfake.Fault{Keys: []kmsg.Key{key}, Err: err, TopLevel: key == kmsg.EndTxn}
		if key == kmsg.Produce {
			f.Topic = AdmittedTopic
		}
		faults = append(faults, b.cluster.Fault(f))
	}
	r := b.relay("a")
	for round := range rounds {
		switch round % 9 {
		case 0:
			fault(kmsg.EndTxn, kerr.UnknownServerError)
		case 1:
			fault(kmsg.Produce, kerr.InvalidRecord)
		case 2:
			fault(kmsg.TxnOffsetCommit, kerr.RebalanceInProgress)
		case 3: // the commit is applied and its answer lost
			wires := r.wires
			faults = append(faults, b.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Observe: true, TopLevel: true,
				When: func(kmsg.Request) bool {
					wires.sever(true)
					time.AfterFunc(300*time.Millisecond, wires.mend) // longer than the client asks again
					return true
				}}))
		case 4: // killed: the zombie stays, its successor takes over
			old := r
			old.wires.sever(true)
			r = b.relay("a")
			defer old.stop()
		case 5:
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			r = b.relay("a")
		case 6:
			fault(kmsg.EndTxn, kerr.InvalidProducerEpoch)
		case 7:
			fault(kmsg.Produce, kerr.NotLeaderForPartition)
		case 8:
			fault(kmsg.TxnOffsetCommit, kerr.InvalidProducerEpoch)
		}
		b.births(0, round*each, (round+1)*each)
		b.births(1, round*each, (round+1)*each)
		b.committed(AdmittedTopic, 4*(round*each+each/2)) // some of it is through before the next fault
	}
	b.committed(AdmittedTopic, 4*rounds*each)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	b.onceInOrder(b.all(AdmittedTopic), 2, rounds*each)
	if letters := b.all(DeadLettersTopic); len(letters) > 0 {
		t.Errorf("%d dead letters", len(letters))
	}
	for i, f := range faults {
		if f.Hits() == 0 {
			t.Errorf("fault %d was never met", i)
		}
	}
}

// TestACommitThatWasToldAsAnError: the broker commits and answers with an error. Nothing of it may be written again, also
// with brokers before 4.0, whose producer epoch does not change with each transaction (KIP-890) and so fences nobody.
func TestACommitThatWasToldAsAnError(t *testing.T) {
	for _, answer := range []*kerr.Error{kerr.UnknownServerError, kerr.InvalidTxnState} {
		for name, opts := range map[string][]kfake.Opt{"3.7": {kfake.MaxVersions(kversion.V3_7_0())}, "newest": nil} {
			t.Run(answer.Message+" "+name, func(t *testing.T) {
				b := newBus(t, opts...)
				lied := make(chan struct{})
				inner := false
				b.cluster.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
					if inner {
						return nil, nil, false
					}
					inner = true
					b.cluster.KeepControl()
					again := *req.(*kmsg.EndTxnRequest)
					b.cluster.SleepControl(func() {
						if resp, err := again.RequestWith(context.Background(), b.client); err != nil || resp.ErrorCode != 0 {
							t.Error(err)
						}
					})
					resp := req.ResponseKind().(*kmsg.EndTxnResponse)
					resp.ErrorCode = answer.Code
					close(lied)
					return resp, nil, true
				})
				b.births(0, 0, 10)
				b.births(1, 0, 10)
				r := b.relay("a")
				<-lied
				b.births(0, 10, 20)
				b.births(1, 10, 20)
				b.committed(AdmittedTopic, 80)
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				b.onceInOrder(b.all(AdmittedTopic), 2, 20)
			})
		}
	}
}

// TestTwoRelaysShare: a second instance joins and leaves under load.
func TestTwoRelaysShare(t *testing.T) {
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

// TestAHeldPartitionOutlivesAborts is the sequence of EXACTLY_ONCE point 29: one partition waits for the registry, another
// commits, a transaction is aborted; then the first must go on where it stopped.
func TestAHeldPartitionOutlivesAborts(t *testing.T) {
	b := newBus(t)
	b.births(1, 0, 1)
	r := b.relay("a")
	b.committed(AdmittedTopic, 2)
	// A new version of another type's schema that only the registry's next answer would tell of.
	b.flaky.down.Store(true)
	next, err := b.registry.Register(context.Background(), "fi.prh.company", companySchema[:len(companySchema)-2]+`,{"name":"city","type":["null","string"],"default":null}]}`)
	if err != nil {
		t.Fatal(err)
	}
	b.schemas["fi.prh.company"] = next
	held := b.company(t, company)
	for i := range 3 {
		held.Attributes["id"] = fmt.Sprint("company-", i)
		b.send("inbox.prh.fi", 0, held)
	}
	asked := b.flaky.asked.Load()
	b.until("the relay has met the held partition", func() bool { return b.flaky.asked.Load() > asked })
	abort := b.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.RebalanceInProgress, Count: 2})
	bad := b.birth(t, child, mother)
	bad.Attributes["source"] = "https://prh.fi" // refused without asking the registry
	b.send("inbox.dvv.fi", 1, bad)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := abort.Wait(ctx, 2); err != nil {
		t.Fatal(err)
	}
	b.committed(DeadLettersTopic, 1)
	b.flaky.down.Store(false)
	records := b.committed(AdmittedTopic, 5)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if records = b.all(AdmittedTopic); len(records) != 5 {
		t.Fatalf("%d records", len(records))
	}
	var ids []string
	for _, rec := range records {
		if recordHeader(rec, "ce_source") == "https://prh.fi" {
			ids = append(ids, recordHeader(rec, "ce_id"))
		}
	}
	if fmt.Sprint(ids) != "[company-0 company-1 company-2]" {
		t.Errorf("held events %v", ids)
	}
	if letters := b.all(DeadLettersTopic); len(letters) != 1 {
		t.Errorf("%d dead letters", len(letters))
	}
}

// TestAHeldPartitionOutlivesARestart: what was committed ends before the record that waits, not behind it.
func TestAHeldPartitionOutlivesARestart(t *testing.T) {
	b := newBus(t)
	first := b.company(t, company)
	next, err := b.registry.Register(context.Background(), "fi.prh.company", companySchema[:len(companySchema)-2]+`,{"name":"city","type":["null","string"],"default":null}]}`)
	if err != nil {
		t.Fatal(err)
	}
	b.schemas["fi.prh.company"] = next
	b.flaky.hidden.Store(next.ID())
	b.send("inbox.prh.fi", 0, first)
	for i := range 3 {
		in := b.company(t, company)
		in.Attributes["id"] = fmt.Sprint("held-", i)
		b.send("inbox.prh.fi", 0, in)
	}
	r := b.relay("a")
	b.committed(AdmittedTopic, 1)
	b.until("the relay has met the held records", func() bool { return b.flaky.asked.Load() > 0 })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	b.flaky.hidden.Store(0)
	r = b.relay("a")
	records := b.committed(AdmittedTopic, 4)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, rec := range records {
		ids = append(ids, recordHeader(rec, "ce_id"))
	}
	if len(b.all(AdmittedTopic)) != 4 || fmt.Sprint(ids) != "[company-1 held-0 held-1 held-2]" {
		t.Errorf("events %v", ids)
	}
}

// TestRelayAdmitsOnlyUnderItsLease: without one it waits; a batch that outlived it is aborted.
func TestRelayAdmitsOnlyUnderItsLease(t *testing.T) {
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

// TestAGapStopsItsPartitionAlone: records that retention took before they were read are not passed over in silence.
func TestAGapStopsItsPartitionAlone(t *testing.T) {
	b := newBus(t)
	b.births(0, 0, 2)
	b.births(1, 0, 2)
	r := b.relay("a")
	b.committed(AdmittedTopic, 8)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	b.births(0, 2, 6)
	if err := b.cluster.DeleteRecords("inbox.dvv.fi", 0, 4); err != nil {
		t.Fatal(err)
	}
	r = b.relay("a")
	b.births(1, 2, 4)
	b.committed(AdmittedTopic, 12)
	b.until("the partition is found stopped", func() bool { return b.log.holds("inbox partition stopped") })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	for _, rec := range b.all(AdmittedTopic) {
		if id := recordHeader(rec, "ce_id"); id == "p0-4" || id == "p0-5" {
			t.Errorf("%s was read past the gap", id)
		}
	}
}

// TestTwoRelaysOfOneInstance: they would push each other out for ever; one of them says so and ends.
func TestTwoRelaysOfOneInstance(t *testing.T) {
	b := newBus(t)
	ended := make(chan error, 2)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range 2 {
		r, err := NewRelay(RelayConfig{Options: []kgo.Opt{kgo.SeedBrokers(b.cluster.ListenAddrs()...)}, Instance: "a", Door: b.door, Resolver: b.resolver,
			Tables: b.tables, Inboxes: func() []string { return []string{"dvv.fi"} }, Lease: b.lease, Letters: b.letters, TopicsEvery: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		go func() { ended <- r.Run(ctx) }()
	}
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			rec := &kgo.Record{Topic: "inbox.dvv.fi", Partition: int32(i % 2), Value: []byte("x")}
			if b.client.ProduceSync(ctx, rec).FirstErr() != nil {
				return
			}
		}
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrFenced) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(60 * time.Second):
		t.Error("neither gave up")
	}
}

func TestNewRelayNamesWhatIsMissing(t *testing.T) {
	if _, err := NewRelay(RelayConfig{}); err == nil {
		t.Error("an empty configuration passes")
	}
}
