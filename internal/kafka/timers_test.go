package kafka_test

import (
	"encoding/binary"
	"errors"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/internal/kafka"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// timed is a group whose inputs set a timer (a row that says "due") and whose timers fire once: the row becomes "fired".
type timed struct {
	*world
	mu    sync.Mutex
	due   map[string]bool // what committed rows say, as a group would keep it from Changed
	fails bool            // the next timer fails
	asked int
}

func (w *timed) changed(table, key string, row []byte) {
	if table != w.table {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.due, key)
	if string(row) == "due" {
		w.due[key] = true
	}
}

func (w *timed) next(p int32, most int) (keys []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	for k := range w.due {
		if kafka.Partition([]byte(k), parts) == p {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	return keys[:min(most, len(keys))]
}

func (w *timed) run(instance string) *node {
	graph := goka.DefineGroup(goka.Group(w.group),
		goka.Input(goka.Stream(w.in), new(codec.Bytes), func(ctx goka.Context, _ any) { ctx.SetValue([]byte("due")) }),
		kafka.Timer(func(ctx goka.Context) {
			w.mu.Lock()
			fails := w.fails
			w.fails = false
			w.mu.Unlock()
			row, _ := ctx.Value().([]byte)
			if string(row) != "due" {
				return // it fired in a transaction whose commit was answered late
			}
			ctx.SetValue([]byte("fired"))
			ctx.Emit(goka.Stream(w.out), ctx.Key(), []byte("timer"))
			if fails {
				ctx.Fail(errors.New("the timer fails after its output"))
			}
		}),
		goka.Output(goka.Stream(w.out), new(codec.Bytes)), goka.Persist(new(codec.Bytes)))
	return w.startGraph(instance, graph, func(c *kafka.GroupConfig) {
		c.Due, c.Changed, c.Tick, c.MaxRecords = w.next, w.changed, 20*time.Millisecond, 10
	})
}

// fired counts the timers that fired for each key, in committed outputs.
func (w *timed) fired(want int) {
	w.t.Helper()
	seen := map[string]int{}
	for _, r := range w.outputs(want, 30*time.Second) {
		seen[string(r.Key)]++
	}
	for k, n := range seen {
		if n != 1 {
			w.t.Errorf("the timer of %s fired %d times", k, n)
		}
	}
	if len(seen) != want {
		w.t.Fatalf("%d timers fired, want %d", len(seen), want)
	}
}

func TestTimersFireOnce(t *testing.T) {
	w := &timed{world: newWorld(t), due: map[string]bool{}}
	n := w.run("a")
	w.publish(w.in, 50, 0)
	w.fired(50)
	n.stop(t)
	w.mu.Lock()
	asked := w.asked
	w.mu.Unlock()
	w.run("a") // rows are read again: none is due
	until(t, 20*time.Second, "the timers are looked for again", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.asked > asked+2*parts && len(w.due) == 0
	})
	w.fired(50)
}

func TestTimersAbortAsAWhole(t *testing.T) {
	w := &timed{world: newWorld(t), due: map[string]bool{}}
	c := w.fake()
	w.run("a")
	for _, key := range []kmsg.Key{kmsg.EndTxn, kmsg.TxnOffsetCommit} {
		c.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: kerr.UnknownServerError, Count: 3, TopLevel: key == kmsg.EndTxn})
	}
	w.publish(w.in, 50, 0)
	w.fired(50)
}

// TestTimerFailureEndsTheProcessor: goka takes a timer that failed for done; its outputs must not be committed.
func TestTimerFailureEndsTheProcessor(t *testing.T) {
	w := &timed{world: newWorld(t), due: map[string]bool{}, fails: true}
	n := w.run("a")
	w.publish(w.in, 50, 0)
	select {
	case err := <-n.done:
		if err == nil || !strings.Contains(err.Error(), "the timer fails") {
			t.Fatalf("ended with %v", err)
		}
		n.done <- nil
	case <-time.After(20 * time.Second):
		t.Fatal("the processor goes on")
	}
	n.kill(t)
	w.run("a")
	w.fired(50)
}

func TestFollowsHeader(t *testing.T) {
	w := newWorld(t)
	type seen struct{ offset, follows int64 }
	var mu sync.Mutex
	got := map[int32][]seen{}
	graph := goka.DefineGroup(goka.Group(w.group),
		goka.Input(goka.Stream(w.in), new(codec.Bytes), func(ctx goka.Context, _ any) {
			mu.Lock()
			defer mu.Unlock()
			got[ctx.Partition()] = append(got[ctx.Partition()], seen{ctx.Offset(), int64(binary.BigEndian.Uint64(ctx.Headers()[kafka.FollowsHeader]))})
			ctx.Emit(goka.Stream(w.out), ctx.Key(), []byte("x"), goka.WithCtxEmitHeaders(goka.Headers{kafka.TopicHeader: []byte(w.rules)}))
		}), goka.Output(goka.Stream(w.out), new(codec.Bytes)))
	w.startGraph("a", graph)
	w.publish(w.in, 100, 0)
	w.publish(w.in, 100, 100)
	until(t, 20*time.Second, "all were handed on", func() bool {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for _, s := range got {
			n += len(s)
		}
		return n >= 200
	})
	mu.Lock()
	defer mu.Unlock()
	for p, list := range got {
		next := int64(0)
		for _, s := range list {
			if s.follows != next {
				t.Fatalf("partition %d: offset %d follows %d, want %d", p, s.offset, s.follows, next)
			}
			next = s.offset + 1
		}
	}
	until(t, 10*time.Second, "the header TopicHeader named the topic", func() bool {
		ends, err := w.admin.ListEndOffsets(t.Context(), w.rules, w.out)
		n, wrong := int64(0), int64(0)
		ends.Each(func(o kadm.ListedOffset) {
			if o.Topic == w.rules {
				n += o.Offset
			} else {
				wrong += o.Offset
			}
		})
		if wrong > 0 {
			t.Fatalf("%d records in the placeholder's topic", wrong)
		}
		return err == nil && n >= 200
	})
}
