package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// errForgotten says that a group would begin anew what it has done before.
var errForgotten = errors.New("kafka has forgotten up to where it is handled, as it does when a group had no member for as long as offsets.retention.minutes says: " +
	"everything that is kept would be handled a second time; set the group's offsets to where it ended")

// forgotten looks at the partition numbers of which the group has no offset at all, when it is given them. What it writes is committed
// together with its offsets, so a record of its own in a partition of that number shows that there was one. To begin anew would carry
// out every command that is kept on today's state, and grant for a moment what was withdrawn since. Kafka's own default is 7 days (KIP-211).
func (e *Engine) forgotten(ctx context.Context, cl *kgo.Client, offsets map[string]map[int32]kgo.Offset) error {
	topic, own := e.table, func(*kgo.Record) bool { return true }
	if topic == "" {
		topic, own = e.cfg.Trail.Topic, e.cfg.Trail.Own
	}
	if topic == "" {
		return nil
	}
	none := map[int32]bool{}
	for _, ps := range offsets {
		for p, o := range ps {
			known, seen := none[p]
			none[p] = (known || !seen) && o.EpochOffset().Offset < 0
		}
	}
	log := NewLog(cl)
	for p := range none {
		if !none[p] {
			continue
		}
		begun, err := begun(ctx, log, topic, p, own)
		if err != nil {
			return fmt.Errorf("look for what group %s has written to %s/%d: %w", e.group, topic, p, err)
		}
		if begun {
			return fmt.Errorf("group %s, partition %d: %w (docs/runbook.md#civicbusgrouprestarts)", e.group, p, errForgotten)
		}
	}
	return nil
}

// begun says whether a partition has a committed record of the group's own.
func begun(ctx context.Context, log *Log, topic string, p int32, own func(*kgo.Record) bool) (bool, error) {
	at, err := log.First(ctx, topic, p)
	if errors.Is(err, ErrNoTopic) {
		return false, nil
	}
	for err == nil {
		records, next, all, ferr := log.Fetch(ctx, topic, p, at, 0)
		if ferr != nil || all || slices.ContainsFunc(records, own) {
			return slices.ContainsFunc(records, own), ferr
		}
		at = next
	}
	return false, err
}
