// Package trust keeps trust-table: the organisations, and what each may publish and receive. The rule is in rule.go.
package trust

import (
	"civicbus/codecs"
	"civicbus/processors/command"
	"civicbus/topology"
)

// Group is the goka group "trust".
type Group struct {
	command.Group[codecs.Organisation, codecs.TrustCommand]
}

// New makes the group. It needs Records alone.
func New(env command.Env) *Group {
	return &Group{command.Group[codecs.Organisation, codecs.TrustCommand]{
		Env: env, Name: topology.Trust.Name,
		Rows: env.Records.Organisation, Commands: env.Records.TrustCommand,
		Order: order, Ledger: ledger, Key: command.Name,
		Names: func(cmd *codecs.TrustCommand) string { return cmd.Organisation.ID },
		Apply: Apply,
	}}
}

// Callbacks names the group's callback for each of its inputs.
func (g *Group) Callbacks() topology.Callbacks {
	return topology.Callbacks{topology.TrustCommands.Name: g.Callback}
}
