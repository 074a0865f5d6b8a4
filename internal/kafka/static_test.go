package kafka_test

import (
	"context"
	"testing"
	"time"

	"civicbus/internal/kafka"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// TestRestartDisturbsNobody: a process that is killed and comes back under its instance id is given what it had without a
// rebalance, whoever leads the group and whatever came before: the others' sessions go on.
func TestRestartDisturbsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.fake()
	a, b := w.start("a"), w.start("b")
	w.publish(w.in, 60, 0)
	w.exactlyOnce(60, 20*time.Second)
	until(t, 20*time.Second, "both have partitions", func() bool {
		return len(a.engine.Status().Partitions) == 2 && len(b.engine.Status().Partitions) == 2
	})
	epoch := c.GroupInfo(w.group).Epoch
	done := 60
	for round := range 2 {
		for i, n := range []**node{&a, &b} {
			had := (*n).engine.Status().Partitions
			(*n).kill(t)
			*n = w.start([]string{"a", "b"}[i])
			until(t, 20*time.Second, "it has its partitions again", func() bool { return len((*n).engine.Status().Partitions) == 2 })
			if has := (*n).engine.Status().Partitions; has[0] != had[0] || has[1] != had[1] {
				t.Errorf("round %d: it had %v and came back to %v", round, had, has)
			}
			w.publish(w.in, 60, done)
			done += 60
			w.exactlyOnce(done, 20*time.Second)
		}
	}
	if now := c.GroupInfo(w.group).Epoch; now != epoch {
		t.Errorf("the group went from generation %d to %d: restarts made it join anew", epoch, now)
	}
}

// TestDeadTransactionIsNotWaitedFor: what a process that died left open, offsets included, holds its successor up for no longer than
// ending it takes, and not for the transaction timeout.
func TestDeadTransactionIsNotWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.fake()
	w.publish(w.in, 40, 0)
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(kmsg.TxnOffsetCommit.Int16(), 4) // the last that needs no transactions of KIP-890, and names topics
	dead, err := w.conn.Client(kgo.TransactionalID(w.group+".a"), kgo.TransactionTimeout(2*time.Minute), kgo.MaxVersions(versions))
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	if err := dead.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := dead.ProduceSync(t.Context(), &kgo.Record{Topic: w.out, Key: []byte("k"), Value: []byte("never committed")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	id, epoch, err := dead.ProducerID(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group, req.Generation = w.group+".a", id, epoch, w.group, -1
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic = w.in
	for p := range int32(parts) {
		part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		part.Partition, part.Offset = p, 5
		topic.Partitions = append(topic.Partitions, part)
	}
	req.Topics = append(req.Topics, topic)
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = req.TransactionalID, id, epoch, w.group
	if _, err := add.RequestWith(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	resp, err := req.RequestWith(t.Context(), dead)
	if err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("leave offsets in an open transaction: %+v, error %v", resp, err)
	}
	w.start("a", func(c *kafka.GroupConfig) { c.TxnTimeout = 2 * time.Minute })
	w.exactlyOnce(40, 30*time.Second)
}
