package kafka

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// TestQueue: over random takes, commits, aborts and answers of the broker, every record is handed on in order, and after an
// abort again from the committed offset on; each names the offset that the one before it left. What is noted beside a commit reaches over
// every marker that was polled, and never over a record that is not handed on.
func TestQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := &queue{committed: 5, follows: 5}
		next := int64(5)
		offsets := []int64{} // polled and not committed
		taken := 0
		follows := int64(5)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 6: // markers alone
				next += int64(rapid.IntRange(1, 2).Draw(t, "markers"))
				q.seen = next
			case 0, 1:
				next += int64(rapid.IntRange(0, 2).Draw(t, "gap")) // markers
				q.records = append(q.records, &kgo.Record{Offset: next})
				offsets = append(offsets, next)
				next++
				q.seen = next
			case 2, 3:
				r := q.next()
				if (r == nil) != (taken == len(offsets)) {
					t.Fatalf("next is %v with %d of %d taken", r, taken, len(offsets))
				}
				if r == nil {
					continue
				}
				if got := q.take(); r.Offset != offsets[taken] || got != follows {
					t.Fatalf("took %d after %d, want %d after %d", r.Offset, got, offsets[taken], follows)
				}
				follows = offsets[taken] + 1
				taken++
			case 4:
				if rapid.Bool().Draw(t, "commit") {
					q.commit()
					offsets, taken = offsets[taken:], 0
					if q.committed != follows {
						t.Fatalf("committed %d, want %d", q.committed, follows)
					}
				} else {
					q.rewind()
					taken, follows = 0, q.committed
				}
			case 5: // the broker says how much of what was taken is committed after all
				at := q.committed
				if taken > 0 && rapid.Bool().Draw(t, "applied") {
					at = follows
				}
				q.replace(at)
				for len(offsets) > 0 && offsets[0] < at {
					offsets = offsets[1:]
				}
				taken, follows = 0, at
			}
			want := follows
			if taken == len(offsets) {
				want = max(follows, q.seen, q.noted)
			}
			if got := q.upTo(); got != want {
				t.Fatalf("read up to %d, want %d: %d of %v are taken, %d follows", got, want, taken, offsets, follows)
			}
		}
	})
}

func TestReadUpTo(t *testing.T) {
	for _, test := range []struct {
		at       int64
		metadata string
		want     int64
	}{
		{5, note(5, 9), 9}, {5, note(5, 5), 5}, {0, note(0, 1), 1}, {1 << 40, note(1<<40, 1<<41), 1 << 41},
		{5, "", 5}, {6, note(5, 9), 6}, {4, note(5, 9), 4}, {5, note(5, 4), 5}, {5, `{"sent":5}`, 5}, {5, "5 read up to", 5}, {5, "5 read up to nine", 5}, {-1, "", -1},
	} {
		if got := ReadUpTo(test.at, test.metadata); got != test.want {
			t.Errorf("%d with %q: %d, want %d", test.at, test.metadata, got, test.want)
		}
	}
}

func TestQueueStopped(t *testing.T) {
	q := &queue{records: []*kgo.Record{{Offset: 1}}, stopped: errStopped}
	if q.next() != nil {
		t.Fatal("a stopped partition hands on")
	}
}

func TestLag(t *testing.T) {
	now := time.Now()
	q := &queue{committed: 10, end: 25, seen: 20}
	if n, age := q.lag(now); n != 5 || age != 0 {
		t.Fatalf("an empty queue that was polled to 20 of 25: %d, %s", n, age)
	}
	q.records = []*kgo.Record{{Offset: 10, Timestamp: now.Add(-time.Minute)}}
	if n, age := q.lag(now); n != 15 || age != time.Minute {
		t.Fatalf("a record waits: %d, %s", n, age)
	}
	q.records, q.seen = nil, 25 // only a marker was left
	if n, _ := q.lag(now); n != 0 {
		t.Fatalf("a marker is lag: %d", n)
	}
}
