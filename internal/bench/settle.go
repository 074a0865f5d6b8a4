package bench

import (
	"context"
	"time"

	"civicbus/internal/admin"
)

// askEach is how long is waited between two questions to the cluster whether something has come about.
const askEach = 100 * time.Millisecond

// allActive waits until every subscription is active.
func allActive(ctx context.Context, operator *admin.Client) error {
	for {
		rows, err := admin.Subscriptions.All(ctx, operator)
		if err != nil {
			return err
		}
		waiting := 0
		for _, row := range rows {
			if row.Status != "active" {
				waiting++
			}
		}
		if waiting == 0 {
			return nil
		}
		if !wait(ctx, askEach) {
			return ctx.Err()
		}
	}
}

// caughtUp waits until a group has committed all that is on its inputs. Asking costs this process a little.
func caughtUp(ctx context.Context, operator *admin.Client, group string, each time.Duration) error {
	for {
		if !wait(ctx, each) {
			return ctx.Err()
		}
		lags, err := operator.Lag(ctx, group)
		if err != nil {
			return err
		}
		left := int64(0)
		for _, l := range lags {
			left += l.Records
		}
		if left == 0 {
			return nil
		}
	}
}

// wait waits, and is false when the context has ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
