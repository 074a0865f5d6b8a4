package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	share       = 0.25        // of the time that all replays of a process together work
	behindLimit = 2_000       // records that the router may be behind beside the markers of transactions
	askEvery    = time.Second // how far the router is behind
	askAgain    = 200 * time.Millisecond
)

// pace keeps a replay slow enough. It is for one goroutine.
type pace struct {
	rate    int32 // records a second; 0: no limit of its own
	admin   *kadm.Client
	waiting func(bool)    // told while it waits for the router
	turn    chan struct{} // has room for one: the replays of a process take turns, rests included

	next  time.Time // before then nothing is sent
	asked time.Time // when the router was asked for last
}

// most is how many records may go in one transaction.
func (p *pace) most() int {
	const parts, all = 10, maxLimit // of a second's records
	if p.rate == 0 {
		return all
	}
	return max(1, min(all, int(p.rate)/parts))
}

// begin takes the process's turn, or returns the context's error. worked gives it back.
func (p *pace) begin(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// worked says that n records took so long, and rests before it gives the turn back.
func (p *pace) worked(ctx context.Context, n int, took time.Duration) {
	if now := time.Now(); p.next.Before(now) {
		p.next = now
	}
	if p.rate > 0 && n > 0 {
		p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	}
	_ = pause(ctx, time.Duration(float64(took)*(1/share-1))) // who comes next looks at the context
	<-p.turn
}

// wait returns when the replay may go on, or with the context's error.
func (p *pace) wait(ctx context.Context) error {
	if err := pause(ctx, time.Until(p.next)); err != nil {
		return err
	}
	if time.Since(p.asked) < askEvery {
		return nil
	}
	defer p.waiting(false)
	for limit := int64(behindLimit); ; limit = behindLimit / 2 {
		records, partitions, err := behind(ctx, p.admin)
		if err != nil {
			return err
		}
		p.asked = time.Now()
		if records <= limit+2*int64(partitions) {
			return nil
		}
		p.waiting(true)
		if err := pause(ctx, askAgain); err != nil {
			return err
		}
	}
}

// behind is how many records of the event streams the router has not decided yet, transaction markers among them.
func behind(ctx context.Context, admin *kadm.Client) (records int64, partitions int, err error) {
	committed, err := admin.FetchOffsets(ctx, topology.Router.Name)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("ask how far the router is behind: %w", err)
	}
	names := make([]string, 0, len(topology.EventStreams))
	for _, s := range topology.EventStreams {
		names = append(names, s.Name)
	}
	ends, err := admin.ListCommittedOffsets(ctx, names...)
	if err != nil {
		return 0, 0, fmt.Errorf("ask how far the router is behind: %w", err)
	}
	ends.Each(func(end kadm.ListedOffset) {
		if at, ok := committed.Lookup(end.Topic, end.Partition); ok && at.At >= 0 && end.Err == nil {
			records += max(0, end.Offset-at.At)
			partitions++
		}
	})
	return records, partitions, nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
