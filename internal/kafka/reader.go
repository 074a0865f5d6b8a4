package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// reader reads table partitions for goka (it is goka's sarama.Consumer) and confirms how current they are, for the lease.
//
// It fetches by itself instead of through a consuming client, for two things that such a client keeps to itself: the
// position after batches that hold no record (markers, aborted data, what compaction took), which goka's recovery must see
// or it waits for ever, and the last stable offset in each answer together with the time of its question, also when nothing
// new came. One loop runs for each leader, so a broker that does not answer stops only its own partitions.
type reader struct {
	client *kgo.Client
	admin  *kadm.Client
	log    *slog.Logger
	wait   time.Duration // longest time the leader may sit on an empty answer
	hold   func(topic string, partition int32) bool
	broken func(error) // told when a table must be read anew, which only a new reader does
	unpack kgo.Decompressor
	spare  sync.Pool // of *[]kgo.Record: see recordSlabs

	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	feeds   map[string]map[int32]*feed
	known   map[tp]int32   // leaders as they were last looked up
	leaders map[int32]bool // with a loop
	ids     map[string][16]byte
	names   map[[16]byte]string
	warned  map[string]time.Time // when a complaint was last logged
	changed chan struct{}        // closed and replaced when feeds or leaders change
}

const (
	feedQueue   = 4096 // records that may wait for goka before the partition is left out of the next fetch
	fetchBytes  = 32 << 20
	leastPerTP  = 1 << 20                // of these bytes, what each partition asks for at least and at most:
	mostPerTP   = 2 << 20                // a few that are far behind are read in few rounds, hundreds take no more memory than a few
	largeAnswer = 16 << 10               // bytes of a partition's answer that are decoded beside the next fetch
	leftOutWait = 5 * time.Millisecond   // longest time for an empty answer while a partition is left out, which soon has room again
	metadataAge = 200 * time.Millisecond // between two look-ups of leaders while some are unknown
)

// newReader starts a reader. hold is a fault for tests: a partition for which it is true gets no answers; nil: none.
func newReader(c Connection, age time.Duration, log *slog.Logger, hold func(string, int32) bool, broken func(error)) (*reader, error) {
	client, err := c.Client()
	if err != nil {
		return nil, err
	}
	r := &reader{client: client, admin: kadm.NewClient(client), log: log, wait: age / 8, hold: hold, broken: broken, warned: map[string]time.Time{}, known: map[tp]int32{}, unpack: kgo.DefaultDecompressor(),
		feeds: map[string]map[int32]*feed{}, leaders: map[int32]bool{}, ids: map[string][16]byte{}, names: map[[16]byte]string{},
		changed: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.done.Add(1)
	go r.lead()
	return r, nil
}

func (r *reader) close() {
	r.cancel()
	r.done.Wait()
	r.client.Close()
}

// signal wakes every loop; the caller holds mu.
func (r *reader) signal() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// wake is signal for those who do not hold mu.
func (r *reader) wake() {
	r.mu.Lock()
	r.signal()
	r.mu.Unlock()
}

// add begins to feed a partition from offset.
func (r *reader) add(topic string, partition int32, offset int64) (*feed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.feeds[topic] == nil {
		r.feeds[topic] = map[int32]*feed{}
	}
	if old := r.feeds[topic][partition]; old != nil && !old.closed() {
		return nil, fmt.Errorf("read %s/%d: it is being read already", topic, partition)
	}
	f := newFeed(r, topic, partition, offset)
	if leader, known := r.known[tp{topic, partition}]; known {
		r.follow(f, leader)
	}
	r.feeds[topic][partition] = f
	r.signal()
	return f, nil
}

// follow makes the leader's loop fetch a feed; the caller holds mu.
func (r *reader) follow(f *feed, leader int32) {
	f.leader = leader
	if !r.leaders[leader] {
		r.leaders[leader] = true
		r.done.Add(1)
		go r.fetchLoop(leader)
	}
}

// lost makes feeds wait for their leader to be looked up.
func (r *reader) lost(feeds ...*feed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range feeds {
		f.leader = -1
		delete(r.known, tp{f.topic, f.partition})
	}
	r.signal()
}

// rows gives what is behind the key of a message that goka got of a partition, once.
func (r *reader) rows(topic string, partition int32, token string) (*load, bool) {
	r.mu.Lock()
	f := r.feeds[topic][partition]
	r.mu.Unlock()
	if f == nil {
		return nil, false
	}
	return f.take(token)
}

func (r *reader) remove(f *feed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.feeds[f.topic][f.partition] == f {
		delete(r.feeds[f.topic], f.partition)
	}
}

// confirmed returns the latest time at which the partition was known to end at or before next.
func (r *reader) confirmed(topic string, partition int32, next int64) time.Time {
	r.mu.Lock()
	f := r.feeds[topic][partition]
	r.mu.Unlock()
	if f == nil {
		return time.Time{}
	}
	return f.confirmed(next)
}

// lead looks up the leader of each fed partition that has none, and runs one fetch loop for each leader.
func (r *reader) lead() {
	defer r.done.Done()
	for r.ctx.Err() == nil {
		r.mu.Lock()
		changed := r.changed
		want := map[string]bool{}
		for t, ps := range r.feeds {
			for _, f := range ps {
				if f.leader < 0 {
					want[t] = true
				}
			}
		}
		r.mu.Unlock()
		if len(want) == 0 {
			select {
			case <-changed:
			case <-r.ctx.Done():
			}
			continue
		}
		if err := r.lookUp(want); err != nil && r.ctx.Err() == nil {
			r.warn("look up the leaders of table partitions: retrying", err)
		}
		select {
		case <-time.After(metadataAge):
		case <-r.ctx.Done():
		}
	}
}

func (r *reader) lookUp(topics map[string]bool) error {
	names := make([]string, 0, len(topics))
	for t := range topics {
		names = append(names, t)
	}
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
	defer cancel()
	meta, err := r.admin.Metadata(ctx, names...)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, t := range meta.Topics {
		if t.Err != nil {
			err = fmt.Errorf("topic %s: %w", name, t.Err)
			continue
		}
		if old, known := r.ids[name]; known && old != t.ID {
			r.broken(fmt.Errorf("read table %s: it was deleted and made anew", name))
			continue // its partitions keep no leader, so that nothing is confirmed any more
		}
		r.ids[name], r.names[t.ID] = t.ID, name
		for p, d := range t.Partitions {
			if d.Leader < 0 {
				continue
			}
			r.known[tp{name, p}] = d.Leader
			if f := r.feeds[name][p]; f != nil && f.leader < 0 {
				r.follow(f, d.Leader)
			}
		}
	}
	r.signal()
	return err
}

// warn logs a complaint, but the same one at most every ten seconds.
func (r *reader) warn(what string, err error) {
	r.mu.Lock()
	again := time.Since(r.warned[what]) < 10*time.Second
	if !again {
		r.warned[what] = time.Now()
	}
	r.mu.Unlock()
	if !again {
		r.log.Warn(what, "error", err)
	}
}

// The rest of sarama.Consumer, as far as goka uses it.

// ConsumePartition feeds a table partition to goka.
func (r *reader) ConsumePartition(topic string, partition int32, offset int64) (sarama.PartitionConsumer, error) {
	if offset < 0 {
		return nil, fmt.Errorf("read %s/%d: goka always names the offset, got %d", topic, partition, offset)
	}
	return r.add(topic, partition, offset)
}

// HighWaterMarks is used by goka for statistics only.
func (r *reader) HighWaterMarks() map[string]map[int32]int64 { return nil }

func (r *reader) Topics() ([]string, error)          { return nil, nil }
func (r *reader) Partitions(string) ([]int32, error) { return nil, nil }
func (r *reader) Close() error                       { return nil }
func (r *reader) Pause(map[string][]int32)           {}
func (r *reader) Resume(map[string][]int32)          {}
func (r *reader) PauseAll()                          {}
func (r *reader) ResumeAll()                         {}
