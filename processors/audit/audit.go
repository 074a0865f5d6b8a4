// Package audit is the goka group that writes the audit log: every decision and every command's result becomes an entry of
// a hash chain, one chain for each partition, and a bounded row by subject says where that subject's last entry is.
//
// Its rules:
//   - An entry has the next number of its chain, the hash of the entry before it, and a MAC under a key that is not on the
//     broker: nothing can be changed, removed, inserted, moved or, against a signed head, cut off without being found.
//   - Where a chain ends is a row of audit-table, written in the transaction that wrote the entry. So it is never ahead of the
//     log nor behind it, and after an abort the same number is written again.
//   - The log holds commitments in place of subjects and actors. A subject's commitments are salted, and the salt stands in
//     its row alone: when the row goes (an erasure), nobody can tell any more whose entries they were, and the chain stays
//     whole. The records' Kafka key is one per chain, for the same reason.
//   - What cannot be decoded is audited too, by its digest, and is a dead letter.
package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/kafka"
	"civicbus/processors/event"
	"civicbus/topology"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Env is what the group needs of the process it runs in. Everything in it is safe for concurrent use.
type Env struct {
	Records    *codecs.Records
	Keys       *Keys
	Now        func() time.Time
	Partitions int32 // of every topic
	// Row and SetRow read and write a row of the group's own table beside the record's own; see kafka.Engine.OwnRow.
	Row    func(partition int32, key string) ([]byte, error)
	SetRow func(partition int32, key string, row []byte) error
}

// ErrOtherKey says that a chain was begun under another audit key: what this process would add could not be verified.
var ErrOtherKey = errors.New("the audit key is not the one that the chain is written under")

// Group handles the inputs of the group. Its callbacks are safe for concurrent use.
type Group struct {
	env    Env
	chains []string           // the key of each partition's chain
	kept   []*codecs.AuditRow // of a planted flaw alone
}

// New makes the group's callbacks.
func New(env Env) *Group {
	g := &Group{env: env, kept: make([]*codecs.AuditRow, env.Partitions)}
	for p := range env.Partitions {
		g.chains = append(g.chains, ChainKey(p, env.Partitions))
	}
	return g
}

// chainMark begins the key of every chain. No subject and no id of a row begins with it.
const chainMark = "~chain."

// ChainKey is the Kafka key of the entries of partition p, and of the row that says where its chain ends: one that Kafka's
// default partitioner puts there.
func ChainKey(p, partitions int32) string {
	for i := 0; ; i++ {
		key := chainMark + strconv.Itoa(int(p)) + "." + strconv.Itoa(i)
		if kafka.Partition([]byte(key), partitions) == p {
			return key
		}
	}
}

// Callbacks names a callback for each input of the group on the map.
func (g *Group) Callbacks() topology.Callbacks {
	return topology.Callbacks{topology.Decisions.Name: g.decided, topology.CommandResults.Name: g.commanded}
}

// decided audits one decision.
func (g *Group) decided(ctx goka.Context, msg any) {
	value, _ := msg.([]byte)
	if flaw.Planted(flaw.EntrySkipped) && ctx.Offset()%5 == 3 {
		return
	}
	d, err := g.env.Records.Decision.Decode(value)
	if err != nil {
		g.unreadable(ctx, value, err)
		return
	}
	g.add(ctx, value, func([]byte) []codecs.AuditEntry { return decision(&d) })
}

// commanded audits one command's result. After an accepted erasure the subject's row goes, with the salt of its entries.
func (g *Group) commanded(ctx goka.Context, msg any) {
	value, _ := msg.([]byte)
	r, err := g.env.Records.CommandResult.Decode(value)
	if err != nil {
		g.unreadable(ctx, value, err)
		return
	}
	added := g.add(ctx, value, func(salt []byte) []codecs.AuditEntry { return []codecs.AuditEntry{g.env.Keys.result(&r, salt)} })
	if added && r.Stream == topology.ConsentCommands.Name && r.Kind == "erase" && r.Status == accepted && g.keyed(ctx) {
		ctx.Delete()
	}
}

// unreadable audits a record that cannot be decoded, and keeps it as a dead letter.
func (g *Group) unreadable(ctx goka.Context, value []byte, cause error) {
	if errors.Is(cause, codecs.ErrNotBound) {
		ctx.Fail(cause)
	}
	if !g.add(ctx, value, func([]byte) []codecs.AuditEntry {
		return []codecs.AuditEntry{{Kind: Unreadable, Topic: string(ctx.Topic()), Partition: ctx.Partition(), Offset: ctx.Offset(), Follows: event.Follows(ctx),
			At: codecs.Millis(g.env.Now()), Outcome: event.Malformed}}
	}) {
		return
	}
	r := event.Record{Env: &event.Env{Records: g.env.Records, Now: g.env.Now, Emit: emit}, Ctx: ctx, Kind: topology.Audit.Name, Input: event.InputOf(ctx, value)}
	r.Bury(event.Malformed, cause.Error(), "")
}

func emit(ctx goka.Context, r *kgo.Record) { ctx.Emit(goka.Stream(r.Topic), string(r.Key), r.Value) }

// keyed says whether the record's key can have a row: it belongs to this partition and is no chain's.
func (g *Group) keyed(ctx goka.Context) bool {
	key := ctx.Key()
	return key != "" && !strings.HasPrefix(key, chainMark) && kafka.Partition([]byte(key), g.env.Partitions) == ctx.Partition()
}

// add puts entries at the end of the partition's chain and notes in the subject's row where they are. entriesOf is given the salt of the
// subject's commitments. false: the session is ending, and nothing was done that will be committed.
func (g *Group) add(ctx goka.Context, value []byte, entriesOf func(salt []byte) []codecs.AuditEntry) bool {
	p, keyed := ctx.Partition(), g.keyed(ctx)
	head, err := g.head(p)
	var row codecs.AuditRow
	if keyed && err == nil {
		row, err = g.row(ctx)
	}
	if event.Stopped(ctx) {
		return false
	}
	if err != nil {
		ctx.Fail(fmt.Errorf("audit %s/%d at %d: %w", ctx.Topic(), p, ctx.Offset(), err))
	}
	entries := entriesOf(row.Salt)
	place(entries, input{string(ctx.Topic()), ctx.Offset(), event.Follows(ctx)}, value)
	for i := range entries {
		e := &entries[i]
		e.Number, e.Previous, e.KeyID = head.Number+1, head.Hash, g.env.Keys.id
		if keyed {
			e.Before, e.Subject = row.Number, g.env.Keys.commitment(row.Salt, ctx.Key())
			row.Number = e.Number
		}
		head = g.write(ctx, e)
	}
	g.keep(ctx, head, row, keyed)
	return true
}

// head is where the partition's chain ends; the zero row before its first entry.
func (g *Group) head(p int32) (head codecs.AuditRow, err error) {
	if flaw.Planted(flaw.ChainInMemory) && g.kept[p] != nil {
		return *g.kept[p], nil
	}
	b, err := g.env.Row(p, g.chains[p])
	if b == nil || err != nil {
		return head, err
	}
	if head, err = g.env.Records.AuditRow.Decode(b); err != nil {
		return head, fmt.Errorf("read where the chain ends: %w", err)
	}
	if head.KeyID != g.env.Keys.id {
		return head, ErrOtherKey
	}
	return head, nil
}

// row is the row of the record's key; a new one has a salt and no entry. One that cannot be decoded begins anew: its old
// entries stay in the log, but the subject's walk ends before them.
func (g *Group) row(ctx goka.Context) (codecs.AuditRow, error) {
	if b, _ := ctx.Value().([]byte); b != nil {
		if row, err := g.env.Records.AuditRow.Decode(b); err == nil && len(row.Salt) == saltBytes {
			return row, nil
		} else if errors.Is(err, codecs.ErrNotBound) {
			return row, err
		}
	}
	row := codecs.AuditRow{Salt: make([]byte, saltBytes)}
	_, _ = rand.Read(row.Salt) // never fails (crypto/rand)
	return row, nil
}

// saltBytes makes a salt as long as what it hides can be guessed by: a pseudonym has 16 bytes.
const saltBytes = 16

// write emits one entry and returns where the chain then ends.
func (g *Group) write(ctx goka.Context, e *codecs.AuditEntry) codecs.AuditRow {
	open, err := g.env.Records.AuditEntry.Encode(e)
	if err != nil {
		ctx.Fail(err)
	}
	sealed := g.env.Keys.seal(ctx.Partition(), open)
	ctx.Emit(goka.Stream(topology.AuditLog.Name), g.chains[ctx.Partition()], sealed)
	hash := sha256.Sum256(sealed)
	return codecs.AuditRow{Number: e.Number, Hash: hash[:], KeyID: g.env.Keys.id}
}

// keep writes the rows: the chain's and, if there is one, the subject's.
func (g *Group) keep(ctx goka.Context, head, row codecs.AuditRow, keyed bool) {
	if flaw.Planted(flaw.ChainInMemory) {
		g.kept[ctx.Partition()] = &head
	}
	b, err := g.env.Records.AuditRow.Encode(&head)
	if err == nil {
		err = g.env.SetRow(ctx.Partition(), g.chains[ctx.Partition()], b)
	}
	if err == nil && keyed {
		if b, err = g.env.Records.AuditRow.Encode(&row); err == nil {
			ctx.SetValue(b)
		}
	}
	if err != nil && !event.Stopped(ctx) {
		ctx.Fail(err)
	}
}
