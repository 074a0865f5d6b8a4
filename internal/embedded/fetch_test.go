package embedded

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestAbortedIsNeverRead: a reader of committed data is given none of what was aborted, however little a fetch has room for.
func TestAbortedIsNeverRead(t *testing.T) {
	c := start(t, Config{})
	ctx := within(t)
	const partitions, rounds = 4, 6
	writer := c.connect(kgo.TransactionalID("writer"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer writer.Close()
	if _, err := kadm.NewClient(writer).CreateTopic(ctx, partitions, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
			if err := writer.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			for p := range int32(partitions) {
				r := &kgo.Record{Topic: "t", Partition: p, Key: fmt.Append(nil, round, end), Value: make([]byte, 50_000)}
				if err := writer.ProduceSync(ctx, r).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			if err := writer.EndTransaction(ctx, end); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, most := range []int32{60_000, 120_000, 170_000, 220_000, 330_000} {
		reader := c.connect(kgo.ConsumeTopics("t"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(most))
		for got := 0; got < partitions*rounds; {
			fetches := reader.PollFetches(ctx)
			if err := fetches.Err0(); err != nil {
				t.Fatal(err)
			}
			for _, r := range fetches.Records() {
				got++
				var round int
				var committed bool
				if _, err := fmt.Sscanf(string(r.Key), "%d %t", &round, &committed); err != nil || !committed {
					t.Errorf("with room for %d bytes %s/%d@%d is read: it was aborted (%v)", most, r.Topic, r.Partition, r.Offset, err)
				}
			}
		}
		reader.Close()
	}
}
