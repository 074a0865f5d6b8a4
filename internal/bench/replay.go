package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"civicbus/codecs"
	"civicbus/internal/replay"
	"civicbus/internal/tables"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// replaysAtOnce is how many subscribers' deliveries are sent again side by side, each as fast as it goes.
const replaysAtOnce = 4

// progressEach is how often a replay is asked how far it has come.
const progressEach = 200 * time.Millisecond

// replayBench is the latency of live events, as latency's, while replays at full speed run in the router's process, against
// that without them.
func replayBench(ctx context.Context, c Config) (Result, error) {
	if err := onePartition(ctx, c); err != nil {
		return Result{}, err
	}
	w, err := newWorld(ctx, c)
	if err != nil {
		return Result{}, err
	}
	defer w.client.Close()
	w.cfg.Interval = 20 * time.Millisecond
	warm := min(c.Events, int(warmUp.Seconds()*rate))
	n := 1 + warm + c.Events
	r := Result{Name: "replay", Unit: "ms", Runs: c.Runs}
	var with, without, ratios []float64
	for run := range c.Runs {
		var p99 [2]float64
		for side := range 2 {
			events, err := w.events(n, (2*run+side)*n)
			if err != nil {
				return Result{}, err
			}
			stop, sent := func() error { return nil }, new(atomic.Int64)
			if side == 1 {
				if stop, err = w.replaying(ctx, fmt.Sprint("bench-", run), sent); err != nil {
					return Result{}, err
				}
			}
			begun := time.Now()
			all, err := w.oursLatency(ctx, events, warm)
			took := time.Since(begun)
			if err = errors.Join(err, stop()); err != nil {
				return Result{}, err
			}
			p99[side] = at(all, 0.99)
			c.Say(fmt.Sprintf("run %d, replay %t: p50 %.2f p99 %.2f max %.2f ms; %d sent again, %.0f a second", run+1, side == 1, at(all, 0.5), p99[side], at(all, 1), sent.Load(), float64(sent.Load())/took.Seconds()))
			if side == 1 && sent.Load() == 0 {
				return Result{}, errors.New("nothing was sent again meanwhile")
			}
		}
		without, with, ratios = append(without, p99[0]), append(with, p99[1]), append(ratios, p99[1]/p99[0])
	}
	r.Ours, r.Theirs, r.Ratio = median(with), median(without), median(ratios)
	return r, nil
}

// replaying runs replays of all that was decided so far, one after another, until stop is called; sent counts what they send.
func (w *world) replaying(ctx context.Context, name string, sent *atomic.Int64) (stop func() error, err error) {
	registry, err := codecs.NewRegistry(w.cfg.Registry)
	if err != nil {
		return nil, err
	}
	records := codecs.NewRecords()
	if err := records.Bind(ctx, registry); err != nil {
		return nil, err
	}
	cfg := replay.Config{Connection: w.cfg.Connection, Registry: registry, Records: records, Keys: w.keys, Partitions: w.cfg.Shape.Partitions, Age: 500 * time.Millisecond}
	of, err := tables.NewWorld(cfg.Connection, registry, records, cfg.Age, w.cfg.Logger)
	if err != nil {
		return nil, err
	}
	runner, err := replay.NewRunner(replay.RunnerConfig{Config: cfg, Tables: of})
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	done := make(chan error, 2+replaysAtOnce)
	go func() { of.Run(running); done <- nil }()
	go func() { done <- runner.Run(running) }()
	for i := range replaysAtOnce {
		go func() { done <- w.replays(running, records, fmt.Sprint(name, "-", i), subscriber(i), sent) }()
	}
	return func() error {
		cancel()
		var all error
		for range 2 + replaysAtOnce {
			all = errors.Join(all, <-done)
		}
		return all
	}, nil
}

// replays has one subscriber's deliveries sent again, over and over, as if it had been asked for and approved.
func (w *world) replays(ctx context.Context, records *codecs.Records, name, subscriber string, sent *atomic.Int64) error {
	for i := 0; ctx.Err() == nil; i++ {
		row := codecs.Replay{ID: fmt.Sprint(name, "-", i), Version: 1, Subscriber: subscriber, Status: "running", StartedAt: codecs.Millis(time.Now())}
		var err error
		if row.Scan, err = replay.Scan(ctx, w.admin, &row); err == nil {
			err = w.put(ctx, records, &row)
		}
		var p replay.Progress
		for over := false; err == nil && !over && wait(ctx, progressEach); {
			before := p.Sent
			if p, err = replay.ProgressOf(ctx, w.admin, &row); err == nil {
				sent.Add(p.Sent - before)
				over = p.Looked == p.Total
			}
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		row.Status, row.Version = "done", 2
		if err := w.put(context.WithoutCancel(ctx), records, &row); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) put(ctx context.Context, records *codecs.Records, row *codecs.Replay) error {
	value, err := records.Replay.Encode(row)
	if err != nil {
		return err
	}
	return w.client.ProduceSync(ctx, &kgo.Record{Topic: topology.TableTopic(topology.Replay.Name), Key: []byte(row.ID), Value: value}).FirstErr()
}
