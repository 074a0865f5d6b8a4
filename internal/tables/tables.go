// Package tables is what an edge sees of Kafka's tables: catalog, trust, subscriptions and consents, kept whole and
// current, with the lease (DESIGN.md 3.2). The router reads its own; whatever leaves later by another way is decided on these.
package tables

import (
	"context"
	"errors"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"
)

// Current is what is decided on, and since when it is known to be current. Its methods are safe for concurrent use.
type Current interface {
	// Fresh gives the oldest confirmation among the tables' partitions, consents included, and whether it is within the
	// lease's age. It is taken before anything is read.
	Fresh() (time.Time, bool)
	Snapshot() *verdict.Snapshot
	// Consents is a subject's row: nil when there is none, verdict.Unreadable() when it cannot be decoded.
	Consents(subject string) *codecs.Consents
}

// Source is Current for who shows reference data and decides nothing.
type Source interface {
	Wait(ctx context.Context) error // until they are confirmed current
	Snapshot() *verdict.Snapshot
}

// ErrNotCurrent says that the tables are not confirmed current: nothing is decided, and nothing is said of them.
var ErrNotCurrent = errors.New("the tables are not confirmed current")

// waitAtMost bounds how long Snapshot waits.
const waitAtMost = 5 * time.Second

// Snapshot is the tables as they are now, or ErrNotCurrent.
func Snapshot(ctx context.Context, of Source) (*verdict.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, waitAtMost)
	defer cancel()
	if err := of.Wait(ctx); err != nil {
		return nil, ErrNotCurrent
	}
	return of.Snapshot(), nil
}
