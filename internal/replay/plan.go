package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/tables"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Plan is what a replay would do, decided now. Nothing was written for it, nor asked of the registry that would be.
type Plan struct {
	Replay   codecs.Replay // with its Scan: what can be asked for as it is
	Events   int64         // that were delivered, and lie in the range
	Verdicts int64         // on them, one for each subscription that got one
	Sent     int64         // permits
	Counts   []codecs.ReasonCount
	Takes    time.Duration // at its rate; 0: without a rate it cannot be told
	Whole    bool          // false: the time for planning was over first, and the rest is not counted
}

// planBatch is how many events are decided on one look at the lease.
const planBatch = 200

// MakePlan goes through the range of a replay and decides each event now. It has no side effect. When the context's deadline
// comes first the plan is not whole.
func MakePlan(ctx context.Context, cfg Config, of Tables, row codecs.Replay) (*Plan, error) {
	cfg.defaults()
	client, err := cfg.Connection.Client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	admin, log, lease := kadm.NewClient(client), kafka.NewLog(client), tables.NewLease(of, cfg.Age)
	if _, err := lease.Hold(ctx); err != nil {
		return nil, err
	}
	snap := of.Snapshot()
	if sub := snap.Subscription(row.Subscription); row.Subscription != "" {
		if sub == nil || row.Subscriber != "" && row.Subscriber != sub.Subscriber {
			return nil, ErrNoSubscription
		}
		row.Subscriber = sub.Subscriber
	}
	if row.Scan, err = Scan(ctx, admin, &row); err != nil {
		return nil, err
	}
	recorded, err := learn(ctx, &cfg, log, admin, snap, &row)
	if err != nil {
		return nil, err
	}
	p := &Plan{Replay: row, Whole: true}
	a := &again{cfg: &cfg, tables: of, recorded: recorded, targets: nil}
	counts := map[string]int64{}
	for _, r := range row.Scan {
		for w := newWalker(log, cfg.Records, &row, r.Partition, r.From, r.To); !w.over(); {
			events, _, err := w.next(ctx, planBatch)
			if err == nil {
				err = p.count(ctx, a, lease, events, counts)
			}
			if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				p.Whole = false
				p.done(counts)
				return p, nil
			}
			if err != nil {
				return nil, fmt.Errorf("plan a replay: %w", err)
			}
		}
	}
	p.done(counts)
	return p, nil
}

// ErrNoSubscription says that a replay names a subscription that its subscriber does not have.
var ErrNoSubscription = errors.New("the subscriber has no such subscription")

func (p *Plan) done(counts map[string]int64) {
	p.Counts = sorted(counts)
	if p.Replay.Rate > 0 {
		p.Takes = time.Duration(float64(p.Events) / float64(p.Replay.Rate) * float64(time.Second))
	}
}

// count decides events and counts what they come to.
func (p *Plan) count(ctx context.Context, a *again, lease *tables.Lease, events []*found, counts map[string]int64) error {
	ready := make([]*event, 0, len(events))
	for _, f := range events {
		e, err := a.prepare(ctx, f)
		if err != nil {
			return err
		}
		ready = append(ready, e)
	}
	if len(ready) == 0 {
		return nil
	}
	if _, err := lease.Hold(ctx); err != nil {
		return err
	}
	snap, now := a.tables.Snapshot(), a.cfg.Now()
	for _, e := range ready {
		outs, d, err := a.decide(snap, e, now)
		if err != nil {
			return err
		}
		p.Events++
		for _, reason := range reasons(outs, d, e) {
			p.Verdicts++
			counts[reason]++
			if Sends(reason) {
				p.Sent++
			}
		}
	}
	return nil
}

// reasons are what an event counts under: one for each of its subscriptions.
func reasons(outs []deliver, d *codecs.Decision, e *event) []string {
	all := make([]string, 0, len(e.items))
	for i := range outs {
		all = append(all, outs[i].item.Reason)
	}
	for len(all) < len(e.items) { // it gets no verdict
		all = append(all, d.Outcome)
	}
	return all
}
