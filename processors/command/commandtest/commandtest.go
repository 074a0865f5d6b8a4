// Package commandtest runs one reference-data group in goka's tester, on its graph from the map: for the groups' tests.
package commandtest

import (
	"context"
	"testing"
	"time"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/tester"

	"civicbus/codecs"
	"civicbus/topology"
)

// Start is the time at which a test's clock stands until it is moved.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Records are bound to a local registry; a failure ends the test.
func Records(t testing.TB) *codecs.Records {
	t.Helper()
	records := codecs.NewRecords()
	if err := records.BindLocal(); err != nil {
		t.Fatalf("bind the records: %v", err)
	}
	return records
}

// Bench is one running group. It is not safe for concurrent use.
type Bench struct {
	t         *testing.T
	records   *codecs.Records
	group     topology.Group
	callbacks topology.Callbacks
	kafka     *tester.Tester
	results   *tester.QueueTracker
	dead      *tester.QueueTracker
	changes   *tester.QueueTracker // of the table
	stop      func()
}

// New starts a group of the map with its callbacks. It ends with the test.
func New(t *testing.T, records *codecs.Records, group topology.Group, callbacks topology.Callbacks) *Bench {
	t.Helper()
	b := &Bench{t: t, records: records, group: group, callbacks: callbacks}
	b.start(nil)
	t.Cleanup(func() { b.stop() })
	return b
}

func (b *Bench) start(table map[string][]byte) {
	b.t.Helper()
	graph, err := topology.Build(b.group, b.callbacks)
	if err != nil {
		b.t.Fatalf("build: %v", err)
	}
	b.kafka = tester.New(b.t)
	processor, err := goka.NewProcessor(nil, graph, goka.WithTester(b.kafka), goka.WithNilHandling(goka.NilProcess))
	if err != nil {
		b.t.Fatalf("new processor: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- processor.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("the processor ended with %v", err)
		}
	}
	for key, row := range table {
		b.kafka.SetTableValue(goka.Table(topology.TableTopic(b.group.Name)), key, row)
	}
	b.results = b.kafka.NewQueueTracker(topology.CommandResults.Name)
	b.dead = b.kafka.NewQueueTracker(topology.DeadLetters.Name)
	b.changes = b.kafka.NewQueueTracker(topology.TableTopic(b.group.Name))
}

// Restart stops the group and starts it with what its table topic says, as a new process would.
func (b *Bench) Restart() {
	b.t.Helper()
	table := map[string][]byte{}
	topic := goka.Table(topology.TableTopic(b.group.Name))
	for _, key := range b.kafka.GetTableKeys(topic) {
		if row, ok := b.kafka.TableValue(topic, key).([]byte); ok {
			table[key] = row
		}
	}
	written := b.kafka.NewQueueTracker(string(topic))
	written.Seek(0)
	for {
		key, row, ok := written.NextRaw()
		if !ok {
			break
		}
		table[key] = row
	}
	b.stop()
	b.start(table)
}

// Send hands one record to the group and waits until it is done with it.
func (b *Bench) Send(topic topology.Stream, key string, value []byte, headers goka.Headers) {
	b.t.Helper()
	if value == nil {
		b.kafka.Consume(topic.Name, key, nil, tester.WithHeaders(headers))
		return
	}
	b.kafka.Consume(topic.Name, key, value, tester.WithHeaders(headers))
}

// Row is the table's row of a key, as bytes; nil for none.
func (b *Bench) Row(key string) []byte {
	row, _ := b.kafka.TableValue(goka.Table(topology.TableTopic(b.group.Name)), key).([]byte)
	return row
}

// Put writes bytes into the table behind the group's back.
func (b *Bench) Put(key string, row []byte) {
	b.kafka.SetTableValue(goka.Table(topology.TableTopic(b.group.Name)), key, row)
}

// Changes counts the records that the group has written to its table topic since it was last asked.
func (b *Bench) Changes() (count int) {
	for {
		if _, _, ok := b.changes.NextRaw(); !ok {
			return count
		}
		count++
	}
}

// Result is the next answer and its key; the test fails when there is none.
func (b *Bench) Result() (key string, result codecs.CommandResult) {
	b.t.Helper()
	key, value, ok := b.results.NextRaw()
	if !ok {
		b.t.Fatal("no answer on command-results")
	}
	result, err := b.records.CommandResult.Decode(value)
	if err != nil {
		b.t.Fatalf("decode the answer: %v", err)
	}
	return key, result
}

// DeadLetter is the next dead letter and its key; the test fails when there is none.
func (b *Bench) DeadLetter() (key string, letter codecs.DeadLetter) {
	b.t.Helper()
	key, value, ok := b.dead.NextRaw()
	if !ok {
		b.t.Fatal("no dead letter")
	}
	letter, err := b.records.DeadLetter.Decode(value)
	if err != nil {
		b.t.Fatalf("decode the dead letter: %v", err)
	}
	return key, letter
}

// Quiet fails the test if the group has answered or dead-lettered anything that was not read.
func (b *Bench) Quiet() {
	b.t.Helper()
	if key, _, ok := b.results.NextRaw(); ok {
		b.t.Fatalf("an answer too many, key %q", key)
	}
	if key, _, ok := b.dead.NextRaw(); ok {
		b.t.Fatalf("a dead letter too many, key %q", key)
	}
}

// Encode is the wire form of a value; a failure ends the test.
func Encode[T any](t testing.TB, record *codecs.Record[T], value T) []byte {
	t.Helper()
	bytes, err := record.Encode(&value)
	if err != nil {
		t.Fatalf("encode %s: %v", record.Name(), err)
	}
	return bytes
}

// Decode is the value of a wire form; a failure ends the test.
func Decode[T any](t testing.TB, record *codecs.Record[T], bytes []byte) T {
	t.Helper()
	value, err := record.Decode(bytes)
	if err != nil {
		t.Fatalf("decode %s: %v", record.Name(), err)
	}
	return value
}
