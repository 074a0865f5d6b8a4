//go:build synctests

package kafka

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/codec"
	"github.com/twmb/franz-go/pkg/kgo"
)

// quietPlan is a run without faults.
func quietPlan(nodes int) plan {
	return plan{seed: 1, nodes: nodes, brokers: 1, records: 50, tick: 100 * time.Millisecond, gap: time.Second, focus: -1}
}

// TestChaosRebalanceIsShort: while members come and go, no input waits for as long as goka would sleep after each rebalance.
func TestChaosRebalanceIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChaos(t, quietPlan(2))
		defer c.shutDown()
		time.Sleep(20 * time.Second)
		watch := func(what string, d time.Duration) {
			for began := time.Now(); time.Since(began) < d; time.Sleep(50 * time.Millisecond) {
				if age, id := c.model.oldest(); age > 4*time.Second {
					t.Fatalf("%s: %s waits for %s", what, id, age)
				}
			}
		}
		watch("at rest", 10*time.Second)
		extra := c.boot("x")
		watch("a third member", 20*time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		extra.engine.Drain(ctx)
		extra.cancel()
		c.zombies = append(c.zombies, extra)
		if err := Leave(context.Background(), c.calm, chaosGroup, "x"); err != nil {
			t.Fatal(err)
		}
		watch("it has left", 20*time.Second)
		if wrong := c.model.report(); wrong != "" {
			t.Error(wrong)
		}
	})
}

// TestChaosStuckCallback: a callback that outlives goka's patience ends the processor, so that no other session meets what it
// emits at last: that goes nowhere.
func TestChaosStuckCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChaos(t, quietPlan(0))
		defer c.shutDown()
		var once sync.Once
		graph := goka.DefineGroup("stuck", goka.Input(chaosRules, new(codec.Bytes), func(ctx goka.Context, msg any) {
			once.Do(func() { time.Sleep(2 * time.Minute); ctx.Emit("late", ctx.Key(), msg) })
		}), goka.Output("late", new(codec.Bytes)))
		if err := c.cluster.CreateTopic("late", chaosParts, nil); err != nil {
			t.Fatal(err)
		}
		engine, err := NewEngine(GroupConfig{Connection: c.calm, Graph: graph, Instance: "a", LeaseAge: time.Second, Session: 6 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		p, err := goka.NewProcessor(nil, graph, engine.Options()...)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if err := p.Run(ctx); err == nil || !strings.Contains(err.Error(), "did not end within") {
			t.Errorf("ended with %v", err)
		}
		c.drain("late", func(r *kgo.Record) { t.Errorf("it emitted %s to %d at %d", r.Value, r.Partition, r.Offset) })
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
}
