package e2e

import (
	"testing"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
)

// TestUndeliverable deletes a subscriber's topic while it is in use, and makes another's take next to nothing: each becomes
// a denial with that reason and a dead letter that names the subscription, and pauses it. Everyone else gets theirs, and no
// transaction is aborted again and again.
func TestUndeliverable(t *testing.T) {
	b := start(t)
	b.smallWorld()
	n := b.nodes["a"]
	who := people(0, 8)
	var grants []*order
	for _, p := range who {
		grants = append(grants, b.grantPost(p))
	}
	b.inEffect(grants...)
	b.accept(register, moved("before", who[0], "1"))
	b.want(b.decision("before", who[0]), postSub, "permit consent")
	before := aborts(b, n)

	b.sub("topic deleted", func() {
		_, err := b.admin.DeleteTopics(b.t.Context(), topology.SubscriberTopicName(post))
		b.must(err)
		var events [][]byte
		for i, p := range who {
			events = append(events, moved("deleted-"+string(rune('a'+i)), p, "2"))
		}
		b.accept(register, events...)
		for i, p := range who {
			d := b.decision("deleted-"+string(rune('a'+i)), p)
			b.want(d, agencySub, "permit rule")
			// Once the pause is in effect the reason is another.
			if v := verdictOf(d, postSub); v != "deny undeliverable_topic" && (v != "deny subscription_not_active" || i == 0) {
				b.t.Errorf("%s: %s", postSub, v)
			}
		}
		b.undelivered("deleted-a", who[0], postSub, "undeliverable_topic")
		b.accept(register, moved("paused", who[1], "3"))
		d := b.decision("paused", who[1])
		b.want(d, postSub, "deny subscription_not_active")
		b.want(d, agencySub, "permit rule")
	})
	b.sub("topic takes less than a delivery", func() {
		small := "150"
		_, err := b.admin.AlterTopicConfigs(b.t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &small}}, topology.SubscriberTopicName(agency))
		b.must(err)
		b.accept(register, moved("too-large", who[2], "4"))
		b.want(b.decision("too-large", who[2]), agencySub, "deny undeliverable_size")
		b.undelivered("too-large", who[2], agencySub, "undeliverable_size")
	})
	n.ready()
	// Each fault may meet one transaction of each partition under way, and the metadata of a topic just deleted may be a
	// moment old; more would be a loop.
	if a := aborts(b, n) - before; a > 12 {
		t.Errorf("%v transactions were aborted", a)
	}
}

// undelivered demands the dead letter of an event for one subscription, no delivery, and the subscription's pause.
func (b *bus) undelivered(id, who, subscription, reason string) {
	b.t.Helper()
	d := b.decision(id, who)
	b.eventually("the dead letter of "+id, func() bool {
		_, ok := b.letters.find(func(_ string, l *codecs.DeadLetter) bool {
			return l.Topic == d.Topic && l.Partition == d.Partition && l.Offset == d.Offset && l.Cause == reason && l.Subscription == subscription && len(l.Value) > 0
		})
		return ok
	})
	b.awaitStatus(subscription, "paused")
	if r := b.row(subscription).StatusReason; r != reason {
		b.t.Errorf("%s is paused for %q, want %s", subscription, r, reason)
	}
	b.pass(b.cfg.LeaseAge)
	if _, ok := b.delivery(b.keys.Delivery(registerSite, id, b.subjectOf(who), subscription)); ok {
		b.t.Errorf("%s: delivered all the same", id)
	}
}

// aborts counts the aborted transactions of a node.
func aborts(b *bus, n *node) (total float64) {
	b.t.Helper()
	return counted(b, n, "civicbus_group_transactions_total", func(labels map[string]string) bool { return labels["outcome"] != "committed" })
}

// counted adds up the samples of a counter or a gauge whose labels are wanted; of a histogram, how many were taken.
func counted(b *bus, n *node, metric string, wanted func(labels map[string]string) bool) (total float64) {
	b.t.Helper()
	families, err := prometheus.Gatherers{n.Metrics()}.Gather()
	b.must(err)
	for _, f := range families {
		if f.GetName() != metric {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if wanted(labels) {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return total
}
