// Package command is what the four reference-data groups have in common: a stream of commands that changes one row each,
// a table, an answer for every command, a dead letter for what is no command.
//
// Its rules:
//   - The row is decided by a pure function of (row, command, look-ups, time); Kafka is in callback.go alone.
//   - An accepted command is remembered by its id, the last MaxApplied of a row. A repeat changes nothing and is answered
//     with the version that the first was answered with. A refused command has changed nothing and is not remembered: a
//     repeat of it is judged as things are then. (Remembering refusals would let refusals push the accepted ids out.)
//   - A change raises the row's version by one. A command that is accepted and finds nothing to change keeps the version;
//     only its id is added, so that a late repeat of it cannot undo what came between.
//   - A row that cannot be decoded is never overwritten; every command on it is refused.
//   - Every answer goes to command-results under the command's key, so it stays in order with the row.
package command

import (
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/pseudonym"
)

// Bounds of what is remembered of commands, and of what answers them.
const (
	MaxApplied   = 16  // ids of accepted commands that a row holds: a client repeats one of its last few
	MaxIDBytes   = 128 // of a command id and of an actor
	MaxFaults    = 32  // in one answer
	MaxFaultText = 512 // bytes of each text of a fault; longer ones are cut
)

// Reasons for refusal that every group shares. Each group adds its own closed list.
const (
	InvalidCommand  = "invalid_command"  // the command's id or actor is missing, too long, or not plain text
	UnknownKind     = "unknown_kind"     // the group knows no such kind of command
	VersionConflict = "version_conflict" // IfVersion is not the row's version; the answer holds the row's
	KeyMismatch     = "key_mismatch"     // the record's key is not the id of the row that the command names
	RowUnreadable   = "row_unreadable"   // the row in the table cannot be decoded; it is left as it is
	RowTooLarge     = "row_too_large"    // the row would not fit into one record
	NotFound        = "not_found"        // there is no such row
)

// Statuses of a CommandResult.
const (
	Accepted = "accepted"
	Refused  = "refused"
)

// Refusal says why a command changes nothing. The zero value means that it is accepted.
type Refusal struct {
	Reason string         // one of the group's closed list
	Faults []codecs.Fault // what is wrong, where, and what would be right
}

// Refuse makes a refusal with one fault of the same reason. Text never holds personal data.
func Refuse(reason, field, text string) Refusal {
	return Refusal{Reason: reason, Faults: []codecs.Fault{{Field: field, Reason: reason, Text: text}}}
}

// RefuseAll makes a refusal out of the first MaxFaults faults: the first gives the reason. No faults: accepted.
func RefuseAll(faults []codecs.Fault) Refusal {
	if len(faults) == 0 {
		return Refusal{}
	}
	kept := slices.Clone(faults[:min(len(faults), MaxFaults)])
	for i := range kept {
		kept[i].Field, kept[i].Text = clip(kept[i].Field), clip(kept[i].Text)
	}
	return Refusal{Reason: kept[0].Reason, Faults: kept}
}

// Ledger points at the fields of a row that this package keeps; the rest of the row is the group's.
type Ledger struct {
	Version   *int64
	IDs       *[]string // of the last MaxApplied accepted commands, oldest first
	Versions  *[]int64  // what each of them was answered with
	UpdatedAt *int64    // Unix milliseconds
}

// Order is one command as this package sees it.
type Order struct {
	Meta   codecs.Meta
	Stream string // the stream that it stood on
	Kind   string
}

// answer begins the result of an order, as if it were accepted. What cannot be an id, an actor or a kind is left out: a
// result is kept for years, and must not keep what does not belong there.
func (o Order) answer(now time.Time) codecs.CommandResult {
	result := codecs.CommandResult{Stream: o.Stream, Status: Accepted, At: codecs.Millis(now)}
	if plainID(o.Meta.ID) {
		result.CommandID = o.Meta.ID
	}
	if plainID(o.Meta.Actor) {
		result.Actor = o.Meta.Actor
	}
	if plainID(o.Kind) {
		result.Kind = o.Kind
	}
	return result
}

// refuse is the result of an order that is refused.
func (o Order) refuse(now time.Time, refusal Refusal) codecs.CommandResult {
	result := o.answer(now)
	result.Status, result.Reason, result.Faults = Refused, refusal.Reason, refusal.Faults
	return result
}

// plainID says whether text can be a command's id or actor. A personal identity code is neither.
func plainID(text string) bool {
	return text != "" && Plain(text, MaxIDBytes) && !pseudonym.HoldsHetu(text)
}

// Rule decides what a row becomes. row is nil when there is none. It returns nil for a row that stays as it is, and must
// change neither row nor anything that row points to. It leaves the ledger alone; the next version is Next(row's version).
type Rule[Row any] func(row *Row) (next *Row, refusal Refusal)

// Next is the version that a row has after its next change; version is 0 for a row that is not there.
func Next(version int64) int64 { return version + 1 }

// Decide applies one command to a row, purely. next is nil when the table stays as it is: the command was refused, is a
// repeat, or found no row and nothing to change. The result lacks its position (Topic, Partition, Offset, Follows).
func Decide[Row any](row *Row, ledger func(*Row) Ledger, order Order, now time.Time, rule Rule[Row]) (next *Row, result codecs.CommandResult) {
	result = order.answer(now)
	var have Ledger
	if row != nil {
		have = ledger(row)
		result.Version = *have.Version
		if at := slices.Index(*have.IDs, order.Meta.ID); at >= 0 && order.Meta.ID != "" && !flaw.Planted(flaw.CommandRepeated) {
			result.Version = answered(have, at)
			return nil, result
		}
	}
	refusal := admit(order, result.Version)
	if refusal.Reason == "" {
		next, refusal = rule(row)
	}
	if refusal.Reason != "" {
		result.Status, result.Reason, result.Faults = Refused, refusal.Reason, refusal.Faults
		return nil, result
	}
	if next != nil {
		result.Version = Next(result.Version)
		keep := ledger(next)
		*keep.UpdatedAt = result.At
		*keep.Version = result.Version
	} else if row != nil {
		same := *row
		next = &same
	} else {
		return nil, result
	}
	remember(have, ledger(next), order.Meta.ID, result.Version)
	return next, result
}

// admit refuses what no group may accept.
func admit(order Order, version int64) Refusal {
	switch {
	case !plainID(order.Meta.ID):
		return Refuse(InvalidCommand, "meta.id", "a command has an id of 1 to 128 bytes of plain text, so that a repeat can be told")
	case !plainID(order.Meta.Actor):
		return Refuse(InvalidCommand, "meta.actor", "a command names who asks, in 1 to 128 bytes of plain text, and never by a personal identity code")
	case order.Meta.IfVersion == codecs.IfAbsent && version != 0:
		return Refuse(VersionConflict, "meta.ifVersion", "there is a row already")
	case order.Meta.IfVersion != 0 && order.Meta.IfVersion != codecs.IfAbsent && order.Meta.IfVersion != version:
		return Refuse(VersionConflict, "meta.ifVersion", "the row has changed since; read it again")
	}
	return Refusal{}
}

// answered is the version that the id at the given place was answered with. A row of a writer that kept no versions has
// none; its current version is then the best that is known.
func answered(have Ledger, at int) int64 {
	if len(*have.Versions) == len(*have.IDs) {
		return (*have.Versions)[at]
	}
	return *have.Version
}

// remember writes the ids of the row before, and the new one, into the row after. It shares no memory with the row before,
// and overwrites whatever a command brought along in these fields.
func remember(before, after Ledger, id string, version int64) {
	var ids []string
	var versions []int64
	if before.IDs != nil {
		for at, old := range *before.IDs {
			ids = append(ids, old)
			versions = append(versions, answered(before, at))
		}
	}
	ids, versions = append(ids, id), append(versions, version)
	if extra := len(ids) - MaxApplied; extra > 0 {
		ids, versions = ids[extra:], versions[extra:]
	}
	*after.IDs, *after.Versions = ids, versions
}
