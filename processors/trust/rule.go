package trust

import (
	"reflect"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/processors/command"
	"civicbus/topology"
)

// Reasons for refusal, beside those that every group shares and those of validate.go.
const (
	OrganisationRevoked = "organisation_revoked" // a revocation is final
	StatusFixed         = "status_fixed"         // a put does not change the status
)

// Kinds of a trust command.
const (
	Put     = "put"     // the whole entry but the status
	Suspend = "suspend" // nothing of or to the organisation passes
	Resume  = "resume"  // ends a suspension
	Revoke  = "revoke"  // as suspend, for ever; the id is not used again
)

// Statuses of an organisation.
const (
	Active    = verdict.StatusActive
	Suspended = "suspended"
	Revoked   = verdict.StatusRevoked
)

// Apply decides one command on one organisation; see command.Decide for what it returns. A put replaces the whole entry
// but its status, which it may leave out or give as it is (active for a new organisation): a file that was applied before a
// suspension does not end it. Revocation is a status, never a tombstone: a removed key could come back after compaction.
func Apply(row *codecs.Organisation, cmd *codecs.TrustCommand, now time.Time) (next *codecs.Organisation, result codecs.CommandResult) {
	return command.Decide(row, ledger, order(cmd), now, func(row *codecs.Organisation) (*codecs.Organisation, command.Refusal) {
		if row != nil && row.Status == Revoked {
			return nil, command.Refuse(OrganisationRevoked, "status", "a revocation is final")
		}
		switch cmd.Kind {
		case Put:
			return put(row, cmd.Organisation)
		case Suspend:
			return turn(row, Suspended)
		case Resume:
			return turn(row, Active)
		case Revoke:
			return turn(row, Revoked)
		}
		return nil, command.Refuse(command.UnknownKind, "kind", "put, suspend, resume or revoke")
	})
}

func put(row *codecs.Organisation, wanted codecs.Organisation) (*codecs.Organisation, command.Refusal) {
	status := Active
	if row != nil {
		status = row.Status
	}
	if wanted.Status != "" && wanted.Status != status {
		return nil, command.Refuse(StatusFixed, "status", "it is "+status+"; suspend, resume and revoke change it")
	}
	wanted.Status = status
	if refusal := command.RefuseAll(validate(&wanted)); refusal.Reason != "" {
		return nil, refusal
	}
	if row != nil && reflect.DeepEqual(bare(*row), bare(wanted)) {
		return nil, command.Refusal{}
	}
	return &wanted, command.Refusal{}
}

// turn sets the status; one that is so already is left as it is.
func turn(row *codecs.Organisation, status string) (*codecs.Organisation, command.Refusal) {
	switch {
	case row == nil:
		return nil, command.Refuse(command.NotFound, "organisation.id", "no such organisation")
	case row.Status == status:
		return nil, command.Refusal{}
	}
	next := *row
	next.Status = status
	return &next, command.Refusal{}
}

// bare is the entry without what the group itself keeps.
func bare(o codecs.Organisation) codecs.Organisation {
	o.Version, o.AppliedIDs, o.AppliedVersions, o.UpdatedAt = 0, nil, nil, 0
	return o
}

func ledger(o *codecs.Organisation) command.Ledger {
	return command.Ledger{Version: &o.Version, IDs: &o.AppliedIDs, Versions: &o.AppliedVersions, UpdatedAt: &o.UpdatedAt}
}

func order(cmd *codecs.TrustCommand) command.Order {
	return command.Order{Meta: cmd.Meta, Stream: topology.TrustCommands.Name, Kind: cmd.Kind}
}
