package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"civicbus/codecs"
	"civicbus/internal/kafka"

	"github.com/twmb/franz-go/pkg/kgo"
)

// found is one event that was delivered once.
type found struct {
	key      string // its subject
	decision codecs.Decision
	items    []codecs.VerdictItem // permits of what is replayed
	event    *kgo.Record          // nil: it is not kept any more
	after    int64                // on audit-decisions: the offset after the decision
}

// walker goes through one partition of audit-decisions, from an offset to another, and finds the events.
type walker struct {
	log       *kafka.Log
	records   *codecs.Records
	row       *codecs.Replay
	partition int32
	at, to    int64 // what has not been looked at

	chunk   []*kgo.Record // of [at, chunkTo), read
	chunkTo int64
	events  map[string]*window // by event stream
}

// window is what was read last of one event stream: the offsets [from, to).
type window struct {
	from, to int64
	records  []*kgo.Record
}

const (
	decisionBytes = 1 << 20
	eventBytes    = 256 << 10
)

func newWalker(log *kafka.Log, records *codecs.Records, row *codecs.Replay, partition int32, at, to int64) *walker {
	return &walker{log: log, records: records, row: row, partition: partition, at: at, to: to, chunkTo: at, events: map[string]*window{}}
}

// over says that everything was looked at.
func (w *walker) over() bool { return w.at >= w.to }

// read says that everything that was fetched has been looked at.
func (w *walker) read() bool { return len(w.chunk) == 0 }

// rest drops what was read ahead: another partition's turn comes.
func (w *walker) rest() {
	w.chunk, w.chunkTo = nil, w.at
	clear(w.events)
}

// back makes the walker go on from an offset.
func (w *walker) back(at int64) {
	if at != w.at {
		w.at = at
		w.rest()
	}
}

// next looks at no more than one answer's worth of decisions and gives up to most events of them; looked is how many
// decisions it passed. It stands behind the last when it returns.
func (w *walker) next(ctx context.Context, most int) (events []*found, looked int, err error) {
	if w.at >= w.chunkTo {
		if err := w.fetch(ctx); err != nil {
			return nil, 0, err
		}
	}
	for len(w.chunk) > 0 && len(events) < most {
		r := w.chunk[0]
		if r.Offset >= w.to {
			w.chunk, w.at = nil, w.to
			return events, looked, nil
		}
		f, err := w.find(ctx, r)
		if err != nil {
			return nil, looked, err
		}
		w.chunk, w.at = w.chunk[1:], r.Offset+1
		looked++
		if f != nil {
			events = append(events, f)
		}
	}
	if len(w.chunk) == 0 {
		w.at = min(w.chunkTo, w.to)
	}
	return events, looked, nil
}

// fetch reads the decisions from where the walker stands. What retention took is passed over: there is no permit on record.
func (w *walker) fetch(ctx context.Context) error {
	records, next, _, err := w.log.Fetch(ctx, decisions, w.partition, w.at, decisionBytes)
	if errors.Is(err, kafka.ErrExpired) {
		first, ferr := w.log.First(ctx, decisions, w.partition)
		if ferr != nil {
			return ferr
		}
		w.at = min(max(first, w.at), w.to)
		w.chunkTo = w.at
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the decisions of partition %d: %w", w.partition, err)
	}
	w.chunk = slices.DeleteFunc(records, func(r *kgo.Record) bool { return r.Offset < w.at || r.Attrs.IsControl() })
	w.chunkTo = next
	return nil
}

// find is the event of a decision; nil when the replay is not about it. A decision that cannot be read permits nothing.
func (w *walker) find(ctx context.Context, r *kgo.Record) (*found, error) {
	if !mayWant(w.row, r.Value) {
		return nil, nil
	}
	d, err := w.records.Decision.Decode(r.Value)
	if err != nil {
		return nil, nil //nolint:nilerr // the audit log says so
	}
	items := wants(w.row, &d)
	if len(items) == 0 {
		return nil, nil
	}
	f := &found{key: string(r.Key), decision: d, items: items, after: r.Offset + 1}
	f.event, err = w.event(ctx, d.Topic, d.Partition, d.Offset)
	return f, err
}

// event is a record of an event stream; nil when it is not kept any more.
func (w *walker) event(ctx context.Context, topic string, partition int32, offset int64) (*kgo.Record, error) {
	if partition != w.partition || !eventStream(topic) {
		return nil, nil // not where the router could have read it
	}
	read := w.events[topic]
	if read == nil || offset < read.from || offset >= read.to {
		records, next, _, err := w.log.Fetch(ctx, topic, partition, offset, eventBytes)
		switch {
		case errors.Is(err, kafka.ErrExpired), errors.Is(err, kafka.ErrBeyond), errors.Is(err, kafka.ErrNoTopic):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("read %s/%d: %w", topic, partition, err)
		}
		read = &window{from: offset, to: next, records: records}
		w.events[topic] = read
	}
	i, ok := slices.BinarySearchFunc(read.records, offset, func(r *kgo.Record, at int64) int {
		switch {
		case r.Offset < at:
			return -1
		case r.Offset > at:
			return 1
		}
		return 0
	})
	if !ok {
		return nil, nil
	}
	return read.records[i], nil
}
