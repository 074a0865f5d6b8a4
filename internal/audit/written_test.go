package audit_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/audit"
	"civicbus/internal/kafka"
	writer "civicbus/processors/audit"
	"civicbus/topology"

	"github.com/lovoo/goka"
	"github.com/lovoo/goka/tester"
)

var secret = []byte("an audit key for tests, of 32 bytes or more")

// written is a chain of n entries as the audit group itself writes it, in goka's tester: decisions and results of a few subjects.
func written(t testing.TB, n int) (*codecs.Records, [][]byte) {
	t.Helper()
	records, log := writtenAs(t, 1, n, nothing)
	if len(log[0]) != n {
		t.Fatalf("%d entries, want %d", len(log[0]), n)
	}
	return records, log[0]
}

// inPartition is a record's context in another partition than goka's tester, which has one, would say.
type inPartition struct {
	gokaContext
	partition int32
}

type gokaContext = goka.Context // has a method Context, which a field of that name would hide

func (c inPartition) Partition() int32 { return c.partition }

// writtenAs is written in as many chains as there are partitions, with decisions or, each fourth time, results, and what the engine
// says that each follows, as change makes them. A chain has more or fewer of the entries, as the subjects' keys have it.
func writtenAs(t testing.TB, partitions int32, n int, change func(i int, d *codecs.Decision, r *codecs.CommandResult, follows *uint64)) (*codecs.Records, [][][]byte) {
	t.Helper()
	records := codecs.NewRecords()
	must(t, records.BindLocal())
	keys, err := writer.NewKeys(secret)
	must(t, err)
	chains := map[string][]byte{}
	g := writer.New(writer.Env{Records: records, Keys: keys, Now: time.Now, Partitions: partitions,
		Row:    func(_ int32, key string) ([]byte, error) { return chains[key], nil },
		SetRow: func(_ int32, key string, row []byte) error { chains[key] = row; return nil }})
	callbacks := topology.Callbacks{}
	for topic, callback := range g.Callbacks() {
		callbacks[topic] = func(ctx goka.Context, msg any) {
			callback(inPartition{ctx, kafka.Partition([]byte(ctx.Key()), partitions)}, msg)
		}
	}
	graph, err := topology.Build(topology.Audit, callbacks)
	must(t, err)
	k := tester.New(t)
	p, err := goka.NewProcessor(nil, graph, goka.WithTester(k))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	queue := k.NewQueueTracker(topology.AuditLog.Name)
	offsets := map[string]uint64{}                           // the next one of a topic: the tester counts them itself, from 0 on
	behind := map[string]uint64{}                            // the offset after the last record of a topic's partition
	follow := func(topic, subject string) (string, uint64) { // where the record goes, and what it follows there
		at := fmt.Sprintf("%s/%d", topic, kafka.Partition([]byte(subject), partitions))
		return at, behind[at]
	}
	for i := range n {
		topic, subject := topology.Decisions.Name, fmt.Sprintf("k1.subject-%d", i%(4*int(partitions)+1))
		decision := codecs.Decision{Kind: "router", Topic: "life.address", Offset: int64(i), Follows: int64(i), Outcome: "decided", EventType: "fi.dvv.person.address.changed",
			Verdicts: []codecs.VerdictItem{{Subscription: "sub-1", Subscriber: "kela.fi", Permit: i%3 > 0, Reason: "rule", Basis: "legal_obligation"}}}
		result := codecs.CommandResult{Stream: "consent-commands", Kind: "grant", Status: "accepted", Actor: "x", Version: int64(i)}
		if i%4 == 3 {
			topic = topology.CommandResults.Name
		}
		at, follows := follow(topic, subject)
		change(i, &decision, &result, &follows)
		value, err := records.Decision.Encode(&decision)
		if i%4 == 3 {
			value, err = records.CommandResult.Encode(&result)
		}
		must(t, err)
		k.Consume(topic, subject, value, tester.WithHeaders(goka.Headers{kafka.FollowsHeader: binary.BigEndian.AppendUint64(nil, follows)}))
		offsets[topic]++
		behind[at] = offsets[topic]
	}
	log := make([][][]byte, partitions)
	for {
		key, value, ok := queue.NextRaw()
		if !ok {
			break
		}
		at := kafka.Partition([]byte(key), partitions)
		log[at] = append(log[at], value)
	}
	cancel()
	must(t, <-ended)
	return records, log
}

func nothing(int, *codecs.Decision, *codecs.CommandResult, *uint64) {}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// offsetOf is where the i-th record of a partition stands: transactions leave gaps.
func offsetOf(i int) int64 { return 5 + 3*int64(i) }

// walk verifies one partition of a log.
func walk(records *codecs.Records, keys *audit.Keys, partition int, values [][]byte, heads []codecs.AuditHead) *audit.Finding {
	c := audit.NewChain(int32(partition), keys, records.AuditEntry.Decode, heads, 0)
	for i, v := range values {
		c.Add(offsetOf(i), v)
	}
	return c.Finding()
}

// headsOf signs where each chain ends.
func headsOf(keys *audit.Keys, log [][][]byte) (heads []codecs.AuditHead) {
	for p, values := range log {
		hash := sha256.Sum256(values[len(values)-1])
		heads = append(heads, keys.Sign(int32(p), int64(len(values)), hash[:], 1))
	}
	return heads
}
