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
)

// TestRelayExactlyOnce: brokers refuse, answers get lost, relays are cut off the network and replaced; every event comes
// through once and in order, and every fault was met.
func TestRelayExactlyOnce(t *testing.T) {
	t.Parallel()
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
			defer func() { _ = old.stop() }()
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
	t.Parallel()
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

// TestAHeldPartitionOutlivesAborts is the sequence of EXACTLY_ONCE point 29: one partition waits for the registry, another
// commits, a transaction is aborted; then the first must go on where it stopped.
func TestAHeldPartitionOutlivesAborts(t *testing.T) {
	t.Parallel()
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
	b.committed(AdmittedTopic, 5)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	records := b.all(AdmittedTopic)
	if len(records) != 5 {
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
	t.Parallel()
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

// TestAGapStopsItsPartitionAlone: records that retention took before they were read are not passed over in silence.
func TestAGapStopsItsPartitionAlone(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
