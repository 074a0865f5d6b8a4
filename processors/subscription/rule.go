package subscription

import (
	"net/url"
	"reflect"
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/processors/command"
	"civicbus/topology"
)

// Reasons for refusal, beside those that every group shares and those of verdict.ValidateSubscription.
const (
	IDInvalid            = "id_invalid"             // a subscription's id: [a-z0-9.-]
	StatusFixed          = "status_fixed"           // a put does not change the status
	SubscriberFixed      = "subscriber_fixed"       // a subscription keeps its subscriber
	SubscriptionRevoked  = "subscription_revoked"   // a revocation is final
	NotPending           = "not_pending"            // nothing to approve
	SecondPersonRequired = "second_person_required" // who asked cannot approve
	NotActive            = "not_active"             // only what is active or activating can be paused
	NotPaused            = "not_paused"             // only what is paused can be resumed
	ReasonUnknown        = "reason_unknown"         // none of the status reasons
	BusOnly              = "bus_only"               // only civicbus itself sends activated
	VersionRequired      = "version_required"       // activated names the version that it activates
	VectorInvalid        = "vector_invalid"         // no usable offset vector
	NotAWebhook          = "not_a_webhook"          // only deliveries to a webhook are signed
	OverlapTooLong       = "overlap_too_long"       // the secret before is good for MaxSecretOverlap at most
)

// Kinds of a subscription command.
const (
	Put       = "put"       // creates or edits
	Approve   = "approve"   // by a second person
	Activated = "activated" // by civicbus alone: the offset vector
	Pause     = "pause"
	Resume    = "resume"
	Revoke    = "revoke"
	Rotate    = "rotate-secret" // of the webhook's signatures
)

// Statuses of a subscription.
const (
	Pending    = "pending"    // waits for a second person
	Activating = "activating" // approved; waits for its offset vector
	Active     = "active"
	Paused     = "paused"
	Revoked    = "revoked"
)

// Actors that are no person.
const (
	Bus         = "civicbus"     // sends activated, and pauses what cannot be delivered
	PreApproved = "pre-approved" // ApprovedBy of a subscription whose purpose its organisation has pre-approved
)

// Lookups is what a rule may ask besides its row.
type Lookups struct {
	Snapshot *verdict.Snapshot                           // trust and catalog as of now
	Schema   func(registrySubject string) *codecs.Schema // newest cached schema; nil when none is
}

// Apply decides one command on one subscription; see command.Decide for what it returns.
//
// An edit that changes what is delivered, why, or to whom returns the subscription to pending: event types, role, filter,
// purpose, basis, scopes, fields, narrower as well as wider (whoever approved, approved the whole), and a webhook that
// goes to another host. Any other change of delivery keeps the status. Whether an active subscription still has its rights
// is not kept here: it is decided anew for each event.
func Apply(row *codecs.Subscription, cmd *codecs.SubscriptionCommand, look Lookups, now time.Time) (next *codecs.Subscription, result codecs.CommandResult) {
	if late(row, cmd) {
		return nil, codecs.CommandResult{
			CommandID: cmd.Meta.ID, Stream: topology.SubscriptionCommands.Name, Kind: cmd.Kind, Actor: cmd.Meta.Actor,
			Status: command.Accepted, Version: row.Version, At: codecs.Millis(now),
		}
	}
	return command.Decide(row, ledger, order(cmd), now, func(row *codecs.Subscription) (*codecs.Subscription, command.Refusal) {
		switch {
		case cmd.Kind == Put:
			return put(row, cmd, look, now)
		case row == nil:
			return nil, command.Refuse(command.NotFound, "subscription.id", "no such subscription")
		case row.Status == Revoked:
			return nil, command.Refuse(SubscriptionRevoked, "status", "a revocation is final")
		}
		switch cmd.Kind {
		case Approve:
			return approve(row, cmd.Meta.Actor, look, now)
		case Activated:
			return activated(row, cmd, look)
		case Pause, Revoke:
			return stop(row, cmd)
		case Resume:
			return resume(row)
		case Rotate:
			return rotate(row, cmd, now)
		}
		return nil, command.Refuse(command.UnknownKind, "kind", "put, approve, pause, resume, revoke or rotate-secret")
	})
}

// late tells an activation of a row that has changed since: another process was first, or the row is no longer what it was
// when its offsets were listed. It is accepted and ignored, and not remembered: every process sends one.
func late(row *codecs.Subscription, cmd *codecs.SubscriptionCommand) bool {
	return cmd.Kind == Activated && cmd.Meta.Actor == Bus && row != nil && cmd.Meta.IfVersion != 0 &&
		(cmd.Meta.IfVersion != row.Version || row.Status != Activating)
}

func put(row *codecs.Subscription, cmd *codecs.SubscriptionCommand, look Lookups, now time.Time) (*codecs.Subscription, command.Refusal) {
	if row != nil && row.Status == Revoked {
		return nil, command.Refuse(SubscriptionRevoked, "status", "a revocation is final; a new subscription has a new id")
	}
	wanted := cmd.Subscription
	if refusal := fixed(row, &wanted); refusal.Reason != "" {
		return nil, refusal
	}
	keep(row, &wanted, cmd.Meta.Actor, now)
	if row != nil && !substance(row, &wanted) {
		if reflect.DeepEqual(bare(*row), bare(wanted)) {
			return nil, command.Refusal{}
		}
	} else {
		wanted.Status, wanted.StatusReason, wanted.ApprovedBy, wanted.From = Pending, "", "", nil
		wanted.RequestedBy = cmd.Meta.Actor
	}
	if refusal := valid(&wanted, look, now); refusal.Reason != "" {
		return nil, refusal
	}
	if wanted.Status == Pending && preApproved(&wanted, look) {
		wanted.Status, wanted.ApprovedBy = Activating, PreApproved
	}
	return &wanted, command.Refusal{}
}

// fixed refuses what a put may not change.
func fixed(row *codecs.Subscription, wanted *codecs.Subscription) command.Refusal {
	switch {
	case !command.Name(wanted.ID):
		return command.Refuse(IDInvalid, "id", "1 to 128 of a-z, 0-9, dot and hyphen, beginning and ending with a letter or digit")
	case row == nil && wanted.Status != "" && wanted.Status != Pending:
		return command.Refuse(StatusFixed, "status", "a new subscription is pending")
	case row != nil && wanted.Status != "" && wanted.Status != row.Status:
		return command.Refuse(StatusFixed, "status", "it is "+row.Status+"; approve, pause, resume and revoke change it")
	case row != nil && wanted.Subscriber != row.Subscriber:
		return command.Refuse(SubscriberFixed, "subscriber", "another subscriber needs another subscription")
	}
	return command.Refusal{}
}

// keep fills what a put does not set, whatever the command brought along.
func keep(row, wanted *codecs.Subscription, actor string, now time.Time) {
	if row == nil {
		wanted.CreatedAt = codecs.Millis(now)
		wanted.SecretVersion, wanted.SecretOverlap = 0, 0
		return
	}
	wanted.Version, wanted.CreatedAt, wanted.UpdatedAt = row.Version, row.CreatedAt, row.UpdatedAt
	wanted.Status, wanted.StatusReason, wanted.From = row.Status, row.StatusReason, row.From
	wanted.RequestedBy, wanted.ApprovedBy = row.RequestedBy, row.ApprovedBy
	wanted.SecretVersion, wanted.SecretOverlap = row.SecretVersion, row.SecretOverlap
}

// substance says whether an edit changes what was approved.
func substance(row, wanted *codecs.Subscription) bool {
	return !sameSet(row.EventTypes, wanted.EventTypes) || row.Role != wanted.Role || row.Filter != wanted.Filter ||
		row.Purpose != wanted.Purpose || row.Basis != wanted.Basis ||
		!sameSet(row.Scopes, wanted.Scopes) || !sameSet(row.Fields, wanted.Fields) ||
		wanted.Delivery.Sink != "" && host(row.Delivery.Sink) != host(wanted.Delivery.Sink)
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// host is scheme and host of a sink; empty for none. A sink that is no URL is its own host.
func host(sink string) string {
	u, err := url.Parse(sink)
	if err != nil {
		return sink
	}
	return u.Scheme + "://" + u.Host
}

func approve(row *codecs.Subscription, actor string, look Lookups, now time.Time) (*codecs.Subscription, command.Refusal) {
	switch {
	case row.Status != Pending:
		return nil, command.Refuse(NotPending, "status", "it is "+row.Status)
	case actor == row.RequestedBy:
		return nil, command.Refuse(SecondPersonRequired, "meta.actor", "someone else than who asked for it")
	}
	if refusal := valid(row, look, now); refusal.Reason != "" {
		return nil, refusal // what was right when it was asked for need not be so any more
	}
	next := *row
	next.Status, next.ApprovedBy = Activating, actor
	return &next, command.Refusal{}
}

func valid(sub *codecs.Subscription, look Lookups, now time.Time) command.Refusal {
	return command.RefuseAll(verdict.ValidateSubscription(sub, look.Snapshot, look.Schema, now))
}

func preApproved(sub *codecs.Subscription, look Lookups) bool {
	org := look.Snapshot.Organisation(sub.Subscriber)
	return org != nil && slices.Contains(org.PreApproved, sub.Purpose)
}

// bare is the row without what this group's runtime keeps.
func bare(s codecs.Subscription) codecs.Subscription {
	s.Version, s.AppliedIDs, s.AppliedVersions, s.UpdatedAt = 0, nil, nil, 0
	return s
}

func ledger(s *codecs.Subscription) command.Ledger {
	return command.Ledger{Version: &s.Version, IDs: &s.AppliedIDs, Versions: &s.AppliedVersions, UpdatedAt: &s.UpdatedAt}
}

func order(cmd *codecs.SubscriptionCommand) command.Order {
	return command.Order{Meta: cmd.Meta, Stream: topology.SubscriptionCommands.Name, Kind: cmd.Kind}
}
