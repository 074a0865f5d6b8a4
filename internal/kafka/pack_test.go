package kafka_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/internal/kafka"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/twmb/franz-go/pkg/kgo"
)

func upper(dst, row []byte) []byte { return append(dst, strings.ToUpper(string(row))...) }

// TestJoinedRowsArePacked: goka's Join answers what was made of the row, Changed is told the row, and the group's own
// table is whole, whatever Pack says.
func TestJoinedRowsArePacked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	told := map[string]string{}
	graph := goka.DefineGroup(goka.Group(w.group),
		goka.Input(goka.Stream(w.in), new(codec.Bytes), func(ctx goka.Context, msg any) {
			joined, isRow := ctx.Join(goka.Table(w.rules)).([]byte)
			own, _ := ctx.Value().([]byte)
			ctx.Emit(goka.Stream(w.out), ctx.Key(), fmt.Appendf(nil, "%s:%s %v:%s", msg, joined, isRow, own))
			ctx.SetValue([]byte("own"))
		}),
		goka.Join(goka.Table(w.rules), new(codec.Bytes)), goka.Output(goka.Stream(w.out), new(codec.Bytes)), goka.Persist(new(codec.Bytes)))
	cl, err := w.conn.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	put := func(topic, value string) {
		t.Helper()
		r := &kgo.Record{Topic: topic, Key: []byte("key"), Value: []byte(value)}
		if value == "tombstone" {
			r.Value = nil
		}
		if err := cl.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	put(w.rules, "rule")
	start := func() *node {
		return w.startGraph("a", graph, func(c *kafka.GroupConfig) {
			c.Pack = map[string]kafka.Pack{w.rules: upper, w.table: upper}
			c.Changed = func(table, _ string, row []byte) {
				mu.Lock()
				defer mu.Unlock()
				if table == w.rules {
					told[w.rules] = string(row)
				} else if row != nil {
					told[w.table] = string(row)
				}
			}
		})
	}
	n := start()
	expect := func(outputs int, want string) {
		t.Helper()
		all := w.outputs(outputs, 20*time.Second)
		if got := string(all[len(all)-1].Value); got != want {
			t.Fatalf("output %q, want %q", got, want)
		}
	}
	put(w.in, "1")
	expect(1, "1:RULE true:")
	put(w.rules, "other")
	until(t, 10*time.Second, "the row is changed", func() bool { mu.Lock(); defer mu.Unlock(); return told[w.rules] == "other" })
	put(w.in, "2")
	expect(2, "2:OTHER true:own")
	n.stop(t)
	put(w.rules, "tombstone")
	n = start() // reads its own row from its changelog
	put(w.in, "3")
	expect(3, "3: false:own")
	n.stop(t)
	mu.Lock()
	defer mu.Unlock()
	if told[w.rules] != "" || told[w.table] != "own" {
		t.Fatalf("told %v", told)
	}
}

// TestViewsRowsArePacked: so are a view's, an empty row is a row, and a table without a Pack is whole.
func TestViewsRowsArePacked(t *testing.T) {
	w := newWorld(t)
	w.publish(w.rules, 20, 0)
	w.publish(w.table, 20, 0)
	v, err := kafka.NewView(w.conn, w.age, w.log, nil, w.rules, w.table)
	if err != nil {
		t.Fatal(err)
	}
	v.Pack(w.rules, func(dst, _ []byte) []byte { return dst })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	if err := v.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	n := 0
	v.Rows(w.table, func(key string, row []byte) {
		n++
		if packed := v.Row(w.rules, key); len(row) == 0 || packed == nil || len(packed) > 0 {
			t.Errorf("%s: %q and %v", key, row, packed)
		}
	})
	if n != 20 {
		t.Fatalf("%d rows", n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
