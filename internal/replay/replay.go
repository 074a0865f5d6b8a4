// Package replay sends deliveries again: what a subscription was once permitted, from a range of the past, to where its
// deliveries go.
//
// Its rules:
//   - It goes by the record: an event is sent only if audit-decisions holds the router's permit for that subscription.
//   - Each is decided again, now, by internal/verdict on the original event record, on tables that are confirmed current
//     within the lease's age (DESIGN.md 3.1, 3.2); what is permitted now is cut to the smaller of the field set on record
//     and today's. A field set that cannot be told is none.
//   - A delivery keeps its id and says that it is replayed. Its decision, of kind replay, and how far the replay has come
//     are in the same transaction. So a kill leaves neither a gap nor a repeat, and two runs send the same ids.
//   - Order holds for each subject, as the router decided it. Nothing is said of the order between partitions.
//   - Live traffic comes first: the replays of a process work a quarter of the time together, each at most at its own rate, in short
//     transactions, and wait while the router is behind.
//   - Memory is bounded whatever the range: one answer's worth of decisions and of each event stream.
package replay

import (
	"bytes"
	"log/slog"
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/internal/tables"
	"civicbus/topology"
)

// Kind is that of this package's decisions; routed is that of the decisions on record that it goes by.
const (
	Kind   = "replay"
	routed = "router"
)

// Statuses of a replay's row that this package goes by; group replay sets them.
const (
	running = "running"
	done    = "done"
	failed  = "failed"
)

// DefaultRate is the rate of who names none, in records a second.
const DefaultRate = 100

// Config says what replays work with. A field without a default named is required.
type Config struct {
	Connection kafka.Connection
	Registry   *codecs.Registry
	Records    *codecs.Records // bound
	Keys       *pseudonym.Keys
	Partitions int32            // of every topic
	Age        time.Duration    // of the lease
	TxnTimeout time.Duration    // of what Runner writes; 5 s
	Now        func() time.Time // time.Now
	Logger     *slog.Logger     // silent
	// DataRef appends the address of a thin delivery's data, as the router's; nil: thin deliveries have none.
	DataRef func(dst []byte, subscription string, to *pseudonym.Reference) []byte
}

func (c *Config) defaults() {
	if c.TxnTimeout == 0 {
		c.TxnTimeout = 5 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Tables is what a replay is decided on.
type Tables = tables.Current

// decisions is the topic of decisions.
var decisions = topology.Decisions.Name

// wants lists the permits of a decision that a replay is about.
func wants(row *codecs.Replay, d *codecs.Decision) []codecs.VerdictItem {
	if d.Kind != routed || d.DecidedAt < row.From || row.To > 0 && d.DecidedAt >= row.To ||
		len(row.EventTypes) > 0 && !slices.Contains(row.EventTypes, d.EventType) || !within(row.Offsets, d) {
		return nil
	}
	var items []codecs.VerdictItem
	for i := range d.Verdicts {
		if v := &d.Verdicts[i]; v.Permit && v.DeliveryID != "" && v.Subscriber == row.Subscriber && (row.Subscription == "" || v.Subscription == row.Subscription) {
			items = append(items, *v)
		}
	}
	return items
}

// within says whether a decision is about a record of the ranges; none stands for all.
func within(ranges []codecs.OffsetRange, d *codecs.Decision) bool {
	return len(ranges) == 0 || slices.ContainsFunc(ranges, func(r codecs.OffsetRange) bool {
		return r.Topic == d.Topic && r.Partition == d.Partition && r.From <= d.Offset && (r.To == 0 || d.Offset < r.To)
	})
}

// mayWant says, without decoding it, that a decision may be one that the replay is about.
func mayWant(row *codecs.Replay, value []byte) bool {
	name := row.Subscription
	if name == "" {
		name = row.Subscriber
	}
	return bytes.Contains(value, []byte(name)) && bytes.Contains(value, []byte(routed))
}
