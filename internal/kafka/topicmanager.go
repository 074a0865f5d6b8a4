package kafka

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kadm"
)

// topicManager answers goka's questions about topics. It creates none: every topic has a wanted configuration, which
// `topics apply` sets (topics.go), and a topic that goka made by itself would keep its data for an hour.
type topicManager struct {
	reader *reader
	admin  *kadm.Client
	tables *tables
}

const adminTimeout = 15 * time.Second

// topicManagerBuilder's managers ask through the reader's client: goka never closes the ones that its views have, so a client
// of their own would be left behind by each restart of a group.
func topicManagerBuilder(r *reader, tables *tables) goka.TopicManagerBuilder {
	return func([]string) (goka.TopicManager, error) { return &topicManager{r, r.admin, tables}, nil }
}

// Partitions lists a topic's partition numbers, ascending; a topic that is not there is an error that says what to do.
func (m *topicManager) Partitions(topic string) ([]int32, error) {
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	listed, err := m.admin.ListTopics(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("list topic %s: %w", topic, err)
	}
	if err := listed[topic].Err; err != nil {
		return nil, fmt.Errorf("list topic %s: %w (run: civicbus topics apply)", topic, err)
	}
	ps := listed[topic].Partitions.Numbers()
	sort.Slice(ps, func(i, j int) bool { return ps[i] < ps[j] })
	m.tables.size(topic, len(ps))
	return ps, nil
}

// EnsureTableExists checks the partition count.
func (m *topicManager) EnsureTableExists(topic string, n int) error {
	return m.EnsureTopicExists(topic, n, 0, nil)
}

// EnsureStreamExists checks the partition count.
func (m *topicManager) EnsureStreamExists(topic string, n int) error {
	return m.EnsureTopicExists(topic, n, 0, nil)
}

// EnsureTopicExists checks the partition count.
func (m *topicManager) EnsureTopicExists(topic string, n, _ int, _ map[string]string) error {
	ps, err := m.Partitions(topic)
	if err != nil {
		return err
	}
	if len(ps) != n {
		return fmt.Errorf("topic %s has %d partitions, want %d as the group's other topics", topic, len(ps), n)
	}
	return nil
}

// GetOffset returns the first offset (sarama.OffsetOldest) or the end of the log, uncommitted records included: recovery
// must wait for a transaction that the partition's previous owner was still committing. goka asks both, in this order, each
// time it begins to read a table partition; a log that does not fit what was read of it before is an error.
func (m *topicManager) GetOffset(topic string, partition int32, at int64) (int64, error) {
	ctx, cancel := context.WithTimeout(m.reader.ctx, adminTimeout)
	defer cancel()
	o, err := m.list(ctx, topic, partition, at)
	for again := newBackoff(time.Second); err != nil && again.wait(ctx); { // a leader that moves must not end the processor
		o, err = m.list(ctx, topic, partition, at)
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("list offsets of %s/%d: %w", topic, partition, err)
	case at == sarama.OffsetOldest:
		return o, m.tables.starts(topic, partition, o)
	}
	return o, m.tables.ends(topic, partition, o)
}

func (m *topicManager) list(ctx context.Context, topic string, partition int32, at int64) (int64, error) {
	list := m.admin.ListEndOffsets
	if at == sarama.OffsetOldest {
		list = m.admin.ListStartOffsets
	}
	offsets, err := list(ctx, topic)
	if err != nil {
		return 0, err
	}
	o, ok := offsets.Lookup(topic, partition)
	if !ok {
		return 0, errors.New("there is no such partition")
	}
	return o.Offset, o.Err
}

// Close does nothing: the client is the reader's.
func (m *topicManager) Close() error { return nil }
