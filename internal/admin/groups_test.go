package admin_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestGroupsAreShownDrainedAndRebuilt runs the groups, looks at them, stops them, takes them out, and makes a table again.
func TestGroupsAreShownDrainedAndRebuilt(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	stop := b.start()
	ctx := t.Context()
	decision := func(id string) *kgo.Record {
		value, err := b.records.Decision.Encode(&codecs.Decision{Kind: "router", DecidedAt: 1, Verdicts: []codecs.VerdictItem{{Subscription: "sub-a", Subscriber: "kela.fi", Purpose: "p", Permit: true, DeliveryID: id}}})
		if err != nil {
			t.Fatal(err)
		}
		return &kgo.Record{Topic: topology.Decisions.Name, Key: []byte("k1.someone"), Value: value}
	}
	const id = "0112233445566778899aabbccddeeff"
	if err := b.kafka.ProduceSync(ctx, decision("1"+id), decision("2"+id)).FirstErr(); err != nil {
		t.Fatal(err)
	}
	counted := func() int64 {
		row, err := admin.Usage.One(ctx, b.Client, "sub-a")
		if err != nil {
			t.Fatal(err)
		}
		if row == nil {
			return 0
		}
		return row.Delivered
	}
	until(t, "both deliveries are counted", func() bool { return counted() == 2 })
	var state admin.GroupState
	until(t, "the group has a member and nothing waits", func() bool {
		all, err := b.Groups(ctx, topology.Usage.Name)
		if err != nil {
			t.Fatal(err)
		}
		state = all[0]
		return len(all) == 1 && len(state.Members) == 1 && state.Records == 0
	})
	if m := state.Members[0]; m.Instance != b.cfg.Instance || len(m.Partitions) != int(b.cfg.Shape.Partitions) || state.State != "Stable" {
		t.Errorf("state %+v", state)
	}
	if all, err := b.Groups(ctx); err != nil || len(all) != len(topology.Groups)+1 {
		t.Errorf("%d groups, %v", len(all), err)
	}

	for _, g := range topology.Groups {
		if _, err := b.PlanRebuild(ctx, g.Name); (err == nil) != (g.Name == topology.Usage.Name) || err != nil && !errors.Is(err, admin.ErrNotRebuilt) {
			t.Errorf("group %s: %v", g.Name, err)
		}
	}
	plan, err := b.PlanRebuild(ctx, topology.Usage.Name)
	if err != nil || plan.Rows != 1 || plan.Records < 2 || !slices.Equal(plan.Members, []string{b.cfg.Instance}) {
		t.Fatalf("plan %+v, %v", plan, err)
	}
	if err := b.Rebuild(ctx, plan); !errors.Is(err, admin.ErrRuns) {
		t.Errorf("a group that runs was rebuilt: %v", err)
	}
	plan.Members = nil // not known: Kafka knows
	if err := b.Rebuild(ctx, plan); !errors.Is(err, admin.ErrRuns) {
		t.Errorf("a group that runs was rebuilt: %v", err)
	}
	if counted() != 2 {
		t.Error("its rows were dropped")
	}

	stop()
	leaving, err := b.PlanDrain(ctx, b.cfg.Instance)
	if err != nil || len(leaving) == 0 {
		t.Fatalf("a stopped instance keeps its membership: %+v, %v", leaving, err)
	}
	if others, err := b.PlanDrain(ctx, "somebody"); err != nil || len(others) != 0 {
		t.Errorf("somebody is in %+v, %v", others, err)
	}
	for range 2 { // the second time there is nobody to take out
		if err := b.Drain(ctx, b.cfg.Instance, leaving); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := b.PlanDrain(ctx, b.cfg.Instance); err != nil || len(left) != 0 {
		t.Errorf("it is still in %+v, %v", left, err)
	}

	if plan, err = b.PlanRebuild(ctx, topology.Usage.Name); err != nil || len(plan.Members) != 0 {
		t.Fatalf("plan %+v, %v", plan, err)
	}
	if err := b.Rebuild(ctx, plan); err != nil {
		t.Fatal(err)
	}
	if n := counted(); n != 0 {
		t.Errorf("%d deliveries after the rows were dropped", n)
	}
	begun := time.Now()
	defer b.start()()
	until(t, "both deliveries are counted again", func() bool { return counted() == 2 })
	t.Logf("made again in %s", time.Since(begun).Round(time.Millisecond))
}

// start starts a node with everything; what it returns stops it.
func (b *bench) start() (stop func()) {
	b.t.Helper()
	n, err := app.Connect(b.t.Context(), b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
