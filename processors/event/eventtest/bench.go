package eventtest

import (
	"context"
	"encoding/binary"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/tester"

	"civicbus/internal/kafka"
	"civicbus/topology"
)

// Bench is one group of the map in goka's tester, on its own graph. The tester has one partition and numbers all records in
// one row, whatever their topic.
type Bench struct {
	*World
	group topology.Group
	kafka *tester.Tester
}

// Run starts a group with its callbacks; it ends with the test.
func (w *World) Run(group topology.Group, callbacks topology.Callbacks) *Bench {
	w.T.Helper()
	graph, err := topology.Build(group, callbacks)
	if err != nil {
		w.T.Fatal(err)
	}
	b := &Bench{World: w, group: group, kafka: tester.New(w.T)}
	processor, err := goka.NewProcessor(nil, graph, goka.WithTester(b.kafka), goka.WithNilHandling(goka.NilProcess))
	if err != nil {
		w.T.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- processor.Run(ctx) }()
	w.T.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.T.Errorf("the processor ended with %v", err)
		}
	})
	return b
}

// Send hands one record to the group and waits until it is done with it; nil is a tombstone.
func (b *Bench) Send(topic, key string, value []byte, headers goka.Headers) {
	b.T.Helper()
	if value == nil {
		b.kafka.Consume(topic, key, nil, tester.WithHeaders(headers))
		return
	}
	b.kafka.Consume(topic, key, value, tester.WithHeaders(headers))
}

// Put writes a row into a group's table; nil takes it away.
func (b *Bench) Put(group, key string, row []byte) {
	b.kafka.SetTableValue(goka.Table(topology.TableTopic(group)), key, row)
}

// Row is the group's own row of a key; nil for none.
func (b *Bench) Row(key string) []byte {
	row, _ := b.kafka.TableValue(goka.Table(topology.TableTopic(b.group.Name)), key).([]byte)
	return row
}

// Following adds what the engine tells of a record: the offset after the one handled before it.
func Following(headers goka.Headers, offset int64) goka.Headers {
	return headers.Merged(goka.Headers{kafka.FollowsHeader: binary.BigEndian.AppendUint64(nil, uint64(offset))})
}

// Context is goka's, as one record's callback sees it, for what the tester cannot do: any partition, stopping, no cost. What
// is not in it must not be called.
type Context struct {
	rest
	On      string // topic
	Part    int32
	At      int64 // offset
	Of      string
	With    goka.Headers
	Joined  []byte // row of the joined table
	Stopped context.Context
	Held    []error  // what deferred commits were called with
	Emitted []string // topics, in order
}

type rest = goka.Context // under another name, so that it does not collide with its own method Context

// Topic is On.
func (c *Context) Topic() goka.Stream { return goka.Stream(c.On) }

// Partition is Part.
func (c *Context) Partition() int32 { return c.Part }

// Offset is At.
func (c *Context) Offset() int64 { return c.At }

// Key is Of.
func (c *Context) Key() string { return c.Of }

// Headers is With.
func (c *Context) Headers() goka.Headers { return c.With }

// Context is Stopped.
func (c *Context) Context() context.Context { return c.Stopped }

// Value is no row.
func (c *Context) Value() any { return nil }

// DeferCommit keeps what the callback says of it.
func (c *Context) DeferCommit() func(error) { return func(err error) { c.Held = append(c.Held, err) } }

// Emit keeps the topic.
func (c *Context) Emit(topic goka.Stream, _ string, _ any, _ ...goka.ContextOption) {
	c.Emitted = append(c.Emitted, string(topic))
}

// Join gives the row; nil for none.
func (c *Context) Join(goka.Table) any {
	if c.Joined == nil {
		return nil
	}
	return c.Joined
}
