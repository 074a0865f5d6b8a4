// Package replay keeps replay-table: which replays of deliveries were asked for, who approved them, and how they ended. What
// carries them out is internal/replay; the rules of a replay's life are in rule.go.
package replay

import (
	"time"

	"civicbus/codecs"
	"civicbus/processors/command"
	"civicbus/topology"
)

// Group is the goka group "replay".
type Group struct {
	command.Group[codecs.Replay, codecs.ReplayCommand]
}

// New makes the group. It needs Records and Snapshot.
func New(env command.Env) *Group {
	return &Group{command.Group[codecs.Replay, codecs.ReplayCommand]{
		Env: env, Name: topology.Replay.Name,
		Rows: env.Records.Replay, Commands: env.Records.ReplayCommand,
		Order: order, Ledger: ledger, Key: command.Name,
		Names: func(cmd *codecs.ReplayCommand) string { return cmd.Replay.ID },
		Apply: func(row *codecs.Replay, cmd *codecs.ReplayCommand, now time.Time) (*codecs.Replay, codecs.CommandResult) {
			return Apply(row, cmd, env.Snapshot(), now)
		},
	}}
}

// Callbacks names the group's callback for each of its inputs.
func (g *Group) Callbacks() topology.Callbacks {
	return topology.Callbacks{topology.ReplayCommands.Name: g.Callback}
}

func ledger(r *codecs.Replay) command.Ledger {
	return command.Ledger{Version: &r.Version, IDs: &r.AppliedIDs, Versions: &r.AppliedVersions, UpdatedAt: &r.UpdatedAt}
}

func order(cmd *codecs.ReplayCommand) command.Order {
	return command.Order{Meta: cmd.Meta, Stream: topology.ReplayCommands.Name, Kind: cmd.Kind}
}
