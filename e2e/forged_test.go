package e2e

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// forged is a record that civicbus did not write, made from one that it did.
type forged struct {
	name    string
	outcome string // of the decision; where it is not decided, the cause of a dead letter too
	change  func(r *kgo.Record)
}

func setHeader(name, value string) func(*kgo.Record) {
	return func(r *kgo.Record) {
		r.Headers = append(withoutHeader(r.Headers, name), kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
}

func withoutHeader(hs []kgo.RecordHeader, name string) []kgo.RecordHeader {
	return slices.DeleteFunc(slices.Clone(hs), func(h kgo.RecordHeader) bool { return h.Key == name })
}

func setValue(change func(value []byte) []byte) func(*kgo.Record) {
	return func(r *kgo.Record) { r.Value = change(slices.Clone(r.Value)) }
}

// fill makes the record as large as a topic takes, by its value or by a header.
func fill(header string) func(*kgo.Record) {
	return func(r *kgo.Record) {
		r.Value = nil
		room := topology.MaxRecordBytes - len(r.Key) - 256
		for _, h := range r.Headers {
			room -= len(h.Key) + len(h.Value) + 8
		}
		if header == "" {
			r.Value = bytes.Repeat([]byte{9}, room)
		} else {
			setHeader(header, strings.Repeat("x", room))(r)
		}
	}
}

// forgeries are all of them. secret is a national id, which must turn up nowhere (canary); other is another person's subject.
func (b *bus) forgeries(secret, other string) []forged {
	noise := make([]byte, 300)
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(noise)
	return []forged{
		{"another partition's key", "misplaced", func(r *kgo.Record) { r.Partition = (r.Partition + 1) % b.cfg.Shape.Partitions }},
		{"a key that is a national id", "misplaced", func(r *kgo.Record) { r.Key = []byte(secret); setHeader(codecs.HeaderSubject, secret)(r) }},
		{"no key", "misplaced", func(r *kgo.Record) { r.Key = nil }},
		{"a key of control characters", "misplaced", func(r *kgo.Record) { r.Key = []byte("__offset\x00\xff") }},
		{"another subject in the headers", "misplaced", setHeader(codecs.HeaderSubject, other)},
		{"no headers at all", "malformed", func(r *kgo.Record) { r.Headers = nil }},
		{"no id", "malformed", func(r *kgo.Record) { r.Headers = withoutHeader(r.Headers, codecs.HeaderID) }},
		{"a national id for a version", "malformed", setHeader(codecs.HeaderSpecVersion, secret)},
		{"an index that is none", "malformed", setHeader(codecs.HeaderSubjectIndex, "-1")},
		{"a profile version that is none", "malformed", setHeader(codecs.HeaderProfileVersion, "new")},
		{"a type that nobody has", "unknown_type", setHeader(codecs.HeaderType, "fi.nobody.nothing")},
		{"a type that is no text", "unknown_type", setHeader(codecs.HeaderType, "\xff\xfe\x00")},
		{"a type without end", "malformed", fill(codecs.HeaderType)},
		{"a tombstone", "malformed", func(r *kgo.Record) { r.Value = nil }},
		{"no bytes", "malformed", func(r *kgo.Record) { r.Value = []byte{} }},
		{"no magic byte", "malformed", setValue(func(v []byte) []byte { return v[5:] })},
		{"half a header", "malformed", setValue(func(v []byte) []byte { return v[:3] })},
		{"noise", "malformed", setValue(func(v []byte) []byte { return append([]byte{7}, noise...) })},
		{"noise under a known schema", "malformed", setValue(func(v []byte) []byte { return append(v[:5], bytes.Repeat([]byte{0xff}, 200)...) })},
		{"a length of 2^62", "malformed", setValue(func(v []byte) []byte { return binary.AppendVarint(v[:5], 1<<62) })},
		{"a length below zero", "malformed", setValue(func(v []byte) []byte { return binary.AppendVarint(v[:5], -5) })},
		{"a truncated body", "malformed", setValue(func(v []byte) []byte { return v[:len(v)*2/3] })},
		{"a megabyte of version", "malformed", fill(codecs.HeaderSpecVersion)},
		{"a megabyte of key", "misplaced", func(r *kgo.Record) { r.Key, r.Value = bytes.Repeat([]byte{'k'}, 1_040_000), nil }},
		{"a header that is no text", "malformed", func(r *kgo.Record) { r.Value = nil; setHeader("\xff\xfe", "x")(r) }},
		{"a megabyte of noise", "malformed", fill("")},
		{"a list of nobody", "", setHeader(codecs.HeaderAuthorized, ",,\xff,")},
		{"a profile that is none", "", setHeader(codecs.HeaderProfile, "no profile")},
		{"a source that is no text", "", setHeader(codecs.HeaderSource, "\xc3\x28")},
		{"an id without end", "", setHeader(codecs.HeaderID, strings.Repeat("i", 500_000))},
		{"a role without end", "", setHeader(codecs.HeaderSubjectRole, strings.Repeat("r", 900_000))},
		{"another record's schema", "", setValue(func(v []byte) []byte { return append(codecs.AppendWire(nil, b.records.Decision.ID()), v[5:]...) })},
	}
}

// TestForged writes past admission, which Kafka's ACLs forbid to all but the bus: onto an event stream and onto admitted.
// Whatever it is, it becomes a decision and, unless it can be decided, a dead letter; its partition goes on, and so do
// the others while a schema id that nobody knows is waited for.
func TestForged(t *testing.T) {
	b := start(t)
	b.smallWorld()
	who, elsewhere := b.someone(0, 0), b.someone(100, 1)
	b.accept(register, moved("genuine", who, "1"), moved("genuine-too", elsewhere, "2"))
	b.decision("genuine", who)
	b.decision("genuine-too", elsewhere)
	secret := person(333)
	raw, err := b.cfg.Connection.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(topology.MaxRecordBytes))
	b.must(err)
	defer raw.Close()
	ours := map[string]bool{} // what this test wrote past admission
	write := func(r *kgo.Record) *kgo.Record {
		b.t.Helper()
		b.must(raw.ProduceSync(b.t.Context(), r).FirstErr())
		ours[origin(r)] = true
		return r
	}
	genuine := map[string]*kgo.Record{}
	for _, topic := range []string{"admitted", "life.address"} {
		for _, r := range b.read(topic) {
			if r.Partition == 0 {
				genuine[topic] = &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers}
			}
		}
	}
	var unknown []*kgo.Record // held for ten seconds; in partition 1
	for topic, g := range genuine {
		r := &kgo.Record{Topic: topic, Partition: 1, Key: []byte(b.subjectOf(elsewhere)), Headers: g.Headers, Value: append(codecs.AppendWire(nil, 4_000_000), g.Value[5:]...)}
		setHeader(codecs.HeaderSubject, b.subjectOf(elsewhere))(r)
		setHeader(codecs.HeaderID, "unknown-schema")(r)
		unknown = append(unknown, write(r))
	}
	b.accept(register, moved("behind-the-unknown", elsewhere, "3"), moved("beside-the-unknown", who, "4"))
	b.want(b.decision("beside-the-unknown", who), agencySub, "permit rule")
	if _, early := b.decided("behind-the-unknown", elsewhere); early {
		b.t.Error("an event was decided before the one in front of it whose schema is waited for")
	}
	for topic, g := range genuine {
		for _, f := range b.forgeries(secret, b.subjectOf(elsewhere)) {
			b.sub(topic+"/"+f.name, func() {
				r := &kgo.Record{Topic: topic, Key: g.Key, Value: g.Value, Headers: slices.Clone(g.Headers)}
				setHeader(codecs.HeaderID, "forged "+f.name)(r) // no repeat
				f.change(r)
				b.buried(write(r), f.outcome)
			})
		}
	}
	b.accept(register, moved("after", who, "5"))
	b.want(b.decision("after", who), agencySub, "permit rule")
	for _, r := range unknown {
		b.buried(r, "unknown_schema")
	}
	b.want(b.decision("behind-the-unknown", elsewhere), agencySub, "permit rule")
	b.sub("commands", func() { b.forgedCommands(write, secret) })
	b.caughtUp()
	b.sub("canary", func() { b.noTrace(ours, secret, who, elsewhere) })
}

// buried waits for a record's decision, and for its dead letter where it could not be decided.
func (b *bus) buried(r *kgo.Record, outcome string) {
	b.t.Helper()
	kind := "router"
	if r.Topic == "admitted" {
		kind = "profile"
	}
	at := func(topic string, partition int32, offset int64) bool {
		return topic == r.Topic && partition == r.Partition && offset == r.Offset
	}
	if outcome != "" {
		var letter codecs.DeadLetter
		b.eventually("a dead letter", func() (ok bool) {
			letter, ok = b.letters.find(func(_ string, l *codecs.DeadLetter) bool {
				return at(l.Topic, l.Partition, l.Offset) && l.Group == kind
			})
			return ok
		})
		if letter.Cause != outcome {
			b.t.Errorf("dead letter: %s (%s), want %s", letter.Cause, letter.Detail, outcome)
		}
		if len(r.Value) < 900<<10 && !bytes.Equal(letter.Value, r.Value) {
			b.t.Error("the dead letter does not have the record's value")
		}
	}
	if outcome == "" && kind == "profile" { // published, and decided by the router
		b.caughtUp()
		return
	}
	var d codecs.Decision
	b.eventually("a decision", func() (ok bool) {
		d, ok = b.decisions.find(func(_ string, d *codecs.Decision) bool { return at(d.Topic, d.Partition, d.Offset) && d.Kind == kind })
		return ok
	})
	if outcome != "" && d.Outcome != outcome {
		b.t.Errorf("decision: %s, want %s", d.Outcome, outcome)
	}
}

// forgedCommands writes what is no command onto every command stream, and what is no event onto an inbox.
func (b *bus) forgedCommands(write func(*kgo.Record) *kgo.Record, secret string) {
	b.t.Helper()
	inbox := topology.InboxTopicName(register)
	for _, topic := range []string{"catalog-commands", "trust-commands", "subscription-commands", "consent-commands", inbox} {
		for _, r := range []*kgo.Record{
			{Key: []byte(secret), Value: []byte("no command")},
			{Key: []byte("kela.fi"), Value: bytes.Repeat([]byte{9}, topology.MaxRecordBytes-256)},
			{Key: []byte("x\x00\xff"), Value: append(codecs.AppendWire(nil, b.records.Decision.ID()), 0xff, 0xff)},
			{},
		} {
			r.Topic = topic
			write(r)
			b.eventually("a dead letter of "+topic, func() bool {
				_, ok := b.letters.find(func(_ string, l *codecs.DeadLetter) bool {
					if topic == inbox {
						return l.Group == "admission" && slices.ContainsFunc(l.Headers, func(h codecs.Header) bool {
							return h.Key == "civicbus_origin" && string(h.Value) == origin(r)
						})
					}
					return l.Topic == r.Topic && l.Partition == r.Partition && l.Offset == r.Offset
				})
				return ok
			})
		}
	}
}
