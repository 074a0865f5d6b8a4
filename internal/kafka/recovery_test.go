package kafka_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"civicbus/internal/kafka"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestViewOfManyRows reads a table in several rounds of large answers: rows written twice, rows taken back, transactions that
// were aborted, and one that is aborted at the end, after which no row comes.
func TestViewOfManyRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cl, err := w.conn.Client(kgo.TransactionalID("w-"+w.group), kgo.DefaultProduceTopic(w.rules), kgo.ProducerBatchMaxBytes(100_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	want := map[string]string{}
	for run := range 12 {
		aborted := run%3 == 2
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for i := range 3_000 {
			n := (run*1_500 + i) % 12_000
			r := &kgo.Record{Key: fmt.Appendf(nil, "k%d", n), Value: fmt.Appendf(nil, "%d of %d %s", n, run, strings.Repeat("x", 300))}
			if n%7 == run%7 {
				r.Value = nil
			}
			cl.Produce(ctx, r, nil)
			switch {
			case aborted:
			case r.Value == nil:
				delete(want, string(r.Key))
			default:
				want[string(r.Key)] = string(r.Value)
			}
		}
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(!aborted)); err != nil {
			t.Fatal(err)
		}
	}
	for _, told := range []bool{true, false} {
		rows := map[string]string{}
		var changed func(_, key string, row []byte)
		if told {
			ready := make(chan struct{}, 1) // one partition at a time
			changed = func(_, key string, row []byte) {
				ready <- struct{}{}
				defer func() { <-ready }()
				if row == nil {
					delete(rows, key)
					return
				}
				rows[key] = string(row)
			}
		}
		v, err := kafka.NewView(w.conn, w.age, w.log, changed, w.rules)
		if err != nil {
			t.Fatal(err)
		}
		running, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- v.Run(running) }()
		if err := v.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		if !told {
			v.Rows(w.rules, func(key string, row []byte) { rows[key] = string(row) })
		}
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if len(rows) != len(want) {
			t.Fatalf("told %v: %d rows, want %d", told, len(rows), len(want))
		}
		for k, row := range want {
			if rows[k] != row {
				t.Fatalf("told %v: %s is %.20q, want %.20q", told, k, rows[k], row)
			}
		}
	}
}
