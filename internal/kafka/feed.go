package kafka

import (
	"sync"
	"time"

	"civicbus/internal/flaw"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
)

// feed is one table partition on its way from the reader to goka (it is goka's sarama.PartitionConsumer).
type feed struct {
	r         *reader
	topic     string
	partition int32

	leader int32 // guarded by reader.mu; -1: to be looked up
	next   int64 // the position: offset of the next fetch; written by the leader's fetch loop alone

	mu    sync.Mutex
	queue []*sarama.ConsumerMessage
	err   error
	shut  bool
	ring  [8]answer // the last answers, newest at ring[n%8]
	n     int
	wake  chan struct{} // has room for one

	msgs chan *sarama.ConsumerMessage
	errs chan *sarama.ConsumerError
	stop chan struct{}
}

// answer is what a leader said: asked is when we asked.
type answer struct {
	asked time.Time
	lso   int64
}

func newFeed(r *reader, topic string, partition int32, offset int64) *feed {
	f := &feed{r: r, topic: topic, partition: partition, leader: -1, next: offset, wake: make(chan struct{}, 1),
		msgs: make(chan *sarama.ConsumerMessage), errs: make(chan *sarama.ConsumerError, 1), stop: make(chan struct{})}
	go f.pump()
	return f
}

// pump moves what was read to goka, in order, until the feed is closed.
func (f *feed) pump() {
	defer close(f.errs)
	defer close(f.msgs)
	for {
		f.mu.Lock()
		batch, err := f.queue, f.err
		f.queue = nil
		f.mu.Unlock()
		for _, m := range batch {
			select {
			case f.msgs <- m:
			case <-f.stop:
				return
			}
		}
		if err != nil {
			f.errs <- &sarama.ConsumerError{Topic: f.topic, Partition: f.partition, Err: err}
			<-f.stop
			return
		}
		select {
		case <-f.wake:
		case <-f.stop:
			return
		}
	}
}

// push appends records and moves the position to next. Where the position runs ahead of the last record, goka gets a
// record of a key that nobody uses at the offset before it, so that its recovery sees that it has arrived.
func (f *feed) push(records []*kgo.Record, next int64) {
	if next <= f.next && len(records) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.next - 1
	for _, r := range records {
		m := &sarama.ConsumerMessage{Topic: f.topic, Partition: f.partition, Offset: r.Offset, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp}
		if r.Attrs.IsControl() && flaw.Planted(flaw.FillerForgotten) {
			continue
		}
		if r.Attrs.IsControl() {
			m.Key, m.Value = []byte(controlKey), nil
		}
		f.queue = append(f.queue, m)
		last = r.Offset
	}
	if next-1 > last && !flaw.Planted(flaw.FillerForgotten) {
		f.queue = append(f.queue, &sarama.ConsumerMessage{Topic: f.topic, Partition: f.partition, Offset: next - 1, Key: []byte(controlKey)})
	}
	f.next = max(next, last+1)
	f.signal()
}

func (f *feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	f.signal()
}

func (f *feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *feed) full() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.queue) > feedQueue || f.err != nil || f.shut
}

func (f *feed) closed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shut
}

func (f *feed) answered(asked time.Time, lso int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	f.ring[f.n%len(f.ring)] = answer{asked, lso}
}

// confirmed returns the time of the latest question whose answer was at or below next; older answers are kept so that a
// table that is applied a few milliseconds behind its feed still confirms a recent time.
func (f *feed) confirmed(next int64) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := 0; i < len(f.ring) && i < f.n; i++ {
		if a := f.ring[(f.n-i)%len(f.ring)]; a.lso <= next {
			return a.asked
		}
	}
	return time.Time{}
}

// Messages and Errors are goka's ends; both close after Close or AsyncClose.
func (f *feed) Messages() <-chan *sarama.ConsumerMessage { return f.msgs }

// Errors carries at most one error, after which the feed gives nothing more.
func (f *feed) Errors() <-chan *sarama.ConsumerError { return f.errs }

// AsyncClose ends the feed.
func (f *feed) AsyncClose() {
	f.mu.Lock()
	shut := f.shut
	f.shut = true
	f.mu.Unlock()
	if !shut {
		close(f.stop)
		f.r.remove(f)
	}
}

// Close ends the feed.
func (f *feed) Close() error {
	f.AsyncClose()
	return nil
}

func (f *feed) HighWaterMarkOffset() int64 { return 0 }
func (f *feed) Pause()                     {}
func (f *feed) Resume()                    {}
func (f *feed) IsPaused() bool             { return false }
