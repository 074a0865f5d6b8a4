package kafka

import (
	"fmt"
	"sync"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
)

// gokaProducer is goka's producer: every output joins the open transaction, and its promise is kept at once, because the
// transaction as a whole fails if one output does.
type gokaProducer struct{ e *Engine }

// Emit writes a record.
func (p gokaProducer) Emit(topic, key string, value []byte) *goka.Promise {
	return p.EmitWithHeaders(topic, key, value, nil)
}

// EmitWithHeaders writes a record with headers. The header TopicHeader names the topic in place of a placeholder.
func (p gokaProducer) EmitWithHeaders(topic, key string, value []byte, headers goka.Headers) *goka.Promise {
	r := &kgo.Record{Topic: topic, Key: []byte(key), Value: value}
	for k, v := range headers {
		if k == TopicHeader {
			r.Topic = string(v)
			continue
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: v})
	}
	p.e.Produce(r)
	promise, finish := goka.NewPromiseWithFinisher()
	finish(nil, nil)
	return promise
}

// Close does nothing: the engine owns its clients.
func (gokaProducer) Close() error { return nil }

// TopicHeader on a record emitted through goka names the topic that it is really for: goka's outputs are fixed when a
// group is built, subscribers' topics are not. It never reaches Kafka.
const TopicHeader = "civicbus-topic"

// Produce adds a record to the open transaction; callbacks may use it beside goka's Emit. It is encoded at once: the record and
// all that it points to are the caller's again. A record that cannot be written aborts the transaction at its end. Without an
// open transaction (a callback that goka has given up on) the record goes nowhere, and neither does the input that it came
// from. A record that comes after its input was finished is a bug in a callback, which ends the processor: no transaction
// is left that it could belong to.
func (e *Engine) Produce(r *kgo.Record) {
	room := rooms.Get().(*[]byte)
	defer rooms.Put(room)
	o := output(r, (*room)[:0])
	*room = o.Headers[:0]
	e.Deliver(&o)
}

var rooms = sync.Pool{New: func() any { return new([]byte) }}

// Deliver is Produce for an output whose headers are encoded.
func (e *Engine) Deliver(o *Output) {
	if b := e.openBatch(); b != nil && !b.produce(o) {
		e.fail(fmt.Errorf("a callback of group %s emitted to %s after its input was finished", e.group, o.Topic))
	}
}
