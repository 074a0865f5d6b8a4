package app

import (
	"slices"

	"civicbus/internal/kafka"
	"civicbus/internal/replay"
	"civicbus/topology"
)

// newReplays makes what carries replays out, beside the group that keeps them.
func newReplays(n *Node) (*replay.Runner, error) {
	cfg := n.replayConfig()
	var err error
	if cfg.DataRef, err = dataRef(n.cfg.BusKey, n.cfg.Gateway.PublicURL); err != nil {
		return nil, err
	}
	return replay.NewRunner(replay.RunnerConfig{Config: cfg, Owns: n.ownsReplay, Metrics: replay.NewMetrics(n.cfg.Metrics)})
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
