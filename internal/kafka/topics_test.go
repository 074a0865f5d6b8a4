package kafka_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"civicbus/internal/kafka"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestApplyMakesTheClusterAsWanted(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	id := strings.TrimPrefix(w.in, "in-")
	want := []topology.Topic{
		{Name: "new-" + id, Partitions: 3, Config: map[string]string{"retention.ms": "86400000", "cleanup.policy": "delete"}},
		{Name: w.out, Partitions: parts, Config: map[string]string{"retention.ms": "1000"}},
	}
	diffs, err := kafka.Diff(ctx, w.admin, want)
	if err != nil || len(diffs) != 2 || diffs[0].What != "missing" || diffs[1].What != "retention.ms" || diffs[1].Want != "1000" {
		t.Fatalf("%v, %v", diffs, err)
	}
	if err := kafka.Verify(ctx, w.admin, want); err == nil || !strings.Contains(err.Error(), "new-"+id+" is missing, want 3 partitions") || !strings.Contains(err.Error(), "retention.ms is") {
		t.Fatalf("verify: %v", err)
	}
	if _, err := kafka.Apply(ctx, w.admin, want, -1); err != nil {
		t.Fatal(err)
	}
	if diffs, err := kafka.Apply(ctx, w.admin, want, -1); err != nil || len(diffs) != 0 {
		t.Fatalf("a second time: %v, %v", diffs, err)
	}
	want[0].Partitions = 5
	diffs, err = kafka.Apply(ctx, w.admin, want, -1)
	if err == nil || !strings.Contains(err.Error(), "fixed when the topic is created") || len(diffs) != 1 || !diffs[0].Fixed() {
		t.Fatalf("a partition number was changed: %v, %v", diffs, err)
	}
	listed, err := w.admin.ListTopics(ctx, want[0].Name)
	if err != nil || len(listed[want[0].Name].Partitions) != 3 {
		t.Fatalf("%v, %v", listed, err)
	}
}

// TestView holds a whole table, tells of each change before it confirms it, and refuses when it is not current.
func TestView(t *testing.T) {
	w := newWorld(t)
	w.publish(w.rules, 50, 0)
	told := make(chan string, 1000)
	v, err := kafka.NewView(w.conn, w.age, w.log, func(_, key string, row []byte) { told <- key + "=" + string(row) }, w.rules)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := v.Fresh(); ok {
		t.Fatal("fresh before it runs")
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	wait, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	if err := v.Wait(wait); err != nil {
		t.Fatal(err)
	}
	n := 0
	v.Rows(w.rules, func(key string, row []byte) {
		n++
		if string(v.Row(w.rules, key)) != string(row) {
			t.Errorf("row %s: %q and %q", key, row, v.Row(w.rules, key))
		}
	})
	if n != 50 || len(told) != 50 || v.Row(w.rules, "none") != nil {
		t.Fatalf("%d rows, told of %d", n, len(told))
	}
	cl, err := w.conn.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: w.rules, Key: []byte("k7"), Value: nil}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	until(t, 10*time.Second, "the row is gone", func() bool { return v.Row(w.rules, "k7") == nil })
	last := ""
	for len(told) > 0 {
		last = <-told
	}
	if last != "k7=" {
		t.Fatalf("last told %q", last)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, ok := v.Fresh(); ok {
		until(t, 5*time.Second, "a view that has ended is not current", func() bool { _, ok := v.Fresh(); return !ok })
	}
	if _, err := kafka.NewView(w.conn, w.age, w.log, nil); err == nil {
		t.Fatal("a view of nothing was made")
	}
	if _, err := kafka.NewView(w.conn, w.age, w.log, nil, "none-table"); err == nil || !strings.Contains(err.Error(), "topics apply") {
		t.Fatalf("a view of a table that is not there: %v", err)
	}
}

// TestViewEndsWhenItsTableIsMadeAnew: its rows are of a table that is gone.
func TestViewEndsWhenItsTableIsMadeAnew(t *testing.T) {
	w := newWorld(t)
	w.publish(w.rules, 50, 0)
	v, err := kafka.NewView(w.conn, w.age, w.log, nil, w.rules)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	if err := v.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := w.admin.DeleteTopic(ctx, w.rules); err != nil {
		t.Fatal(err)
	}
	until(t, 20*time.Second, "the topic can be made anew", func() bool {
		_, err := w.admin.CreateTopic(ctx, parts, -1, nil, w.rules)
		return err == nil
	})
	w.publish(w.rules, 100, 0)
	if err := <-done; err == nil || ctx.Err() != nil {
		t.Fatalf("the view went on: %v", err)
	} else {
		t.Logf("%.200s", err.Error())
	}
	if _, ok := v.Fresh(); ok {
		t.Fatal("it is still current")
	}
}
