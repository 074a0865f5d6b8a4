package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func newFake(t *testing.T, brokers int, topics ...string) (*kfake.Cluster, Connection) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(brokers), kfake.SeedTopics(2, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, Connection{Brokers: c.ListenAddrs()}
}

func newTestReader(t *testing.T, c Connection, hold func(string, int32) bool) (*reader, chan error) {
	t.Helper()
	broken := make(chan error, 10)
	r, err := newReader(c, 400*time.Millisecond, quiet, hold, func(err error) { broken <- err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r, broken
}

// writer is a transactional producer of one partition.
type writer struct {
	t  *testing.T
	cl *kgo.Client
}

func newWriter(t *testing.T, c Connection, topic string) writer {
	t.Helper()
	cl, err := c.Client(kgo.TransactionalID("w"), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return writer{t, cl}
}

func (w writer) write(end kgo.TransactionEndTry, keys ...string) {
	w.t.Helper()
	if err := w.cl.BeginTransaction(); err != nil {
		w.t.Fatal(err)
	}
	for _, k := range keys {
		if err := w.cl.ProduceSync(context.Background(), &kgo.Record{Key: []byte(k), Value: []byte("v")}).FirstErr(); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.cl.EndTransaction(context.Background(), end); err != nil {
		w.t.Fatal(err)
	}
}

// take reads from a feed until the offset before end has come, and returns the keys of the rows.
func take(t *testing.T, pc sarama.PartitionConsumer, end int64) (keys []string) {
	t.Helper()
	late := time.After(10 * time.Second)
	last := int64(-1)
	for {
		select {
		case m := <-pc.Messages():
			if m.Offset <= last {
				t.Fatalf("offset %d after %d", m.Offset, last)
			}
			last = m.Offset
			f := pc.(*feed)
			l, ok := f.r.rows(f.topic, f.partition, string(m.Key))
			if _, again := f.r.rows(f.topic, f.partition, string(m.Key)); !ok || again || m.Value != nil {
				t.Fatalf("message %q: there %v, twice %v", m.Key, ok, again)
			}
			for _, r := range l.records {
				if !r.Attrs.IsControl() {
					keys = append(keys, string(r.Key))
				}
			}
			if m.Offset >= end-1 {
				return keys
			}
		case err := <-pc.Errors():
			t.Fatal(err)
		case <-late:
			t.Fatalf("stuck after offset %d, the log ends at %d", last, end)
		}
	}
}

func hwm(c *kfake.Cluster, topic string) int64 { return c.PartitionInfo(topic, 0).HighWatermark }

func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(late) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// TestReaderReachesEveryEnd: whatever stands at the end of a log (a marker, aborted records, nothing at all after a trimmed
// head), the offset before the end comes, and only committed rows do.
func TestReaderReachesEveryEnd(t *testing.T) {
	c, conn := newFake(t, 1, "t")
	r, _ := newTestReader(t, conn, nil)
	w := newWriter(t, conn, "t")
	w.write(kgo.TryCommit, "a", "b")
	pc, err := r.ConsumePartition("t", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ConsumePartition("t", 0, 0); err == nil {
		t.Fatal("one partition was read twice")
	}
	if got := take(t, pc, hwm(c, "t")); fmt.Sprint(got) != "[a b]" {
		t.Fatalf("a committed transaction: %v", got)
	}
	w.write(kgo.TryAbort, "x", "y")
	if got := take(t, pc, hwm(c, "t")); len(got) != 0 {
		t.Fatalf("an aborted transaction: %v", got)
	}
	w.write(kgo.TryAbort, "x")
	w.write(kgo.TryCommit, "c")
	if got := take(t, pc, hwm(c, "t")); fmt.Sprint(got) != "[c]" {
		t.Fatalf("an aborted and a committed one: %v", got)
	}
	if err := pc.Close(); err != nil {
		t.Fatal(err)
	}
	for range pc.Messages() {
	}
	again, err := r.ConsumePartition("t", 0, hwm(c, "t")-1)
	if err != nil {
		t.Fatal(err)
	}
	defer again.AsyncClose()
	take(t, again, hwm(c, "t"))
	if _, err := r.ConsumePartition("t", 1, sarama.OffsetOldest); err == nil {
		t.Fatal("an offset without a number was taken")
	}
}

// TestReaderConfirms: nothing is confirmed before it was read, everything soon after, and nothing newer while the partition
// is held.
func TestReaderConfirms(t *testing.T) {
	c, conn := newFake(t, 1, "t")
	var held atomic.Bool
	r, _ := newTestReader(t, conn, func(string, int32) bool { return held.Load() })
	w := newWriter(t, conn, "t")
	w.write(kgo.TryCommit, "a")
	pc, err := r.ConsumePartition("t", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.AsyncClose()
	take(t, pc, hwm(c, "t"))
	end := hwm(c, "t")
	soon(t, "the end is confirmed", func() bool { return !r.confirmed("t", 0, end).IsZero() })
	if at := r.confirmed("t", 0, end-1); !at.IsZero() {
		t.Fatalf("a table one record behind is confirmed at %s", at)
	}
	if at := r.confirmed("t", 1, end); !at.IsZero() {
		t.Fatal("a partition that nobody reads is confirmed")
	}
	before := r.confirmed("t", 0, end)
	soon(t, "it is confirmed again and again, with nothing new", func() bool { return r.confirmed("t", 0, end).After(before) })
	held.Store(true)
	var at time.Time
	soon(t, "confirmations stop", func() bool {
		was := at
		at = r.confirmed("t", 0, end)
		return was.Equal(at) && time.Since(at) > 300*time.Millisecond
	})
	w.write(kgo.TryCommit, "b")
	held.Store(false)
	take(t, pc, hwm(c, "t"))
	soon(t, "the new end is confirmed", func() bool { return r.confirmed("t", 0, hwm(c, "t")).After(at) })
}

// TestReaderFollowsLeaders moves the leader between three brokers while it is written.
func TestReaderFollowsLeaders(t *testing.T) {
	t.Parallel()
	c, conn := newFake(t, 3, "t")
	r, _ := newTestReader(t, conn, nil)
	w := newWriter(t, conn, "t")
	pc, err := r.ConsumePartition("t", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.AsyncClose()
	for i := range 9 {
		if err := c.MoveTopicPartition("t", 0, int32(i%3)); err != nil {
			t.Fatal(err)
		}
		k := fmt.Sprint("k", i)
		w.write(kgo.TryCommit, k)
		if got := take(t, pc, hwm(c, "t")); len(got) != 1 || got[0] != k {
			t.Fatalf("with leader %d: %v, want %s", i%3, got, k)
		}
	}
	end := hwm(c, "t")
	soon(t, "the end is confirmed", func() bool { return time.Since(r.confirmed("t", 0, end)) < 300*time.Millisecond })
}

// TestReaderTellsWhatItCannotRead: an offset that is not in the log, and a topic that was deleted and made anew, end the
// reader's owner; until then nothing is confirmed.
func TestReaderTellsWhatItCannotRead(t *testing.T) {
	c, conn := newFake(t, 1, "t", "u")
	r, broken := newTestReader(t, conn, nil)
	pc, err := r.ConsumePartition("t", 0, 50)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.AsyncClose()
	select {
	case err := <-pc.Errors():
		t.Log(err)
	case <-time.After(10 * time.Second):
		t.Fatal("an offset beyond the end is waited for")
	}
	if err := <-broken; err == nil {
		t.Fatal("nobody was told")
	}
	w := newWriter(t, conn, "u")
	w.write(kgo.TryCommit, "a")
	pu, err := r.ConsumePartition("u", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pu.AsyncClose()
	take(t, pu, hwm(c, "u"))
	soon(t, "it is confirmed", func() bool { return !r.confirmed("u", 0, hwm(c, "u")).IsZero() })
	admin := kadm.NewClient(w.cl)
	if _, err := admin.DeleteTopic(context.Background(), "u"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(context.Background(), 2, 1, nil, "u"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-broken:
		t.Log(err)
	case <-time.After(15 * time.Second):
		t.Fatal("a topic that was made anew is read on")
	}
	at := r.confirmed("u", 0, 1000)
	if !r.confirmed("u", 0, 1000).Equal(at) {
		t.Fatal("it is confirmed on")
	}
}

func TestFeedClosesOnce(t *testing.T) {
	_, conn := newFake(t, 1, "t")
	r, _ := newTestReader(t, conn, nil)
	pc, err := r.ConsumePartition("t", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	pc.AsyncClose()
	if err := errors.Join(pc.Close(), pc.Close()); err != nil {
		t.Fatal(err)
	}
	if _, open := <-pc.Messages(); open {
		t.Fatal("messages after the end")
	}
	if _, open := <-pc.Errors(); open {
		t.Fatal("errors after the end")
	}
}

// TestLeaseBoundary: a confirmation of exactly the lease's age is too old, and the oldest of all tables counts.
func TestLeaseBoundary(t *testing.T) {
	r := &reader{feeds: map[string]map[int32]*feed{}}
	ts := newTables("", nil, func(error) {})
	l := lease{age: time.Hour, reader: r, tables: ts, views: []string{"v"}, joins: []string{"j"}}
	confirm := func(topic string, p int32, ago time.Duration) {
		if r.feeds[topic] == nil {
			r.feeds[topic] = map[int32]*feed{}
		}
		f := &feed{}
		f.answered(time.Now().Add(-ago), 1)
		r.feeds[topic][p] = f
		st, err := ts.builder()(topic, p)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(st.Open(), st.SetOffset(0)); err != nil {
			t.Fatal(err)
		}
	}
	ts.size("v", 2)
	ts.size("j", 2)
	if _, ok := l.fresh(0); ok {
		t.Fatal("fresh with no tables at all")
	}
	confirm("v", 0, 0)
	confirm("j", 0, 0)
	if _, ok := l.fresh(0); ok {
		t.Fatal("fresh with one of two partitions of a lookup")
	}
	confirm("v", 1, 59*time.Minute)
	at, ok := l.fresh(0)
	if !ok || time.Since(at) < 59*time.Minute {
		t.Fatalf("fresh %v, confirmed %s ago", ok, time.Since(at))
	}
	if _, ok := l.fresh(1); ok {
		t.Fatal("fresh without the partition's own part of the joined table")
	}
	confirm("v", 1, time.Hour)
	if _, ok := l.fresh(0); ok {
		t.Fatal("fresh at the lease's age")
	}
	confirm("v", 1, 0)
	confirm("j", 0, 2*time.Hour)
	if _, ok := l.fresh(0); ok {
		t.Fatal("fresh on an old join")
	}
	if at, ok := (&lease{age: time.Second, reader: r, tables: ts}).fresh(0); !ok || time.Since(at) > time.Second {
		t.Fatal("a group without tables must not wait")
	}
}

func TestFeedRemembersOlderAnswers(t *testing.T) {
	f := &feed{}
	start := time.Now()
	for i := range 20 {
		f.answered(start.Add(time.Duration(i)*time.Millisecond), int64(i))
	}
	for next, want := range map[int64]int{100: 19, 19: 19, 15: 15, 12: 12} {
		if got := f.confirmed(next); !got.Equal(start.Add(time.Duration(want) * time.Millisecond)) {
			t.Errorf("applied to %d: confirmed %s after the start, want %d ms", next, got.Sub(start), want)
		}
	}
	if !f.confirmed(11).IsZero() {
		t.Error("an answer that is forgotten confirms")
	}
}
