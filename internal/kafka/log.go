package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	// ErrExpired says that an offset lies before the first that is kept.
	ErrExpired = errors.New("offset is not kept any more")
	// ErrBeyond says that an offset lies behind the last: the topic is another one than it was.
	ErrBeyond = errors.New("offset is behind the topic's end")
	// ErrNoTopic says that the topic is not there, or not yet.
	ErrNoTopic = errors.New("no such topic")
)

// Log reads committed records of any partition from any offset, one request at a time, each bounded. It fetches by itself:
// a consuming client hides what retention took, and the position behind offsets that hold no record (markers, aborted
// data, what compaction took). It is safe for concurrent use and keeps no connection of its own.
type Log struct {
	client *kgo.Client
	admin  *kadm.Client

	mu     sync.Mutex
	places map[string]logPlace
}

// logPlace is where a topic's partitions lie.
type logPlace struct {
	id      [16]byte
	leaders map[int32]int32
}

// LogFetchBytes is what Fetch asks of a partition at most; a single batch may be larger.
const LogFetchBytes = 1 << 20

const (
	logFetchTime  = 10 * time.Second
	logLookAgain  = 50 * time.Millisecond // after an answer that says to look elsewhere
	logLookAtMost = 100
)

// NewLog reads by a client, which stays the caller's to close.
func NewLog(client *kgo.Client) *Log {
	return &Log{client: client, admin: kadm.NewClient(client), places: map[string]logPlace{}}
}

// Fetch gives what is committed from an offset on, as much as one answer of about so many bytes holds, the offset to go on
// from, and whether that was all there is. bytes 0 stands for LogFetchBytes. The first record may lie before the offset.
// ErrExpired, ErrBeyond and ErrNoTopic are final, as is the context's error; brokers that change are waited for, up to 10 s.
func (l *Log) Fetch(ctx context.Context, topic string, partition int32, at int64, bytes int32) (records []*kgo.Record, next int64, all bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, logFetchTime)
	defer cancel()
	if bytes <= 0 {
		bytes = LogFetchBytes
	}
	for range logLookAtMost {
		records, next, all, err = l.ask(ctx, topic, partition, at, bytes)
		switch {
		case err == nil:
			return records, next, all, nil
		case errors.Is(err, kerr.OffsetOutOfRange):
			return nil, at, false, l.outside(ctx, topic, partition, at)
		case ctx.Err() != nil, errors.Is(err, ErrNoTopic), !elsewhere(err):
			return nil, at, false, err
		}
		l.forget(topic)
		select {
		case <-time.After(logLookAgain):
		case <-ctx.Done():
			return nil, at, false, ctx.Err()
		}
	}
	return nil, at, false, fmt.Errorf("read %s/%d: %w", topic, partition, err)
}

// elsewhere says whether an error may pass by looking for the leader again.
func elsewhere(err error) bool {
	return kerr.IsRetriable(err) || errors.Is(err, kerr.UnknownTopicID) || !errors.As(err, new(*kerr.Error))
}

// ask asks the leader once.
func (l *Log) ask(ctx context.Context, topic string, partition int32, at int64, bytes int32) ([]*kgo.Record, int64, bool, error) {
	where, err := l.locate(ctx, topic)
	if err != nil {
		return nil, at, false, err
	}
	leader, ok := where.leaders[partition]
	if !ok {
		return nil, at, false, kerr.LeaderNotAvailable
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MinBytes, req.MaxBytes, req.MaxWaitMillis = -1, 0, bytes, 0
	req.IsolationLevel, req.SessionEpoch = 1, -1 // read_committed; no fetch session
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = partition, at, bytes
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

// outside says on which side of what is kept an offset lies.
func (l *Log) outside(ctx context.Context, topic string, partition int32, at int64) error {
	first, err := l.First(ctx, topic, partition)
	if err != nil {
		return err
	}
	if at < first {
		return ErrExpired
	}
	return ErrBeyond
}

// First is the first offset that is kept of a partition.
func (l *Log) First(ctx context.Context, topic string, partition int32) (int64, error) {
	starts, err := l.admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("list where %s/%d starts: %w", topic, partition, err)
	}
	o, ok := starts.Lookup(topic, partition)
	if !ok {
		return 0, fmt.Errorf("list where %s/%d starts: %w", topic, partition, ErrNoTopic)
	}
	return o.Offset, o.Err
}

func (l *Log) locate(ctx context.Context, topic string) (logPlace, error) {
	l.mu.Lock()
	known, ok := l.places[topic]
	l.mu.Unlock()
	if ok {
		return known, nil
	}
	meta, err := l.admin.Metadata(ctx, topic)
	if err != nil {
		return logPlace{}, err
	}
	t := meta.Topics[topic]
	switch {
	case errors.Is(t.Err, kerr.UnknownTopicOrPartition):
		return logPlace{}, ErrNoTopic
	case t.Err != nil:
		return logPlace{}, t.Err
	}
	known = logPlace{id: t.ID, leaders: map[int32]int32{}}
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

func (l *Log) forget(topic string) {
	l.mu.Lock()
	delete(l.places, topic)
	l.mu.Unlock()
}
