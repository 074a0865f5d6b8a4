package kafka

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"civicbus/internal/flaw"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
)

// feed is one table partition on its way from the reader to goka (it is goka's sarama.PartitionConsumer).
//
// goka takes one message for all that a fetch brought, under a key that no row has: the table gets the rows behind it when
// goka applies it (load). A channel and two clocks a row would take longer than everything else that is done to a row.
type feed struct {
	r         *reader
	topic     string
	partition int32

	leader int32 // guarded by reader.mu; -1: to be looked up

	mu     sync.Mutex
	next   int64 // the position: offset of the next fetch
	busy   bool  // an answer is being decoded: the position is about to move
	queue  []*load
	rows   int     // in queue
	serial uint64  // of the last load queued
	handed []*load // what goka has or is offered, until its table has taken it
	err    error
	shut   bool
	ring   [8]answer // the last answers, newest at ring[n%8]
	n      int
	wake   chan struct{} // has room for one

	msgs chan *sarama.ConsumerMessage
	errs chan *sarama.ConsumerError
	stop chan struct{}
}

// answer is what a leader said: asked is when we asked.
type answer struct {
	asked time.Time
	lso   int64
}

// load is what one fetch brought of a partition: records in order, and the offset up to and with which that is all there is.
type load struct {
	token   string
	records []*kgo.Record
	last    int64
	slabs   *recordSlabs // where the records lie: to be freed when they have been applied
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
		var l *load
		room := false
		if len(f.queue) > 0 {
			l, f.queue = f.queue[0], f.queue[1:]
			room = f.rows > feedQueue
			f.rows -= len(l.records)
			room = room && f.rows <= feedQueue
			f.handed = append(f.handed, l)
		}
		err := f.err
		f.mu.Unlock()
		if room {
			f.r.wake()
		}
		if l != nil {
			select {
			case f.msgs <- &sarama.ConsumerMessage{Topic: f.topic, Partition: f.partition, Offset: l.last, Key: []byte(l.token)}:
				continue
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

// push appends what was read and moves the position to next. Where the position runs ahead of the last record, goka is told
// of the offset before it all the same, so that its recovery sees that it has arrived.
func (f *feed) push(records []*kgo.Record, next int64, slabs *recordSlabs) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if next <= f.next && len(records) == 0 {
		return
	}
	last := f.next - 1
	if n := len(records); n > 0 {
		last = records[n-1].Offset
	}
	f.next = max(next, last+1)
	if flaw.Planted(flaw.FillerForgotten) {
		records = slices.DeleteFunc(records, func(r *kgo.Record) bool { return r.Attrs.IsControl() })
		if len(records) == 0 {
			return
		}
		last = records[len(records)-1].Offset
	} else {
		last = f.next - 1
	}
	f.serial++
	f.queue = append(f.queue, &load{token: controlKey + strconv.FormatUint(f.serial, 10), records: records, last: last, slabs: slabs})
	f.rows += len(records)
	f.signal()
}

// take gives what is behind a message's key, once; false if it is of no message of this feed, or of one before the last
// that was taken.
func (f *feed) take(token string) (*load, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, l := range f.handed {
		if l.token == token {
			f.handed = slices.Delete(f.handed, 0, i+1)
			return l, true
		}
	}
	return nil, false
}

// room says where to read on, and whether to do so now: not while an answer is being decoded, or much is waiting for goka.
func (f *feed) room() (next int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next, !f.busy && f.rows <= feedQueue && f.err == nil && !f.shut
}

// decoding notes that an answer is, or is no longer, being decoded.
func (f *feed) decoding(busy bool) {
	f.mu.Lock()
	f.busy = busy
	f.mu.Unlock()
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
