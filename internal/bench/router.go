package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/app"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// routerVsCopy lets the router decide n events and then copies what it wrote: the same records to the same topics with the
// same keys and headers, by a franz-go group consumer with an idempotent producer, which does nothing else.
func routerVsCopy(ctx context.Context, c Config) (Result, error) {
	w, err := newWorld(ctx, c)
	if err != nil {
		return Result{}, err
	}
	defer w.client.Close()
	var ours, theirs, ratios []float64
	for run := range c.Runs {
		first := run * (warmEvents + c.Events)
		before, err := w.ends(ctx)
		if err != nil {
			return Result{}, err
		}
		router, err := w.route(ctx, c, first)
		if err != nil {
			return Result{}, err
		}
		written, err := w.written(ctx, before, warmEvents+c.Events)
		if err != nil {
			return Result{}, err
		}
		copied, err := w.copy(ctx, fmt.Sprintf("copy-%d", run), before[stream], first, warmEvents+c.Events, written)
		if err != nil {
			return Result{}, err
		}
		ours = append(ours, float64(router.Microseconds())/float64(c.Events))
		theirs = append(theirs, copied)
		ratios = append(ratios, ours[run]/theirs[run])
		c.Say(fmt.Sprintf("run %d: router %.1f us, copy %.1f us an event: %.2f", run+1, ours[run], theirs[run], ratios[run]))
	}
	return Result{Name: "router_vs_copy", Ratio: median(ratios), Ours: median(ours), Theirs: median(theirs), Unit: "us CPU/event", Runs: c.Runs}, nil
}

// warmEvents is how many events a run starts with that are not measured: both sides have read their tables, made their
// connections and learnt where the topics lie by then.
const warmEvents = 2_000

type offsets map[string]map[int32]int64

// ends are the ends of every topic that a run reads or writes.
func (w *world) ends(ctx context.Context) (offsets, error) {
	listed, err := w.admin.ListEndOffsets(ctx, w.outputs()...)
	if err != nil {
		return nil, err
	}
	out := offsets{}
	for t, ps := range listed {
		out[t] = map[int32]int64{}
		for p, o := range ps {
			out[t][p] = o.Offset
		}
	}
	return out, nil
}

func (w *world) outputs() []string {
	topics := []string{stream, topology.Decisions.Name}
	for s := range subscribers {
		topics = append(topics, topology.SubscriberTopicName(subscriber(s)))
	}
	return topics
}

// route runs a node with the router alone over a run's events, and returns the processor time of those that count. They are
// written by another process while it waits for them: what the source costs is no part of it.
func (w *world) route(ctx context.Context, c Config, first int) (time.Duration, error) {
	cfg := w.cfg
	cfg.Parts = []string{topology.Router.Name}
	node, err := app.Connect(ctx, cfg)
	if err != nil {
		return 0, err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		err := node.Run(running)
		stop() // a router that ended is not waited for
		done <- err
	}()
	spent, err := w.measured(running, c, first)
	stop()
	return spent, errors.Join(err, <-done)
}

func (w *world) measured(ctx context.Context, c Config, first int) (time.Duration, error) {
	if err := c.Feed(ctx, first, warmEvents); err != nil {
		return 0, err
	}
	if err := w.decided(ctx, int64(first+warmEvents)); err != nil {
		return 0, err
	}
	runtime.GC() // what earlier runs left is not for this one to clear away
	stopProfile, err := c.profile()
	if err != nil {
		return 0, err
	}
	began := processorTime()
	if err := c.Feed(ctx, first+warmEvents, c.Events); err != nil {
		return 0, err
	}
	if err := w.decided(ctx, int64(first+warmEvents+c.Events)); err != nil {
		return 0, err
	}
	spent := processorTime() - began
	return spent, stopProfile()
}

// decided waits until the router has committed so many events. The offsets tell: asking costs this process next to nothing,
// which a reader would not.
func (w *world) decided(ctx context.Context, n int64) error {
	for {
		committed, err := w.admin.FetchOffsets(ctx, topology.Router.Name)
		if err == nil {
			sum := int64(0)
			for _, o := range committed[stream] {
				sum += max(0, o.At)
			}
			if sum >= n { // the source writes without transactions: no marker takes an offset
				return nil
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// written reads what the router wrote since, by the event that it came from.
func (w *world) written(ctx context.Context, from offsets, n int) (map[string][]*kgo.Record, error) {
	parts := map[string]map[int32]kgo.Offset{}
	for t, ps := range from {
		if t == stream {
			continue
		}
		parts[t] = map[int32]kgo.Offset{}
		for p, o := range ps {
			parts[t][p] = kgo.NewOffset().At(o)
		}
	}
	cl, err := w.cfg.Connection.Client(kgo.ConsumePartitions(parts), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	out := map[string][]*kgo.Record{}
	for got := 0; got < n*(matching+1); {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, err
		}
		for _, r := range fetches.Records() {
			got++
			id := ""
			if r.Topic == topology.Decisions.Name {
				d, err := w.records.Decision.Decode(r.Value)
				if err != nil {
					return nil, err
				}
				id = d.LifeEventID
				if len(d.Verdicts) != matching || slices.ContainsFunc(d.Verdicts, func(v codecs.VerdictItem) bool { return !v.Permit }) {
					return nil, fmt.Errorf("an event was decided as %s with %v, want %d permits", d.Outcome, d.Verdicts, matching)
				}
			} else {
				for _, h := range r.Headers {
					if h.Key == codecs.HeaderCorrelation {
						subscriber := strings.TrimPrefix(r.Topic, topology.SubscriberTopicName(""))
						if id, err = w.keys.For(subscriber).OpenID(string(h.Value)); err != nil {
							return nil, err
						}
					}
				}
			}
			out[id] = append(out[id], &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers})
		}
	}
	for id, rs := range out {
		if len(rs) != matching+1 {
			return nil, fmt.Errorf("life event %s has %d records, want %d", id, len(rs), matching+1)
		}
	}
	return out, nil
}

// copy consumes the same events and writes the same records, and returns its processor time in microseconds an event, after
// the events that warm it up.
func (w *world) copy(ctx context.Context, group string, from map[int32]int64, first, n int, written map[string][]*kgo.Record) (float64, error) {
	var start kadm.Offsets = map[string]map[int32]kadm.Offset{}
	for p, o := range from {
		start.Add(kadm.Offset{Topic: stream, Partition: p, At: o, LeaderEpoch: -1})
	}
	if err := w.admin.CommitAllOffsets(ctx, group, start); err != nil {
		return 0, err
	}
	// What belongs to which event is worked out beforehand: the copy is blind.
	of := make(map[string][]*kgo.Record, n)
	for i := first; i < first+n; i++ {
		of[eventID(i)] = written[w.keys.LifeEvent(source, eventID(i))]
	}
	cl, err := w.cfg.Connection.Client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(stream), kgo.DisableAutoCommit(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.MaxBufferedRecords(100_000), kgo.ProducerLinger(20*time.Millisecond))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	var began time.Duration
	got, cold := 0, 0
	for got < n {
		if cold == 0 && got >= warmEvents {
			runtime.GC()
			began, cold = processorTime(), got
		}
		fetches := cl.PollRecords(ctx, 1000)
		if err := fetches.Err0(); err != nil {
			return 0, err
		}
		var failed error
		for it := fetches.RecordIter(); !it.Done(); got++ {
			r := it.Next()
			for i := range r.Headers {
				if r.Headers[i].Key != codecs.HeaderID {
					continue
				}
				for _, out := range of[string(r.Headers[i].Value)] {
					cl.Produce(ctx, out, func(_ *kgo.Record, err error) {
						if err != nil {
							failed = err
						}
					})
				}
			}
		}
		if err := cl.Flush(ctx); err != nil {
			return 0, err
		}
		if failed != nil {
			return 0, failed
		}
		if err := cl.CommitUncommittedOffsets(ctx); err != nil {
			return 0, err
		}
	}
	return float64((processorTime() - began).Microseconds()) / float64(n-cold), nil
}
