package audit

import (
	"crypto/sha256"

	"civicbus/codecs"
	"civicbus/topology"
)

// Kinds of an entry that is no decision.
const (
	Command    = "command"
	Unreadable = "unreadable" // what stood there could not be decoded; it is also a dead letter

	accepted = "accepted" // a result's status
)

// input is where an audited record stood.
type input struct {
	topic   string
	offset  int64
	follows int64
}

// decision makes the entries of one decision: one, or several when its verdicts do not fit into one record.
func decision(d *codecs.Decision) []codecs.AuditEntry {
	e := codecs.AuditEntry{Kind: d.Kind, Topic: d.Topic, Partition: d.Partition, Offset: d.Offset, Follows: d.Follows, At: d.DecidedAt,
		LifeEventID: d.LifeEventID, EventType: d.EventType, Source: d.Source, Role: d.Role, Outcome: d.Outcome,
		CatalogVersion: d.CatalogVersion, ConsentVersion: d.ConsentVersion, ProfileVersion: d.ProfileVersion}
	parts := split(d.Verdicts)
	entries := make([]codecs.AuditEntry, len(parts))
	for i, verdicts := range parts {
		entries[i] = e
		entries[i].Verdicts = verdicts
	}
	return entries
}

// maxVerdictBytes bounds the verdicts of one entry to half of what a record may have, so that a decision of any size that
// was written can be audited.
const maxVerdictBytes = topology.MaxRecordBytes / 2

// split cuts verdicts into parts that fit; at least one, which may be empty.
func split(verdicts []codecs.VerdictItem) [][]codecs.VerdictItem {
	parts := [][]codecs.VerdictItem{nil}
	size := 0
	for _, v := range verdicts {
		n := len(v.Subscription) + len(v.Subscriber) + len(v.Reason) + len(v.Basis) + len(v.Purpose) + len(v.Reference) + len(v.DeliveryID) + verdictFrame
		if last := len(parts) - 1; size > 0 && size+n > maxVerdictBytes {
			parts, size = append(parts, []codecs.VerdictItem{v}), n
		} else {
			parts[last], size = append(parts[last], v), size+n
		}
	}
	return parts
}

// verdictFrame is the most that a verdict has beside its texts: seven lengths of up to 5 bytes, four longs of up to 10, a boolean.
const verdictFrame = 7*5 + 4*10 + 1

// result makes the entry of a command's result. Its actor becomes a commitment under the subject's salt; what people wrote
// (ids of commands, texts of faults) stays out.
func (k *Keys) result(r *codecs.CommandResult, salt []byte) codecs.AuditEntry {
	e := codecs.AuditEntry{Kind: Command, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Follows: r.Follows, At: r.At,
		Outcome: r.Status, CommandKind: r.Kind, Version: r.Version, Reason: r.Reason}
	if r.Kind == codecs.KindGap && r.Status == accepted {
		e.Source = r.Stream
	}
	if r.Actor != "" {
		e.Actor = k.commitment(salt, r.Actor)
	}
	return e
}

// place notes on each entry which record it audits, and which part of it.
func place(entries []codecs.AuditEntry, in input, value []byte) {
	digest := sha256.Sum256(value)
	for i := range entries {
		e := &entries[i]
		e.Input, e.InputOffset, e.InputFollows, e.Digest = in.topic, in.offset, in.follows, digest[:]
		e.Part, e.Parts = int32(i), int32(len(entries))
	}
}
