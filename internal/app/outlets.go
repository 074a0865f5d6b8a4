package app

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"civicbus/processors/router"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// outlets knows which topics can be written to, and how large a record each takes: a delivery that Kafka would refuse is
// found before it is produced, because a refusal fails the whole transaction. What slips through (a topic deleted a moment
// ago) is learnt from the failure, so that it fails only once. Safe for concurrent use.
type outlets struct {
	admin *kadm.Client
	log   *slog.Logger

	mu     sync.RWMutex
	known  map[string]*outlet
	looked time.Time     // when it was last asked and answered
	gone   atomic.Uint64 // counts topics that turned out to be absent after they were there
	wake   chan struct{}
}

type outlet struct {
	present bool
	limit   int       // max.message.bytes; 0: not told
	refused string    // why the last write failed; until it is looked at again
	missed  time.Time // since when it is asked for and absent
}

const (
	lookEach = 2 * time.Second
	// graceFor is how long an absent topic is waited for: the topic of a new subscriber is being created.
	graceFor = 5 * time.Second
)

func newOutlets(admin *kadm.Client, log *slog.Logger) *outlets {
	return &outlets{admin: admin, log: log, known: map[string]*outlet{}, wake: make(chan struct{}, 1)}
}

// run looks at the subscribers' topics until the context ends.
func (o *outlets) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := o.look(ctx); err != nil && ctx.Err() == nil {
			o.log.Warn("look at the subscribers' topics", "error", err)
		}
		select {
		case <-time.After(lookEach):
		case <-o.wake:
			pause(ctx, 100*time.Millisecond)
		case <-ctx.Done():
		}
	}
}

func (o *outlets) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	began := time.Now()
	listed, err := o.admin.ListTopics(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range listed {
		if t.Err == nil && (strings.HasPrefix(t.Topic, topology.SubscriberTopicName("")) || t.Topic == topology.WebhookDeliveries.Name) {
			names = append(names, t.Topic)
		}
	}
	limits := map[string]int{}
	if len(names) > 0 {
		configs, err := o.admin.DescribeTopicConfigs(ctx, names...)
		if err != nil {
			return err
		}
		for _, r := range configs {
			for _, c := range r.Configs {
				if c.Key == "max.message.bytes" {
					if n, err := strconv.Atoi(c.MaybeValue()); err == nil {
						limits[r.Name] = n
					}
				}
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looked = began
	for name, t := range o.known {
		at, ok := listed[name]
		if t.present && (!ok || at.Err != nil) {
			o.lose(t)
		}
	}
	for _, name := range names {
		t := o.at(name)
		t.present, t.limit, t.refused, t.missed = true, limits[name], "", time.Time{}
	}
	return nil
}

// lose notes that a topic is not there any more; the caller holds mu.
func (o *outlets) lose(t *outlet) {
	t.present = false
	o.gone.Add(1)
}

// at is the entry of a topic; the caller holds mu.
func (o *outlets) at(topic string) *outlet {
	t := o.known[topic]
	if t == nil {
		t = &outlet{}
		o.known[topic] = t
	}
	return t
}

// settled says whether it is known that a topic is there, or that it will not come; else it looks. That a cluster which does not
// answer has not shown the topic says nothing: it would pause every subscription.
func (o *outlets) settled(topic string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.at(topic)
	if t.present {
		return true
	}
	if t.missed.IsZero() {
		t.missed = time.Now()
	}
	if t.missed.Add(graceFor).Before(o.looked) {
		return true
	}
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return false
}

// refused is router.Env.Refused.
func (o *outlets) refused(topic string, bytes int) string {
	o.mu.RLock()
	defer o.mu.RUnlock()
	t := o.known[topic]
	switch {
	case t == nil:
		return router.UndeliverableTopic
	case t.refused != "":
		return t.refused
	case !t.present:
		return router.UndeliverableTopic
	case t.limit > 0 && bytes > t.limit:
		return router.UndeliverableSize
	}
	return ""
}

// failed is kafka.GroupConfig.Failed.
func (o *outlets) failed(topic string, bytes int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.at(topic)
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		o.lose(t)
		t.missed = o.looked.Add(-graceFor - 1)
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		t.limit = max(bytes-1, 1)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		t.refused = router.UndeliverableAccess
	}
}
