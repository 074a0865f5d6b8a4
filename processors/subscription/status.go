package subscription

import (
	"fmt"
	"slices"
	"strings"

	"civicbus/codecs"
	"civicbus/processors/command"
)

// StatusReasons says why a subscription is paused or revoked: one of these, or undeliverable_ and what the bus met when it
// wrote a delivery (UndeliverablePrefix). A command without a reason has the first.
var StatusReasons = []string{
	"requested",             // by the subscriber
	"maintenance",           // by the subscriber or an operator, for a while
	"security",              // a suspicion
	"misuse",                // of what was delivered
	"entitlement_withdrawn", // the organisation lost the right
	"superseded",            // by another subscription
	"ended",                 // the purpose is over
}

// UndeliverablePrefix begins the reason of a pause by the bus itself.
const UndeliverablePrefix = "undeliverable_"

// MaxPositions bounds the offset vector of an activation: 9 event streams with 256 partitions each.
const MaxPositions = 9 * 256

// statusReason is the reason of a pause or revocation; ok is false when it is none.
func statusReason(text string) (reason string, ok bool) {
	if text == "" {
		return StatusReasons[0], true
	}
	rest, undeliverable := strings.CutPrefix(text, UndeliverablePrefix)
	if undeliverable && rest != "" && len(rest) <= 32 && strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz_") == "" {
		return text, true
	}
	return text, slices.Contains(StatusReasons, text)
}

// stop pauses or revokes. What is paused already keeps its first reason.
func stop(row *codecs.Subscription, cmd *codecs.SubscriptionCommand) (*codecs.Subscription, command.Refusal) {
	reason, ok := statusReason(cmd.Reason)
	if !ok {
		return nil, command.Refuse(ReasonUnknown, "reason", "one of "+strings.Join(StatusReasons, ", "))
	}
	next := *row
	next.StatusReason = reason
	switch {
	case cmd.Kind == Revoke:
		next.Status = Revoked
	case row.Status == Paused:
		return nil, command.Refusal{}
	case row.Status != Active && row.Status != Activating:
		return nil, command.Refuse(NotActive, "status", "it is "+row.Status)
	default:
		next.Status = Paused
	}
	return &next, command.Refusal{}
}

// resume goes on under the vector that the subscription had: what came while it was paused has been denied, not missed.
// One that was paused before it had a vector gets one now.
func resume(row *codecs.Subscription) (*codecs.Subscription, command.Refusal) {
	if row.Status != Paused {
		return nil, command.Refuse(NotPaused, "status", "it is "+row.Status)
	}
	next := *row
	next.Status, next.StatusReason = Active, ""
	if len(row.From) == 0 {
		next.Status = Activating
	}
	return &next, command.Refusal{}
}

// activated takes the vector of the first process that listed the end offsets after the activating row was in effect.
func activated(row *codecs.Subscription, cmd *codecs.SubscriptionCommand, look Lookups) (*codecs.Subscription, command.Refusal) {
	switch {
	case cmd.Meta.Actor != Bus:
		return nil, command.Refuse(BusOnly, "meta.actor", "only civicbus itself knows the offsets")
	case cmd.Meta.IfVersion == 0:
		return nil, command.Refuse(VersionRequired, "meta.ifVersion", "the version of the row that became activating")
	}
	vector := slices.Clone(cmd.Subscription.From)
	if refusal := complete(row, vector, look); refusal.Reason != "" {
		return nil, refusal
	}
	next := *row
	next.Status, next.From = Active, vector
	return &next, command.Refusal{}
}

// complete checks that a vector can be one: bounded, each place once, and every stream of the subscription's types in it.
func complete(row *codecs.Subscription, vector []codecs.StreamPosition, look Lookups) command.Refusal {
	if len(vector) > MaxPositions {
		return command.Refuse(VectorInvalid, "from", fmt.Sprintf("at most %d positions", MaxPositions))
	}
	type place struct {
		topic     string
		partition int32
	}
	places, topics := map[place]bool{}, map[string]bool{}
	for i, p := range vector {
		at := place{p.Topic, p.Partition}
		if !eventStream(p.Topic) || p.Partition < 0 || p.Offset < 0 || places[at] {
			return command.Refuse(VectorInvalid, fmt.Sprintf("from[%d]", i), "an event stream's partition, once, and its end offset")
		}
		places[at], topics[p.Topic] = true, true
	}
	for _, name := range row.EventTypes {
		if et := look.Snapshot.EventType(name); et != nil && !topics[et.Stream] {
			return command.Refuse(VectorInvalid, "from", "nothing of stream "+et.Stream)
		}
	}
	if len(vector) == 0 {
		return command.Refuse(VectorInvalid, "from", "no positions")
	}
	return command.Refusal{}
}
