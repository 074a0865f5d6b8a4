// Package event is what the groups that handle event records (profile, router) have in common: the envelope, the key that
// must fit its partition, the way into the dead letters, and the decision of a record that gets no verdicts.
package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"

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
	// Emit adds a record to the open transaction, on any topic.
	Emit func(ctx goka.Context, r *kgo.Record)
	// Seen counts decisions; nil: not counted.
	Seen func(kind, outcome string)
}

// Record is one event record on its way through a group.
type Record struct {
	Env      *Env
	Ctx      goka.Context
	Kind     string // of its decisions: the group
	Value    []byte
	Envelope codecs.Envelope
	Type     *codecs.EventType
	Schema   *codecs.Schema
	Body     []byte
}

// Read takes a record apart. outcome is Decided if it can be handled, else why it cannot; detail is for people.
func Read(env *Env, ctx goka.Context, kind string, msg any) (r *Record, outcome, detail string) {
	r = &Record{Env: env, Ctx: ctx, Kind: kind}
	r.Value, _ = msg.([]byte)
	h := ctx.Headers()
	var err error
	if r.Envelope, err = codecs.ParseEnvelope(func(name string) []byte { return h[name] }); err != nil {
		return r, Malformed, err.Error()
	}
	if r.Envelope.Subject != ctx.Key() {
		return r, Misplaced, "the key is not the subject"
	}
	if !pseudonym.IsSubject(ctx.Key()) {
		return r, Misplaced, "the key is no subject"
	}
	if kafka.Partition([]byte(ctx.Key()), env.Partitions) != ctx.Partition() {
		return r, Misplaced, "the key belongs to another partition"
	}
	if r.Type = env.Snapshot().EventType(r.Envelope.Type); r.Type == nil {
		return r, UnknownType, "the catalog has no such type"
	}
	id, body, err := codecs.WireID(r.Value)
	if err != nil {
		return r, Malformed, err.Error()
	}
	schema, ok := env.Schema(id)
	if !ok {
		return r, UnknownSchema, "the registry does not know the schema id"
	}
	r.Schema, r.Body = schema, body
	return r, Decided, ""
}

// Follows is the offset after the record that was handled before this one in its partition.
func Follows(ctx goka.Context) int64 {
	if b := ctx.Headers()[kafka.FollowsHeader]; len(b) == 8 {
		return int64(binary.BigEndian.Uint64(b))
	}
	return -1
}

// Decision begins the record's decision.
func (r *Record) Decision(outcome string) *codecs.Decision {
	d := &codecs.Decision{Kind: r.Kind, Topic: string(r.Ctx.Topic()), Partition: r.Ctx.Partition(), Offset: r.Ctx.Offset(), Follows: Follows(r.Ctx),
		DecidedAt: codecs.Millis(r.Env.Now()), EventType: r.Envelope.Type, Source: r.Envelope.Source, Role: r.Envelope.Role, Outcome: outcome,
		ProfileVersion: r.Envelope.ProfileVersion}
	if r.Envelope.ID != "" && r.Envelope.Source != "" {
		d.LifeEventID = r.Env.Keys.LifeEvent(r.Envelope.Source, r.Envelope.ID)
	}
	if r.Type != nil {
		d.CatalogVersion = r.Type.Version
	}
	return d
}

// Decide writes the decision.
func (r *Record) Decide(d *codecs.Decision) {
	value, err := r.Env.Records.Decision.Encode(d)
	if err != nil {
		r.Ctx.Fail(err) // a struct of ours that does not fit our own schema is a bug
	}
	r.Env.Emit(r.Ctx, &kgo.Record{Topic: topology.Decisions.Name, Key: []byte(r.Ctx.Key()), Value: value})
	if r.Env.Seen != nil {
		r.Env.Seen(r.Kind, d.Outcome)
	}
}

// Bury writes the record as a dead letter, whole; subscription names the one that it could not be delivered to, empty: all.
func (r *Record) Bury(cause, detail, subscription string) {
	letter := codecs.DeadLetter{Cause: cause, Detail: detail, Group: r.Kind, Topic: string(r.Ctx.Topic()), Partition: r.Ctx.Partition(),
		Offset: r.Ctx.Offset(), Subscription: subscription, Key: []byte(r.Ctx.Key()), Value: r.Value, At: codecs.Millis(r.Env.Now())}
	for name, v := range r.Ctx.Headers() {
		if name != kafka.FollowsHeader {
			letter.Headers = append(letter.Headers, codecs.Header{Key: name, Value: v})
		}
	}
	value, err := r.Env.Records.DeadLetter.Encode(&letter)
	if err != nil {
		r.Ctx.Fail(err)
	}
	key := []byte(r.Ctx.Key())
	if !pseudonym.IsSubject(r.Ctx.Key()) { // a key that civicbus did not make may hold anything
		sum := sha256.Sum256(key)
		key = []byte(hex.EncodeToString(sum[:8]))
	}
	r.Env.Emit(r.Ctx, &kgo.Record{Topic: topology.DeadLetters.Name, Key: key, Value: value})
}

// Stopped says whether the session is being stopped: a table then answers nil for rows that it has, and nothing may be
// concluded from that. What the callback did is not committed.
func Stopped(ctx goka.Context) bool { return ctx.Context().Err() != nil }
