package command

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/lovoo/goka"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/pseudonym"
	"civicbus/topology"
)

// MaxRowBytes bounds an encoded row, and the value that a dead letter carries: topology.MaxRecordBytes less room for the
// key, the headers and the record's own frame.
const MaxRowBytes = topology.MaxRecordBytes - 64<<10

// Group runs one group's commands. Callback is its goka callback; it is called for one key at a time, as goka does.
type Group[Row, Cmd any] struct {
	Env      Env
	Name     string // of the group, for dead letters
	Rows     *codecs.Record[Row]
	Commands *codecs.Record[Cmd]
	Order    func(*Cmd) Order

	// Key says whether text can be the key of a row at all. What fails it is a dead letter under a key of its own making,
	// because the key may hold what must not stand in any key.
	Key func(text string) bool

	// Names is the id of the row that the command names; nil when commands name none (the key alone does).
	Names func(*Cmd) string

	Ledger func(*Row) Ledger

	// Apply is the pure rule of the group, ledger included.
	Apply func(row *Row, cmd *Cmd, now time.Time) (next *Row, result codecs.CommandResult)
}

// Callback handles one command record: a dead letter if it is none, else one answer, and the row if it changed.
func (g *Group[Row, Cmd]) Callback(ctx goka.Context, msg any) {
	if !g.keyed(ctx.Key()) {
		g.dead(ctx, msg, causeMalformed, "the key is not one of this table")
		return
	}
	if g.Env.Misplaced(ctx) {
		g.dead(ctx, msg, causeMisplaced, "the key belongs to another partition: whoever wrote it must use Kafka's default partitioner (murmur2)")
		return
	}
	value, _ := msg.([]byte)
	if value == nil {
		g.dead(ctx, msg, causeMalformed, "a tombstone is no command")
		return
	}
	cmd, err := g.Commands.Decode(value)
	switch {
	case errors.Is(err, codecs.ErrNotBound):
		ctx.Fail(err)
		return
	case errors.Is(err, codecs.ErrNotLoaded):
		g.dead(ctx, msg, causeUnknownSchema, err.Error())
		return
	case err != nil:
		g.dead(ctx, msg, causeMalformed, err.Error())
		return
	case !wellFormed(reflect.ValueOf(cmd)):
		g.dead(ctx, msg, causeMalformed, "a text that is not UTF-8")
		return
	}
	order := g.Order(&cmd)
	if g.Names != nil && g.Names(&cmd) != ctx.Key() {
		g.answer(ctx, order.refuse(g.Env.Clock(), Refuse(KeyMismatch, "key", "the record's key is the id of the row that the command names")))
		return
	}
	g.Settle(ctx, order, func(row *Row, now time.Time) (*Row, codecs.CommandResult) { return g.Apply(row, &cmd, now) })
}

// Settle reads the row of the record's key, lets decide change it, and writes row and answer. It is for inputs that are
// no command records; Callback uses it for those that are.
func (g *Group[Row, Cmd]) Settle(ctx goka.Context, order Order, decide func(row *Row, now time.Time) (next *Row, result codecs.CommandResult)) {
	now := g.Env.Clock()
	row, err := g.row(ctx)
	if err != nil {
		g.answer(ctx, order.refuse(now, Refuse(RowUnreadable, "", "the row in the table cannot be decoded and is left as it is")))
		return
	}
	next, result := decide(row, now)
	if Stopping(ctx) {
		return // neither the row nor a look-up may have said what is there
	}
	if next == nil {
		g.answer(ctx, result)
		return
	}
	bytes, err := g.Rows.Encode(next)
	if err != nil {
		ctx.Fail(err)
		return
	}
	if len(bytes) > MaxRowBytes {
		refused := order.refuse(now, Refuse(RowTooLarge, "", "the row would not fit into one record"))
		if row != nil {
			refused.Version = *g.Ledger(row).Version
		}
		g.answer(ctx, refused)
		return
	}
	if ctx.SetValue(bytes); flaw.Planted(flaw.WithdrawalTombstone) && order.Kind == "withdraw" {
		ctx.Delete()
	}
	g.answer(ctx, result)
}

// row is the row of the record's key; nil when there is none.
func (g *Group[Row, Cmd]) row(ctx goka.Context) (*Row, error) {
	bytes, _ := ctx.Value().([]byte)
	if bytes == nil {
		return nil, nil
	}
	row, err := g.Rows.Decode(bytes)
	if err != nil {
		return nil, err
	}
	return &row, nil
}

// answer completes a result with its position and emits it.
func (g *Group[Row, Cmd]) answer(ctx goka.Context, result codecs.CommandResult) {
	result.Topic, result.Partition, result.Offset = string(ctx.Topic()), ctx.Partition(), ctx.Offset()
	result.Follows = g.Env.follows(ctx)
	bytes, err := g.Env.Records.CommandResult.Encode(&result)
	if err != nil {
		ctx.Fail(err)
		return
	}
	ctx.Emit(goka.Stream(topology.CommandResults.Name), ctx.Key(), bytes)
}

// Causes of a dead letter.
const (
	causeMalformed     = "malformed"
	causeMisplaced     = "misplaced"
	causeUnknownSchema = "unknown_schema"
)

// keyed says whether a key can be one of the table's: a national id never is, whatever it looks like.
func (g *Group[Row, Cmd]) keyed(key string) bool { return g.Key(key) && !pseudonym.HoldsHetu(key) }

// dead emits the record as a dead letter. detail is for people and holds no personal data. A key that cannot be a row's key
// does not become the dead letter's key, only part of its value.
func (g *Group[Row, Cmd]) dead(ctx goka.Context, msg any, cause, detail string) {
	value, _ := msg.([]byte)
	letter := codecs.DeadLetter{
		Cause: cause, Detail: detail, Group: g.Name,
		Topic: string(ctx.Topic()), Partition: ctx.Partition(), Offset: ctx.Offset(),
		Key: []byte(ctx.Key()), Value: value, Headers: sorted(ctx.Headers()), At: codecs.Millis(g.Env.Clock()),
	}
	letter.Fit(MaxRowBytes)
	bytes, err := g.Env.Records.DeadLetter.Encode(&letter)
	if err != nil {
		ctx.Fail(err)
		return
	}
	key := ctx.Key()
	if !g.keyed(key) {
		key = Position(string(ctx.Topic()), ctx.Partition(), ctx.Offset())
	}
	ctx.Emit(goka.Stream(topology.DeadLetters.Name), key, bytes)
}

func sorted(headers goka.Headers) []codecs.Header {
	list := make([]codecs.Header, 0, len(headers))
	for name, value := range headers {
		list = append(list, codecs.Header{Key: name, Value: value})
	}
	slices.SortFunc(list, func(a, b codecs.Header) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// Position is an id for the record at one place on one topic: 32 hex digits, the same for the same place.
func Position(topic string, partition int32, offset int64) string {
	place := append([]byte(topic), 0)
	place = binary.BigEndian.AppendUint32(place, uint32(partition))
	place = binary.BigEndian.AppendUint64(place, uint64(offset))
	sum := sha256.Sum256(place)
	return hex.EncodeToString(sum[:16])
}

// Stopping says whether the processor is being stopped, in which case a table that answered nil has said nothing. It then
// also keeps goka from committing the record: the callback returns at once, and the next owner handles it again.
func Stopping(ctx goka.Context) bool {
	err := ctx.Context().Err()
	if err == nil {
		return false
	}
	ctx.DeferCommit()(err)
	return true
}
