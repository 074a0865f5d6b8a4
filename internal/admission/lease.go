package admission

import (
	"context"
	"time"
)

// Lease says whether the trust and catalog tables are confirmed current (DESIGN.md 3.2). Whoever asks takes the time
// first and reads the tables after it: so what it read is at least as new as the time says.
type Lease interface {
	// Fresh gives the oldest confirmation among the tables' partitions, and whether it is young enough to decide on.
	Fresh() (time.Time, bool)
	// Wait returns once Fresh would say true, or with the context's error.
	Wait(ctx context.Context) error
}

// DefaultLeaseAge is the age A of a cluster that was not given another.
const DefaultLeaseAge = 500 * time.Millisecond

// underLease waits until it may decide, and gives the confirmation and the tables to decide on.
func underLease(ctx context.Context, lease Lease, tables func() Tables) (time.Time, Tables, error) {
	for {
		if t, ok := lease.Fresh(); ok {
			return t, tables(), nil
		}
		if err := lease.Wait(ctx); err != nil {
			return time.Time{}, nil, err
		}
	}
}
