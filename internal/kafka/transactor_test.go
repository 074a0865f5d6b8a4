package kafka_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"civicbus/internal/kafka"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

// transactors is a cluster with a topic to go through and one to write to.
type transactors struct {
	t    *testing.T
	conn kafka.Connection
	adm  *kadm.Client
}

func newTransactors(t *testing.T, opts ...kfake.Opt) *transactors {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(4, "from", "to")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w := &transactors{t: t, conn: kafka.Connection{Brokers: c.ListenAddrs()}}
	cl, err := w.conn.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	w.adm = kadm.NewClient(cl)
	return w
}

// take makes a transactor that has taken the one id, and says how far the work has come.
func (w *transactors) take() (*kafka.Transactor, int64) {
	w.t.Helper()
	tx := kafka.NewTransactor(w.conn, "work", "work-id", 5*time.Second, slog.New(slog.DiscardHandler))
	if err := tx.Take(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(tx.Close)
	at, _ := w.committed()
	return tx, at
}

func (w *transactors) committed() (at int64, note string) {
	w.t.Helper()
	all, err := w.adm.FetchOffsets(kadm.RequireStable(w.t.Context()), "work")
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		w.t.Fatal(err)
	}
	o, _ := all.Lookup("from", 0)
	return max(0, o.At), o.Metadata
}

// work writes n records from a place on and commits that they are done.
func work(tx *kafka.Transactor, from, n int64, last func() error) error {
	for i := from; i < from+n; i++ {
		tx.Add(&kgo.Record{Topic: "to", Key: []byte(fmt.Sprint(i % 7)), Value: []byte(fmt.Sprint(i)), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}})
	}
	return tx.Commit(context.Background(), map[string]map[int32]kafka.Progress{"from": {0: {Offset: from + n, Note: fmt.Sprint("done ", from+n)}}}, last)
}

func always() error { return nil }

// written counts what readers of committed data get.
func (w *transactors) written() map[string]int {
	w.t.Helper()
	all := map[string]int{}
	cl, err := w.conn.Client()
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	log := kafka.NewLog(cl)
	for p := range int32(4) {
		for at, whole := int64(0), false; !whole; {
			var records []*kgo.Record
			if records, at, whole, err = log.Fetch(w.t.Context(), "to", p, at, 0); err != nil {
				w.t.Fatal(err)
			}
			for _, r := range records {
				all[string(r.Value)]++
			}
		}
	}
	return all
}

func (w *transactors) once(n int) {
	w.t.Helper()
	got := w.written()
	for i := range n {
		if got[fmt.Sprint(i)] != 1 {
			w.t.Errorf("record %d stands there %d times", i, got[fmt.Sprint(i)])
		}
	}
	if len(got) != n {
		w.t.Errorf("%d records, want %d", len(got), n)
	}
}

// Outputs and offsets come together or not at all, whoever does the work, by both of Kafka's transaction protocols.
func TestTransactorsTakeOver(t *testing.T) {
	for name, opts := range map[string][]kfake.Opt{"newest": nil, "3.7": {kfake.MaxVersions(kversion.V3_7_0())}} {
		t.Run(name, func(t *testing.T) {
			w := newTransactors(t, opts...)
			first, at := w.take()
			if err := work(first, at, 10, always); err != nil {
				t.Fatal(err)
			}
			if at, note := w.committed(); at != 10 || note != "done 10" {
				t.Errorf("committed %d, %q", at, note)
			}
			second, at := w.take()
			if err := work(first, 10, 10, always); !errors.Is(err, kafka.ErrLost) || !errors.Is(err, kafka.ErrTaken) {
				t.Errorf("who was pushed out wrote: %v", err)
			}
			if err := work(second, at, 10, always); err != nil {
				t.Fatal(err)
			}
			if err := work(second, 20, 5, always); err != nil {
				t.Fatal(err)
			}
			w.once(25)
		})
	}
}

// What is given up at the last moment is not there, and neither are its offsets; the same can be tried again.
func TestTransactionsThatAreGivenUp(t *testing.T) {
	w := newTransactors(t)
	tx, _ := w.take()
	enough := errors.New("enough")
	for _, asked := range []int{1, 2} { // before the offsets, and after them
		n := 0
		err := work(tx, 0, 10, func() error {
			if n++; n == asked {
				return enough
			}
			return nil
		})
		if !errors.Is(err, kafka.ErrHeld) || !errors.Is(err, enough) {
			t.Fatalf("asked %d times: %v", asked, err)
		}
		if at, _ := w.committed(); at != 0 || len(w.written()) != 0 {
			t.Fatalf("asked %d times: committed %d, %d records", asked, at, len(w.written()))
		}
	}
	if err := work(tx, 0, 10, always); err != nil {
		t.Fatal(err)
	}
	w.once(10)
}

// What Kafka refuses is told, with its topic; the transactor goes on.
func TestRefusedOutputsOfATransactor(t *testing.T) {
	w := newTransactors(t)
	tx, _ := w.take()
	tx.Add(&kgo.Record{Topic: "to", Value: []byte("fits")})
	tx.Add(&kgo.Record{Topic: "nowhere", Value: []byte("x")})
	err := tx.Commit(t.Context(), nil, always)
	var refused *kafka.RefusedError
	if !errors.As(err, &refused) || refused.Topic != "nowhere" || !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Fatalf("error %v", err)
	}
	large := make([]byte, 2<<20)
	_, _ = rand.Read(large) // never fails; what cannot be compressed is as large on its way
	tx.Add(&kgo.Record{Topic: "to", Value: large})
	if err := tx.Commit(t.Context(), nil, always); !errors.As(err, &refused) || refused.Topic != "to" || refused.Size < 2<<20 {
		t.Fatalf("error %v", err)
	}
	if err := work(tx, 0, 10, always); err != nil {
		t.Fatal(err)
	}
	w.once(10)
}
