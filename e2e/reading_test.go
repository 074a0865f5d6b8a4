package e2e

import (
	"context"
	"strings"
	"sync"
	"time"

	"civicbus/codecs"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// read reads what is committed on the topics now.
func (b *bus) read(topics ...string) []*kgo.Record {
	b.t.Helper()
	return b.scan(kgo.ReadCommitted(), topics...)
}

// scan reads all that is on the topics now, at one isolation level, in the order of each partition.
func (b *bus) scan(level kgo.IsolationLevel, topics ...string) []*kgo.Record {
	b.t.Helper()
	if len(topics) == 0 {
		return nil
	}
	cl, err := b.cfg.Connection.Client(kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(level), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	b.must(err)
	defer cl.Close()
	list := kadm.NewClient(cl).ListCommittedOffsets
	if level == kgo.ReadUncommitted() {
		list = kadm.NewClient(cl).ListEndOffsets
	}
	ends, err := list(b.t.Context(), topics...)
	b.must(err)
	type place struct {
		topic     string
		partition int32
	}
	left := map[place]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[place{o.Topic, o.Partition}] = o.Offset
		}
	})
	ctx, cancel := context.WithTimeout(b.t.Context(), within)
	defer cancel()
	var all []*kgo.Record
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		b.must(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				all = append(all, r)
			}
			if p := (place{r.Topic, r.Partition}); r.Offset+1 >= left[p] {
				delete(left, p)
			}
		})
	}
	return all
}

// ends adds up the end offsets of a topic's partitions.
func (b *bus) ends(topics ...string) (n int64) {
	b.t.Helper()
	ends, err := b.admin.ListEndOffsets(b.t.Context(), topics...)
	b.must(err)
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

// deliveries are all deliveries on all subscribers' topics now.
func (b *bus) deliveries() []*kgo.Record {
	b.t.Helper()
	topics, err := b.admin.ListTopics(b.t.Context())
	b.must(err)
	var names []string
	for _, name := range topics.Names() {
		if strings.HasPrefix(name, "subscriber.") {
			names = append(names, name)
		}
	}
	return b.read(names...)
}

// delivery finds a delivery by its id.
func (b *bus) delivery(id string) (*kgo.Record, bool) {
	b.t.Helper()
	for _, r := range b.deliveries() {
		if header(r.Headers, codecs.HeaderID) == id {
			return r, true
		}
	}
	return nil, false
}

func header(headers []kgo.RecordHeader, name string) string {
	for _, h := range headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// consume calls take with every record that is committed on the topics, from the start on, until the test ends.
func (b *bus) consume(take func(*kgo.Record), topics ...string) {
	b.t.Helper()
	cl, err := b.cfg.Connection.Client(kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond))
	b.must(err)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, r := range cl.PollFetches(ctx).Records() {
				take(r)
			}
		}
	}()
	b.root.Cleanup(func() { cancel(); <-done; cl.Close() })
}

// tape records what is committed on a topic from the start on.
type tape[T any] struct {
	mu   sync.Mutex
	keys []string
	list []T
}

func record[T any](b *bus, topic string, codec *codecs.Record[T]) *tape[T] {
	b.t.Helper()
	tp := &tape[T]{}
	root := b.root
	b.consume(func(r *kgo.Record) {
		if r.Value == nil {
			return // marks a dead letter as redriven
		}
		v, err := codec.Decode(r.Value)
		if err != nil {
			root.Errorf("read %s: %v", topic, err)
			return
		}
		tp.mu.Lock()
		tp.keys, tp.list = append(tp.keys, string(r.Key)), append(tp.list, v)
		tp.mu.Unlock()
	}, topic)
	return tp
}

func (t *tape[T]) all() []T {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]T(nil), t.list...)
}

func (t *tape[T]) find(ok func(key string, v *T) bool) (v T, found bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.list) - 1; i >= 0; i-- {
		if ok(t.keys[i], &t.list[i]) {
			return t.list[i], true
		}
	}
	return v, false
}

func (t *tape[T]) count(ok func(*T) bool) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.list {
		if ok(&t.list[i]) {
			n++
		}
	}
	return n
}

// tableTape holds the rows of all tables as a read_committed reader has seen them.
type tableTape struct {
	mu       sync.Mutex
	rows     map[[2]string][]byte
	versions map[[2]string]int64
}

func recordTables(b *bus) *tableTape {
	b.t.Helper()
	t := &tableTape{rows: map[[2]string][]byte{}, versions: map[[2]string]int64{}}
	versions := map[string]func([]byte) (int64, error){
		"delivery-table":     func([]byte) (int64, error) { return 0, nil }, // its rows have none
		"catalog-table":      versionOf(b.records.EventType, func(r *codecs.EventType) int64 { return r.Version }),
		"trust-table":        versionOf(b.records.Organisation, func(r *codecs.Organisation) int64 { return r.Version }),
		"subscription-table": versionOf(b.records.Subscription, func(r *codecs.Subscription) int64 { return r.Version }),
		"consent-table":      versionOf(b.records.Consents, func(r *codecs.Consents) int64 { return r.Version }),
		"profile-table":      versionOf(b.records.Profile, func(r *codecs.Profile) int64 { return r.Version }),
	}
	var topics []string
	for name := range versions {
		topics = append(topics, name)
	}
	root := b.root
	b.consume(func(r *kgo.Record) {
		k := [2]string{r.Topic, string(r.Key)}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.rows[k] = r.Value
		if r.Value == nil {
			return
		}
		v, err := versions[r.Topic](r.Value)
		if err != nil {
			root.Errorf("read %s: %v", r.Topic, err)
		}
		t.versions[k] = v
	}, topics...)
	return t
}

func versionOf[T any](record *codecs.Record[T], version func(*T) int64) func([]byte) (int64, error) {
	return func(b []byte) (int64, error) {
		r, err := record.Decode(b)
		return version(&r), err
	}
}

// row is a row's bytes; nil when there is none (any more).
func (t *tableTape) row(table, key string) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rows[[2]string{table, key}]
}

// version is the newest version of a row that was seen.
func (t *tableTape) version(table, key string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.versions[[2]string{table, key}]
}

// gone says whether the row was there and has been tombstoned.
func (t *tableTape) gone(table, key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, seen := t.rows[[2]string{table, key}]
	return seen && v == nil
}
