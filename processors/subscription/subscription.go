// Package subscription keeps subscription-table: who wants which events, for which purpose, and whether that is in effect.
// The rules are in rule.go (put and approve) and status.go (the rest of a subscription's life).
package subscription

import (
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/processors/command"
	"civicbus/topology"
)

// Group is the goka group "subscription".
type Group struct {
	command.Group[codecs.Subscription, codecs.SubscriptionCommand]
}

// New makes the group. It needs Records, Snapshot and Schema.
func New(env command.Env) *Group {
	return &Group{command.Group[codecs.Subscription, codecs.SubscriptionCommand]{
		Env: env, Name: topology.Subscription.Name,
		Rows: env.Records.Subscription, Commands: env.Records.SubscriptionCommand,
		Order: order, Ledger: ledger, Key: command.Name,
		Names: func(cmd *codecs.SubscriptionCommand) string { return cmd.Subscription.ID },
		Apply: func(row *codecs.Subscription, cmd *codecs.SubscriptionCommand, now time.Time) (*codecs.Subscription, codecs.CommandResult) {
			return Apply(row, cmd, Lookups{Snapshot: env.Snapshot(), Schema: env.Schema}, now)
		},
	}}
}

// Callbacks names the group's callback for each of its inputs.
func (g *Group) Callbacks() topology.Callbacks {
	return topology.Callbacks{topology.SubscriptionCommands.Name: g.Callback}
}

func eventStream(topic string) bool {
	return slices.ContainsFunc(topology.EventStreams, func(s topology.Stream) bool { return s.Name == topic })
}
