package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// life is one Kafka client of the relay: from its first join to the first error that leaves it in doubt.
type life struct {
	*Relay
	session *kgo.GroupTransactSession
	topics  []string
	asked   time.Time                 // when Inboxes was last asked
	holds   map[place]time.Time       // partitions that are not fetched, and until when
	stopped map[place]bool            // those of them whose next offset is gone
	markers map[place]kgo.EpochOffset // where the client has come to by markers of transactions alone; the next commit takes it along
	commits int
}

const stoppedFor = 10 * time.Second // how often a partition whose next offset is gone is looked at again

// live runs one client. progress says whether it committed anything.
func (r *Relay) live(ctx context.Context) (progress bool, err error) {
	topics := r.topics()
	for len(topics) == 0 {
		if pause(ctx, r.cfg.TopicsEvery); ctx.Err() != nil {
			return false, nil
		}
		topics = r.topics()
	}
	session, err := r.client(topics)
	if err != nil {
		return false, err
	}
	l := &life{Relay: r, session: session, topics: topics, asked: time.Now(), holds: map[place]time.Time{}, stopped: map[place]bool{}, markers: map[place]kgo.EpochOffset{}}
	defer l.close()
	// At once, not with the first record: until then a transaction that a former life left open holds readers and offsets.
	if _, _, err := session.Client().ProducerID(ctx); err != nil {
		return false, fmt.Errorf("start transactional producer: %w", err)
	}
	for ctx.Err() == nil {
		l.subscribe()
		l.release()
		if err := r.cfg.Lease.Wait(ctx); err != nil {
			return l.commits > 0, fmt.Errorf("wait for the lease: %w", err)
		}
		if err := l.step(ctx); err != nil {
			return l.commits > 0, err
		}
	}
	return l.commits > 0, nil
}

// close bounds the farewell: on a dead network it would never end.
func (l *life) close() {
	done := make(chan struct{})
	go func() { l.session.Close(); close(done) }()
	t := time.NewTimer(5 * time.Second)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
	l.cfg.Metrics.partitions(0, 0)
}

// subscribe follows the trust table.
func (l *life) subscribe() {
	if time.Since(l.asked) < l.cfg.TopicsEvery {
		return
	}
	l.asked = time.Now()
	now := l.Relay.topics()
	var added, gone []string
	for _, t := range now {
		if !slices.Contains(l.topics, t) {
			added = append(added, t)
		}
	}
	for _, t := range l.topics {
		if !slices.Contains(now, t) {
			gone = append(gone, t)
		}
	}
	l.topics = now
	l.session.Client().AddConsumeTopics(added...)
	l.session.Client().PurgeTopicsFromConsuming(gone...)
}

// release lets partitions be fetched again whose wait is over.
func (l *life) release() {
	now := time.Now()
	for p, until := range l.holds {
		if !now.Before(until) {
			delete(l.holds, p)
			delete(l.stopped, p)
			l.session.Client().ResumeFetchPartitions(map[string][]int32{p.topic: {p.partition}})
		}
	}
	l.cfg.Metrics.partitions(len(l.holds)-len(l.stopped), len(l.stopped))
}

func (l *life) hold(p place, d time.Duration) {
	l.holds[p] = time.Now().Add(d)
	l.session.Client().PauseFetchPartitions(map[string][]int32{p.topic: {p.partition}})
}

// step polls once and moves what came.
func (l *life) step(ctx context.Context) error {
	pollCtx, cancel := context.WithTimeout(ctx, l.cfg.RetryEvery)
	fetches := l.session.PollRecords(pollCtx, l.limit)
	cancel()
	if err := l.fetchErrors(fetches); err != nil {
		return err
	}
	lanes := l.lanes(fetches)
	if len(lanes) == 0 {
		return nil
	}
	// From here on the client is past these records: whoever returns without a transaction, or a rewind, ends this life.
	if err := l.resolve(ctx, lanes); err != nil {
		return err
	}
	confirmed, tables, err := underLease(ctx, l.cfg.Lease, l.cfg.Tables)
	if err != nil {
		return fmt.Errorf("wait for the lease: %w", err)
	}
	outputs, err := l.admit(ctx, lanes, tables)
	if err != nil {
		return err
	}
	if len(outputs) > 0 {
		committed, err := l.transact(ctx, lanes, outputs, confirmed)
		if err != nil || !committed {
			return err
		}
	}
	l.after(lanes)
	return nil
}

// fetchErrors passes on what ends this client, and stops a partition whose next offset is gone: an operator must look at
// what was lost before anything goes on there.
func (l *life) fetchErrors(fetches kgo.Fetches) error {
	var fatal error
	fetches.EachError(func(topic string, partition int32, err error) {
		var lost *kgo.ErrDataLoss
		var group *kgo.ErrGroupSession
		switch {
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		case errors.Is(err, kerr.OffsetOutOfRange), errors.As(err, &lost):
			p := place{topic, partition}
			l.stopped[p] = true
			l.hold(p, stoppedFor)
			l.cfg.Logger.Error("inbox partition stopped: its next offset is gone; stop the relay, see civicbus groups gaps",
				"topic", topic, "partition", partition, "error", err)
		case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
			l.cfg.Logger.Debug("inbox does not exist yet", "topic", topic)
		case errors.As(err, &group), errors.Is(err, kgo.ErrClientClosed), isFenced(err):
			fatal = fmt.Errorf("poll inboxes: %w", err)
		default:
			l.cfg.Logger.Warn("inbox cannot be read", "topic", topic, "partition", partition, "error", err)
		}
	})
	return fatal
}

// lane is what one poll brought of one partition.
type lane struct {
	place
	records []*kgo.Record
	end     kgo.EpochOffset // behind everything that was polled, markers of transactions included
	inputs  []*Input
	stop    int           // records before it are moved; from it on they wait
	wait    time.Duration // how long
	results []Result
}

func (l *life) lanes(fetches kgo.Fetches) []*lane {
	var lanes []*lane
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if len(p.Records) == 0 {
			return
		}
		lane := &lane{place: place{p.Topic, p.Partition}, end: behind(p.Records[len(p.Records)-1])}
		lane.records = slices.DeleteFunc(p.Records, func(r *kgo.Record) bool { return r.Attrs.IsControl() })
		if lane.stop = len(lane.records); lane.stop == 0 {
			l.markers[lane.place] = lane.end
			return
		}
		delete(l.markers, lane.place)
		lanes = append(lanes, lane)
	})
	return lanes
}

// behind is the offset after a record.
func behind(r *kgo.Record) kgo.EpochOffset {
	return kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
}

// positions puts the client back to what the broker has committed: after a transaction of which nobody can say how it
// ended. Partitions without a commit stay where the client put them.
func (l *life) positions(ctx context.Context, lanes []*lane) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	responses, err := kadm.NewClient(l.session.Client()).FetchOffsets(kadm.RequireStable(ctx), l.cfg.Group)
	if err != nil {
		return fmt.Errorf("read committed offsets: %w", err)
	}
	offsets := map[string]map[int32]kgo.EpochOffset{}
	for _, lane := range lanes {
		o, ok := responses.Lookup(lane.topic, lane.partition)
		if !ok || o.At < 0 {
			continue
		}
		if o.Err != nil {
			return fmt.Errorf("read committed offset of %s/%d: %w", lane.topic, lane.partition, o.Err)
		}
		if offsets[lane.topic] == nil {
			offsets[lane.topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[lane.topic][lane.partition] = kgo.EpochOffset{Epoch: o.LeaderEpoch, Offset: o.At}
	}
	l.session.Client().SetOffsets(offsets)
	return nil
}

// after rewinds the lanes that stopped early, so that the client believes that it has committed what the broker has: after
// the commit it believes in what it polled.
func (l *life) after(lanes []*lane) {
	rewind := map[string]map[int32]kgo.EpochOffset{}
	for _, lane := range lanes {
		if lane.stop == len(lane.records) {
			continue
		}
		if lane.wait > 0 {
			l.hold(lane.place, lane.wait)
		}
		if rewind[lane.topic] == nil {
			rewind[lane.topic] = map[int32]kgo.EpochOffset{}
		}
		rewind[lane.topic][lane.partition] = lane.next()
	}
	l.session.Client().SetOffsets(rewind)
	maps.DeleteFunc(l.unknown, func(_ int32, since time.Time) bool { return time.Since(since) > 10*l.cfg.UnknownAfter })
}

// next is the offset at which the lane goes on. Where all of it is moved that is behind the markers too: an offset before them would lie
// before everything that is kept, once retention has taken them.
func (l *lane) next() kgo.EpochOffset {
	switch l.stop {
	case len(l.records):
		return l.end
	case 0:
		return kgo.EpochOffset{Epoch: l.records[0].LeaderEpoch, Offset: l.records[0].Offset}
	}
	return behind(l.records[l.stop-1])
}
