package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/topology"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/tester"
)

const secret = "an audit key for tests, of 32 bytes or more"

// bench is the group in goka's tester, which has one partition. Chain rows live beside it, as the engine's table has them.
type bench struct {
	t       *testing.T
	records *codecs.Records
	keys    *Keys
	kafka   *tester.Tester
	log     *tester.QueueTracker
	dead    *tester.QueueTracker

	mu     sync.Mutex
	chains map[string][]byte
	offset int64
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, records: codecs.NewRecords(), chains: map[string][]byte{}}
	if err := b.records.BindLocal(); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.keys, err = NewKeys([]byte(secret)); err != nil {
		t.Fatal(err)
	}
	g := New(Env{Records: b.records, Keys: b.keys, Now: time.Now, Partitions: 1,
		Row: func(_ int32, key string) ([]byte, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.chains[key], nil },
		SetRow: func(_ int32, key string, row []byte) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.chains[key] = row
			return nil
		}})
	graph, err := topology.Build(topology.Audit, g.Callbacks())
	if err != nil {
		t.Fatal(err)
	}
	b.kafka = tester.New(t)
	p, err := goka.NewProcessor(nil, graph, goka.WithTester(b.kafka), goka.WithNilHandling(goka.NilProcess))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	b.log, b.dead = b.kafka.NewQueueTracker(topology.AuditLog.Name), b.kafka.NewQueueTracker(topology.DeadLetters.Name)
	return b
}

func (b *bench) send(topic topology.Stream, key string, value []byte) {
	follows := binary.BigEndian.AppendUint64(nil, uint64(b.offset))
	b.offset++
	var msg any = value
	if value == nil {
		msg = nil
	}
	b.kafka.Consume(topic.Name, key, msg, tester.WithHeaders(goka.Headers{kafka.FollowsHeader: follows}))
}

func (b *bench) decide(key string, d codecs.Decision) {
	b.t.Helper()
	v, err := b.records.Decision.Encode(&d)
	if err != nil {
		b.t.Fatal(err)
	}
	b.send(topology.Decisions, key, v)
}

func (b *bench) answer(key string, r codecs.CommandResult) {
	b.t.Helper()
	v, err := b.records.CommandResult.Encode(&r)
	if err != nil {
		b.t.Fatal(err)
	}
	b.send(topology.CommandResults, key, v)
}

// next is the next entry on the log, raw and decoded.
func (b *bench) next() ([]byte, codecs.AuditEntry) {
	b.t.Helper()
	key, value, ok := b.log.NextRaw()
	if !ok {
		b.t.Fatal("no entry")
	}
	if key != ChainKey(0, 1) {
		b.t.Errorf("the entry's key is %q", key)
	}
	e, err := b.records.AuditEntry.Decode(value)
	if err != nil {
		b.t.Fatal(err)
	}
	return value, e
}

func (b *bench) row(key string) *codecs.AuditRow {
	b.t.Helper()
	v, _ := b.kafka.TableValue(goka.Table(topology.TableTopic("audit")), key).([]byte)
	if v == nil {
		return nil
	}
	row, err := b.records.AuditRow.Decode(v)
	if err != nil {
		b.t.Fatal(err)
	}
	return &row
}

func subject(b *bench, id string) string {
	b.t.Helper()
	k, err := pseudonym.NewKeys([]byte("a bus key for tests, of 32 bytes or more"))
	if err != nil {
		b.t.Fatal(err)
	}
	return k.Subject("fi-hetu", id)
}

func TestEntriesFollowEachOther(t *testing.T) {
	b := newBench(t)
	venla, onni := subject(b, "010190-999R"), subject(b, "020290-998P")
	verdict := codecs.VerdictItem{Subscription: "s", Subscriber: "kela.fi", Permit: true, Reason: "rule", DeliveryID: "00"}
	b.decide(venla, codecs.Decision{Kind: "router", Topic: "life.address", Offset: 7, Follows: 5, Outcome: "decided", Verdicts: []codecs.VerdictItem{verdict}})
	b.decide(onni, codecs.Decision{Kind: "profile", Outcome: "repeat"})
	b.answer(venla, codecs.CommandResult{Stream: "consent-commands", Kind: "withdraw", Actor: "person:venla", Status: "accepted", Version: 3})
	b.decide(venla, codecs.Decision{Kind: "router"})
	var previous []byte
	befores := []int64{0, 0, 1, 3}
	salts := map[string][]byte{venla: b.row(venla).Salt, onni: b.row(onni).Salt}
	for i, who := range []string{venla, onni, venla, venla} {
		value, e := b.next()
		if e.Number != int64(i+1) || !bytes.Equal(e.Previous, previous) || e.Before != befores[i] || e.KeyID != b.keys.id {
			t.Errorf("entry %d: number %d, before %d, previous %x, want %x", i+1, e.Number, e.Before, e.Previous, previous)
		}
		if !bytes.Equal(e.Subject, b.keys.commitment(salts[who], who)) {
			t.Errorf("entry %d is not committed to its subject", i+1)
		}
		if e.InputFollows != int64(i) {
			t.Errorf("entry %d follows input %d", i+1, e.InputFollows)
		}
		if bytes.Contains(value, []byte(who)) || bytes.Contains(value, []byte("person:venla")) {
			t.Errorf("entry %d tells its subject or actor", i+1)
		}
		if i == 0 && (e.Topic != "life.address" || e.Offset != 7 || e.Follows != 5 || len(e.Verdicts) != 1 || e.Verdicts[0] != verdict) {
			t.Errorf("entry 1 is %+v", e)
		}
		if i == 2 && (e.Kind != Command || e.CommandKind != "withdraw" || e.Version != 3 || len(e.Actor) != sha256.Size) {
			t.Errorf("entry 3 is %+v", e)
		}
		sum := sha256.Sum256(value)
		previous = sum[:]
	}
	if b.row(venla).Number != 4 || b.row(onni).Number != 2 {
		t.Errorf("rows at %d and %d", b.row(venla).Number, b.row(onni).Number)
	}
}

// A row says where the last entry is and nothing else, however many there are.
func TestRowsAreBounded(t *testing.T) {
	b := newBench(t)
	who := subject(b, "010190-999R")
	for range 300 {
		b.decide(who, codecs.Decision{Kind: "router"})
	}
	row, _ := b.kafka.TableValue(goka.Table(topology.TableTopic("audit")), who).([]byte)
	if len(row) > 64 || len(b.chains[ChainKey(0, 1)]) > 128 {
		t.Errorf("rows of %d and %d bytes", len(row), len(b.chains[ChainKey(0, 1)]))
	}
}

func TestErasureTakesTheRowAndKeepsTheChain(t *testing.T) {
	b := newBench(t)
	who := subject(b, "010190-999R")
	b.decide(who, codecs.Decision{Kind: "router"})
	_, first := b.next()
	b.answer(who, codecs.CommandResult{Stream: "consent-commands", Kind: "erase", Status: "refused"})
	if b.row(who) == nil {
		t.Fatal("a refused erasure took the row")
	}
	b.answer(who, codecs.CommandResult{Stream: "consent-commands", Kind: "erase", Status: "accepted"})
	if b.row(who) != nil {
		t.Fatal("the row is still there")
	}
	b.decide(who, codecs.Decision{Kind: "router"})
	b.next()
	b.next()
	_, last := b.next()
	if last.Number != 4 || last.Before != 0 || bytes.Equal(last.Subject, first.Subject) {
		t.Errorf("after the erasure: number %d, before %d, commitment the same: %t", last.Number, last.Before, bytes.Equal(last.Subject, first.Subject))
	}
}

func TestWhatCannotBeReadIsAudited(t *testing.T) {
	b := newBench(t)
	who := subject(b, "010190-999R")
	for i, bad := range [][]byte{nil, {}, {0, 0, 0}, []byte("no avro"), append([]byte{0, 0, 0, 0, 1}, 0xff)} {
		b.send([]topology.Stream{topology.Decisions, topology.CommandResults}[i%2], who, bad)
		_, e := b.next()
		digest := sha256.Sum256(bad)
		if e.Number != int64(i+1) || e.Kind != Unreadable || !bytes.Equal(e.Digest, digest[:]) {
			t.Errorf("%x: %+v", bad, e)
		}
		if _, _, ok := b.dead.NextRaw(); !ok {
			t.Errorf("%x: no dead letter", bad)
		}
	}
}

// Keys that no subject has are audited too, and have no row.
func TestAKeyOfAChainHasNoRow(t *testing.T) {
	b := newBench(t)
	b.decide(ChainKey(0, 1), codecs.Decision{Kind: "router"})
	b.decide("", codecs.Decision{Kind: "router"})
	for range 2 {
		if _, e := b.next(); len(e.Subject) != 0 || e.Before != 0 {
			t.Errorf("%+v", e)
		}
	}
	if b.row(ChainKey(0, 1)) != nil {
		t.Error("the chain's key became a subject's row")
	}
}

func TestVerdictsBeyondOneRecordBecomeParts(t *testing.T) {
	b := newBench(t)
	var d codecs.Decision
	for range 3000 {
		d.Verdicts = append(d.Verdicts, codecs.VerdictItem{Subscription: strings.Repeat("s", 200), DeliveryID: strings.Repeat("d", 32)})
	}
	b.decide(subject(b, "010190-999R"), d)
	n := 0
	for i := int32(0); ; i++ {
		value, e := b.next()
		if len(value) > topology.MaxRecordBytes-4096 || e.Part != i || e.InputOffset != 0 || e.Number != int64(i+1) {
			t.Errorf("part %d: %d bytes, part %d, number %d", i, len(value), e.Part, e.Number)
		}
		if n += len(e.Verdicts); e.Part+1 == e.Parts {
			break
		}
	}
	if n != len(d.Verdicts) {
		t.Errorf("%d verdicts, want %d", n, len(d.Verdicts))
	}
}

func TestChainKeysBelongToTheirPartitions(t *testing.T) {
	for _, n := range []int32{1, 4, 64} {
		for p := range n {
			if got := kafka.Partition([]byte(ChainKey(p, n)), n); got != p {
				t.Errorf("chain %d of %d lies in %d", p, n, got)
			}
		}
	}
}

func TestShortKeyIsRefused(t *testing.T) {
	if _, err := NewKeys(make([]byte, MinKeyBytes-1)); !errors.Is(err, ErrShortKey) {
		t.Error(err)
	}
}
