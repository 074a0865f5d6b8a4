package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"civicbus/internal/kafka"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	// errExpired says that an offset lies before the first that is kept.
	errExpired = errors.New("offset is not kept any more")
	// errBeyond says that an offset lies behind the last: the topic is another one than it was.
	errBeyond = errors.New("offset is behind the topic's end")
	// errNoTopic says that the topic is not there, or not yet.
	errNoTopic = errors.New("no such topic")
)

// log reads committed records of any partition from any offset, one request at a time, each bounded. It fetches by itself,
// because a consuming client hides both what retention took and the position behind records that are none. It is safe for
// concurrent use.
type log struct {
	client *kgo.Client
	admin  *kadm.Client

	mu     sync.Mutex
	places map[string]place
}

// place is where a topic's partitions lie.
type place struct {
	id      [16]byte
	leaders map[int32]int32
}

const (
	fetchBytes = 1 << 20 // asked of one partition; a record is smaller (topology.MaxRecordBytes)
	fetchTime  = 10 * time.Second
	lookAgain  = 50 * time.Millisecond
	lookAtMost = 40
)

func newLog(conn kafka.Connection) (*log, error) {
	client, err := conn.Client(kgo.MetadataMinAge(100 * time.Millisecond))
	if err != nil {
		return nil, err
	}
	return &log{client: client, admin: kadm.NewClient(client), places: map[string]place{}}, nil
}

func (l *log) close() { l.client.Close() }

// starts gives the first offset that is kept of each partition, and ends the last stable ones. A topic that is not there
// holds nothing.
func (l *log) starts(ctx context.Context, topic string, partitions int32) (Position, error) {
	return l.offsets(ctx, topic, partitions, l.admin.ListStartOffsets)
}

func (l *log) ends(ctx context.Context, topic string, partitions int32) (Position, error) {
	return l.offsets(ctx, topic, partitions, l.admin.ListCommittedOffsets)
}

func (l *log) offsets(ctx context.Context, topic string, partitions int32, list func(context.Context, ...string) (kadm.ListedOffsets, error)) (Position, error) {
	listed, err := list(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("list the offsets of %s: %w", topic, err)
	}
	at := make(Position, partitions)
	for p := range partitions {
		o, ok := listed.Lookup(topic, p)
		switch {
		case ok && o.Err == nil:
			at[p] = o.Offset
		case !ok || errors.Is(o.Err, kerr.UnknownTopicOrPartition):
			return nil, fmt.Errorf("list the offsets of %s/%d: %w", topic, p, errNoTopic)
		default:
			return nil, fmt.Errorf("list the offsets of %s/%d: %w", topic, p, o.Err)
		}
	}
	return at, nil
}

// fetch gives what is committed from an offset on, as much as one answer holds, the offset to go on from, and whether
// that is all there is. errExpired, errBeyond and errNoTopic are final, as is the context's error.
func (l *log) fetch(ctx context.Context, topic string, partition int32, at int64) (records []*kgo.Record, next int64, all bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	for range lookAtMost {
		records, next, all, err = l.ask(ctx, topic, partition, at)
		switch {
		case err == nil:
			return records, next, all, nil
		case errors.Is(err, kerr.OffsetOutOfRange):
			return nil, at, false, l.outside(ctx, topic, partition, at)
		case ctx.Err() != nil, errors.Is(err, errNoTopic):
			return nil, at, false, err
		}
		l.forget(topic)
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return nil, at, false, ctx.Err()
		}
	}
	return nil, at, false, fmt.Errorf("read %s/%d: %w", topic, partition, err)
}

func (l *log) ask(ctx context.Context, topic string, partition int32, at int64) ([]*kgo.Record, int64, bool, error) {
	where, err := l.locate(ctx, topic)
	if err != nil {
		return nil, at, false, err
	}
	leader, ok := where.leaders[partition]
	if !ok {
		return nil, at, false, kerr.LeaderNotAvailable
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MinBytes, req.MaxBytes, req.MaxWaitMillis = -1, 0, fetchBytes, 0
	req.IsolationLevel, req.SessionEpoch = 1, -1 // read_committed; no fetch session
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = partition, at, fetchBytes
	asked := kmsg.NewFetchRequestTopic()
	asked.Topic, asked.TopicID, asked.Partitions = topic, where.id, []kmsg.FetchRequestTopicPartition{part}
	req.Topics = append(req.Topics, asked)
	answer, err := l.client.Broker(int(leader)).Request(ctx, req)
	if err != nil {
		return nil, at, false, err
	}
	res := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(res.ErrorCode); err != nil {
		return nil, at, false, err
	}
	if len(res.Topics) != 1 || len(res.Topics[0].Partitions) != 1 {
		return nil, at, true, nil
	}
	got := &res.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		return nil, at, false, err
	}
	parsed, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: at,
		IsolationLevel: kgo.ReadCommitted(), Topic: topic, Partition: partition}, got, kgo.DefaultDecompressor(), nil)
	return parsed.Records, next, next >= got.LastStableOffset, parsed.Err
}

// outside says on which side of what is kept an offset lies; nil, to be asked again, when it does not any more.
func (l *log) outside(ctx context.Context, topic string, partition int32, at int64) error {
	starts, err := l.admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return err
	}
	if o, ok := starts.Lookup(topic, partition); ok && o.Err == nil && at < o.Offset {
		return errExpired
	}
	return errBeyond
}

func (l *log) locate(ctx context.Context, topic string) (place, error) {
	l.mu.Lock()
	known, ok := l.places[topic]
	l.mu.Unlock()
	if ok {
		return known, nil
	}
	meta, err := l.admin.Metadata(ctx, topic)
	if err != nil {
		return place{}, err
	}
	t := meta.Topics[topic]
	switch {
	case errors.Is(t.Err, kerr.UnknownTopicOrPartition):
		return place{}, errNoTopic
	case t.Err != nil:
		return place{}, t.Err
	}
	known = place{id: t.ID, leaders: map[int32]int32{}}
	for p, d := range t.Partitions {
		if d.Leader >= 0 {
			known.leaders[p] = d.Leader
		}
	}
	l.mu.Lock()
	l.places[topic] = known
	l.mu.Unlock()
	return known, nil
}

func (l *log) forget(topic string) {
	l.mu.Lock()
	delete(l.places, topic)
	l.mu.Unlock()
}
