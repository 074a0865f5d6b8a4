package replay

import (
	"fmt"
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/processors/command"
	"civicbus/topology"
)

// Reasons for refusal, beside those that every group shares.
const (
	ReplayExists         = "replay_exists"          // an id is used once
	SubscriptionUnknown  = "subscription_unknown"   // the subscriber has no such subscription, or none at all
	RangeInvalid         = "range_invalid"          // times, offsets or the places to look at are none
	TooLarge             = "too_large"              // more event types or ranges than a row holds
	RateInvalid          = "rate_invalid"           // 0 to MaxRate
	NotPending           = "not_pending"            // nothing to approve
	NotRunning           = "not_running"            // it has ended
	SecondPersonRequired = "second_person_required" // who asked cannot approve
	BusOnly              = "bus_only"               // only civicbus itself says how it ended
	ReasonUnknown        = "reason_unknown"         // none of the ends of a replay
)

// Kinds of a replay command.
const (
	Start   = "start"   // asks for it
	Approve = "approve" // by a second person: it begins
	Cancel  = "cancel"
	Ended   = "ended" // by civicbus alone
)

// Statuses of a replay.
const (
	Pending   = "pending"
	Running   = "running"
	Done      = "done"
	Cancelled = "cancelled"
	Failed    = "failed"
)

// Bus is the actor that is no person.
const Bus = "civicbus"

// Bounds of a row.
const (
	MaxRate   = 100_000
	MaxTypes  = 256
	MaxRanges = 9 * 256 // of each list: 9 event streams with 256 partitions each
	maxCounts = 64
	maxText   = 128 // bytes of an event type or a reason
)

// Apply decides one command on one replay; see command.Decide for what it returns. snap holds the subscriptions.
func Apply(row *codecs.Replay, cmd *codecs.ReplayCommand, snap *verdict.Snapshot, now time.Time) (next *codecs.Replay, result codecs.CommandResult) {
	if late(row, cmd) {
		return nil, codecs.CommandResult{CommandID: cmd.Meta.ID, Stream: topology.ReplayCommands.Name, Kind: cmd.Kind, Actor: cmd.Meta.Actor,
			Status: command.Accepted, Version: row.Version, At: codecs.Millis(now)}
	}
	return command.Decide(row, ledger, order(cmd), now, func(row *codecs.Replay) (*codecs.Replay, command.Refusal) {
		switch {
		case cmd.Kind == Start && row != nil:
			return nil, command.Refuse(ReplayExists, "replay.id", "another replay has another id")
		case cmd.Kind == Start:
			return start(cmd, snap, now)
		case row == nil:
			return nil, command.Refuse(command.NotFound, "replay.id", "no such replay")
		}
		switch cmd.Kind {
		case Approve:
			return approve(row, cmd.Meta.Actor, now)
		case Cancel:
			return end(row, Cancelled, "requested", nil, now)
		case Ended:
			return ended(row, cmd, now)
		}
		return nil, command.Refuse(command.UnknownKind, "kind", "start, approve or cancel")
	})
}

// late tells the end of a replay that has ended already: it was cancelled meanwhile, or two processes saw its end.
func late(row *codecs.Replay, cmd *codecs.ReplayCommand) bool {
	return cmd.Kind == Ended && cmd.Meta.Actor == Bus && row != nil && row.Status != Running
}

func start(cmd *codecs.ReplayCommand, snap *verdict.Snapshot, now time.Time) (*codecs.Replay, command.Refusal) {
	r := cmd.Replay
	if refusal := valid(&r); refusal.Reason != "" {
		return nil, refusal
	}
	if r.Subscription != "" {
		sub := snap.Subscription(r.Subscription)
		if sub == nil || r.Subscriber != "" && r.Subscriber != sub.Subscriber {
			return nil, command.Refuse(SubscriptionUnknown, "replay.subscription", "the subscriber has no such subscription")
		}
		r.Subscriber = sub.Subscriber
	} else if !slices.ContainsFunc(snap.Subscriptions(), func(s *codecs.Subscription) bool { return s.Subscriber == r.Subscriber }) {
		return nil, command.Refuse(SubscriptionUnknown, "replay.subscriber", "a subscription, or a subscriber that has one")
	}
	return &codecs.Replay{ID: r.ID, Subscriber: r.Subscriber, Subscription: r.Subscription, EventTypes: r.EventTypes, From: r.From, To: r.To,
		Offsets: r.Offsets, Scan: r.Scan, Rate: r.Rate, Status: Pending, RequestedBy: cmd.Meta.Actor, CreatedAt: codecs.Millis(now)}, command.Refusal{}
}

func valid(r *codecs.Replay) command.Refusal {
	switch {
	case !command.Name(r.ID):
		return command.Refuse(command.InvalidCommand, "replay.id", "1 to 100 of a-z, 0-9, dot and hyphen, beginning and ending with a letter or digit")
	case r.Rate < 0 || r.Rate > MaxRate:
		return command.Refuse(RateInvalid, "replay.rate", fmt.Sprintf("0 to %d records a second", MaxRate))
	case r.From < 0 || r.To < 0 || r.To > 0 && r.To <= r.From:
		return command.Refuse(RangeInvalid, "replay.to", "a time after from")
	case len(r.EventTypes) > MaxTypes || len(r.Offsets) > MaxRanges || len(r.Scan) > MaxRanges:
		return command.Refuse(TooLarge, "replay", fmt.Sprintf("at most %d event types and %d ranges", MaxTypes, MaxRanges))
	case len(r.Scan) == 0:
		return command.Refuse(RangeInvalid, "replay.scan", "where on "+topology.Decisions.Name+" to look")
	}
	for i, t := range r.EventTypes {
		if t == "" || !command.Plain(t, maxText) {
			return command.Refuse(command.InvalidCommand, fmt.Sprintf("replay.eventTypes[%d]", i), "an event type")
		}
	}
	scanned := func(topic string) bool { return topic == topology.Decisions.Name }
	if i := wrong(r.Scan, scanned, false); i >= 0 {
		return command.Refuse(RangeInvalid, fmt.Sprintf("replay.scan[%d]", i), "a partition of "+topology.Decisions.Name+", once, with its offsets")
	}
	if i := wrong(r.Offsets, eventStream, true); i >= 0 {
		return command.Refuse(RangeInvalid, fmt.Sprintf("replay.offsets[%d]", i), "an event stream's partition, once, with offsets from and, or 0 for no end, to")
	}
	return command.Refusal{}
}

// wrong is the position of the first range that is none; -1: all are.
func wrong(all []codecs.OffsetRange, topic func(string) bool, open bool) int {
	type place struct {
		topic     string
		partition int32
	}
	seen := map[place]bool{}
	for i, r := range all {
		at := place{r.Topic, r.Partition}
		if !topic(r.Topic) || r.Partition < 0 || r.From < 0 || r.To < r.From && (!open || r.To != 0) || seen[at] {
			return i
		}
		seen[at] = true
	}
	return -1
}

func eventStream(topic string) bool {
	return slices.ContainsFunc(topology.EventStreams, func(s topology.Stream) bool { return s.Name == topic })
}

func approve(row *codecs.Replay, actor string, now time.Time) (*codecs.Replay, command.Refusal) {
	switch {
	case row.Status != Pending:
		return nil, command.Refuse(NotPending, "status", "it is "+row.Status)
	case actor == row.RequestedBy:
		return nil, command.Refuse(SecondPersonRequired, "meta.actor", "someone else than who asked for it")
	}
	next := *row
	next.Status, next.ApprovedBy, next.StartedAt = Running, actor, codecs.Millis(now)
	return &next, command.Refusal{}
}

func end(row *codecs.Replay, status, reason string, counts []codecs.ReasonCount, now time.Time) (*codecs.Replay, command.Refusal) {
	if row.Status != Running && (status != Cancelled || row.Status != Pending) {
		return nil, command.Refuse(NotRunning, "status", "it is "+row.Status)
	}
	next := *row
	next.Status, next.StatusReason, next.Counts, next.EndedAt = status, reason, counts, codecs.Millis(now)
	return &next, command.Refusal{}
}

func ended(row *codecs.Replay, cmd *codecs.ReplayCommand, now time.Time) (*codecs.Replay, command.Refusal) {
	r := &cmd.Replay
	switch {
	case cmd.Meta.Actor != Bus:
		return nil, command.Refuse(BusOnly, "meta.actor", "only civicbus itself knows that it has ended")
	case r.Status != Done && r.Status != Failed, r.StatusReason != "" && !command.Plain(r.StatusReason, maxText), len(r.Counts) > maxCounts:
		return nil, command.Refuse(ReasonUnknown, "replay.status", "done or failed, and why")
	}
	return end(row, r.Status, r.StatusReason, slices.Clone(r.Counts), now)
}
