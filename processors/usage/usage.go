// Package usage is the goka group that counts, for each subscription, its deliveries and its denials by reason. Decisions
// are keyed by subject, so each verdict travels over the group's loop to the partition of its subscription.
//
// A delivery counts once for its delivery id, over redrives and webhook attempts, as far as the row remembers: the
// last 256 ids (8 bytes of each). An id that comes back later counts again. Denials have no id and count as they come.
// What is decided on a delivery that was counted, when the gateway gives it out or a replay sends it again, counts neither way.
package usage

import (
	"encoding/binary"
	"encoding/hex"
	"slices"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/kafka"
	"civicbus/processors/event"
	"civicbus/topology"

	"github.com/lovoo/goka"
)

// Env is what the group needs of the process it runs in.
type Env struct {
	Records    *codecs.Records
	Partitions int32 // of every topic
}

// Group handles the input and the loop of the group. Its callbacks are safe for concurrent use.
type Group struct{ env Env }

// New makes the group's callbacks.
func New(env Env) *Group { return &Group{env} }

// Callbacks names a callback for the input and for the loop.
func (g *Group) Callbacks() topology.Callbacks {
	return topology.Callbacks{topology.Decisions.Name: g.decided, topology.DeliveryReports.Name: g.attempted, topology.UsageItems.Name: g.counted}
}

// again are the kinds of decisions on what was delivered before. A delivery was counted when the router made it; how often it
// is then read, over HTTP or by a Kafka client, or sent again by a replay, does not count; nor whether a wallet may confirm.
var again = []string{"gateway", "replay", "journey"}

// webhooks is the kind of the decisions at attempts. A permit was counted when the router gave it; what was delivered by then and
// is denied now counts as both.
const webhooks = "delivery"

// decided sends each verdict to its subscription. A decision that cannot be decoded counts nowhere: the audit group makes
// it a dead letter.
func (g *Group) decided(ctx goka.Context, msg any) {
	value, _ := msg.([]byte)
	d, err := g.env.Records.Decision.Decode(value)
	if err != nil {
		return
	}
	if slices.Contains(again, d.Kind) {
		return
	}
	for _, v := range d.Verdicts {
		if v.Subscription == "" || d.Kind == webhooks && v.Permit {
			continue
		}
		item, err := g.env.Records.UsageItem.Encode(&codecs.UsageItem{Subscriber: v.Subscriber, Purpose: v.Purpose, Permit: v.Permit, Reason: v.Reason,
			DeliveryID: v.DeliveryID, At: d.DecidedAt})
		if err != nil {
			ctx.Fail(err)
		}
		ctx.Loopback(v.Subscription, item)
	}
}

// attempted sends what came of an attempt at a webhook to its subscription.
func (g *Group) attempted(ctx goka.Context, msg any) {
	value, _ := msg.([]byte)
	r, err := g.env.Records.DeliveryReport.Decode(value)
	if err != nil || r.Subscription == "" || r.Attempt < 1 {
		return
	}
	item, err := g.env.Records.UsageItem.Encode(&codecs.UsageItem{Subscriber: r.Subscriber, Purpose: r.Purpose, DeliveryID: r.DeliveryID, At: r.At,
		EventType: r.EventType, Attempt: r.Attempt, Outcome: r.Outcome, Cause: r.Cause, Status: r.Status, Millis: r.Millis})
	if err != nil {
		ctx.Fail(err)
	}
	ctx.Loopback(r.Subscription, item)
}

// counted adds one verdict, or one attempt, to its subscription's row. A row that cannot be decoded begins anew.
func (g *Group) counted(ctx goka.Context, msg any) {
	value, _ := msg.([]byte)
	item, err := g.env.Records.UsageItem.Decode(value)
	if err != nil || kafka.Partition([]byte(ctx.Key()), g.env.Partitions) != ctx.Partition() {
		return // not written by this group
	}
	var row codecs.UsageRow
	if b, _ := ctx.Value().([]byte); b != nil {
		if old, err := g.env.Records.UsageRow.Decode(b); err == nil {
			row = old
		}
	}
	if event.Stopped(ctx) {
		return
	}
	if item.Attempt > 0 {
		next := Attempted(row, item)
		b, err := g.env.Records.UsageRow.Encode(&next)
		if err != nil {
			ctx.Fail(err)
		}
		ctx.SetValue(b)
		return
	}
	next := Count(row, item)
	if flaw.Planted(flaw.UsageTwice) && item.Permit {
		next.Delivered++
	}
	b, err := g.env.Records.UsageRow.Encode(&next)
	if err != nil {
		ctx.Fail(err)
	}
	ctx.SetValue(b)
}

// other is the reason that denials beyond the bound of reasons count under.
const other = "other"

const hashBytes = 8

// Count is the row after one more verdict. It changes nothing of the row that it is given.
func Count(row codecs.UsageRow, item codecs.UsageItem) codecs.UsageRow {
	row.Subscriber, row.Purpose = item.Subscriber, item.Purpose
	if row.First == 0 || item.At < row.First {
		row.First = item.At
	}
	row.Last = max(row.Last, item.At)
	if !item.Permit {
		row.Denied = deny(row.Denied, item.Reason)
		return row
	}
	hash := shorten(item.DeliveryID)
	for i := 0; i+hashBytes <= len(row.Recent); i += hashBytes {
		if binary.BigEndian.Uint64(row.Recent[i:]) == hash {
			row.Repeated++
			return row
		}
	}
	row.Delivered++
	recent := append([]byte(nil), row.Recent...)
	if len(recent) < codecs.MaxUsageRecent*hashBytes {
		row.Recent = binary.BigEndian.AppendUint64(recent, hash)
		return row
	}
	at := int(uint32(row.Next) % codecs.MaxUsageRecent) // whatever stands in the row
	binary.BigEndian.PutUint64(recent[at*hashBytes:], hash)
	row.Recent, row.Next = recent[:codecs.MaxUsageRecent*hashBytes], int32((at+1)%codecs.MaxUsageRecent)
	return row
}

// Attempted is the row after one more attempt at the subscription's webhook: it knows the last of them.
func Attempted(row codecs.UsageRow, item codecs.UsageItem) codecs.UsageRow {
	if row.Subscriber == "" {
		row.Subscriber, row.Purpose = item.Subscriber, item.Purpose
	}
	kept := row.Attempts[max(0, len(row.Attempts)-codecs.MaxUsageAttempts+1):]
	row.Attempts = append(slices.Clone(kept), codecs.UsageAttempt{DeliveryID: item.DeliveryID, EventType: item.EventType, Attempt: item.Attempt,
		Outcome: item.Outcome, Cause: item.Cause, Status: item.Status, Millis: item.Millis, At: item.At})
	return row
}

// deny counts one more denial; the reasons stay in the order in which they first came.
func deny(all []codecs.UsageDenial, reason string) []codecs.UsageDenial {
	all = append([]codecs.UsageDenial(nil), all...)
	for _, name := range []string{reason, other} {
		for i := range all {
			if all[i].Reason == name {
				all[i].Count++
				return all
			}
		}
		if len(all) < codecs.MaxUsageReasons-1 || name == other {
			return append(all, codecs.UsageDenial{Reason: name, Count: 1})
		}
	}
	return all
}

// shorten takes the first 8 of a delivery id's 16 bytes: they come from an HMAC, so any eight do.
func shorten(id string) uint64 {
	var b [16]byte
	if n, err := hex.Decode(b[:], []byte(id[:min(len(id), 2*len(b))])); err != nil || n < hashBytes {
		return 0
	}
	return binary.BigEndian.Uint64(b[:])
}
