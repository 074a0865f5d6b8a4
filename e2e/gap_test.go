package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/audit"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
)

// TestGap loses records that a group had not read: events before the router, decisions before the audit group. Their partitions stop, the
// others go on; when an operator has put the gaps on record the groups go on after them, and the audit log says what was lost. The event
// whose decision was lost before it was audited stays without one.
func TestGap(t *testing.T) {
	b := prepare(t)
	b.run("others", slices.DeleteFunc(groups(), func(g string) bool { return g == topology.Router.Name || g == topology.Audit.Name })...)
	b.run("edge", "relay", "keepers")
	router, auditor := b.run("router", topology.Router.Name), b.run("audit", topology.Audit.Name)
	b.smallWorld()
	op := b.operator()
	const events, stopped, other = "life.address", 1, 2
	lost, seen := b.someone(0, stopped), b.someone(0, other)
	move := func(id, who string) { b.accept(register, moved(id, who, "1")) }
	move("before", lost)
	move("before-too", seen)
	b.decision("before", lost)
	b.decision("before-too", seen)
	b.eventually("everything is audited", func() bool { return len(b.audited()) >= len(b.inputs()) })
	router.leave()
	auditor.leave()

	move("lost", lost)
	b.lose(op, events, stopped, topology.Profile.Name)
	move("kept", lost)
	router = b.run("router", topology.Router.Name)
	move("unaudited", seen)
	b.decision("unaudited", seen)
	b.lose(op, topology.Decisions.Name, other, topology.Usage.Name, topology.Journey.Name)
	move("audited", seen)
	b.decision("audited", seen)
	auditor = b.run("audit", topology.Audit.Name)
	for _, n := range []*node{router, auditor} {
		b.eventually(n.name+" says that it has stopped", func() bool { err := n.Ready(); return err != nil && strings.Contains(err.Error(), "stopped: 1") })
	}
	if _, ok := b.decided("kept", lost); ok {
		t.Error("what comes after a gap was decided")
	}
	if _, err := op.Gaps(t.Context(), "lost"); !errors.Is(err, admin.ErrGapReason) {
		t.Errorf("a reason that there is not: %v", err)
	}
	gaps, err := op.Gaps(t.Context(), "")
	b.must(err)
	if len(gaps) != 2 || gaps[0].Group != topology.Router.Name && gaps[1].Group != topology.Router.Name || gaps[0].Reason != codecs.GapExpired {
		t.Fatalf("gaps %+v", gaps)
	}
	if err := op.CloseGaps(t.Context(), "operator:anna", gaps); !errors.Is(err, admin.ErrRuns) {
		t.Errorf("gaps of groups that run are closed: %v", err)
	}
	router.leave()
	auditor.leave()
	gaps, err = op.Gaps(t.Context(), "")
	b.must(err)
	for range 2 { // the second time is what an operator would do whose first attempt was cut off
		b.must(op.CloseGaps(t.Context(), "operator:anna", gaps))
	}
	if left, err := op.Gaps(t.Context(), ""); err != nil || len(left) > 0 {
		t.Errorf("gaps that are closed are still there: %+v, %v", left, err)
	}

	router, auditor = b.run("router", topology.Router.Name), b.run("audit", topology.Audit.Name)
	if d := b.decision("kept", lost); d.Follows != gaps[slices.IndexFunc(gaps, func(g admin.Gap) bool { return g.Group == topology.Router.Name })].First {
		t.Errorf("the first decision after the gap follows offset %d", d.Follows)
	}
	move("after", lost)
	b.decision("after", lost)
	router.ready()
	auditor.ready()
	b.eventually("everything that is left is audited", func() bool {
		lags, err := op.Lag(t.Context(), topology.Audit.Name)
		b.must(err)
		return !slices.ContainsFunc(lags, func(l admin.Lag) bool { return l.Records > 0 })
	})
	if _, ok := b.decided("lost", lost); ok {
		t.Error("the lost event was decided")
	}
	result := b.verified()
	if f := result.Findings; len(f) != 1 || f[0].Kind != audit.Undecided || !strings.HasPrefix(f[0].Detail, fmt.Sprintf("%s/%d:", events, other)) {
		t.Errorf("want the one event whose decision was lost before it was audited, and have %v", f)
	}
	for _, want := range gaps {
		if !slices.ContainsFunc(result.Gaps, func(g audit.Gap) bool {
			return g.Group == want.Group && g.Topic == want.Topic && g.Partition == want.Partition && g.From == want.Next && g.To == want.First && g.Reason == codecs.GapExpired
		}) {
			t.Errorf("not in the audit log: %+v, only %+v", want, result.Gaps)
		}
	}
}

// lose waits until groups have nothing left to read and deletes what a partition holds.
func (b *bus) lose(op *admin.Client, topic string, partition int32, after ...string) {
	b.t.Helper()
	b.eventually("nothing waits before it is lost", func() bool {
		lags, err := op.Lag(b.t.Context(), after...)
		b.must(err)
		return !slices.ContainsFunc(lags, func(l admin.Lag) bool { return l.Records > 0 })
	})
	ends, err := b.admin.ListCommittedOffsets(b.t.Context(), topic)
	b.must(err)
	end, ok := ends.Lookup(topic, partition)
	if !ok {
		b.t.Fatalf("%s has no partition %d", topic, partition)
	}
	to := kadm.Offsets{}
	to.AddOffset(topic, partition, end.Offset, -1)
	deleted, err := b.admin.DeleteRecords(b.t.Context(), to)
	b.must(err)
	b.must(deleted.Error())
}
