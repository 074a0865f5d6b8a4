package kafka_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/twmb/franz-go/pkg/kgo"

	"civicbus/internal/kafka"
)

// joining starts a group that writes, for each record, its number and its key's row in the joined table: by goka's Join, or handed
// runs and by Engine.Joined. handed counts goka's messages.
func (w *world) joining(runs bool, handed *atomic.Int64) *node {
	var n *node
	made := make(chan struct{})
	callback := func(ctx goka.Context, msg any) {
		<-made
		handed.Add(1)
		if !runs {
			row, _ := ctx.Join(goka.Table(w.rules)).([]byte)
			n.engine.Produce(&kgo.Record{Topic: w.out, Key: []byte(ctx.Key()), Value: fmt.Appendf(nil, "%s:%s", msg, row)})
			return
		}
		run := n.engine.Run(string(ctx.Topic()), ctx.Partition(), ctx.Offset())
		r := &kgo.Record{Topic: w.out}
		for i, in := range run.Records {
			row, err := n.engine.Joined(w.rules, ctx.Partition(), string(in.Key))
			if err != nil || in.Partition != ctx.Partition() || i > 0 && run.FollowedBy(i) != run.Records[i-1].Offset+1 {
				ctx.DeferCommit()(fmt.Errorf("record %d of a run: %w", i, err))
				return
			}
			r.Key, r.Value = in.Key, fmt.Appendf(r.Value[:0], "%s:%s", in.Value, row)
			n.engine.Produce(r)
		}
		if len(run.Records) == 0 {
			ctx.DeferCommit()(context.Canceled)
		}
	}
	graph := goka.DefineGroup(goka.Group(w.group), goka.Input(goka.Stream(w.in), new(codec.Bytes), callback),
		goka.Join(goka.Table(w.rules), new(codec.Bytes)), goka.Output(goka.Stream(w.out), new(codec.Bytes)))
	n = w.startGraph("a", graph, func(c *kafka.GroupConfig) { c.Runs = runs })
	close(made)
	return n
}

// TestRunsJoinAsGokaDoes: handed runs, a group writes what it writes handed record by record, each once and in order, over a
// killed node too.
func TestRunsJoinAsGokaDoes(t *testing.T) {
	t.Parallel()
	const inputs = 3000
	results := map[bool]map[string]string{}
	for _, runs := range []bool{false, true} {
		w := newWorld(t)
		cl, err := w.conn.Client()
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		for i := range 50 {
			if i%3 != 0 { // some keys have no row
				r := &kgo.Record{Topic: w.rules, Key: []byte("k" + strconv.Itoa(i)), Value: fmt.Appendf(nil, "row of %d", i)}
				if err := cl.ProduceSync(context.Background(), r).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.publish(w.in, inputs, 0)
		var handed atomic.Int64
		n := w.joining(runs, &handed)
		until(t, 20*time.Second, "some records are handled", func() bool { return handed.Load() > 2 })
		n.kill(t)
		w.joining(runs, &handed)
		results[runs] = map[string]string{}
		for _, r := range w.outputs(inputs, 30*time.Second) {
			results[runs][string(r.Key)] += " " + string(r.Value)
		}
		if runs && handed.Load() >= inputs {
			t.Errorf("goka was handed %d messages of %d records: no runs", handed.Load(), inputs)
		}
	}
	for key, want := range results[false] {
		if got := results[true][key]; got != want {
			t.Errorf("key %s: by runs %q, by goka's join %q", key, got, want)
		}
	}
	if len(results[false]) != 50 || len(results[true]) != 50 {
		t.Errorf("%d and %d keys, want 50", len(results[false]), len(results[true]))
	}
}

// TestRunsAreForGroupsWithoutTables: a run has no key whose row goka could give.
func TestRunsAreForGroupsWithoutTables(t *testing.T) {
	graph := goka.DefineGroup("g", goka.Input("in", new(codec.Bytes), func(goka.Context, any) {}), goka.Persist(new(codec.Bytes)))
	if _, err := kafka.NewEngine(kafka.GroupConfig{Connection: kafka.Connection{Brokers: []string{"127.0.0.1:1"}}, Graph: graph, Instance: "a", Runs: true}); err == nil {
		t.Error("a group with a table is handed runs")
	}
}
