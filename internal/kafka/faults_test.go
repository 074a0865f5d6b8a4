package kafka_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/internal/kafka"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// copier is a group that copies its input to its output, after f has run.
func (w *world) copier(instance string, f func(goka.Context), change ...func(*kafka.GroupConfig)) *node {
	graph := goka.DefineGroup(goka.Group(w.group),
		goka.Input(goka.Stream(w.in), new(codec.Bytes), func(ctx goka.Context, msg any) {
			f(ctx)
			ctx.Emit(goka.Stream(w.out), ctx.Key(), msg)
		}), goka.Output(goka.Stream(w.out), new(codec.Bytes)))
	return w.startGraph(instance, graph, change...)
}

// ends waits for a node to end by itself, and returns its error.
func (n *node) ends(t *testing.T, within time.Duration) error {
	t.Helper()
	select {
	case err := <-n.done:
		n.done <- nil // for the cleanup
		return err
	case <-time.After(within):
		t.Fatalf("it goes on: %+v", n.engine.Status())
		return nil
	}
}

// TestCallbackErrorEndsTheProcessor: an error must not look like a rebalance and be tried for ever (EXACTLY_ONCE point 17).
func TestCallbackErrorEndsTheProcessor(t *testing.T) {
	w := newWorld(t)
	n := w.copier("a", func(ctx goka.Context) {
		if ctx.Key() == "k7" {
			ctx.Fail(errors.New("k7 is broken"))
		}
	})
	w.publish(w.in, 50, 0)
	if err := n.ends(t, 20*time.Second); err == nil || !strings.Contains(err.Error(), "k7 is broken") {
		t.Fatalf("ended with %v", err)
	}
}

// TestOutputAfterItsInput: what is emitted when no transaction is left for it must not slip into the next one.
func TestOutputAfterItsInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var engine *kafka.Engine
	var once sync.Once
	ready := make(chan struct{})
	c := w.fake()
	graph := goka.DefineGroup(goka.Group(w.group),
		goka.Input(goka.Stream(w.in), new(codec.Bytes), func(ctx goka.Context, msg any) { ctx.Emit(goka.Stream(w.out), ctx.Key(), msg) }),
		goka.Output(goka.Stream(w.out), new(codec.Bytes)))
	c.ControlKey(int16(kmsg.TxnOffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) { // the batch is done, its transaction is not
		c.KeepControl()
		<-ready
		once.Do(func() { engine.Produce(&kgo.Record{Topic: w.out, Key: []byte("stray"), Value: []byte("stray")}) })
		return nil, nil, false
	})
	n := w.startGraph("a", graph)
	engine = n.engine
	close(ready)
	w.publish(w.in, 5, 0)
	if err := n.ends(t, 20*time.Second); err == nil || !strings.Contains(err.Error(), "after its input was finished") {
		t.Fatalf("ended with %v", err)
	}
	n.kill(t)
	w.start("b")
	for _, r := range w.outputs(5, 10*time.Second) {
		if string(r.Key) == "stray" {
			t.Fatal("the stray output is in some transaction")
		}
	}
}

// TestSlowCallback: a callback that takes longer than a transaction may is waited for, without its transaction, and the
// record comes again.
func TestSlowCallback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	slow := true
	hold := make(chan struct{})
	n := w.copier("a", func(ctx goka.Context) {
		mu.Lock()
		first := slow && ctx.Key() == "k3"
		if first {
			slow = false
		}
		mu.Unlock()
		if first {
			<-hold
		}
	}, func(c *kafka.GroupConfig) { c.TxnTimeout = time.Second })
	w.publish(w.in, 200, 0)
	until(t, 20*time.Second, "the session waits for its callback", func() bool { return n.engine.Status().State == "stopping" })
	if n.engine.Status().Ready() {
		t.Error("ready while a callback is stuck")
	}
	close(hold)
	seen := map[string]int{}
	for _, r := range w.outputs(200, 30*time.Second) {
		seen[string(r.Value)]++
	}
	if len(seen) != 200 {
		t.Fatalf("%d of 200 came out", len(seen))
	}
	for v, n := range seen {
		if n != 1 {
			t.Errorf("%s came out %d times", v, n)
		}
	}
}

// TestPartitionStopsAtAGap: offsets that are not in the log any more stop their partition, no other; readiness says so, and
// no offset is made up.
func TestPartitionStopsAtAGap(t *testing.T) {
	w := newWorld(t)
	c := w.fake()
	n := w.copier("a", func(goka.Context) {})
	w.publish(w.in, 200, 0)
	w.outputs(200, 20*time.Second)
	n.stop(t)
	w.publish(w.in, 200, 200)
	end := c.PartitionInfo(w.in, 2).HighWatermark
	if err := c.DeleteRecords(w.in, 2, end-1); err != nil {
		t.Fatal(err)
	}
	n = w.copier("a", func(goka.Context) {})
	until(t, 20*time.Second, "the partition is stopped", func() bool { return n.engine.Status().Stopped == 1 })
	if n.engine.Status().Ready() {
		t.Error("ready with a stopped partition")
	}
	before, err := w.admin.FetchOffsets(t.Context(), w.group)
	if err != nil {
		t.Fatal(err)
	}
	w.publish(w.in, 200, 400)
	other := int64(0)
	until(t, 20*time.Second, "the other partitions go on", func() bool {
		now, err := w.admin.FetchOffsets(t.Context(), w.group)
		if err != nil {
			return false
		}
		other = 0
		for p := range int32(parts) {
			at, _ := now.Lookup(w.in, p)
			if p == 2 {
				if was, _ := before.Lookup(w.in, p); at.At != was.At {
					t.Fatalf("the stopped partition went from %d to %d", was.At, at.At)
				}
				continue
			}
			other += c.PartitionInfo(w.in, p).HighWatermark - at.At
		}
		return other == 0
	})
}

// TestTableCutShort: a changelog that lost what was read of it ends the processor, which then reads it anew.
func TestTableCutShort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fake()
	w.publish(w.rules, 50, 0)
	n := w.start("a")
	w.publish(w.in, 50, 0)
	w.exactlyOnce(50, 20*time.Second)
	if _, err := w.admin.DeleteTopic(context.Background(), w.rules); err != nil {
		t.Fatal(err)
	}
	if _, err := w.admin.CreateTopic(context.Background(), parts, 1, nil, w.rules); err != nil {
		t.Fatal(err)
	}
	if err := n.ends(t, 20*time.Second); err == nil || !strings.Contains(err.Error(), "made anew") {
		t.Fatalf("ended with %v", err)
	}
}

// TestTwoInstancesWithOneName fence each other; one of them ends with an error that says so.
func TestTwoInstancesWithOneName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.copier("a", func(goka.Context) {})
	w.publish(w.in, 50, 0)
	w.outputs(50, 20*time.Second)
	b := w.copier("a", func(goka.Context) {})
	var err error
	select {
	case err = <-a.done:
		a.done <- nil
	case err = <-b.done:
		b.done <- nil
	case <-time.After(60 * time.Second):
		t.Fatal("both go on")
	}
	if err == nil || !strings.Contains(err.Error(), "same instance id") {
		t.Fatalf("ended with %v", err)
	}
}

// TestOutputTopicMadeAnew: a producer remembers topics by their ids; the group goes on when one is deleted and made again.
func TestOutputTopicMadeAnew(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	told := map[string]int{}
	w.copier("a", func(goka.Context) {}, func(c *kafka.GroupConfig) {
		c.Failed = func(topic string, _ int, _ error) { mu.Lock(); told[topic]++; mu.Unlock() }
	})
	w.publish(w.in, 50, 0)
	w.outputs(50, 20*time.Second)
	if _, err := w.admin.DeleteTopic(t.Context(), w.out); err != nil {
		t.Fatal(err)
	}
	w.publish(w.in, 50, 50)
	until(t, 60*time.Second, "the output is told to have failed", func() bool { mu.Lock(); defer mu.Unlock(); return told[w.out] > 0 })
	until(t, 20*time.Second, "the topic is made again", func() bool {
		_, err := w.admin.CreateTopic(t.Context(), parts, -1, nil, w.out)
		return err == nil
	})
	seen := map[string]int{}
	for _, r := range w.outputs(50, 60*time.Second) {
		seen[string(r.Value)]++
	}
	if len(seen) != 50 {
		t.Fatalf("%d of 50 came out", len(seen))
	}
}

// TestMetrics: lag and recovery can be seen, and go away with what they tell of.
func TestMetrics(t *testing.T) {
	w := newWorld(t)
	reg := prometheus.NewRegistry()
	metrics := kafka.NewMetrics(reg)
	w.publish(w.in, 400, 0)
	var mu sync.Mutex
	ready := false
	n := w.copier("a", func(goka.Context) {}, func(c *kafka.GroupConfig) {
		c.Metrics = metrics
		c.Ready = func(*kgo.Record) bool { mu.Lock(); defer mu.Unlock(); return ready }
	})
	series := func(name string) (n int, sum float64) {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == name {
				for _, m := range f.GetMetric() {
					n++
					sum += m.GetGauge().GetValue()
				}
			}
		}
		return n, sum
	}
	lag := func() float64 { _, records := series("civicbus_group_lag_records"); return records }
	until(t, 20*time.Second, "the lag of held records shows", func() bool { n, _ := series("civicbus_group_lag_seconds"); return n == parts && lag() == 400 })
	if k, _ := series("civicbus_group_holds_total"); k == 0 {
		t.Error("holds are not counted")
	}
	mu.Lock()
	ready = true
	mu.Unlock()
	until(t, 20*time.Second, "the lag is gone", func() bool { return lag() == 0 })
	n.stop(t)
	if k, _ := series("civicbus_group_lag_records"); k != 0 {
		t.Errorf("%d series are left behind by a member that is gone", k)
	}
}

// TestOffsetsAreAskedAgain: the group is joined anew when the coordinator does not say where a partition stands.
func TestOffsetsAreAskedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.fake()
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: kerr.UnstableOffsetCommit, Count: 5})
	w.start("a")
	w.publish(w.in, 100, 0)
	w.exactlyOnce(100, 30*time.Second)
}

// TestHeldPartitionAndLaterAborts: one partition is held while others commit and abort; nothing of it is lost or passed
// over, also over a restart (EXACTLY_ONCE point 29).
func TestHeldPartitionAndLaterAborts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.fake()
	var mu sync.Mutex
	held := true
	ready := func(cfg *kafka.GroupConfig) {
		cfg.Ready = func(r *kgo.Record) bool { mu.Lock(); defer mu.Unlock(); return !held || r.Partition != 0 }
	}
	n := w.start("a", ready)
	w.publish(w.in, 100, 0)
	mine := 0 // of partition 0
	for i := range 300 {
		if kafka.Partition([]byte("k"+strconv.Itoa(i%50)), parts) == 0 {
			mine++
		}
	}
	w.outputs(100-mine/3, 20*time.Second)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.UnknownServerError, Count: 2})
	w.publish(w.in, 100, 100)
	if got := len(w.outputs(200-2*mine/3, 20*time.Second)); got != 200-2*mine/3 {
		t.Fatalf("%d outputs while a partition is held, want %d", got, 200-2*mine/3)
	}
	n.stop(t)
	n = w.start("a", ready)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, TopLevel: true, Err: kerr.UnknownServerError, Count: 1})
	w.publish(w.in, 100, 200)
	w.outputs(300-mine, 20*time.Second)
	mu.Lock()
	held = false
	mu.Unlock()
	w.exactlyOnce(300, 30*time.Second)
	n.stop(t)
}
