package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"civicbus/internal/flaw"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchLoop asks one leader, a question at a time, for everything that it leads.
func (r *reader) fetchLoop(leader int32) {
	defer r.done.Done()
	for r.ctx.Err() == nil {
		r.mu.Lock()
		changed := r.changed
		req, feeds := r.request(leader)
		r.mu.Unlock()
		if len(feeds) == 0 {
			select {
			case <-changed:
			case <-time.After(r.wait): // what a test holds may be let go
			case <-r.ctx.Done():
			}
			continue
		}
		asked := time.Now()
		ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second+r.wait)
		res, err := r.client.Broker(int(leader)).Request(ctx, req)
		cancel()
		if flaw.Planted(flaw.LeaseFromAnswer) {
			asked = time.Now()
		}
		if err == nil {
			resp := res.(*kmsg.FetchResponse)
			if err = kerr.ErrorForCode(resp.ErrorCode); err == nil {
				r.answer(resp, feeds, asked)
				continue
			}
		}
		if r.ctx.Err() != nil {
			return
		}
		r.warn(fmt.Sprintf("fetch table partitions from broker %d: retrying", leader), err)
		r.lost(feeds...)
		select {
		case <-time.After(metadataAge):
		case <-r.ctx.Done():
		}
	}
}

// request builds a fetch of everything that this leader leads and goka has room for; the caller holds mu.
func (r *reader) request(leader int32) (*kmsg.FetchRequest, []*feed) {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID = -1
	req.MinBytes = 1
	req.MaxBytes = fetchBytes
	req.IsolationLevel = 1 // read_committed
	if flaw.Planted(flaw.ReadsUncommitted) {
		req.IsolationLevel = 0
	}
	req.SessionEpoch = -1 // no fetch session
	var feeds []*feed
	wait := r.wait
	for topic, ps := range r.feeds {
		t := kmsg.NewFetchRequestTopic()
		t.Topic, t.TopicID = topic, r.ids[topic]
		for p, f := range ps {
			if f.leader != leader || (r.hold != nil && r.hold(topic, p)) {
				continue
			}
			next, ok := f.room()
			if !ok {
				wait = min(wait, leftOutWait)
				continue
			}
			fp := kmsg.NewFetchRequestTopicPartition()
			fp.Partition = p
			fp.FetchOffset = next
			t.Partitions = append(t.Partitions, fp)
			feeds = append(feeds, f)
		}
		if len(t.Partitions) > 0 {
			req.Topics = append(req.Topics, t)
		}
	}
	each := int32(max(leastPerTP, min(mostPerTP, fetchBytes/max(1, len(feeds)))))
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			req.Topics[i].Partitions[j].PartitionMaxBytes = each
		}
	}
	req.MaxWaitMillis = int32(wait.Milliseconds())
	return req, feeds
}

// answer hands each partition's part of an answer to its feed; at is when the question was asked.
func (r *reader) answer(resp *kmsg.FetchResponse, feeds []*feed, at time.Time) {
	asked := make(map[tp]*feed, len(feeds))
	for _, f := range feeds {
		asked[tp{f.topic, f.partition}] = f
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		r.mu.Lock()
		name := t.Topic
		if name == "" {
			name = r.names[t.TopicID]
		}
		r.mu.Unlock()
		for j := range t.Partitions {
			p := &t.Partitions[j]
			if f := asked[tp{name, p.Partition}]; f != nil && (r.hold == nil || !r.hold(name, p.Partition)) {
				r.take(f, p, at)
			}
		}
	}
}

// take hands one partition's answer to its feed. Recovery is bound by decoding: large answers are decoded each in a goroutine.
func (r *reader) take(f *feed, p *kmsg.FetchResponseTopicPartition, at time.Time) {
	next, _ := f.room() // does not move while there is a question or an answer
	switch err := kerr.ErrorForCode(p.ErrorCode); {
	case err == nil:
	case errors.Is(err, kerr.OffsetOutOfRange):
		err = fmt.Errorf("read table %s/%d at offset %d: %w: it must be read anew", f.topic, f.partition, next, err)
		f.fail(err)
		r.broken(err)
		return
	default: // leadership moved, or the topic is not there (any more): look again
		if !errors.Is(err, kerr.NotLeaderForPartition) && !errors.Is(err, kerr.FencedLeaderEpoch) {
			r.warn(fmt.Sprintf("fetch table partition %s/%d: retrying", f.topic, f.partition), err)
		}
		r.lost(f)
		return
	}
	if len(p.RecordBatches) < largeAnswer {
		r.decode(f, p, next, at)
		return
	}
	f.decoding(true)
	r.done.Add(1)
	go func() {
		defer r.done.Done()
		r.decode(f, p, next, at)
		f.decoding(false)
		r.wake()
	}()
}

// decode hands on what an answer brought; asked is the offset of its question.
func (r *reader) decode(f *feed, p *kmsg.FetchResponseTopicPartition, asked int64, at time.Time) {
	isolation := kgo.ReadCommitted()
	if flaw.Planted(flaw.ReadsUncommitted) {
		isolation = kgo.ReadUncommitted()
	}
	slabs := &recordSlabs{spare: &r.spare}
	part, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		KeepControlRecords: true, Offset: asked, IsolationLevel: isolation, Topic: f.topic, Partition: f.partition, Pools: []kgo.Pool{slabs},
	}, p, r.unpack, nil)
	if part.Err != nil {
		f.fail(fmt.Errorf("read %s/%d at offset %d: %w", f.topic, f.partition, asked, part.Err))
		return
	}
	f.push(part.Records, next, slabs)
	if p.LastStableOffset >= 0 {
		f.answered(at, p.LastStableOffset)
	}
}

// recordSlabs gives kgo's decoder room for records that was used before: a million records need not be a million pieces of
// garbage. It belongs to one answer, and so to one goroutine.
type recordSlabs struct {
	spare *sync.Pool // of *[]kgo.Record
	taken [][]kgo.Record
}

// GetRecords is kgo.PoolRecords.
func (s *recordSlabs) GetRecords(n int) []kgo.Record {
	var slab []kgo.Record
	if spare, _ := s.spare.Get().(*[]kgo.Record); spare != nil {
		slab = *spare
	}
	if cap(slab) < n {
		slab = make([]kgo.Record, n)
	}
	slab = slab[:n]
	s.taken = append(s.taken, slab)
	return slab
}

// PutRecords is kgo.PoolRecords. Aborted batches come back here; all go back together, in free.
func (s *recordSlabs) PutRecords([]kgo.Record) {}

// free makes room for other records, once none of these is used any more.
func (s *recordSlabs) free() {
	for _, slab := range s.taken {
		clear(slab)
		s.spare.Put(&slab)
	}
	s.taken = nil
}
