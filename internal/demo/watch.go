package demo

import (
	"context"
	"fmt"
	"time"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/kafka"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// watch reads decisions and deliveries as they are committed.
type watch struct {
	client    *kgo.Client
	records   *codecs.Records
	decisions map[decisionKey]*codecs.Decision // the router's
	all       []*codecs.Decision               // of every kind, each subject's in their order
	delivered map[string]*kgo.Record
	read      map[string]map[int32]int64 // the offset after the last record that was taken in, markers of transactions included
}

type decisionKey struct{ life, subject, role string }

func newWatch(ctx context.Context, c kafka.Connection, records *codecs.Records, w *examples.World) (*watch, error) {
	topics := []string{topology.Decisions.Name}
	for _, o := range w.Organisations {
		if len(o.Receives) > 0 {
			topics = append(topics, topology.SubscriberTopicName(o.ID))
		}
	}
	cl, err := c.Client(kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond), kgo.KeepControlRecords())
	return &watch{client: cl, records: records, decisions: map[decisionKey]*codecs.Decision{}, delivered: map[string]*kgo.Record{}, read: map[string]map[int32]int64{}}, err
}

func (w *watch) close() { w.client.Close() }

// next takes in what has been committed since, waiting for something.
func (w *watch) next(ctx context.Context) error {
	fetches := w.client.PollFetches(ctx)
	if err := fetches.Err0(); err != nil {
		return err
	}
	for _, r := range fetches.Records() {
		if w.read[r.Topic] == nil {
			w.read[r.Topic] = map[int32]int64{}
		}
		w.read[r.Topic][r.Partition] = r.Offset + 1
		if r.Attrs.IsControl() {
			continue
		}
		if r.Topic != topology.Decisions.Name {
			w.delivered[headerOf(r, codecs.HeaderID)] = r
			continue
		}
		d, err := w.records.Decision.Decode(r.Value)
		if err != nil {
			return err
		}
		w.all = append(w.all, &d)
		if d.Kind == topology.Router.Name {
			w.decisions[decisionKey{d.LifeEventID, string(r.Key), d.Role}] = &d
		}
	}
	return nil
}

// has says whether a delivery to a subscription was taken in that correlates so.
func (w *watch) has(subscription, correlation string) bool {
	for _, rec := range w.delivered {
		if headerOf(rec, codecs.HeaderSubscription) == subscription && headerOf(rec, codecs.HeaderCorrelation) == correlation {
			return true
		}
	}
	return false
}

// catchUp takes in all that is committed now.
func (w *watch) catchUp(ctx context.Context) error {
	ends, err := kadm.NewClient(w.client).ListCommittedOffsets(ctx, w.client.GetConsumeTopics()...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("list the ends of what is watched: %w", err)
	}
	var left bool
	for err == nil {
		left = false
		ends.Each(func(o kadm.ListedOffset) { left = left || w.read[o.Topic][o.Partition] < o.Offset })
		if !left {
			break
		}
		err = w.next(ctx)
	}
	return err
}

func headerOf(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
