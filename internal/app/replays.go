package app

import (
	"context"
	"errors"
	"slices"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/gateway/commands"
	"civicbus/internal/gateway/replays"
	"civicbus/internal/kafka"
	"civicbus/internal/replay"
	"civicbus/internal/tables"
	"civicbus/topology"
)

// newReplays makes what carries replays out, beside the group that keeps them.
func newReplays(n *Node) (*replay.Runner, error) {
	cfg := n.replayConfig()
	var err error
	if cfg.DataRef, err = dataRef(n.cfg.BusKey, n.cfg.Gateway.PublicURL); err != nil {
		return nil, err
	}
	return replay.NewRunner(replay.RunnerConfig{Config: cfg, Tables: n.world, Owns: n.ownsReplay, Metrics: replay.NewMetrics(n.cfg.Metrics)})
}

func (n *Node) replayConfig() replay.Config {
	return replay.Config{Connection: n.conn, Registry: n.registry, Records: n.records, Keys: n.keys, Partitions: n.cfg.Shape.Partitions, Age: n.cfg.LeaseAge,
		TxnTimeout: n.cfg.TxnTimeout, Now: n.cfg.Now, Logger: n.log}
}

// ownsReplay says whether this node is the one to carry out a replay: it holds the replay's row.
func (n *Node) ownsReplay(id string) bool {
	for _, g := range n.groups {
		if g.def.Name == topology.Replay.Name {
			return slices.Contains(g.status().Partitions, kafka.PartitionOf(id, n.cfg.Shape.Partitions))
		}
	}
	return false
}

// replaysOver is replays.Replays for the gateway, by the operators' client.
type replaysOver struct {
	sender
	node *Node
}

// Plan is of replays.Replays.
func (r replaysOver) Plan(ctx context.Context, of tables.Current, row codecs.Replay) (replays.Plan, error) {
	p, err := replay.MakePlan(ctx, r.node.replayConfig(), of, row)
	if errors.Is(err, replay.ErrNoSubscription) {
		err = replays.ErrNoSubscription
	}
	if err != nil {
		return replays.Plan{}, err
	}
	return replays.Plan{Subscriber: p.Replay.Subscriber, Events: p.Events, Sent: p.Sent, Verdicts: p.Verdicts, Counts: p.Counts, Takes: p.Takes, Whole: p.Whole}, nil
}

// Scan is of replays.Replays.
func (r replaysOver) Scan(ctx context.Context, row *codecs.Replay) ([]codecs.OffsetRange, error) {
	return replay.Scan(ctx, r.client.Kafka(), row)
}

// Send is of replays.Replays.
func (r replaysOver) Send(ctx context.Context, cmd codecs.ReplayCommand) (commands.Outcome, error) {
	requests, err := r.client.ReplayCommand(ctx, cmd)
	return r.send(ctx, requests, err)
}

// Named is of replays.Replays.
func (r replaysOver) Named(ctx context.Context, ids ...string) ([]codecs.Replay, error) {
	rows, err := admin.ReplaysNamed(ctx, r.client, ids...)
	if errors.Is(err, admin.ErrNoReplay) {
		err = replays.ErrNoReplay
	}
	return rows, err
}

// Progress is of replays.Replays.
func (r replaysOver) Progress(ctx context.Context, row *codecs.Replay) (replays.Progress, error) {
	p, err := replay.ProgressOf(ctx, r.client.Kafka(), row)
	return replays.Progress{Total: p.Total, Looked: p.Looked, Sent: p.Sent, Verdicts: p.Verdicts, Counts: p.Counts, PerSecond: p.PerSecond, Left: p.Left}, err
}
