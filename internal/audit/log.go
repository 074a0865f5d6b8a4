package audit

import (
	"context"
	"errors"
	"fmt"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Log reads the audit log and what belongs to it, with read_committed, each time up to the last stable offsets that stood
// when it was asked. It is for one caller at a time.
type Log struct {
	conn    kafka.Connection
	client  *kgo.Client // asks for single records
	admin   *kadm.Client
	records *codecs.Records
}

// Open reads by a connection. records are bound; the log closes nothing of them.
func Open(conn kafka.Connection, records *codecs.Records) (*Log, error) {
	client, err := conn.Client(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.KeepControlRecords(), kgo.FetchMaxBytes(1<<20), kgo.FetchMaxPartitionBytes(64<<10))
	if err != nil {
		return nil, err
	}
	return &Log{conn: conn, client: client, admin: kadm.NewClient(client), records: records}, nil
}

// Close ends the connection.
func (l *Log) Close() { l.client.Close() }

// span is what a partition holds: offsets from start up to end, which may all be markers.
type span struct{ start, end int64 }

func (l *Log) spans(ctx context.Context, topic string) (map[int32]span, error) {
	starts, err := l.admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list where %s starts: %w", topic, err)
	}
	ends, err := l.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list where %s ends: %w", topic, err)
	}
	all := map[int32]span{}
	starts.Each(func(s kadm.ListedOffset) {
		if e, ok := ends.Lookup(topic, s.Partition); ok {
			all[s.Partition] = span{s.Offset, e.Offset}
		}
	})
	if len(all) == 0 {
		return nil, fmt.Errorf("read %s: it has no partitions", topic)
	}
	return all, nil
}

// scan gives every record of the spans, in order within each partition. done counts offsets, of total.
func (l *Log) scan(ctx context.Context, topic string, spans map[int32]span, each func(*kgo.Record), progress func(done, total int64)) error {
	from := map[int32]kgo.Offset{}
	at := map[int32]int64{}
	var total, done int64
	for p, s := range spans {
		if s.end > s.start {
			from[p], at[p] = kgo.NewOffset().At(s.start), s.start
			total += s.end - s.start
		}
	}
	if len(from) == 0 {
		return nil
	}
	cl, err := l.conn.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	for len(at) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, e := range fetches.Errors() {
			return fmt.Errorf("read %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			before, open := at[r.Partition]
			end := spans[r.Partition].end
			if !open || r.Offset >= end {
				return
			}
			if !r.Attrs.IsControl() {
				each(r)
			}
			done += r.Offset + 1 - before
			if at[r.Partition] = r.Offset + 1; r.Offset+1 >= end {
				delete(at, r.Partition)
			}
		})
		if progress != nil {
			progress(done, total)
		}
	}
	return nil
}

// ErrNoEntry says that an entry that must be in the log is not there.
var ErrNoEntry = errors.New("the audit log has no such entry: civicbus audit verify tells why")

// next is the first record of a partition at or after an offset below end; nil when there is none.
func (l *Log) next(ctx context.Context, partition int32, offset, end int64) (*kgo.Record, error) {
	part := map[string][]int32{topology.AuditLog.Name: {partition}}
	l.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topology.AuditLog.Name: {partition: kgo.NewOffset().At(offset)}})
	defer l.client.RemoveConsumePartitions(part)
	for {
		fetches := l.client.PollRecords(ctx, 1)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, e := range fetches.Errors() {
			return nil, fmt.Errorf("read %s/%d at %d: %w", e.Topic, e.Partition, offset, e.Err)
		}
		for _, r := range fetches.Records() {
			switch {
			case r.Partition != partition || r.Offset < offset:
			case r.Offset >= end:
				return nil, nil
			case !r.Attrs.IsControl():
				return r, nil
			case r.Offset+1 >= end:
				return nil, nil
			}
		}
	}
}

// place is an entry and where it stands.
type place struct {
	record *kgo.Record
	entry  codecs.AuditEntry
}

// find looks for a number between two offsets. Numbers are dense and offsets are not, so it bisects, beginning where the number
// would be if there were nothing between the entries and the upper end. to is exclusive.
func (l *Log) find(ctx context.Context, partition int32, number, from, to int64) (place, error) {
	from = max(from, number-1) // an offset is never below the number before
	guess := from
	for from < to {
		r, err := l.next(ctx, partition, guess, to)
		if err != nil {
			return place{}, err
		}
		if r == nil { // nothing but markers from the guess on
			to = guess
			guess = from + (to-from)/2
			continue
		}
		e, err := l.records.AuditEntry.Decode(r.Value)
		if err != nil {
			return place{}, fmt.Errorf("read %s/%d at %d: %w", r.Topic, partition, r.Offset, err)
		}
		switch {
		case e.Number == number:
			return place{r, e}, nil
		case e.Number < number:
			from = r.Offset + 1
			guess = min(max(from+number-e.Number-1, from+(to-from)/2), to-1)
		default:
			to = guess
			guess = from + (to-from)/2
		}
	}
	return place{}, fmt.Errorf("find entry %d of partition %d: %w", number, partition, ErrNoEntry)
}
