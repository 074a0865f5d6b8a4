package catalog

import (
	"reflect"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/processors/command"
	"civicbus/topology"
)

// Reasons for refusal, beside those that every group shares and those of verdict.ValidateEventType.
const (
	StreamFixed        = "stream_fixed"         // an existing type keeps its stream and its registry subject
	CategoryFixed      = "category_fixed"       // an existing type keeps its category
	FirstRoleFixed     = "first_role_fixed"     // an existing type keeps its first role: subscriptions and deaths go by it
	EndsConsentsStream = "ends_consents_stream" // only types on the stream of deaths can end consents
)

// Kinds of a catalog command.
const (
	Put    = "put"    // the whole entry, Retired included
	Retire = "retire" // no new events are admitted; those in the streams are decided as before
)

// Lookups is what a rule may ask besides its row.
type Lookups struct {
	// Schema is the newest cached schema of a registry subject; nil when none is.
	Schema func(registrySubject string) *codecs.Schema
}

// Apply decides one command on one event type; see command.Decide for what it returns. A put replaces the whole entry: what
// it leaves out is gone. What an event already in a stream, or a running subscription, depends on can not be changed: a
// new type is needed for that.
func Apply(row *codecs.EventType, cmd *codecs.CatalogCommand, look Lookups, now time.Time) (next *codecs.EventType, result codecs.CommandResult) {
	return command.Decide(row, ledger, order(cmd), now, func(row *codecs.EventType) (*codecs.EventType, command.Refusal) {
		switch cmd.Kind {
		case Put:
			return put(row, cmd.EventType, look)
		case Retire:
			return retire(row)
		}
		return nil, command.Refuse(command.UnknownKind, "kind", "put or retire")
	})
}

func put(row *codecs.EventType, wanted codecs.EventType, look Lookups) (*codecs.EventType, command.Refusal) {
	if refusal := command.RefuseAll(faults(row, &wanted, look)); refusal.Reason != "" {
		return nil, refusal
	}
	if row != nil && reflect.DeepEqual(bare(*row), bare(wanted)) {
		return nil, command.Refusal{}
	}
	return &wanted, command.Refusal{}
}

func retire(row *codecs.EventType) (*codecs.EventType, command.Refusal) {
	switch {
	case row == nil:
		return nil, command.Refuse(command.NotFound, "eventType.type", "no such event type")
	case row.Retired:
		return nil, command.Refusal{}
	}
	next := *row
	next.Retired = true
	return &next, command.Refusal{}
}

func faults(row, wanted *codecs.EventType, look Lookups) []codecs.Fault {
	found := verdict.ValidateEventType(wanted, eventStreams(), look.Schema)
	fault := func(wrong bool, field, reason, text string) {
		if wrong {
			found = append(found, codecs.Fault{Field: field, Reason: reason, Text: text})
		}
	}
	fault(wanted.EndsConsents && wanted.Stream != topology.Death.Name,
		"endsConsents", EndsConsentsStream, "only on stream "+topology.Death.Name+", which the consent group reads")
	if row == nil {
		return found
	}
	fault(row.Stream != wanted.Stream, "stream", StreamFixed, row.Stream)
	fault(row.RegistrySubject != wanted.RegistrySubject, "registrySubject", StreamFixed, row.RegistrySubject)
	fault(row.Category != wanted.Category, "category", CategoryFixed, row.Category)
	fault(len(wanted.Roles) > 0 && len(row.Roles) > 0 && row.Roles[0].Name != wanted.Roles[0].Name,
		"roles[0].name", FirstRoleFixed, "the first role stays the first")
	return found
}

func eventStreams() []string {
	names := make([]string, len(topology.EventStreams))
	for i, stream := range topology.EventStreams {
		names[i] = stream.Name
	}
	return names
}

// bare is the entry without what the group itself keeps.
func bare(e codecs.EventType) codecs.EventType {
	e.Version, e.Commands, e.AppliedVersions, e.UpdatedAt = 0, nil, nil, 0
	return e
}

func ledger(e *codecs.EventType) command.Ledger {
	return command.Ledger{Version: &e.Version, IDs: &e.Commands, Versions: &e.AppliedVersions, UpdatedAt: &e.UpdatedAt}
}

func order(cmd *codecs.CatalogCommand) command.Order {
	return command.Order{Meta: cmd.Meta, Stream: topology.CatalogCommands.Name, Kind: cmd.Kind}
}
