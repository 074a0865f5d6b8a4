package admin_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// history writes dead letters in random transactions, some aborted, so that partitions end in markers and aborted data, and
// returns those that were committed, by partition.
func (b *bench) history(rng *rand.Rand, n int) map[int32][]string {
	b.t.Helper()
	tx, err := b.cfg.Connection.Client(kgo.TransactionalID(fmt.Sprintf("history-%d", rng.Uint64())), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		b.t.Fatal(err)
	}
	defer tx.Close()
	kept := map[int32][]string{}
	began := time.Now()
	for i := range n {
		if err := tx.BeginTransaction(); err != nil {
			b.t.Fatal(err)
		}
		commit := rng.IntN(3) > 0
		for j := range 1 + rng.IntN(3) {
			p := int32(rng.IntN(4))
			text := fmt.Sprintf("%d-%d", i, j)
			letter := codecs.DeadLetter{Cause: "malformed", Detail: text, Group: "router", Topic: "life.birth", At: int64(i)}
			r := &kgo.Record{Topic: topology.DeadLetters.Name, Partition: p, Timestamp: began.Add(time.Duration(i) * time.Second),
				Value: encode(b.t, b.records.DeadLetter, letter)}
			if err := tx.ProduceSync(b.t.Context(), r).FirstErr(); err != nil {
				b.t.Fatal(err)
			}
			if commit {
				kept[p] = append(kept[p], text)
			}
		}
		if err := tx.EndTransaction(b.t.Context(), kgo.TransactionEndTry(commit)); err != nil {
			b.t.Fatal(err)
		}
	}
	return kept
}

// What is read of a topic is what was committed, whole and in order, whatever its partitions end in; and it ends.
func TestReadsWhatIsCommittedAndEnds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		b := setUp(t)
		kept := b.history(rand.New(rand.NewPCG(seed, 1)), 12)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		got := map[int32][]string{}
		last := int64(-1)
		for l, err := range b.Letters(ctx, admin.LetterFilter{}) {
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			got[l.Place.Partition] = append(got[l.Place.Partition], l.Detail)
			if l.At < last {
				t.Errorf("seed %d: %d comes after %d", seed, l.At, last)
			}
			last = l.At
		}
		cancel()
		if !reflect.DeepEqual(got, kept) {
			t.Errorf("seed %d: %v, want %v", seed, got, kept)
		}
	}
}

// An open transaction hides what follows it: what is read ends at the last stable offset, at once.
func TestReadEndsBeforeAnOpenTransaction(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	letter := func(text string) *kgo.Record {
		return &kgo.Record{Topic: topology.DeadLetters.Name, Key: []byte("k"), Value: encode(t, b.records.DeadLetter, codecs.DeadLetter{Detail: text})}
	}
	b.write(letter("before"))
	tx, err := b.cfg.Connection.Client(kgo.TransactionalID("open"))
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Close()
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := tx.ProduceSync(t.Context(), letter("open")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	b.write(letter("after"))
	var got []string
	for l, err := range b.Letters(t.Context(), admin.LetterFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, l.Detail)
	}
	if !reflect.DeepEqual(got, []string{"before"}) {
		t.Errorf("%v", got)
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	topic := topology.TableTopic("subscription")
	row := func(id string, version int64) *kgo.Record {
		return &kgo.Record{Topic: topic, Key: []byte(id), Value: encode(t, b.records.Subscription, codecs.Subscription{ID: id, Version: version, EventTypes: []string{"t"}})}
	}
	b.write(row("a", 1), row("b", 1), row("c", 1), row("a", 2), &kgo.Record{Topic: topic, Key: []byte("b")})
	all, err := admin.Subscriptions.All(t.Context(), b.Client)
	if err != nil || len(all) != 2 || all["a"].Version != 2 || all["c"].Version != 1 {
		t.Errorf("%v, %v", all, err)
	}
	for id, want := range map[string]int64{"a": 2, "b": 0, "c": 1, "d": 0} {
		got, err := admin.Subscriptions.One(t.Context(), b.Client, id)
		if err != nil || (got == nil) != (want == 0) || got != nil && got.Version != want {
			t.Errorf("row %s: %v, %v", id, got, err)
		}
	}
	receivers, err := admin.Receivers(t.Context(), b.Client, "t")
	if err != nil || len(receivers) != 2 || receivers[0].Subscription != "a" {
		t.Errorf("%v, %v", receivers, err)
	}
}

// Lag counts what waits, and a partition behind which only a marker stands is not behind.
func TestLag(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	a := kadm.NewClient(b.kafka)
	tx, err := b.cfg.Connection.Client(kgo.TransactionalID("lag"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Close()
	old := time.Now().Add(-time.Hour)
	for _, p := range []int32{0, 1, 2, 2} {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := tx.ProduceSync(t.Context(), &kgo.Record{Topic: topology.Birth.Name, Partition: p, Timestamp: old, Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topology.Birth.Name, Partition: 0, At: 3}) // only the marker is left
	offsets.Add(kadm.Offset{Topic: topology.Birth.Name, Partition: 1, At: 1})
	offsets.Add(kadm.Offset{Topic: topology.Birth.Name, Partition: 2, At: 3}) // a marker, then three more records and a marker
	if err := a.CommitAllOffsets(t.Context(), "router", offsets); err != nil {
		t.Fatal(err)
	}
	lags, err := b.Lag(t.Context(), "router")
	if err != nil {
		t.Fatal(err)
	}
	if want := len(topology.EventStreams) * 4; len(lags) != want {
		t.Errorf("%d partitions, want %d: one without a commit is shown too", len(lags), want)
	}
	for _, l := range lags {
		switch {
		case l.Topic != topology.Birth.Name:
			if l.Records != 0 || l.Committed != -1 {
				t.Errorf("empty topic: %+v", l)
			}
		case l.Partition == 0 && (l.Records != 0 || l.Seconds != 0 || l.Committed != 3):
			t.Errorf("only a marker is left: %+v", l)
		case l.Partition == 2 && l.Records != 4:
			t.Errorf("three records and a marker, behind a marker: %+v", l)
		case l.Partition == 1 && (l.Records != 3 || l.Behind < 59*time.Minute || l.Behind > 61*time.Minute):
			t.Errorf("two records and a marker, an hour old: %+v", l)
		}
	}
	if all, err := b.Lag(t.Context()); err != nil || len(all) <= len(lags) {
		t.Errorf("every group: %d, %v", len(all), err)
	}
}

func TestTopicsAndRetention(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	shape := b.cfg.Shape
	diffs, err := b.Diff(t.Context(), shape)
	if err != nil || len(diffs) != 0 {
		t.Fatalf("%v, %v", diffs, err)
	}
	kept, err := b.PersonalData(t.Context())
	if err != nil || kept[0].Keep != 90*24*time.Hour {
		t.Fatalf("%v, %v", kept, err)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if by, ends := admin.ExpiredBy(at, kept); !ends || by != at.AddDate(0, 0, 90) {
		t.Errorf("%v, %v", by, ends)
	}
	for _, r := range kept {
		if r.Topic == topology.Decisions.Name || r.Topic == topology.ConsentCommands.Name || r.Topic == topology.CommandResults.Name {
			t.Errorf("%s holds no personal data", r.Topic)
		}
	}
	// A subscriber's topic that someone keeps for ever changes the answer, and is a difference.
	a := kadm.NewClient(b.kafka)
	forever := "-1"
	if _, err := a.CreateTopic(t.Context(), 4, 1, map[string]*string{"retention.ms": &forever}, topology.SubscriberTopicName("kela.fi")); err != nil {
		t.Fatal(err)
	}
	topics, err := b.Topics(t.Context())
	for err == nil && len(topics) == len(topology.Topics(shape)) { // franz-go's last answer about topics may be a moment old
		topics, err = b.Topics(t.Context())
	}
	if err != nil || len(topics) != len(topology.Topics(shape))+1 {
		t.Errorf("%d topics, %v", len(topics), err)
	}
	kept, err = b.PersonalData(t.Context())
	if err != nil || kept[0].Topic != "subscriber.kela.fi" || kept[0].Keep != admin.Forever {
		t.Errorf("%v, %v", kept, err)
	}
	if _, ends := admin.ExpiredBy(at, kept); ends {
		t.Error("what is kept for ever expires")
	}
	if diffs, err := b.Diff(t.Context(), shape); err != nil || len(diffs) == 0 || diffs[0].Topic != "subscriber.kela.fi" {
		t.Errorf("%v, %v", diffs, err)
	}
	shape.Partitions = 8
	if diffs, err := b.Diff(t.Context(), shape); err != nil || len(diffs) < len(topology.Topics(shape)) {
		t.Errorf("%d differences, %v", len(diffs), err)
	}
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	if err := admin.CheckOwn(); err != nil {
		t.Error(err)
	}
	own, err := b.OwnSchemas(t.Context())
	if err != nil || len(own) != reflect.TypeFor[codecs.Records]().NumField() {
		t.Fatalf("%v, %v", own, err)
	}
	for _, s := range own {
		if len(s.IDs) != s.Published || s.Published == 0 {
			t.Errorf("%+v", s)
		}
	}
	const v1 = `{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}`
	const v2 = `{"type":"record","name":"R","fields":[{"name":"a","type":"string"},{"name":"b","type":["null","string"],"default":null}]}`
	const broken = `{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}`
	first, err := b.RegisterSource(t.Context(), "r", v1)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.RegisterSource(t.Context(), "r", v1); err != nil || again != first {
		t.Errorf("registered again: %d, %v, want %d", again, err, first)
	}
	for schema, right := range map[string]bool{v1: true, v2: true, broken: false, "{": false} {
		if err := b.CheckSource(t.Context(), "r", schema); (err == nil) != right {
			t.Errorf("check %s: %v", schema, err)
		}
		if _, err := b.RegisterSource(t.Context(), "r", schema); (err == nil) != right {
			t.Errorf("register %s: %v", schema, err)
		}
	}
}
