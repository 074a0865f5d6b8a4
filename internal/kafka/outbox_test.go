package kafka

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// decoded reads a record batch as franz-go's consumer does.
func decoded(t interface{ Fatalf(string, ...any) }, batch []byte) []*kgo.Record {
	part := kmsg.NewFetchResponseTopicPartition()
	part.RecordBatches = batch
	part.HighWatermark, part.LastStableOffset = math.MaxInt32, math.MaxInt32
	got, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{IsolationLevel: kgo.ReadUncommitted(), Topic: "t"}, &part, kgo.DefaultDecompressor(), nil)
	if got.Err != nil {
		t.Fatalf("the batch is not read: %v", got.Err)
	}
	return got.Records
}

// TestRecordBatch: what is encoded is what franz-go reads, whatever the record's memory is used for afterwards.
func TestRecordBatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.Custom(func(t *rapid.T) []byte {
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				return nil
			case 1:
				return bytes.Repeat([]byte("ab"), rapid.IntRange(0, 5000).Draw(t, "pairs"))
			}
			return rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "bytes")
		})
		var b recordBatch
		want := []*kgo.Record{}
		now := rapid.Int64Range(0, 1<<41).Draw(t, "now")
		for range rapid.IntRange(1, 40).Draw(t, "records") {
			r := &kgo.Record{Key: some.Draw(t, "key"), Value: some.Draw(t, "value")}
			for range rapid.IntRange(0, 16).Draw(t, "headers") {
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: rapid.StringN(0, 20, 40).Draw(t, "name"), Value: some.Draw(t, "header")})
			}
			at := now + rapid.Int64Range(-100, 100_000).Draw(t, "after")
			before, o := b.size(), output(r, nil)
			kept := o.copied()
			b.append(&o, at)
			want = append(want, kept.Record())
			want[len(want)-1].Timestamp = time.UnixMilli(at)
			if grown := b.size() - before; grown > o.size() {
				t.Fatalf("a record takes %d bytes, at most %d were said", grown, o.size())
			}
			for i := range r.Value {
				r.Value[i] ^= 0xff
			}
		}
		producer, epoch, sequence := rapid.Int64Range(0, math.MaxInt64).Draw(t, "producer"), rapid.Int16Range(0, math.MaxInt16).Draw(t, "epoch"), rapid.Int32Range(0, math.MaxInt32).Draw(t, "sequence")
		sealed := b.seal([]byte("before"), producer, epoch, sequence)
		if !bytes.HasPrefix(sealed, []byte("before")) {
			t.Fatalf("what stood before was changed")
		}
		sealed = sealed[len("before"):]
		var raw kmsg.RecordBatch
		if err := raw.ReadFrom(sealed); err != nil || raw.ProducerID != producer || raw.ProducerEpoch != epoch || raw.FirstSequence != sequence || raw.Attributes&attrTransactional == 0 || int(raw.NumRecords) != len(want) {
			t.Fatalf("header %+v, %v", raw, err)
		}
		got := decoded(t, sealed)
		if len(got) != len(want) {
			t.Fatalf("%d records, want %d", len(got), len(want))
		}
		for i, r := range got {
			w := want[i]
			same := slices.EqualFunc(r.Headers, w.Headers, func(a, b kgo.RecordHeader) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) })
			if !bytes.Equal(r.Key, w.Key) || (r.Key == nil) != (w.Key == nil) || !bytes.Equal(r.Value, w.Value) || (r.Value == nil) != (w.Value == nil) || !same || !r.Timestamp.Equal(w.Timestamp) {
				t.Fatalf("record %d is %v, want %v", i, r, w)
			}
		}
	})
}

// TestOutbox: records that come before their topic's partitions are known and after that, by several goroutines, in batches that are
// full and not, are all there, on the partition of their key, each goroutine's in order.
func TestOutbox(t *testing.T) {
	l := &layout{topics: map[string]laidOut{"known": {leaders: make([]int32, 3), at: time.Now()}}}
	o := newOutbox(l)
	var shut atomic.Bool
	large := bytes.Repeat([]byte("x"), maxBatchBytes/3)
	const writers, each = 4, 40
	for round := range 2 {
		var all sync.WaitGroup
		for g := range writers {
			all.Go(func() {
				r := &kgo.Record{} // one for all: nothing of it may be kept
				for i := range each {
					r.Topic, r.Key, r.Value = []string{"known", "new"}[i%2], []byte(fmt.Sprint("key-", g)), []byte(fmt.Sprintf("%d/%d", g, i))
					if i%7 == 0 {
						r.Headers = []kgo.RecordHeader{{Key: "large", Value: large}}
					} else {
						r.Headers = nil
					}
					if out := output(r, nil); !o.add(&out, &shut) {
						t.Error("a record is refused")
					}
				}
			})
		}
		all.Wait()
		if o.empty() {
			t.Fatal("the box is taken for empty")
		}
		l.topics["new"] = laidOut{leaders: make([]int32, 5), at: time.Now()}
		o.topic("new").place(5, 0)
		last, n := map[string]int{}, 0
		for _, s := range o.sendings() {
			for _, b := range s.batches {
				if b.n > 1 && b.size() > maxBatchBytes {
					t.Fatalf("a batch of %d records takes %d bytes", b.n, b.size())
				}
				for _, r := range decoded(t, b.seal(nil, 1, 0, 0)) {
					n++
					var g, i int
					if _, err := fmt.Sscanf(string(r.Value), "%d/%d", &g, &i); err != nil || Partition(r.Key, int32(l.partitions(s.topic))) != s.partition {
						t.Fatalf("%s with key %s on partition %d of %s, %v", r.Value, r.Key, s.partition, s.topic, err)
					}
					id := fmt.Sprint(s.topic, g)
					if before, ok := last[id]; ok && before >= i {
						t.Fatalf("%d comes after %d of writer %d", i, before, g)
					}
					last[id] = i
				}
			}
		}
		if n != writers*each {
			t.Fatalf("round %d: %d records, want %d", round, n, writers*each)
		}
		o.reset()
		if len(o.sendings()) != 0 || !o.empty() {
			t.Fatal("a box that was emptied is not empty")
		}
	}
}

// TestShut: what is added is found by whoever shut the box, or refused, however late it comes.
func TestShut(t *testing.T) {
	l := &layout{topics: map[string]laidOut{"known": {leaders: make([]int32, 3), at: time.Now()}}}
	for range 200 {
		o := newOutbox(l)
		var shut atomic.Bool
		var added atomic.Int64
		var all sync.WaitGroup
		for g := range 3 {
			all.Go(func() {
				for i := 0; ; i++ {
					if !o.add(&Output{Topic: []string{"known", "new"}[i%2], Key: []byte{byte(g), byte(i)}, Value: []byte("v")}, &shut) {
						return
					}
					added.Add(1)
				}
			})
		}
		for added.Load() < 20 {
			runtime.Gosched()
		}
		shut.Store(true)
		o.topic("new").place(4, 0)
		found := int64(0)
		for _, s := range o.sendings() {
			for _, b := range s.batches {
				found += int64(b.n)
			}
		}
		all.Wait()
		if found != added.Load() {
			t.Fatalf("%d outputs were added, %d found", added.Load(), found)
		}
	}
}

func TestSequenceNumbersWrap(t *testing.T) {
	if got := next(math.MaxInt32, 1); got != 0 {
		t.Errorf("after 2^31-1 comes %d", got)
	}
	if got := next(math.MaxInt32-2, 10); got != 7 {
		t.Errorf("ten after 2^31-3 comes %d", got)
	}
}

// TestRefusals: each output that was refused is told, however the errors are joined.
func TestRefusals(t *testing.T) {
	a, b := &refusedOutput{topic: "a", err: context.Canceled}, &refusedOutput{topic: "b", err: context.Canceled}
	got := refusals(fmt.Errorf("write: %w", fmt.Errorf("%w and %w", a, fmt.Errorf("also %w", b))))
	if len(got) != 2 || got[0] != a || got[1] != b {
		t.Errorf("got %v", got)
	}
}
