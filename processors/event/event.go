// Package event is what the groups that handle event records (profile, router) have in common: the envelope, the key that
// must fit its partition, the way into the dead letters, and the decision of a record that gets no verdicts.
package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/internal/verdict"
	"civicbus/topology"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Outcomes of a decision that has no verdicts, which are also the causes of dead letters where there is one. Closed list.
const (
	Decided       = "decided"
	Repeat        = "repeat"         // the same (source, id, subject) was admitted within a day: dropped
	Malformed     = "malformed"      // headers or body are not what they must be
	Misplaced     = "misplaced"      // the key belongs to another partition: it was not written by admission
	UnknownType   = "unknown_type"   // the catalog does not have the type
	UnknownSchema = "unknown_schema" // the registry does not know the schema id
	RowUnreadable = "row_unreadable" // the subject's own row cannot be decoded
)

// maxBytes bounds an event record and the dead letter of one, with room for what is added to it on its way. Admission lets in
// less (900 KiB of value); what is larger was written past it, and would fail the transaction that hands it on, for ever.
const maxBytes = topology.MaxRecordBytes - 64<<10

// maxKeyBytes bounds the key that a dead letter keeps. A subject is shorter by far.
const maxKeyBytes = 1 << 10

// Env is what these groups need of the process they run in. Everything in it is safe for concurrent use.
type Env struct {
	Records    *codecs.Records
	Keys       *pseudonym.Keys
	Now        func() time.Time
	Partitions int32 // of every subject-keyed topic
	// Snapshot is compiled from the group's views; the engine hands no record on while they are not current.
	Snapshot func() *verdict.Snapshot
	// Schema is a cached writer schema; ok is false for an id that the registry does not know. It never uses the network.
	Schema func(id int32) (*codecs.Schema, bool)
	// Emit adds a record to the open transaction, on any topic, and keeps nothing of it.
	Emit func(ctx goka.Context, r *kgo.Record)
	// Seen counts decisions; nil: not counted.
	Seen func(kind, outcome string)
}

// Input is a record of an input stream. What it holds must not change while it is handled.
type Input struct {
	Topic     string
	Partition int32
	Offset    int64
	Follows   int64 // the offset after the record that was handled before it in its partition; -1: not known
	Key       string
	Value     []byte
	Headers   []kgo.RecordHeader // of one name the last counts
}

// InputOf is the record that goka calls a callback for.
func InputOf(ctx goka.Context, msg any) Input {
	value, _ := msg.([]byte)
	in := Input{Topic: string(ctx.Topic()), Partition: ctx.Partition(), Offset: ctx.Offset(), Follows: Follows(ctx), Key: ctx.Key(), Value: value}
	for name, v := range ctx.Headers() {
		if name != kafka.FollowsHeader {
			in.Headers = append(in.Headers, kgo.RecordHeader{Key: name, Value: v})
		}
	}
	return in
}

// InputsOf are the records of a run that goka calls a callback for.
func InputsOf(run kafka.Run, in []Input) []Input {
	for i, r := range run.Records {
		in = append(in, Input{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Follows: run.FollowedBy(i),
			Key: unsafe.String(unsafe.SliceData(r.Key), len(r.Key)), Value: r.Value, Headers: r.Headers})
	}
	return in
}

// Record is one event record on its way through a group.
type Record struct {
	Input
	Env      *Env
	Ctx      goka.Context
	Kind     string // of its decisions: the group
	Envelope codecs.Envelope
	Type     *codecs.EventType
	Schema   *codecs.Schema
	Body     []byte

	decision codecs.Decision
	room     []byte // of an encoded decision
}

// Read takes a record apart into r. outcome is Decided if it can be handled, else why it cannot; detail is for people.
func (r *Record) Read(env *Env, ctx goka.Context, kind string, in Input) (outcome, detail string) {
	*r = Record{Env: env, Ctx: ctx, Kind: kind, Input: in, room: r.room}
	size := len(in.Value)
	for i := range in.Headers {
		size += len(in.Headers[i].Key) + len(in.Headers[i].Value)
	}
	if size > maxBytes {
		return Malformed, "it is larger than any event that admission lets in"
	}
	var err error
	if r.Envelope, err = codecs.ParseEnvelope(len(in.Headers), func(i int) (string, []byte) { return in.Headers[i].Key, in.Headers[i].Value }); err != nil {
		return Malformed, err.Error()
	}
	if r.Envelope.Subject != in.Key {
		return Misplaced, "the key is not the subject"
	}
	if !pseudonym.IsSubject(in.Key) {
		return Misplaced, "the key is no subject"
	}
	if kafka.PartitionOf(in.Key, env.Partitions) != in.Partition {
		return Misplaced, "the key belongs to another partition"
	}
	if r.Type = env.Snapshot().EventType(r.Envelope.Type); r.Type == nil {
		return UnknownType, "the catalog has no such type"
	}
	id, body, err := codecs.WireID(in.Value)
	if err != nil {
		return Malformed, err.Error()
	}
	schema, ok := env.Schema(id)
	if !ok {
		return UnknownSchema, "the registry does not know the schema id"
	}
	r.Schema, r.Body = schema, body
	return Decided, ""
}

// Follows is the offset after the record that was handled before this one in its partition.
func Follows(ctx goka.Context) int64 {
	if b := ctx.Headers()[kafka.FollowsHeader]; len(b) == 8 {
		return int64(binary.BigEndian.Uint64(b))
	}
	return -1
}

// Decision begins the record's decision, which is good until the next record is read.
func (r *Record) Decision(outcome string) *codecs.Decision {
	r.decision = codecs.Decision{Kind: r.Kind, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Follows: r.Follows,
		DecidedAt: codecs.Millis(r.Env.Now()), EventType: text(r.Envelope.Type), Source: text(r.Envelope.Source), Role: text(r.Envelope.Role), Outcome: outcome,
		ProfileVersion: r.Envelope.ProfileVersion}
	d := &r.decision
	if r.Envelope.ID != "" && r.Envelope.Source != "" {
		d.LifeEventID = r.Env.Keys.LifeEvent(r.Envelope.Source, r.Envelope.ID)
	}
	if r.Type != nil {
		d.CatalogVersion = r.Type.Version
	}
	return d
}

// Bury writes the record as a dead letter, whole; subscription names the one that it could not be delivered to, empty: all.
func (r *Record) Bury(cause, detail, subscription string) {
	letter := codecs.DeadLetter{Cause: cause, Detail: detail, Group: r.Kind, Topic: r.Topic, Partition: r.Partition,
		Offset: r.Offset, Subscription: subscription, Key: []byte(r.Key), Value: r.Value, At: codecs.Millis(r.Env.Now())}
	for _, h := range r.Headers {
		letter.Headers = append(letter.Headers, codecs.Header{Key: strings.ToValidUTF8(h.Key, "\uFFFD"), Value: h.Value})
	}
	if len(letter.Key) > maxKeyBytes {
		letter.Key, letter.Detail = nil, letter.Detail+"; the key was too large to be kept"
	}
	letter.Fit(maxBytes)
	value, err := r.Env.Records.DeadLetter.Encode(&letter)
	if err != nil {
		r.Ctx.Fail(err)
	}
	r.Env.Emit(r.Ctx, &kgo.Record{Topic: topology.DeadLetters.Name, Key: r.key(), Value: value})
}

// Pause asks the subscription group to pause a subscription. The command's id follows from the record, so that the same record
// tried again asks only once.
func (r *Record) Pause(subscription, reason string) {
	sum := sha256.Sum256([]byte(r.Topic + "/" + strconv.Itoa(int(r.Partition)) + "/" + strconv.FormatInt(r.Offset, 10) + "/" + subscription))
	cmd := codecs.SubscriptionCommand{Meta: codecs.Meta{ID: hex.EncodeToString(sum[:16]), Actor: "civicbus", IssuedAt: codecs.Millis(r.Env.Now())},
		Kind: "pause", Subscription: codecs.Subscription{ID: subscription}, Reason: reason}
	value, err := r.Env.Records.SubscriptionCommand.Encode(&cmd)
	if err != nil {
		r.Ctx.Fail(err)
	}
	r.Env.Emit(r.Ctx, &kgo.Record{Topic: topology.SubscriptionCommands.Name, Key: []byte(subscription), Value: value})
}

// key is the record's key, or a hash of one that civicbus did not make, which may hold anything.
func (r *Record) key() []byte {
	if pseudonym.IsSubject(r.Key) {
		return []byte(r.Key)
	}
	sum := sha256.Sum256([]byte(r.Key))
	return []byte(hex.EncodeToString(sum[:8]))
}

// text is a header's value as a decision may hold it: readable by every Avro library, and no longer than admission lets
// an attribute be.
func text(v string) string {
	const most = 1 << 10
	return strings.ToValidUTF8(v[:min(len(v), most)], "\uFFFD")
}

// Stopped says whether the session is being stopped: a table then answers nil for rows that it has, and nothing may be
// concluded from that. It then also keeps goka from committing the record: the callback returns at once, and the next owner
// handles it again.
func Stopped(ctx goka.Context) bool {
	err := ctx.Context().Err()
	if err == nil {
		return false
	}
	ctx.DeferCommit()(err)
	return true
}
