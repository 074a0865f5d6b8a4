package feed

import (
	"bytes"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// TestTailIsTheLog: what a tail gives from an offset is what the log has from there, or it says that it does not reach back; it
// holds no more than its bound.
func TestTailIsTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const partitions = 3
		tail := &Tail{parts: make([]span, partitions), changed: make(chan struct{})}
		var log [partitions][]*kgo.Record
		var end [partitions]int64
		for p := range partitions {
			end[p] = int64(rapid.IntRange(0, 5).Draw(t, "begin"))
			tail.parts[p] = span{from: end[p], to: end[p]}
		}
		begin := end
		for range rapid.IntRange(1, 40).Draw(t, "fetches") {
			p := int32(rapid.IntRange(0, partitions-1).Draw(t, "partition"))
			var records []*kgo.Record
			for range rapid.IntRange(1, 4).Draw(t, "records") {
				end[p] += int64(rapid.IntRange(0, 2).Draw(t, "gap")) // markers, aborted data
				r := &kgo.Record{Partition: p, Offset: end[p], Value: bytes.Repeat([]byte{1}, rapid.SampledFrom([]int{10, 10_000, 60_000}).Draw(t, "size"))}
				records, end[p] = append(records, r), end[p]+1
			}
			log[p] = append(log[p], records...)
			tail.add(kgo.Fetches{{Topics: []kgo.FetchTopic{{Partitions: []kgo.FetchPartition{{Partition: p, Records: records}}}}}})
			if tail.bytes > tailBytes {
				t.Fatalf("%d bytes are held", tail.bytes)
			}
		}
		for range 10 {
			p := int32(rapid.IntRange(0, partitions-1).Draw(t, "of"))
			at := rapid.Int64Range(0, end[p]+2).Draw(t, "at")
			most := rapid.IntRange(1, 20).Draw(t, "most")
			got, next, known := tail.next(p, at, most)
			if !known {
				if at >= tail.parts[p].from {
					t.Fatal("it reaches back that far and says that it does not")
				}
				continue
			}
			if at < begin[p] {
				t.Fatal("it cannot know what was before it began")
			}
			var want []int64
			for _, r := range log[p] {
				if r.Offset >= at && len(want) < most {
					want = append(want, r.Offset)
				}
			}
			var offsets []int64
			for _, r := range got {
				offsets = append(offsets, r.Offset)
			}
			if !slices.Equal(offsets, want) {
				t.Fatalf("from %d: %v, want %v", at, offsets, want)
			}
			for _, r := range log[p] { // nothing lies between what was given and where to go on
				if r.Offset >= at && r.Offset < next && !slices.Contains(offsets, r.Offset) {
					t.Fatalf("from %d: %d is passed over", at, r.Offset)
				}
			}
		}
	})
}

// TestCursors: a cursor is read as it was made, by whom it was made for; nothing else is one.
func TestCursors(t *testing.T) {
	ours, err := newCursors(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := newCursors(bytes.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newCursors(make([]byte, 31)); err == nil {
		t.Error("a short secret is taken")
	}
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfN(rapid.Int64Range(0, 1<<62), 1, 8).Draw(t, "numbers")
		kind := rapid.SampledFrom([]byte{cursorPosition, cursorRecord}).Draw(t, "kind")
		text := ours.seal("sub-a", kind, numbers...)
		if got, err := ours.open("sub-a", kind, text, len(numbers)); err != nil || !slices.Equal(got, numbers) {
			t.Fatalf("%v, %v", got, err)
		}
		for name, open := range map[string]func() ([]int64, error){
			"another subscription": func() ([]int64, error) { return ours.open("sub-b", kind, text, len(numbers)) },
			"another kind":         func() ([]int64, error) { return ours.open("sub-a", 3-kind, text, len(numbers)) },
			"another key":          func() ([]int64, error) { return theirs.open("sub-a", kind, text, len(numbers)) },
			"fewer numbers":        func() ([]int64, error) { return ours.open("sub-a", kind, text, len(numbers)-1) },
			"more numbers":         func() ([]int64, error) { return ours.open("sub-a", kind, text, len(numbers)+1) },
			"changed": func() ([]int64, error) {
				b := []byte(text)
				i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
				b[i] = rapid.SampledFrom([]byte("ABCDEFGHwxyz0189-_=\n ")).Filter(func(c byte) bool { return c != text[i] }).Draw(t, "to")
				return ours.open("sub-a", kind, string(b), len(numbers))
			},
		} {
			if _, err := open(); err == nil {
				t.Fatalf("%s is taken", name)
			}
		}
	})
}
