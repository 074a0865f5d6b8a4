//go:build synctests

package e2e

import (
	"time"

	"civicbus/internal/flaw"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Strikes, by the number that is drawn for each.
const (
	strikeKill     = 2
	strikeStop     = 3
	strikeCut      = 5
	strikeHold     = 7
	strikeRegistry = 8
	strikeClock    = 9
	strikeMove     = 10
	strikeFault    = 14
)

// strike is one fault.
func (c *chaosRun) strike() {
	i := c.rng.IntN(len(c.nodes))
	n := c.nodes[i]
	upTo := func(most time.Duration) { time.Sleep(time.Duration(c.rng.Int64N(int64(most)))) }
	x := c.rng.IntN(strikeFault + 1)
	if c.focus >= 0 {
		x = c.focus
	}
	switch {
	case x <= strikeKill: // a machine dies; its process may run on for a while
		c.tally["kill"]++
		n.link.set(true)
		upTo(8 * time.Second)
		n.cancel()
		c.gone = append(c.gone, n)
		c.nodes[i] = c.boot(n.id)
	case x <= strikeStop: // an orderly restart
		c.tally["stop"]++
		n.cancel()
		<-n.done
		c.nodes[i] = c.boot(n.id)
	case x <= strikeCut:
		c.tally["cut"]++
		n.link.set(true)
		upTo(15 * time.Second)
		n.link.set(false)
	case x <= strikeHold:
		c.tally["hold"]++
		table := []string{"consent-table", "trust-table", "subscription-table", "catalog-table", everyTable}[c.rng.IntN(5)]
		if c.focus >= 0 {
			table = everyTable
		}
		n.hold(table)
		upTo(6 * time.Second)
		n.hold("")
	case x <= strikeRegistry:
		c.tally["registry"]++
		c.withoutRegistry(true)
		upTo(8 * time.Second)
		c.withoutRegistry(false)
	case x <= strikeClock: // forwards or backwards, by up to ten minutes
		c.tally["clock"]++
		skew := time.Duration(c.rng.Int64N(int64(20*time.Minute)) - int64(10*time.Minute)).Truncate(time.Millisecond)
		c.mu.Lock()
		c.skews = append(c.skews, skew)
		c.mu.Unlock()
		c.clocks[n.id].set(skew)
	case x <= strikeMove && c.brokers > 1:
		c.tally["move"]++
		if c.rng.IntN(2) == 0 {
			c.kafka.RehashCoordinators()
		} else {
			c.kafka.ShufflePartitionLeaders()
		}
	default:
		c.inject()
	}
}

// withoutRegistry puts the registry out of the machines' reach, but not out of that of the source, who has something new to register.
func (c *chaosRun) withoutRegistry(on bool) {
	for _, n := range c.nodes {
		n.link.setRegistry(on)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unregistered = on
}

// inject makes the broker answer some requests, of whichever client comes, with errors that real brokers give.
func (c *chaosRun) inject() {
	coordinator := []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress}
	and := func(more ...*kerr.Error) []*kerr.Error { return append(more, coordinator...) }
	kinds := []struct {
		key  kmsg.Key
		errs []*kerr.Error
		top  bool
	}{
		{kmsg.Produce, []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.RequestTimedOut}, false},
		{kmsg.Fetch, []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownLeaderEpoch}, false},
		{kmsg.ListOffsets, []*kerr.Error{kerr.NotLeaderForPartition, kerr.OffsetNotAvailable}, false},
		{kmsg.Metadata, []*kerr.Error{kerr.LeaderNotAvailable, kerr.UnknownTopicOrPartition}, false},
		{kmsg.FindCoordinator, coordinator, false},
		{kmsg.JoinGroup, coordinator, true},
		{kmsg.SyncGroup, and(kerr.RebalanceInProgress), true},
		{kmsg.Heartbeat, and(kerr.RebalanceInProgress), true},
		{kmsg.OffsetFetch, and(kerr.UnstableOffsetCommit), false},
		{kmsg.OffsetCommit, and(kerr.UnknownServerError), false},
		{kmsg.InitProducerID, and(kerr.ConcurrentTransactions), true},
		{kmsg.AddPartitionsToTxn, and(kerr.ConcurrentTransactions), false},
		{kmsg.AddOffsetsToTxn, and(kerr.ConcurrentTransactions), true},
		{kmsg.TxnOffsetCommit, and(kerr.UnknownServerError), false},
		{kmsg.EndTxn, and(kerr.ConcurrentTransactions, kerr.RequestTimedOut, kerr.UnknownServerError), true},
	}
	k := kinds[c.rng.IntN(len(kinds))]
	c.tally["fault"]++
	c.tally[k.key.Name()]++
	f := kfake.Fault{Keys: []kmsg.Key{k.key}, Err: k.errs[c.rng.IntN(len(k.errs))], Count: 1 + c.rng.IntN(8), TopLevel: k.top}
	if c.planted == flaw.ChainInMemory {
		f = kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Group: "audit", Err: kerr.UnknownServerError, Count: 2}
	} else if k.key == kmsg.Produce { // what the nodes write
		f.Topic = []string{"admitted", "life.address", "audit-decisions", "consent-table", "profile-table", "audit-log", "command-results", "subscriber." + post}[c.rng.IntN(8)]
	}
	c.faults = append(c.faults, c.kafka.Fault(f))
}

// heal takes back every fault that was not met yet.
func (c *chaosRun) heal() {
	for _, f := range c.faults {
		f.Remove()
	}
	c.faults = nil
}
