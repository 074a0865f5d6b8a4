package feed

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"

	"github.com/twmb/franz-go/pkg/kgo"
)

// record is one record of a subscriber's topic, with the subscription that it is for.
type record struct {
	*kgo.Record
	subscription string
	size         int
}

func newRecord(r *kgo.Record) *record {
	n := &record{Record: r, size: len(r.Key) + len(r.Value) + 512} // about what a record and its headers take in memory
	for _, h := range r.Headers {
		n.size += len(h.Key) + len(h.Value) + 64
		if h.Key == codecs.HeaderSubscription {
			n.subscription = string(h.Value)
		}
	}
	return n
}

// tails keeps the newest records of the topics that somebody waits on, each read once for all who wait. It is safe for
// concurrent use.
type tails struct {
	conn   kafka.Connection
	log    *log
	logger *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu  sync.Mutex
	all map[string]*slot
}

// slot is a topic's tail, made by one reader at a time.
type slot struct {
	mu   sync.Mutex
	tail *Tail
}

// Bounds of a tail. A reader who is further behind reads by himself.
const (
	tailBytes  = 512 << 10        // of each topic that somebody waits on
	tailLinger = 30 * time.Second // after the last reader: the next one finds it warm
)

func newTails(conn kafka.Connection, log *log, logger *slog.Logger) *tails {
	t := &tails{conn: conn, log: log, logger: logger, all: map[string]*slot{}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

func (t *tails) close() {
	t.cancel()
	t.ended.Wait()
}

// Tail is the newest part of one topic.
type Tail struct {
	topic  string
	cancel context.CancelFunc

	mu      sync.Mutex
	parts   []span
	order   []int32 // partitions of the records kept, the oldest first
	bytes   int
	changed chan struct{} // closed when something came, and made anew
	broken  error
	readers int
	left    time.Time // when the last reader left
}

// span is what is known of a partition: every record with an offset in [from, to).
type span struct {
	from, to int64
	records  []*record
}

// watch gives the tail of a topic, beginning it where the topic ends now. Release it.
func (t *tails) watch(ctx context.Context, topic string, partitions int32) (*Tail, error) {
	t.mu.Lock()
	s := t.all[topic]
	if s == nil {
		s = &slot{}
		t.all[topic] = s
	}
	t.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tail != nil && s.tail.hold() {
		return s.tail, nil
	}
	ends, err := t.log.ends(ctx, topic, partitions)
	if err != nil {
		return nil, err
	}
	from := map[int32]kgo.Offset{}
	tail := &Tail{topic: topic, changed: make(chan struct{}), readers: 1, parts: make([]span, partitions)}
	for p, end := range ends {
		from[int32(p)] = kgo.NewOffset().At(end)
		tail.parts[p] = span{from: end, to: end}
	}
	client, err := t.conn.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.KeepControlRecords(), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMaxBytes(4<<20), kgo.FetchMaxPartitionBytes(kafka.LogFetchBytes), kgo.MaxConcurrentFetches(1))
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(t.ctx)
	tail.cancel = cancel
	s.tail = tail
	t.ended.Add(1)
	go func() {
		defer t.ended.Done()
		defer client.Close()
		defer cancel()
		tail.run(running, client, t.logger)
	}()
	return tail, nil
}

// release says that a reader has gone.
func (tail *Tail) release() {
	tail.mu.Lock()
	defer tail.mu.Unlock()
	tail.readers--
	tail.left = time.Now()
}

// hold counts one more reader; false when the tail has ended.
func (tail *Tail) hold() bool {
	tail.mu.Lock()
	defer tail.mu.Unlock()
	if tail.broken != nil {
		return false
	}
	tail.readers++
	return true
}

// run reads until nobody has watched for a while, the context ends, or the topic is not what it was.
func (tail *Tail) run(ctx context.Context, client *kgo.Client, logger *slog.Logger) {
	for {
		poll, cancel := context.WithTimeout(ctx, tailLinger/4)
		fetches := client.PollFetches(poll)
		cancel()
		if ctx.Err() != nil {
			tail.end(ctx.Err())
			return
		}
		for _, e := range fetches.Errors() {
			if e.Topic == "" { // the poll's own time is over
				continue
			}
			logger.Warn("follow a subscriber's topic: its readers begin anew", "topic", e.Topic, "partition", e.Partition, "error", e.Err)
			tail.end(fmt.Errorf("follow %s/%d: %w", e.Topic, e.Partition, e.Err))
			return
		}
		tail.add(fetches)
		if tail.unwatched() {
			return
		}
	}
}

// add takes what came, and drops the oldest beyond the bound.
func (tail *Tail) add(fetches kgo.Fetches) {
	tail.mu.Lock()
	defer tail.mu.Unlock()
	came := false
	fetches.EachRecord(func(r *kgo.Record) {
		s := &tail.parts[r.Partition]
		if r.Offset < s.to {
			return
		}
		s.to = r.Offset + 1
		if r.Attrs.IsControl() {
			return
		}
		n := newRecord(r)
		s.records, tail.order, tail.bytes, came = append(s.records, n), append(tail.order, r.Partition), tail.bytes+n.size, true
	})
	drop := 0
	for ; tail.bytes > tailBytes; drop++ {
		s := &tail.parts[tail.order[drop]]
		oldest := s.records[0]
		s.records[0] = nil
		s.records, s.from, tail.bytes = s.records[1:], oldest.Offset+1, tail.bytes-oldest.size
	}
	tail.order = tail.order[drop:]
	if came {
		close(tail.changed)
		tail.changed = make(chan struct{})
	}
}

func (tail *Tail) end(err error) {
	tail.mu.Lock()
	defer tail.mu.Unlock()
	tail.broken = err
	close(tail.changed)
	tail.changed = make(chan struct{})
}

// unwatched ends a tail that nobody has watched for a while.
func (tail *Tail) unwatched() bool {
	tail.mu.Lock()
	defer tail.mu.Unlock()
	if tail.readers > 0 || time.Since(tail.left) < tailLinger {
		return false
	}
	tail.broken = context.Canceled
	return true
}

// next gives up to most records of a partition from an offset on. known is false where the tail does not reach back to it,
// and the reader must ask the log. The records are shared.
func (tail *Tail) next(partition int32, at int64, most int) (records []*record, next int64, known bool) {
	tail.mu.Lock()
	defer tail.mu.Unlock()
	s := &tail.parts[partition]
	if tail.broken != nil || at < s.from {
		return nil, at, false
	}
	first := len(s.records)
	for first > 0 && s.records[first-1].Offset >= at {
		first--
	}
	found := s.records[first:]
	if len(found) > most {
		found = found[:most]
		return append(records, found...), found[most-1].Offset + 1, true
	}
	return append(records, found...), max(at, s.to), true
}

// waits gives what is closed when something comes, and whether it is worth waiting for.
func (tail *Tail) waits() (<-chan struct{}, bool) {
	tail.mu.Lock()
	defer tail.mu.Unlock()
	return tail.changed, tail.broken == nil
}
