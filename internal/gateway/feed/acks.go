package feed

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"civicbus/codecs"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// acks remembers up to where each subscription's readers have acknowledged, as committed offsets of a consumer group of the
// subscription's own, so that any instance goes on there. Kafka forgets a group's offsets a week after the last commit
// (offsets.retention.minutes), about as long as it keeps deliveries. Safe for concurrent use.
type acks struct {
	admin  *kadm.Client
	logger *slog.Logger
	cancel context.CancelFunc
	ended  chan struct{}

	mu    sync.Mutex
	known map[string]*acked
}

type acked struct {
	topic   string
	at      Position
	written Position
}

// ackEvery is how often acknowledgements are committed. A reader that comes back to another instance sooner than that gets
// what it acknowledged last once more.
const ackEvery = 500 * time.Millisecond

// ackGroup is the consumer group that a subscription's acknowledgements are offsets of.
func ackGroup(subscription string) string { return "gateway." + subscription }

func newAcks(admin *kadm.Client, logger *slog.Logger) *acks {
	a := &acks{admin: admin, logger: logger, known: map[string]*acked{}, ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	go func() {
		defer close(a.ended)
		tick := time.NewTicker(ackEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				a.commit(ctx)
			case <-ctx.Done():
				last, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				defer cancel()
				a.commit(last)
				return
			}
		}
	}()
	return a
}

func (a *acks) close() {
	a.cancel()
	<-a.ended
}

// take notes an acknowledgement; one that lies before another changes nothing.
func (a *acks) take(sub *codecs.Subscription, at Position) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.known[sub.ID]
	if k == nil {
		k = &acked{topic: topic(sub)}
		a.known[sub.ID] = k
	}
	k.at = furthest(k.at, at)
}

// furthest is the larger offset of each partition.
func furthest(a, b Position) Position {
	out := append(Position(nil), b...)
	for p := range min(len(a), len(b)) {
		out[p] = max(a[p], b[p])
	}
	return out
}

// commit writes what was acknowledged since it was last called.
func (a *acks) commit(ctx context.Context) {
	a.mu.Lock()
	due := map[string]acked{}
	for id, k := range a.known {
		for p := range k.at {
			if len(k.written) == 0 || k.at[p] > k.written[p] {
				due[id] = *k
				break
			}
		}
	}
	a.mu.Unlock()
	for id, k := range due {
		offsets := kadm.Offsets{}
		for p, o := range k.at {
			offsets.AddOffset(k.topic, int32(p), o, -1)
		}
		committed, err := a.admin.CommitOffsets(ctx, ackGroup(id), offsets)
		if err == nil {
			err = committed.Error()
		}
		if err != nil {
			if ctx.Err() == nil {
				a.logger.Warn("commit a subscription's acknowledgements: asked again", "subscription", id, "error", err)
			}
			continue
		}
		a.mu.Lock()
		a.known[id].written = k.at
		a.mu.Unlock()
	}
}

// Ack notes that a subscription's reader has everything before a position. It is kept for every instance within a second.
func (f *Feed) Ack(subscription string, at Position) {
	if sub := f.cfg.Tables.Snapshot().Subscription(subscription); sub != nil {
		f.acks.take(sub, at)
	}
}

// Acked is the position that the subscription's readers have acknowledged; nil when there is none.
func (f *Feed) Acked(ctx context.Context, subscription string) (Position, error) {
	sub := f.cfg.Tables.Snapshot().Subscription(subscription)
	if sub == nil {
		return nil, ended(SubscriptionUnknown, "there is no such subscription")
	}
	fetched, err := f.acks.admin.FetchOffsets(ctx, ackGroup(subscription))
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // nobody has acknowledged anything
		return nil, unavailable(ctx, "Kafka", err)
	}
	var at Position
	for p := range f.cfg.Partitions {
		o, ok := fetched.Lookup(topic(sub), p)
		if !ok || o.Err != nil || o.At < 0 {
			at = nil
			break
		}
		at = append(at, o.At)
	}
	f.acks.mu.Lock()
	defer f.acks.mu.Unlock()
	if k := f.acks.known[subscription]; k != nil && k.topic == topic(sub) {
		if at == nil {
			return append(Position(nil), k.at...), nil
		}
		return furthest(k.at, at), nil
	}
	return at, nil
}
