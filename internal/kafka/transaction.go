package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"civicbus/internal/flaw"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// endTimeout bounds the end of a transaction. It is long on purpose: a deadline that fires leaves the outcome unknown, and
// the producer must be made anew (EXACTLY_ONCE point 1). A transaction that the broker has given up meanwhile is answered
// with an error at once.
const endTimeout = 60 * time.Second

// producer is one incarnation of a group's transactional producer. It speaks Kafka's transaction protocol itself, over a
// client that is not the consuming one: when the outcome of a transaction is unknown the producer must be dropped, and with
// a client that is both (franz-go's GroupTransactSession) the group membership, the assignment and all that goka has
// recovered would go too. franz-go's own producer encodes, promises and buffers each record by itself and sends while the
// transaction goes on; here a transaction's outputs are encoded into batches as they come and sent at its end, which costs a
// quarter of that, and one that is given up before has cost the brokers nothing.
//
// Adding outputs is safe for concurrent use, the rest comes from one goroutine at a time.
type producer struct {
	client *kgo.Client
	admin  *kadm.Client
	log    *slog.Logger
	group  string
	v2     bool // KIP-890 part 2: what is written or committed becomes part of the transaction by itself

	transactionalID string
	timeout         time.Duration
	id              int64
	epoch           int16
	sequences       map[tp]int32    // of the next record, by partition; a new epoch begins at 0
	added           map[tp]struct{} // partitions of the open transaction, where they must be added
	begun           bool            // the brokers may know of the open transaction

	layout *layout
	out    *outbox
	room   []byte // of the batches that are being sent
}

// newProducer makes an incarnation and waits until its predecessor's transaction is fenced and ended: an open one would
// hold the last stable offset, and so every reader, until the transaction timeout.
func newProducer(ctx context.Context, c Connection, group, transactionalID string, timeout time.Duration, log *slog.Logger) (*producer, error) {
	client, v2, err := transactionalClient(ctx, c)
	if err != nil {
		return nil, err
	}
	p := &producer{client: client, admin: kadm.NewClient(client), log: log, group: group, v2: v2, transactionalID: transactionalID, timeout: timeout,
		sequences: map[tp]int32{}, added: map[tp]struct{}{}, layout: &layout{topics: map[string]laidOut{}}}
	p.out = newOutbox(p.layout)
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &p.transactionalID, int32(timeout.Milliseconds())
	req.ProducerID, req.ProducerEpoch = -1, -1
	err = p.concurrent(ctx, func() error {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		p.id, p.epoch = resp.ProducerID, resp.ProducerEpoch
		return kerr.ErrorForCode(resp.ErrorCode)
	})
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("take over transactional id %s: %w", transactionalID, err)
	}
	return p, nil
}

// transactionalClient makes a client for one of the two transaction protocols, whichever the cluster speaks: with versions of
// requests that belong to one in the other's transactions, brokers would add partitions that nobody ends.
func transactionalClient(ctx context.Context, c Connection) (client *kgo.Client, v2 bool, err error) {
	for _, v2 = range []bool{true, false} {
		versions := kversion.Stable()
		versions.SetMaxKeyVersion(kmsg.Produce.Int16(), 12)        // version 13 names topics by id, which we have no use for
		versions.SetMaxKeyVersion(kmsg.TxnOffsetCommit.Int16(), 5) // and so does version 6 of this one
		versions.SetMaxKeyVersion(kmsg.OffsetCommit.Int16(), 9)    // and version 10 of this one
		if !v2 {
			versions.SetMaxKeyVersion(kmsg.Produce.Int16(), 11)
			versions.SetMaxKeyVersion(kmsg.TxnOffsetCommit.Int16(), 4)
			versions.SetMaxKeyVersion(kmsg.EndTxn.Int16(), 4)
			versions.SetMaxKeyVersion(kmsg.AddPartitionsToTxn.Int16(), 3)
		}
		if client, err = c.Client(kgo.RequiredAcks(kgo.AllISRAcks()), kgo.MaxVersions(versions)); err != nil {
			return nil, false, err
		}
		spoken, err := transactionsV2(ctx, client)
		if err == nil && spoken == v2 {
			return client, v2, nil
		}
		client.Close()
		if err != nil {
			return nil, false, err
		}
	}
	return nil, false, errors.New("the cluster changes the version of its transactions") // between the two questions: try again
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

// addOffsets makes the offsets part of the open transaction, each with its note, if it has one.
func (p *producer) addOffsets(ctx context.Context, m member, offsets map[string]map[int32]int64, notes map[tp]string) error {
	p.begun = true
	if !p.v2 {
		req := kmsg.NewPtrAddOffsetsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = p.transactionalID, p.id, p.epoch, p.group
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
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = p.transactionalID, p.id, p.epoch, p.group
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
			part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			part.Partition, part.Offset, part.LeaderEpoch = partition, offset, -1
			if note, ok := notes[tp{topic, partition}]; ok {
				part.Metadata = &note
			}
			t.Partitions = append(t.Partitions, part)
		}
		req.Topics = append(req.Topics, t)
	}
	err := p.concurrent(ctx, func() error {
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

// commitOffsets commits offsets outside a transaction, for a batch that wrote nothing, each with its note, if it has one.
func (p *producer) commitOffsets(ctx context.Context, m member, offsets map[string]map[int32]int64, notes map[tp]string) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.MemberID, req.InstanceID = p.group, m.generation, m.id, &m.instance
	for topic, ps := range offsets {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic = topic
		for p, o := range ps {
			part := kmsg.NewOffsetCommitRequestTopicPartition()
			part.Partition, part.Offset, part.LeaderEpoch = p, o, -1
			if note, ok := notes[tp{topic, p}]; ok {
				part.Metadata = &note
			}
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

// addPartitions makes partitions part of the open transaction, where the protocol wants it said before they are written to.
func (p *producer) addPartitions(ctx context.Context, todo []sending) error {
	if p.v2 {
		return nil
	}
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = p.transactionalID, p.id, p.epoch
	topics := map[string]int{}
	for i := range todo {
		s := &todo[i]
		if _, ok := p.added[tp{s.topic, s.partition}]; ok {
			continue
		}
		at, ok := topics[s.topic]
		if !ok {
			at = len(req.Topics)
			topics[s.topic] = at
			t := kmsg.NewAddPartitionsToTxnRequestTopic()
			t.Topic = s.topic
			req.Topics = append(req.Topics, t)
		}
		req.Topics[at].Partitions = append(req.Topics[at].Partitions, s.partition)
	}
	if len(req.Topics) == 0 {
		return nil
	}
	p.begun = true
	err := p.concurrent(ctx, func() error {
		resp, err := req.RequestWith(ctx, p.client)
		if err != nil {
			return err
		}
		var refused error
		for _, t := range resp.Topics {
			for _, a := range t.Partitions {
				// OPERATION_NOT_ATTEMPTED is said of all others when one is refused.
				if err := kerr.ErrorForCode(a.ErrorCode); err != nil && (refused == nil || errors.Is(refused, kerr.OperationNotAttempted)) {
					refused = &refusedOutput{topic: t.Topic, err: err}
				}
			}
		}
		return refused
	})
	if err != nil {
		return fmt.Errorf("add partitions to the transaction: %w", err)
	}
	for i := range todo {
		p.added[tp{todo[i].topic, todo[i].partition}] = struct{}{}
	}
	return nil
}

// commit ends the transaction; an error means that its outcome is unknown and the producer must be dropped.
func (p *producer) commit() error { return p.end(true) }

// abort drops what is in the outbox and ends the transaction; an error means that the producer must be dropped.
func (p *producer) abort() error {
	p.out.reset()
	return p.end(false)
}

func (p *producer) end(commit bool) error {
	clear(p.added)
	if !p.begun {
		return nil // KIP-890 lets no transaction end that never began
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = p.transactionalID, p.id, p.epoch, commit
	return p.concurrent(ctx, func() error {
		resp, err := req.RequestWith(ctx, p.client)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return err
		}
		p.begun = false
		if resp.Version >= 5 && resp.ProducerID >= 0 { // each transaction has an epoch of its own (KIP-890 part 2)
			p.id, p.epoch = resp.ProducerID, resp.ProducerEpoch
			clear(p.sequences)
		}
		return nil
	})
}

// drop closes the client in the background: a broken network must not hold the engine.
func (p *producer) drop() { go p.client.Close() }

// fenced says whether another producer with the same transactional id has taken over.
func fenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.FencedInstanceID)
}
