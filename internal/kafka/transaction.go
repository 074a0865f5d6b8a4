package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"civicbus/internal/flaw"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// endTimeout bounds the end of a transaction. It is long on purpose: a deadline that fires leaves the transaction open in
// the client, and every later one fails (EXACTLY_ONCE point 1). A transaction that the broker has given up meanwhile is
// answered with an error at once.
const endTimeout = 60 * time.Second

// producer is one incarnation of a group's transactional producer. It is a client of its own, not the consuming one
// (which is what franz-go's GroupTransactSession has): when the outcome of a transaction is unknown, the client must be
// dropped, and with it would go the group membership, the assignment and all that goka has recovered.
//
// Begin, produce and end come from one goroutine at a time, but for produce, which goka's callbacks share.
type producer struct {
	client *kgo.Client
	group  string
	v2     bool // KIP-890 part 2: the broker adds offsets to the transaction by itself
}

// newProducer makes an incarnation and waits until its predecessor's transaction is fenced and ended: an open one would
// hold the last stable offset, and so every reader, until the transaction timeout.
func newProducer(ctx context.Context, c Connection, group, transactionalID string, timeout, linger time.Duration) (*producer, error) {
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(kmsg.TxnOffsetCommit.Int16(), 5) // version 6 names topics by id, which we have no use for
	versions.SetMaxKeyVersion(kmsg.OffsetCommit.Int16(), 9)    // and so does version 10 of this one
	client, err := c.Client(
		kgo.TransactionalID(transactionalID),
		kgo.TransactionTimeout(timeout),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(linger),
		kgo.ProducerBatchMaxBytes(maxBatchBytes),
		kgo.MaxBufferedRecords(100_000),
		kgo.MaxVersions(versions),
	)
	if err != nil {
		return nil, err
	}
	p := &producer{client: client, group: group}
	if _, _, err := client.ProducerID(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("take over transactional id %s: %w", transactionalID, err)
	}
	if p.v2, err = transactionsV2(ctx, client); err != nil {
		client.Close()
		return nil, err
	}
	return p, nil
}

// maxBatchBytes bounds a produced batch. Kafka's default for max.message.bytes counts the batch, so a single record of up
// to topology.MaxRecordBytes must fit with its overhead.
const maxBatchBytes = 1<<20 - 1024

// transactionsV2 asks whether the cluster runs transactions of KIP-890 part 2 (transaction.version 2).
func transactionsV2(ctx context.Context, client *kgo.Client) (bool, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "civicbus", "1"
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return false, fmt.Errorf("ask for the cluster's features: %w", err)
	}
	for _, f := range resp.FinalizedFeatures {
		if f.Name == "transaction.version" {
			return f.MaxVersionLevel >= 2, nil
		}
	}
	return false, nil
}

// member is who commits: the group's coordinator refuses the offsets of a member or a generation that is not current,
// which is what fences an instance that was replaced (KIP-447).
type member struct {
	id         string
	generation int32
	instance   string
}

// addOffsets makes the offsets part of the open transaction.
func (p *producer) addOffsets(ctx context.Context, m member, offsets map[string]map[int32]int64) error {
	txid, _ := p.client.OptValue(kgo.TransactionalID).(string)
	id, epoch, err := p.client.ProducerID(ctx)
	if err != nil {
		return fmt.Errorf("commit offsets: %w", err)
	}
	if !p.v2 {
		req := kmsg.NewPtrAddOffsetsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = txid, id, epoch, p.group
		if err := p.concurrent(ctx, func() error {
			resp, err := req.RequestWith(ctx, p.client)
			if err != nil {
				return err
			}
			return kerr.ErrorForCode(resp.ErrorCode)
		}); err != nil {
			return fmt.Errorf("add the group's offsets to the transaction: %w", err)
		}
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = txid, id, epoch, p.group
	if flaw.Planted(flaw.MemberUnnamed) {
		m = member{generation: -1}
	}
	req.Generation, req.MemberID = m.generation, m.id
	if m.instance != "" {
		req.InstanceID = &m.instance
	}
	for topic, ps := range offsets {
		t := kmsg.NewTxnOffsetCommitRequestTopic()
		t.Topic = topic
		for partition, offset := range ps {
			tp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			tp.Partition, tp.Offset, tp.LeaderEpoch = partition, offset, -1
			t.Partitions = append(t.Partitions, tp)
		}
		req.Topics = append(req.Topics, t)
	}
	err = p.concurrent(ctx, func() error {
		resp, err := req.RequestWith(ctx, p.client)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, tp := range t.Partitions {
				if err := kerr.ErrorForCode(tp.ErrorCode); err != nil {
					return fmt.Errorf("%s/%d: %w", t.Topic, tp.Partition, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("commit offsets in the transaction: %w", err)
	}
	return nil
}

// commitOffsets commits offsets outside a transaction, for a batch that wrote nothing.
func (p *producer) commitOffsets(ctx context.Context, m member, offsets map[string]map[int32]int64) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.MemberID, req.InstanceID = p.group, m.generation, m.id, &m.instance
	for topic, ps := range offsets {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic = topic
		for p, o := range ps {
			part := kmsg.NewOffsetCommitRequestTopicPartition()
			part.Partition, part.Offset, part.LeaderEpoch = p, o, -1
			t.Partitions = append(t.Partitions, part)
		}
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, p.client)
	if err != nil {
		return fmt.Errorf("commit offsets: %w", err)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("commit offset of %s/%d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}

// concurrent repeats while the coordinator is still ending the transaction before (CONCURRENT_TRANSACTIONS) or is moving.
func (p *producer) concurrent(ctx context.Context, request func() error) error {
	for {
		err := request()
		switch {
		case errors.Is(err, kerr.ConcurrentTransactions), errors.Is(err, kerr.CoordinatorLoadInProgress),
			errors.Is(err, kerr.NotCoordinator), errors.Is(err, kerr.CoordinatorNotAvailable):
		default:
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// commit ends the transaction; an error means that its outcome is unknown and the producer must be dropped.
func (p *producer) commit() error {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	return p.client.EndTransaction(ctx, kgo.TryCommit)
}

// abort drops what is buffered and ends the transaction; an error means that the producer must be dropped.
func (p *producer) abort() error {
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	if err := p.client.AbortBufferedRecords(ctx); err != nil {
		return err
	}
	return p.client.EndTransaction(ctx, kgo.TryAbort)
}

// drop closes the client in the background: a broken network must not hold the engine.
func (p *producer) drop() { go p.client.Close() }

// fenced says whether another producer with the same transactional id has taken over.
func fenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.FencedInstanceID)
}
