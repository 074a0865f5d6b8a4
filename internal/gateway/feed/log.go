package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"civicbus/internal/kafka"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// log reads subscribers' topics, and says where they begin and end. It is safe for concurrent use.
type log struct {
	*kafka.Log
	client *kgo.Client
	admin  *kadm.Client
}

func newLog(conn kafka.Connection) (*log, error) {
	client, err := conn.Client(kgo.MetadataMinAge(100 * time.Millisecond))
	if err != nil {
		return nil, err
	}
	return &log{kafka.NewLog(client), client, kadm.NewClient(client)}, nil
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
			return nil, fmt.Errorf("list the offsets of %s/%d: %w", topic, p, kafka.ErrNoTopic)
		default:
			return nil, fmt.Errorf("list the offsets of %s/%d: %w", topic, p, o.Err)
		}
	}
	return at, nil
}
