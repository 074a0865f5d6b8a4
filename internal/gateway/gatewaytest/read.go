package gatewaytest

import (
	"context"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// read gives every committed record of a topic as it is now.
func (b *Bus) read(topic string, each func(*kgo.Record)) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	client, err := b.Config.Connection.Client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListCommittedOffsets(ctx, topic)
	if err != nil {
		return err
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if end, ok := left[r.Partition]; ok && r.Offset < end && !r.Attrs.IsControl() {
				each(r)
			}
			if end, ok := left[r.Partition]; ok && r.Offset+1 >= end {
				delete(left, r.Partition)
			}
		})
	}
	return nil
}

// Topic gives every committed record of a topic as it is now.
func (b *Bus) Topic(name string) (all []*kgo.Record) {
	b.T.Helper()
	b.Must(b.read(name, func(r *kgo.Record) { all = append(all, r) }))
	return all
}
