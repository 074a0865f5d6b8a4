package e2e

import (
	"slices"
	"strings"
	"testing"

	"civicbus/internal/admin"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
)

// TestForgottenOffsets has Kafka forget a group's offsets, as it does of one that nobody has run for a week: nothing is carried out or
// sent a second time, and where an operator sets the offsets the group goes on.
func TestForgottenOffsets(t *testing.T) {
	b := start(t)
	b.smallWorld()
	op := b.operator()
	who := person(1)
	b.inEffect(b.grantPost(who))
	b.inEffect(b.withdrawPost(who))
	b.accept(register, moved("first", who, "1"))
	b.decision("first", who)
	nothingWaits := func() {
		b.eventually("nothing waits", func() bool {
			lags, err := op.Lag(t.Context())
			b.must(err)
			return !slices.ContainsFunc(lags, func(l admin.Lag) bool { return l.Records > 0 })
		})
	}
	nothingWaits()
	b.nodes["a"].leave()
	kept := map[string]kadm.Offsets{}
	for _, g := range groups() {
		got, err := b.admin.FetchOffsets(t.Context(), g)
		b.must(err)
		kept[g] = got.Offsets()
	}
	deleted, err := b.admin.DeleteGroups(t.Context(), groups()...)
	b.must(err)
	b.must(deleted.Error())
	results, decisions, deliveries := b.ends(topology.CommandResults.Name), b.ends(topology.Decisions.Name), len(b.deliveries())

	n := b.run("b")
	for _, g := range []topology.Group{topology.Catalog, topology.Trust, topology.Subscription, topology.Consent, topology.Profile, topology.Router, topology.Audit, topology.Usage} {
		b.eventually("group "+g.Name+" refuses to begin anew", func() bool { return strings.Contains(b.log.String(), "error=\"group "+g.Name+", partition ") })
	}
	if err := n.Ready(); err == nil {
		t.Error("it is ready")
	}
	n.leave()
	if b.ends(topology.CommandResults.Name) != results || b.ends(topology.Decisions.Name) != decisions || len(b.deliveries()) != deliveries {
		t.Error("something was done a second time")
	}
	for _, g := range groups() {
		b.must(b.admin.CommitAllOffsets(t.Context(), g, kept[g]))
	}
	b.run("c").ready()
	b.accept(register, moved("second", who, "2"))
	b.want(b.decision("second", who), postSub, "deny grant_withdrawn")
	nothingWaits()
	if f := b.verified().Findings; len(f) > 0 {
		t.Errorf("the audit log: %v", f)
	}
}
