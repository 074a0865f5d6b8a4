package app

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/delivery"
	"civicbus/internal/gateway/subscriptions"
	queued "civicbus/processors/delivery"
	"civicbus/processors/event"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

var deliveryTable = topology.TableTopic(topology.Delivery.Name)

// webhooks is the sender beside group delivery.
type webhooks struct {
	node    *Node
	metrics *delivery.Metrics

	mu     sync.Mutex
	sender *delivery.Sender // nil while none runs
}

func newWebhooks(n *Node) *webhooks {
	return &webhooks{node: n, metrics: delivery.NewMetrics(n.cfg.Metrics)}
}

func (w *webhooks) current() *delivery.Sender {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sender
}

func (w *webhooks) is(sender *delivery.Sender) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sender = sender
}

// run keeps a sender running until the context ends; one that cannot go on is made anew.
func (w *webhooks) run(ctx context.Context) error {
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 30*time.Second) {
		began := time.Now()
		err := w.once(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // what fails while the node stops was stopped
		}
		if time.Since(began) > time.Minute {
			wait = 100 * time.Millisecond
		}
		w.node.log.Error("sender of webhooks ended, it is started again", "error", err, "in", wait)
		pause(ctx, wait)
	}
	return nil
}

func (w *webhooks) once(ctx context.Context) error {
	n := w.node
	sender, err := delivery.New(delivery.Config{Settings: n.cfg.Webhooks, Kind: queued.Kind, Attempts: queued.MaxAttempts, MaxAge: queued.MaxAge,
		Outcomes: delivery.Outcomes{Delivered: queued.Delivered, Failed: queued.Failed, Gone: queued.Gone, Denied: queued.Denied, Unreadable: queued.Unreadable,
			Expired: queued.Expired, Overdue: queued.Overdue},
		Connection: n.conn, Registry: n.registry, Records: n.records, Keys: n.keys, Tables: n.world, Age: n.cfg.LeaseAge, Partitions: n.cfg.Shape.Partitions,
		Rows: w.rows(), Now: n.cfg.Now, Metrics: w.metrics, Tracer: n.cfg.Tracer, Logger: n.log})
	if err != nil {
		return err
	}
	w.is(sender)
	defer w.is(nil)
	return sender.Run(ctx)
}

// rows are those of group delivery in this node.
func (w *webhooks) rows() delivery.Rows {
	var own *group
	for _, g := range w.node.groups {
		if g.def.Name == topology.Delivery.Name {
			own = g
		}
	}
	return delivery.Rows{
		Held: func() []int32 {
			if s := own.status(); s.State == "running" {
				return s.Partitions
			}
			return nil
		},
		Each: func(f func(string, []byte)) {
			if e := own.engine.Load(); e != nil {
				e.Rows(deliveryTable, f)
			}
		},
		Row: func(subject string) []byte {
			if e := own.engine.Load(); e != nil {
				return e.Row(deliveryTable, subject)
			}
			return nil
		},
	}
}

// callbacks are those of group delivery.
func (w *webhooks) callbacks(events event.Env) topology.Callbacks {
	return queued.New(queued.Env{Env: events, Buried: w.metrics.Buried, Arrived: func(in event.Input) {
		if s := w.current(); s != nil {
			s.Arrived(&kgo.Record{Topic: in.Topic, Partition: in.Partition, Offset: in.Offset, Key: []byte(in.Key), Value: slices.Clone(in.Value), Headers: in.Headers})
		}
	}}).Callbacks()
}

// changed tells the sender of the group's rows.
func (w *webhooks) changed(next func(table, key string, row []byte)) func(table, key string, row []byte) {
	return func(table, key string, row []byte) {
		next(table, key, row)
		if s := w.current(); s != nil && table == deliveryTable {
			s.Changed(key, row)
		}
	}
}

// ready says what is missing for deliveries to be attempted.
func (w *webhooks) ready() error {
	if w.current() == nil {
		return errors.New("webhooks: no sender runs")
	}
	return nil
}

// tryWebhook sends a test event to a webhook, for the gateway.
func (n *Node) tryWebhook(ctx context.Context, sub *codecs.Subscription) subscriptions.Tried {
	web := delivery.NewClient(n.cfg.Webhooks, n.keys)
	defer web.Close()
	t := web.Try(ctx, sub, n.cfg.Now())
	return subscriptions.Tried{ID: t.ID, Taken: t.Taken, Cause: t.Cause, Status: t.Status, Millis: t.Took.Milliseconds()}
}
