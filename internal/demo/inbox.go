package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"civicbus/examples"
)

// Seen is one thing that one party of the story did or saw.
type Seen struct {
	examples.Line
	At time.Duration // since the story began

	id, correlation string // of a delivery
}

// inbox is everything that was seen, in the order in which it came. Safe for concurrent use.
type inbox struct {
	began time.Time

	mu      sync.Mutex
	all     []Seen
	changed chan struct{} // closed, and made anew, when something comes
}

func newInbox() *inbox { return &inbox{began: time.Now(), changed: make(chan struct{})} }

// add takes something in, as seen now unless it says when.
func (b *inbox) add(s Seen) {
	if s.At == 0 {
		s.At = time.Since(b.began)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, s)
	close(b.changed)
	b.changed = make(chan struct{})
}

// from is what was seen from the n-th on, and what is closed when there is more.
func (b *inbox) from(n int) ([]Seen, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.all[n:]), b.changed
}

// wait waits until what was seen from the n-th on is enough.
func (b *inbox) wait(ctx context.Context, n int, what string, enough func([]Seen) bool) error {
	for {
		seen, changed := b.from(n)
		if enough(seen) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		}
	}
}

// arrived waits until each of these subscriptions has got as many deliveries from the n-th on.
func (b *inbox) arrived(ctx context.Context, n int, want map[string]int) error {
	return b.wait(ctx, n, fmt.Sprintf("deliveries to %v", slices.Sorted(maps.Keys(want))), func(seen []Seen) bool {
		got := map[string]int{}
		for _, s := range seen {
			if s.id != "" {
				got[s.Subscription]++
			}
		}
		for subscription, n := range want {
			if got[subscription] < n {
				return false
			}
		}
		return true
	})
}

// delivered is what was seen of one delivery: the way it came, what it says to people, and which fields of it hold a value.
func delivered(who, how string, e envelope, data any, note string) Seen {
	held, _ := paths(data)
	return Seen{Line: examples.Line{Who: who, How: how, Subscription: e.Subscription, What: e.Type, Says: says(data), Note: note, Fields: held}, id: e.ID, correlation: e.CorrelationID}
}

// envelope is what the story looks at of a delivery's attributes.
type envelope struct{ ID, Type, Subscription, CorrelationID string }

// says is what a person would read first: of whom, if that is there, and what.
func says(data any) string {
	members, _ := data.(map[string]any)
	name := ""
	if person, ok := members["person"].(map[string]any); ok && person["name"] != nil {
		name = fmt.Sprint(person["name"], ": ")
	}
	if address, ok := members["newAddress"].(map[string]any); ok {
		members = address
	}
	for _, member := range []string{"text", "municipality", "outcome"} {
		if text, ok := members[member].(string); ok {
			return name + text
		}
	}
	return ""
}
