package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrNotApplied says that the cluster has no settings yet: `civicbus topics apply` was not run.
var ErrNotApplied = errors.New("the cluster has not been set up: run civicbus topics apply")

// Apply sets the cluster up: every topic of the map, and the settings that all processes must agree on. Settings that
// are there and differ are an error: the lease age decides when a change is acknowledged, so two processes with different
// ones would leak; a different bus key would make every subject a stranger. It returns what it changed.
func Apply(ctx context.Context, cfg Config) ([]kafka.Difference, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, records: codecs.NewRecords()}
	var err error
	if n.keys, err = pseudonym.NewKeys(cfg.BusKey); err != nil {
		return nil, err
	}
	if n.registry, err = codecs.NewRegistry(cfg.Registry); err != nil {
		return nil, err
	}
	if err := n.records.Bind(ctx, n.registry); err != nil {
		return nil, fmt.Errorf("register civicbus's own schemas: %w", err)
	}
	cl, err := cfg.Connection.Client()
	if err != nil {
		return nil, err
	}
	admin := kadm.NewClient(cl)
	defer admin.Close()
	diffs, err := kafka.Apply(ctx, admin, topology.Topics(cfg.Shape), cfg.Replicas)
	if err != nil {
		return diffs, err
	}
	have, err := n.settings(ctx)
	if err != nil {
		return diffs, err
	}
	if have != nil {
		return diffs, n.agree(have)
	}
	s := n.want()
	s.At = codecs.Millis(cfg.Now())
	value, err := n.records.Settings.Encode(&s)
	if err != nil {
		return diffs, err
	}
	return diffs, cl.ProduceSync(ctx, &kgo.Record{Topic: topology.Settings.Name, Key: []byte("cluster"), Value: value}).FirstErr()
}

// check compares the cluster with what this process expects. While brokers elect leaders it asks again, until the context ends: a
// process that starts during a failover must not end for it.
func (n *Node) check(ctx context.Context) error {
	have, err := n.settings(ctx)
	for err != nil && kerr.IsRetriable(err) && ctx.Err() == nil {
		n.log.Warn("read the cluster's settings: retrying", "error", err)
		pause(ctx, 500*time.Millisecond)
		have, err = n.settings(ctx)
	}
	if err != nil {
		return err
	}
	if have == nil {
		return ErrNotApplied
	}
	return errors.Join(n.agree(have), kafka.Verify(ctx, n.admin, topology.Topics(n.cfg.Shape)))
}

func (n *Node) want() codecs.Settings {
	return codecs.Settings{LeaseAgeMillis: n.cfg.LeaseAge.Milliseconds(), Partitions: n.cfg.Shape.Partitions,
		BusKeyCheck: n.keys.LifeEvent("civicbus", "settings")}
}

func (n *Node) agree(have *codecs.Settings) error {
	want := n.want()
	var errs []error
	if have.LeaseAgeMillis != want.LeaseAgeMillis {
		errs = append(errs, fmt.Errorf("lease.age is %s here and %s in the cluster: it is one value for a cluster", time.Duration(want.LeaseAgeMillis)*time.Millisecond, time.Duration(have.LeaseAgeMillis)*time.Millisecond))
	}
	if have.Partitions != want.Partitions {
		errs = append(errs, fmt.Errorf("kafka.partitions is %d here and %d in the cluster: it is fixed when the topics are created", want.Partitions, have.Partitions))
	}
	if have.BusKeyCheck != want.BusKeyCheck {
		errs = append(errs, errors.New("the bus key (keys.bus_key_file) is not the one that the cluster was set up with"))
	}
	return errors.Join(errs...)
}

// settings reads the cluster's settings; nil when there are none.
func (n *Node) settings(ctx context.Context) (*codecs.Settings, error) {
	cl, err := n.cfg.Connection.Client(kgo.ConsumeTopics(topology.Settings.Name), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	listed, err := kadm.NewClient(cl).ListTopics(ctx, topology.Settings.Name)
	if err != nil {
		return nil, fmt.Errorf("look up the cluster's settings: %w", err)
	}
	if listed[topology.Settings.Name].Err != nil {
		return nil, nil
	}
	p := kafka.Partition([]byte("cluster"), int32(len(listed[topology.Settings.Name].Partitions)))
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topology.Settings.Name)
	if err != nil {
		return nil, fmt.Errorf("look up the cluster's settings: %w", err)
	}
	end, _ := ends.Lookup(topology.Settings.Name, p)
	if end.Err != nil {
		return nil, fmt.Errorf("look up the cluster's settings: %w", end.Err)
	}
	if end.Offset == 0 {
		return nil, nil
	}
	for {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, fmt.Errorf("read the cluster's settings: %w", err)
		}
		for _, r := range fetches.Records() {
			if r.Partition != p || r.Offset != end.Offset-1 {
				continue
			}
			if id, _, err := codecs.WireID(r.Value); err == nil {
				if _, err := n.registry.Load(ctx, id); err != nil {
					return nil, fmt.Errorf("read the cluster's settings: %w", err)
				}
			}
			s, err := n.records.Settings.Decode(r.Value)
			if err != nil {
				return nil, fmt.Errorf("read the cluster's settings: %w", err)
			}
			return &s, nil
		}
	}
}
