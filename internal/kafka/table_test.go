package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// openOwn opens a group's own table, as goka does once it has been read.
func openOwn(t interface{ Fatal(...any) }, tb *table) *opened {
	o := &opened{table: tb}
	if err := errors.Join(o.Open(), o.MarkRecovered()); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestOverlay compares random transactions with two maps: what is committed, and what the open transaction sees.
func TestOverlay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		told := map[string]string{}
		tb := newTable("t", 0, true, func(key string, row []byte) {
			if row == nil {
				delete(told, key)
				return
			}
			told[key] = string(row)
		})
		o := openOwn(t, tb)
		committed, open := map[string]string{}, map[string]string{}
		offset := int64(-1)
		copyOf := func(m map[string]string) map[string]string {
			c := map[string]string{}
			for k, v := range m {
				c[k] = v
			}
			return c
		}
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			key := fmt.Sprint(rapid.IntRange(0, 8).Draw(t, "key"))
			switch rapid.IntRange(0, 7).Draw(t, "what") {
			case 0, 1, 2:
				v := fmt.Sprint(i)
				if err := o.Set(key, []byte(v)); err != nil {
					t.Fatal(err)
				}
				open[key] = v
			case 3:
				if err := o.Delete(key); err != nil {
					t.Fatal(err)
				}
				delete(open, key)
			case 4:
				offset += 3
				tb.apply(offset)
				committed = copyOf(open)
			case 5:
				tb.drop()
				open = copyOf(committed)
			case 6: // a rebalance
				if err := o.Close(); err != nil {
					t.Fatal(err)
				}
				if err := o.Set(key, []byte("x")); !errors.Is(err, errTableClosed) {
					t.Fatalf("a closed table took a write: %v", err)
				}
				if _, err := o.Get(key); !errors.Is(err, errTableClosed) {
					t.Fatalf("a closed table answered: %v", err)
				}
				o = openOwn(t, tb)
				open = copyOf(committed)
			default:
				v, err := o.Get(key)
				want, had := open[key]
				if has, _ := o.Has(key); err != nil || has != had || string(v) != want {
					t.Fatalf("key %s: %q, %v; want %q", key, v, err, want)
				}
				if v := tb.committed(key); string(v) != committed[key] {
					t.Fatalf("key %s: committed %q, want %q", key, v, committed[key])
				}
			}
		}
		if got, _ := o.GetOffset(-2); got != offset && !(offset < 0 && got == -2) {
			t.Fatalf("offset %d, want %d", got, offset)
		}
		var keys []string
		it, _ := o.Iterator()
		for it.Next() {
			v, err := it.Value()
			if err != nil || string(v) != open[string(it.Key())] {
				t.Fatalf("iterated %s: %q, %v", it.Key(), v, err)
			}
			keys = append(keys, string(it.Key()))
		}
		if !slices.IsSorted(keys) || len(keys) != len(open) {
			t.Fatalf("iterated %v, want the keys of %v", keys, open)
		}
		if len(told) != len(committed) {
			t.Fatalf("told of %v, committed are %v", told, committed)
		}
		for k, v := range committed {
			if told[k] != v {
				t.Fatalf("told %q of key %s, want %q", told[k], k, v)
			}
		}
	})
}

// TestLateMarkRecovered is goka's own race: the goroutine of a cancelled session marks the table of the next one.
func TestLateMarkRecovered(t *testing.T) {
	tb := newTable("t", 0, true, nil)
	first, second := &opened{table: tb}, &opened{table: tb}
	if err := errors.Join(first.Open(), first.Close(), second.Open(), first.MarkRecovered()); err != nil {
		t.Fatal(err)
	}
	if err := second.Set("k", []byte("from the changelog")); err != nil {
		t.Fatal(err)
	}
	tb.drop()
	if v := tb.committed("k"); v == nil {
		t.Fatal("a row read from the changelog was taken for an uncommitted write")
	}
}

func TestTableForgets(t *testing.T) {
	tb := newTable("t", 0, false, nil)
	o := &opened{table: tb}
	if err := errors.Join(o.Open(), o.Set("k", []byte("v")), o.SetOffset(7), o.Close()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tb.forget(time.Hour, now.Add(59*time.Minute))
	if tb.applied() != 7 || tb.committed("k") == nil {
		t.Fatal("forgotten too early")
	}
	tb.forget(time.Hour, now.Add(2*time.Hour))
	if tb.applied() != -1 || tb.committed("k") != nil {
		t.Fatal("rows that may have been deleted meanwhile are kept")
	}
}

func TestControlKeyIsNoRow(t *testing.T) {
	told := 0
	tb := newTable("t", 0, false, func(string, []byte) { told++ })
	o := &opened{table: tb}
	if err := errors.Join(o.Open(), o.Delete(controlKey), o.Set(controlKey, []byte("x")), o.SetOffset(3)); err != nil {
		t.Fatal(err)
	}
	if has, _ := o.Has(controlKey); has || told != 0 || tb.applied() != 3 {
		t.Fatalf("a marker became a row (%v) or was told (%d)", has, told)
	}
	if err := o.Set("k", nil); err == nil {
		t.Fatal("a nil row was taken")
	}
}

// TestRowsBehindAMessage: a table applies the rows behind the reader's message, and what it does not find it does not pass
// over; a key of a callback's that looks like a message's is a key.
func TestRowsBehindAMessage(t *testing.T) {
	ts := newTables("own", nil, func(error) {})
	ts.reader = &reader{feeds: map[string]map[int32]*feed{}}
	for _, topic := range []string{"own", "joined"} {
		f := &feed{topic: topic, wake: make(chan struct{}, 1)}
		f.push([]*kgo.Record{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("b"), Value: []byte("2"), Offset: 1}, {Key: []byte("a"), Offset: 2}}, 5, &recordSlabs{spare: &sync.Pool{}})
		behind := f.queue[0]
		f.handed, f.queue = f.queue, nil
		ts.reader.feeds[topic] = map[int32]*feed{0: f}
		st, err := ts.builder()(topic, 0)
		if err != nil {
			t.Fatal(err)
		}
		token := behind.token
		if err := errors.Join(st.Open(), st.Delete(token), st.SetOffset(behind.last)); err != nil {
			t.Fatal(err)
		}
		tb := ts.find(topic, 0)
		if string(tb.committed("b")) != "2" || tb.committed("a") != nil || tb.applied() != 4 || tb.loaded != 3 {
			t.Fatalf("%s: %q and %q up to %d, %d loaded", topic, tb.committed("a"), tb.committed("b"), tb.applied(), tb.loaded)
		}
		if err := st.Delete(token); err == nil {
			t.Fatalf("%s: rows that are gone were passed over", topic)
		}
		if err := st.MarkRecovered(); err != nil {
			t.Fatal(err)
		}
		if err := st.Delete(token); (err == nil) != (topic == "own") {
			t.Fatalf("%s, read: %v", topic, err)
		}
	}
}

// TestTablesCompareTheLog: a log that lost what was read of it must not be served on.
func TestTablesCompareTheLog(t *testing.T) {
	var broken []error
	ts := newTables("", nil, func(err error) { broken = append(broken, err) })
	ts.size("t", 2)
	st, err := ts.builder()("t", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(st.Open(), ts.starts("t", 1, 5), ts.ends("t", 1, 9), st.SetOffset(8)); err != nil {
		t.Fatal(err)
	}
	for _, ok := range []error{ts.starts("t", 1, 0), ts.starts("t", 1, 9), ts.ends("t", 1, 9), ts.starts("t", 0, 99), ts.ends("other", 0, 0)} {
		if ok != nil {
			t.Fatal(ok)
		}
	}
	if ts.starts("t", 1, 10) == nil || ts.ends("t", 1, 8) == nil || len(broken) != 2 {
		t.Fatalf("a gap or a truncated log was passed over: %v", broken)
	}
	if _, whole := ts.whole("t"); whole {
		t.Fatal("one of two partitions is the whole table")
	}
	if row := ts.row("t", "k"); row != nil {
		t.Fatal("a row out of nothing")
	}
	if _, err := ts.builder()("t", 0); err != nil {
		t.Fatal(err)
	}
	if all, whole := ts.whole("t"); !whole || len(all) != 2 {
		t.Fatalf("%d tables, whole %v", len(all), whole)
	}
}

func TestRecoveryProgress(t *testing.T) {
	ts := newTables("", nil, func(error) {})
	st, _ := ts.builder()("t", 0)
	if err := errors.Join(st.Open(), ts.ends("t", 0, 1000), st.SetOffset(249)); err != nil {
		t.Fatal(err)
	}
	r := sum(ts.recoveries(), time.Now().Add(10*time.Second))
	if r.Tables != 1 || r.Read != 250 || r.Remaining != 750 || r.PerSecond < 20 || r.PerSecond > 25.1 || r.Left < 29*time.Second {
		t.Fatalf("%+v", r)
	}
	if err := st.SetOffset(999); err != nil {
		t.Fatal(err)
	}
	if r := sum(ts.recoveries(), time.Now()); r != (Recovery{}) {
		t.Fatalf("%+v after the end", r)
	}
}

func TestTablesRows(t *testing.T) {
	ts := newTables("", nil, func(error) {})
	ts.size("t", 4)
	for p := range int32(4) {
		st, _ := ts.builder()("t", p)
		if err := st.Open(); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if k := fmt.Sprint("k", i); Partition([]byte(k), 4) == p {
				if err := errors.Join(st.Set(k, []byte(strings.ToUpper(k))), st.SetOffset(int64(i))); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	n := 0
	ts.each("t", func(key string, row []byte) {
		n++
		if string(ts.row("t", key)) != string(row) || string(row) != strings.ToUpper(key) {
			t.Errorf("key %s: %q", key, row)
		}
	})
	if n != 100 || ts.loaded() != 100 || ts.row("t", "none") != nil {
		t.Fatalf("%d rows, %d loaded", n, ts.loaded())
	}
}
