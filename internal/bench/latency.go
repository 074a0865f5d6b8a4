package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/app"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	rate      = 1000 // events a second
	warmUp    = 2 * time.Second
	rawEvents = "bench-raw-events"
)

func latencyP50(ctx context.Context, c Config) (Result, error) {
	return latency(ctx, c, "latency_p50_vs_raw", 0.50)
}

func latencyP99(ctx context.Context, c Config) (Result, error) {
	return latency(ctx, c, "latency_p99_vs_raw", 0.99)
}

// samples are what one run measured, in milliseconds, sorted.
type samples struct{ ours, raw []float64 }

// measured keeps the samples of the last measurement, so that both percentiles, asked for in one call, are of the same runs.
var measured struct {
	sync.Mutex
	of   [2]int
	runs []samples
}

// latency is the time from the append of a stamped event to its stream, at 1,000 a second, until a delivery of it is polled.
// It is taken from right before the event is produced, on both sides, so the append itself counts. Ours goes through the
// router to a read_committed consumer of the subscribers' topics, which have one partition each; the longest transaction as
// configured is then taken off, because a record is seen when its transaction ends.
//
// Raw is a consumer that writes the same six records for each event at once, without linger, transaction or idempotence being
// waited for, to the same topics, and the same consumer of these, which reads what is not committed too.
func latency(ctx context.Context, c Config, name string, quantile float64) (Result, error) {
	measured.Lock()
	defer measured.Unlock()
	if measured.of != [2]int{c.Runs, c.Events} {
		runs, err := measureLatency(ctx, c)
		if err != nil {
			return Result{}, err
		}
		measured.of, measured.runs = [2]int{c.Runs, c.Events}, runs
	}
	const interval = 20.0
	r := Result{Name: name, Unit: "ms", Runs: c.Runs, Interval: interval}
	var ours, raw, ratios []float64
	for _, s := range measured.runs {
		a, b := at(s.ours, quantile), at(s.raw, quantile)
		ours, raw, ratios = append(ours, a), append(raw, b), append(ratios, (a-interval)/b)
	}
	r.Ours, r.Theirs, r.Ratio = median(ours), median(raw), median(ratios)
	return r, nil
}

func at(sorted []float64, quantile float64) float64 {
	return sorted[min(len(sorted)-1, int(quantile*float64(len(sorted))))]
}

func measureLatency(ctx context.Context, c Config) ([]samples, error) {
	if err := onePartition(ctx, c); err != nil {
		return nil, err
	}
	w, err := newWorld(ctx, c)
	if err != nil {
		return nil, err
	}
	defer w.client.Close()
	if _, err := w.admin.CreateTopic(ctx, w.cfg.Shape.Partitions, 1, nil, rawEvents); err != nil {
		return nil, err
	}
	w.cfg.Interval = 20 * time.Millisecond
	warm := min(c.Events, int(warmUp.Seconds()*rate))
	n := 1 + warm + c.Events
	var out []samples
	for run := range c.Runs {
		events, err := w.events(n, run*n)
		if err != nil {
			return nil, err
		}
		before, err := w.ends(ctx)
		if err != nil {
			return nil, err
		}
		var s samples
		if s.ours, err = w.oursLatency(ctx, events, warm); err != nil {
			return nil, err
		}
		written, err := w.written(ctx, before, n)
		if err != nil {
			return nil, err
		}
		of := make(map[string][]*kgo.Record, n)
		for i := run * n; i < (run+1)*n; i++ {
			of[eventID(i)] = written[w.keys.LifeEvent(source, eventID(i))]
		}
		if s.raw, err = w.rawLatency(ctx, events, warm, of); err != nil {
			return nil, err
		}
		c.Say(fmt.Sprintf("run %d: ours p50 %.2f p90 %.2f p99 %.2f max %.2f, raw p50 %.2f p90 %.2f p99 %.2f max %.2f ms", run+1, at(s.ours, 0.5), at(s.ours, 0.9), at(s.ours, 0.99),
			at(s.ours, 1), at(s.raw, 0.5), at(s.raw, 0.9), at(s.raw, 0.99), at(s.raw, 1)))
		out = append(out, s)
	}
	return out, nil
}

// onePartition makes the subscribers' topics before the cluster is set up: what is there stays.
func onePartition(ctx context.Context, c Config) error {
	w := world{}
	w.cfg.Connection.Brokers = c.Brokers
	cl, err := w.cfg.Connection.Client()
	if err != nil {
		return err
	}
	defer cl.Close()
	var names []string
	for s := range subscribers {
		names = append(names, topology.SubscriberTopicName(subscriber(s)))
	}
	return createTopics(ctx, cl, 1, names)
}

func (w *world) oursLatency(ctx context.Context, events []*kgo.Record, warm int) ([]float64, error) {
	cfg := w.cfg
	cfg.Parts = []string{topology.Router.Name}
	node, err := app.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- node.Run(running) }()
	out, err := w.deliveries(ctx, stream, events, warm, kgo.ReadCommitted())
	stop()
	return out, errors.Join(err, <-done)
}

func (w *world) rawLatency(ctx context.Context, events []*kgo.Record, warm int, of map[string][]*kgo.Record) ([]float64, error) {
	cl, err := w.cfg.Connection.Client(kgo.ConsumeTopics(rawEvents), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- rawLoop(running, cl, of) }()
	out, err := w.deliveries(ctx, rawEvents, events, warm, kgo.ReadUncommitted())
	stop()
	err = errors.Join(err, <-done)
	cl.Close()
	return out, err
}

// rawLoop writes the records that belong to each event it reads, with the event's time.
func rawLoop(ctx context.Context, cl *kgo.Client, of map[string][]*kgo.Record) error {
	var mu sync.Mutex
	var failed error
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			mu.Lock()
			defer mu.Unlock()
			return failed
		}
		if err := fetches.Err(); err != nil {
			return err
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			when := header(r, codecs.HeaderTime)
			for _, out := range of[string(header(r, codecs.HeaderID))] {
				for i := range out.Headers {
					if out.Headers[i].Key == codecs.HeaderTime {
						out.Headers[i].Value = when
					}
				}
				cl.Produce(ctx, out, func(_ *kgo.Record, err error) {
					if err != nil && !errors.Is(err, context.Canceled) {
						mu.Lock()
						failed = err
						mu.Unlock()
					}
				})
			}
		}
	}
}

func header(r *kgo.Record, name string) []byte {
	for i := range r.Headers {
		if r.Headers[i].Key == name {
			return r.Headers[i].Value
		}
	}
	return nil
}

// deliveries produces the events, 1,000 a second, once the first has come through, and polls their deliveries. An event's time
// (ce_time), which every delivery bears, says when it was produced. Returned are the milliseconds of all deliveries but
// those of the first event and of the next warm ones.
func (w *world) deliveries(ctx context.Context, to string, events []*kgo.Record, warm int, level kgo.IsolationLevel) ([]float64, error) {
	ends, err := w.ends(ctx)
	if err != nil {
		return nil, err
	}
	from := map[string]map[int32]kgo.Offset{}
	for s := range subscribers {
		topic := topology.SubscriberTopicName(subscriber(s))
		from[topic] = map[int32]kgo.Offset{}
		for p, o := range ends[topic] {
			from[topic][p] = kgo.NewOffset().At(o)
		}
	}
	cl, err := w.cfg.Connection.Client(kgo.ConsumePartitions(from), kgo.FetchIsolationLevel(level))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute+time.Duration(len(events))*time.Second/rate)
	defer cancel()
	// Until its loop reads, raw would miss the first event; the router reads from its committed offset. So it is sent until it comes.
	source, err := w.cfg.Connection.Client(kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	defer source.Close()
	ready, sent := make(chan struct{}), make(chan error, 1)
	go func() { sent <- w.send(ctx, source, to, events, ready) }()
	var measuredFrom time.Time
	all := make([]float64, 0, len(events)*matching)
	for got := 0; got < len(events)*matching; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, errors.Join(fmt.Errorf("%d of %d deliveries came", got, len(events)*matching), err)
		}
		now := time.Now()
		for it := fetches.RecordIter(); !it.Done(); got++ {
			r := it.Next()
			if header(r, codecs.HeaderReplayed) != nil { // not one that is waited for
				got--
				continue
			}
			when, err := time.Parse(time.RFC3339Nano, string(header(r, codecs.HeaderTime)))
			if err != nil {
				return nil, err
			}
			if got == matching-1 {
				close(ready)
				measuredFrom = now.Add(time.Duration(warm) * time.Second / rate)
			}
			if got >= matching && when.After(measuredFrom) {
				all = append(all, float64(now.Sub(when).Microseconds())/1e3)
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("nothing came after the warm-up")
	}
	slices.Sort(all)
	return all, <-sent
}

// send produces one event, waits until it was delivered, and then produces the others at the rate.
func (w *world) send(ctx context.Context, cl *kgo.Client, to string, events []*kgo.Record, ready chan struct{}) error {
	var mu sync.Mutex
	var failed error
	produce := func(r *kgo.Record) {
		out := &kgo.Record{Topic: to, Key: r.Key, Value: r.Value, Headers: slices.Clone(r.Headers)}
		for i := range out.Headers {
			if out.Headers[i].Key == codecs.HeaderTime {
				out.Headers[i].Value = []byte(time.Now().UTC().Format(time.RFC3339Nano))
			}
		}
		cl.Produce(ctx, out, func(_ *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		})
	}
	if to == rawEvents { // its loop begins at the end of the topic: leave it time to find it
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
	produce(events[0])
	select {
	case <-ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	began := time.Now()
	for i, r := range events[1:] {
		if wait := time.Until(began.Add(time.Duration(i) * time.Second / rate)); wait > 0 {
			time.Sleep(wait)
		}
		produce(r)
	}
	err := cl.Flush(ctx)
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(err, failed)
}
