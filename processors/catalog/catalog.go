// Package catalog keeps catalog-table: event types, their roles, field permissions and legal rules. The rule is in rule.go.
package catalog

import (
	"time"

	"civicbus/codecs"
	"civicbus/processors/command"
	"civicbus/topology"
)

// Group is the goka group "catalog".
type Group struct {
	command.Group[codecs.EventType, codecs.CatalogCommand]
}

// maxType is the bytes of an event type, as verdict.ValidateEventType has it.
const maxType = 200

// New makes the group. It needs Records and Schema.
func New(env command.Env) *Group {
	look := Lookups{Schema: env.Schema}
	return &Group{command.Group[codecs.EventType, codecs.CatalogCommand]{
		Env: env, Name: topology.Catalog.Name,
		Rows: env.Records.EventType, Commands: env.Records.CatalogCommand,
		Order: order, Ledger: ledger,
		Key:   func(key string) bool { return command.Dotted(key, maxType) },
		Names: func(cmd *codecs.CatalogCommand) string { return cmd.EventType.Type },
		Apply: func(row *codecs.EventType, cmd *codecs.CatalogCommand, now time.Time) (*codecs.EventType, codecs.CommandResult) {
			return Apply(row, cmd, look, now)
		},
	}}
}

// Callbacks names the group's callback for each of its inputs.
func (g *Group) Callbacks() topology.Callbacks {
	return topology.Callbacks{topology.CatalogCommands.Name: g.Callback}
}
