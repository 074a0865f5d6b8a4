package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/topology"
)

// TestManySubscriptions has an event match more subscriptions than one record can hold verdicts of: every one of them gets it, the
// decision is on record in parts, and each part is audited.
func TestManySubscriptions(t *testing.T) {
	if slowness > 1 {
		t.Skip("takes minutes under the race detector, and nothing in it is about that")
	}
	const many = 6500
	b := start(t)
	b.smallWorld(func(w *examples.World) {
		one := w.Subscriptions[slices.IndexFunc(w.Subscriptions, func(s codecs.Subscription) bool { return s.ID == agencySub })]
		for i := range many {
			one.ID = fmt.Sprintf("%s-%s-%d", agencySub, strings.Repeat("x", 40), i)
			w.Subscriptions = append(w.Subscriptions, one)
		}
	})
	who := person(1)
	b.accept(register, moved("one", who, "1"), moved("two", who, "2"))
	b.decision("two", who)
	b.caughtUp()
	parts := map[string]int{}
	permits := map[string]bool{}
	for _, d := range b.decisions.all() {
		if d.Kind != topology.Router.Name {
			continue
		}
		parts[d.LifeEventID]++
		if (d.Follows >= 0) != (parts[d.LifeEventID] == 1) {
			t.Errorf("part %d of a decision follows offset %d", parts[d.LifeEventID], d.Follows)
		}
		for _, v := range d.Verdicts {
			if v.Permit {
				permits[v.DeliveryID] = true
			}
		}
	}
	if len(parts) != 2 || parts[b.keys.LifeEvent(registerSite, "one")] < 2 {
		t.Errorf("the decisions have parts: %v", parts)
	}
	for _, d := range b.deliveries() {
		delete(permits, header(d.Headers, codecs.HeaderID))
	}
	if len(permits) > 0 {
		t.Errorf("%d deliveries are missing", len(permits))
	}
	op := b.operator()
	b.eventually("everything is audited", func() bool {
		lags, err := op.Lag(t.Context(), topology.Audit.Name)
		b.must(err)
		return !slices.ContainsFunc(lags, func(l admin.Lag) bool { return l.Records > 0 })
	})
	for _, f := range b.verified().Findings {
		t.Errorf("the audit log: %s", f)
	}
}
