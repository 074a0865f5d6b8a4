// Package consent keeps consent-table: what each subject has granted, refused, objected to, and whether the subject is
// restricted. The rules are in rule.go, grants.go and death.go.
package consent

import (
	"civicbus/codecs"
	"civicbus/internal/pseudonym"
	"civicbus/processors/command"
	"civicbus/topology"
)

// Group is the goka group "consent". It has two inputs: commands and deaths.
type Group struct {
	command.Group[codecs.Consents, codecs.ConsentCommand]
}

// New makes the group. It needs Records and Snapshot.
func New(env command.Env) *Group {
	return &Group{command.Group[codecs.Consents, codecs.ConsentCommand]{
		Env: env, Name: topology.Consent.Name,
		Rows: env.Records.Consents, Commands: env.Records.ConsentCommand,
		Order: order, Ledger: ledger, Key: pseudonym.IsSubject,
		Apply: Apply,
	}}
}

// Callbacks names the group's callback for each of its inputs.
func (g *Group) Callbacks() topology.Callbacks {
	return topology.Callbacks{topology.ConsentCommands.Name: g.Callback, topology.Death.Name: g.Death}
}
