package consent

import (
	"slices"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/processors/command"
	"civicbus/topology"
)

// Reasons for refusal, beside those that every group shares.
const (
	GrantInvalid        = "grant_invalid"       // the grant lacks something, or a part of it is too long
	ValidityEmpty       = "validity_empty"      // the grant would never hold, or holds no more
	GrantExists         = "grant_exists"        // the row has a grant of that id, in whatever state
	GrantUnnamed        = "grant_unnamed"       // a withdrawal names a grant by id, or by recipient and purpose
	UnknownGrant        = "unknown_grant"       // the subject has no such grant
	TooManyGrants       = "too_many_grants"     // codecs.MaxGrants, all of them given
	TooManyObjections   = "too_many_objections" // codecs.MaxObjections
	SubscriptionInvalid = "subscription_invalid"
	NotObjected         = "not_objected"        // there is no such objection to take back
	RestrictionUnknown  = "restriction_unknown" // only protected can be commanded
	NotRestricted       = "not_restricted"      // there is no restriction to lift
	Deceased            = "deceased"            // a death has ended the consents: nothing is granted after it
	NotDeceased         = "not_deceased"        // there is no death to take back
	OperatorRequired    = "operator_required"   // only an operator takes a death back
	UnderErasure        = "under_erasure"       // final: nothing is given, and nothing kept
)

// Kinds of a consent command. Death is no command: it comes from the stream of deaths.
const (
	GiveGrant  = "grant"
	Refuse     = "refuse"
	Withdraw   = "withdraw"
	Object     = "object"
	Unobject   = "unobject"
	Restrict   = "restrict"
	Unrestrict = "unrestrict"
	Revive     = "revive" // an operator corrects a death that was told by mistake
	Erase      = "erase"
	Death      = "death"
)

// States of a grant, after DPV. Expired follows from ValidTo, ended from the row's EndedAt.
const (
	Given     = "given"
	Refused   = "refused"
	Withdrawn = "withdrawn"
)

// operatorPrefix begins the name of an actor who is an operator.
const operatorPrefix = "operator:"

// Restrictions of a subject.
const (
	Protected = "protected" // for instance a non-disclosure order; can be lifted
	Erasure   = "erasure"   // final
)

// Apply decides one command of one subject; see command.Decide for what it returns.
//
// Whatever takes something away (withdraw, object, restrict, erase) is never refused for lack of room in the row but for an
// objection beyond MaxObjections, and it takes more rather than less where it is unclear.
func Apply(row *codecs.Consents, cmd *codecs.ConsentCommand, now time.Time) (next *codecs.Consents, result codecs.CommandResult) {
	return command.Decide(row, ledger, order(cmd), now, func(row *codecs.Consents) (*codecs.Consents, command.Refusal) {
		if row != nil && row.Restriction == Erasure {
			if cmd.Kind == Erase {
				return nil, command.Refusal{}
			}
			return nil, command.Refuse(UnderErasure, "", "the subject's data are erased, for good")
		}
		change := begin(row, cmd.Meta.Actor, now)
		switch cmd.Kind {
		case GiveGrant:
			return change.give(cmd.Grant, Given)
		case Refuse:
			return change.give(cmd.Grant, Refused)
		case Withdraw:
			return change.withdraw(cmd.Grant, cmd.UpTo)
		case Object:
			return change.object(cmd.Subscription)
		case Unobject:
			return change.unobject(cmd.Subscription)
		case Restrict:
			return change.restrict(cmd.Restriction)
		case Unrestrict:
			return change.unrestrict()
		case Revive:
			return change.revive()
		case Erase:
			return &codecs.Consents{Restriction: Erasure}, command.Refusal{}
		}
		return nil, command.Refuse(command.UnknownKind, "kind", "grant, refuse, withdraw, object, unobject, restrict, unrestrict, revive or erase")
	})
}

// change is the next row while a rule makes it. The row before is never written to.
type change struct {
	next    codecs.Consents
	version int64 // of the next row
	actor   string
	at      int64 // Unix milliseconds
}

func begin(row *codecs.Consents, actor string, now time.Time) *change {
	c := &change{actor: actor, at: codecs.Millis(now)}
	if row != nil {
		c.next = *row
		c.next.Grants, c.next.Objections = slices.Clone(row.Grants), slices.Clone(row.Objections)
	}
	c.version = command.Next(c.next.Version)
	return c
}

// changed answers the next row.
func (c *change) changed() (*codecs.Consents, command.Refusal) { return &c.next, command.Refusal{} }

// unchanged answers an accepted command that found nothing to change.
func (c *change) unchanged() (*codecs.Consents, command.Refusal) { return nil, command.Refusal{} }

func (c *change) object(subscription string) (*codecs.Consents, command.Refusal) {
	if !command.Name(subscription) {
		return nil, command.Refuse(SubscriptionInvalid, "subscription", "an objection names one subscription by its id")
	}
	if c.objection(subscription) >= 0 || flaw.Planted(flaw.ObjectionUnwritten) {
		return c.unchanged()
	}
	if len(c.next.Objections) >= codecs.MaxObjections {
		return nil, command.Refuse(TooManyObjections, "subscription", "take an objection back first, or ask for a restriction")
	}
	c.next.Objections = append(c.next.Objections, codecs.Objection{Subscription: subscription, At: c.at})
	return c.changed()
}

func (c *change) unobject(subscription string) (*codecs.Consents, command.Refusal) {
	at := c.objection(subscription)
	if at < 0 {
		return nil, command.Refuse(NotObjected, "subscription", "there is no objection to it")
	}
	c.next.Objections = slices.Delete(c.next.Objections, at, at+1)
	return c.changed()
}

func (c *change) objection(subscription string) int {
	return slices.IndexFunc(c.next.Objections, func(o codecs.Objection) bool { return o.Subscription == subscription })
}

func (c *change) restrict(restriction string) (*codecs.Consents, command.Refusal) {
	switch {
	case restriction != Protected:
		return nil, command.Refuse(RestrictionUnknown, "restriction", "protected; an erasure is a command of its own")
	case c.next.Restriction == Protected:
		return c.unchanged()
	}
	c.next.Restriction = Protected
	return c.changed()
}

func (c *change) unrestrict() (*codecs.Consents, command.Refusal) {
	if c.next.Restriction == "" {
		return nil, command.Refuse(NotRestricted, "restriction", "there is none")
	}
	c.next.Restriction = ""
	return c.changed()
}

// revive takes a death back: the grants hold again as the subject left them. (A death took nothing from them; asking the
// subject for each again would make the mistake theirs.) It opens what a death closed, so that neither the subject, whom
// someone may pose as, nor a subscriber may ask for it.
func (c *change) revive() (*codecs.Consents, command.Refusal) {
	if name, ok := strings.CutPrefix(c.actor, operatorPrefix); !ok || name == "" {
		return nil, command.Refuse(OperatorRequired, "meta.actor", "an operator, as operator:name")
	}
	if c.next.EndedAt == 0 {
		return nil, command.Refuse(NotDeceased, "", "no death has ended the subject's consents")
	}
	c.next.EndedAt = 0
	return c.changed()
}

func ledger(c *codecs.Consents) command.Ledger {
	return command.Ledger{Version: &c.Version, IDs: &c.AppliedIDs, Versions: &c.AppliedVersions, UpdatedAt: &c.UpdatedAt}
}

func order(cmd *codecs.ConsentCommand) command.Order {
	return command.Order{Meta: cmd.Meta, Stream: topology.ConsentCommands.Name, Kind: cmd.Kind}
}
