package replay

import (
	"context"
	"errors"
	"fmt"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/verdict"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// learn gathers what the field sets on record can stand for: the subscriptions and event types that a replay is about, as
// they are and as every command wrote them. A command that was refused does no harm: a number stands for one list alone.
func learn(ctx context.Context, cfg *Config, log *kafka.Log, admin *kadm.Client, snap *verdict.Snapshot, row *codecs.Replay) (*verdict.Recorded, error) {
	subs := map[string][]codecs.Subscription{}
	for _, s := range snap.Subscriptions() {
		if s.Subscriber == row.Subscriber && (row.Subscription == "" || s.ID == row.Subscription) {
			subs[s.ID] = append(subs[s.ID], *s)
		}
	}
	h := history{cfg: cfg, log: log, admin: admin}
	err := h.commands(ctx, topology.SubscriptionCommands.Name, keysOf(subs), func(key string, r *kgo.Record) {
		if cmd, err := cfg.Records.SubscriptionCommand.DecodeLoading(ctx, r.Value); err == nil && cmd.Kind == "put" {
			subs[key] = append(subs[key], cmd.Subscription)
		}
	})
	if err != nil {
		return nil, err
	}
	types := map[string][]codecs.EventType{}
	for _, versions := range subs {
		for i := range versions {
			for _, name := range versions[i].EventTypes {
				types[name] = nil
			}
		}
	}
	for name := range types {
		if et := snap.EventType(name); et != nil {
			types[name] = append(types[name], *et)
		}
	}
	err = h.commands(ctx, topology.CatalogCommands.Name, keysOf(types), func(key string, r *kgo.Record) {
		if cmd, err := cfg.Records.CatalogCommand.DecodeLoading(ctx, r.Value); err == nil && cmd.Kind == "put" {
			types[key] = append(types[key], cmd.EventType)
		}
	})
	if err != nil {
		return nil, err
	}
	recorded := verdict.NewRecorded()
	for _, versions := range types {
		for i := range versions {
			et := &versions[i]
			writers, err := cfg.Registry.Versions(ctx, et.RegistrySubject)
			if err != nil && !errors.Is(err, codecs.ErrUnknownSubject) {
				return nil, fmt.Errorf("read the schemas of %s: %w", et.Type, err)
			}
			for _, of := range subs {
				for j := range of {
					recorded.Learn(et, &of[j], writers)
				}
			}
		}
	}
	return recorded, nil
}

func keysOf[T any](m map[string]T) map[string]bool {
	keys := make(map[string]bool, len(m))
	for k := range m {
		keys[k] = true
	}
	return keys
}

// history reads commands that were given before now.
type history struct {
	cfg   *Config
	log   *kafka.Log
	admin *kadm.Client
}

// commands gives every record of a topic with one of the keys, in the order of its partition.
func (h *history) commands(ctx context.Context, topic string, keys map[string]bool, each func(key string, r *kgo.Record)) error {
	ends, err := h.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("list where %s ends: %w", topic, err)
	}
	partitions := map[int32]bool{}
	for key := range keys {
		partitions[kafka.PartitionOf(key, h.cfg.Partitions)] = true
	}
	for p := range partitions {
		at, err := h.log.First(ctx, topic, p)
		if err != nil {
			return err
		}
		end, _ := ends.Lookup(topic, p)
		for at < end.Offset {
			records, next, all, err := h.log.Fetch(ctx, topic, p, at, 0)
			if err != nil {
				return fmt.Errorf("read %s/%d: %w", topic, p, err)
			}
			for _, r := range records {
				if r.Offset >= at && keys[string(r.Key)] {
					each(string(r.Key), r)
				}
			}
			if at = next; all {
				break
			}
		}
	}
	return nil
}
