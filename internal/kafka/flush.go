package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// maxRequestBytes bounds the batches of one request; brokers take 100 MiB (socket.request.max.bytes).
	maxRequestBytes = 16 << 20
	// layoutAge is how long the number of a topic's partitions and their leaders are believed, as other clients do.
	layoutAge = 5 * time.Minute
	// unknownTries is how often a topic or partition that brokers do not know is asked for again: another broker may not have
	// heard of it yet.
	unknownTries = 4
	// sendPause is between two tries of what can be tried again.
	sendPause = 20 * time.Millisecond
)

// refusedOutput is an output that Kafka will not take, however often it is tried.
type refusedOutput struct {
	topic string
	size  int // bytes of the largest record of its batches
	err   error
}

func (e *refusedOutput) Error() string { return fmt.Sprintf("write to %s: %v", e.topic, e.err) }
func (e *refusedOutput) Unwrap() error { return e.err }

// refusals lists the outputs that err says were refused.
func refusals(err error) (all []*refusedOutput) {
	switch e := err.(type) { //nolint:errorlint // it takes the tree of errors apart
	case *refusedOutput:
		return []*refusedOutput{e}
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			all = append(all, refusals(one)...)
		}
	case interface{ Unwrap() error }:
		return refusals(e.Unwrap())
	}
	return all
}

// sending is what one partition still has to be sent.
type sending struct {
	topic     string
	partition int32
	batches   []*recordBatch
	largest   int
	sealed    []byte // the first of batches as it goes over the wire, also at the next try: its sequence number tells it was seen
	unknown   int    // times that the broker did not know the partition
}

// flush sends everything in the outbox as part of the open transaction, and waits until all of it is written. written is told
// the offset of the last record of each batch. Partitions are sent side by side, the batches of one partition one after
// another; what a broker refuses for the moment is tried again, with the same sequence number, until the context ends.
//
// A refusedOutput says that one cannot be written, and that the outcome of every other is known. After any other error the
// outcome is not known.
func (p *producer) flush(ctx context.Context, written func(topic string, partition int32, last int64)) error {
	if p.out.empty() {
		return nil
	}
	if err := p.lookUp(ctx); err != nil {
		return err
	}
	todo := p.out.sendings()
	if err := p.addPartitions(ctx, todo); err != nil {
		return err
	}
	p.room = p.room[:0]
	p.begun = true
	for {
		answered, err := p.send(ctx, todo)
		if err != nil {
			return err
		}
		var refused error
		again, left := false, todo[:0]
		for i := range todo {
			s := &todo[i]
			a, ok := answered[tp{s.topic, s.partition}]
			switch failed := kerr.ErrorForCode(a.ErrorCode); {
			case !ok: // its leader is not known or did not answer
				again = true
			case failed == nil:
				n := s.batches[0].n
				p.sequences[tp{s.topic, s.partition}] = next(p.sequences[tp{s.topic, s.partition}], n)
				written(s.topic, s.partition, a.BaseOffset+int64(n)-1)
				s.batches, s.sealed = s.batches[1:], nil
			case s.retriable(failed):
				again = true
			default:
				refused = errors.Join(refused, &refusedOutput{s.topic, s.largest, failed})
			}
			if len(s.batches) > 0 {
				left = append(left, *s)
			}
		}
		if refused != nil {
			return refused
		}
		if todo = left; len(todo) == 0 {
			p.out.reset()
			return nil
		}
		if !again {
			continue
		}
		select {
		case <-time.After(sendPause):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := p.layout.refresh(ctx, p.admin, topicsOf(todo)); err != nil && ctx.Err() != nil {
			return err
		}
	}
}

// retriable says whether a refusal may pass: a leader that moved, replicas that are missing, the transaction before this
// one still being ended (KIP-890).
func (s *sending) retriable(err error) bool {
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		s.unknown++
		return s.unknown <= unknownTries
	}
	return errors.Is(err, kerr.ConcurrentTransactions) || kerr.IsRetriable(err)
}

// next is a sequence number n records on; after 2^31-1 comes 0.
func next(sequence, n int32) int32 { return int32((int64(sequence) + int64(n)) & (1<<31 - 1)) }

func topicsOf(todo []sending) []string {
	seen := map[string]bool{}
	var names []string
	for i := range todo {
		if !seen[todo[i].topic] {
			seen[todo[i].topic] = true
			names = append(names, todo[i].topic)
		}
	}
	return names
}

// sendings lists what is in the box, all of it placed; nothing is added any more.
func (o *outbox) sendings() []sending {
	var todo []sending
	for _, t := range *o.topics.Load() {
		parts := *t.parts.Load()
		for i := range parts {
			p := &parts[i]
			if !p.used() {
				continue
			}
			s := sending{topic: t.name, partition: int32(i), largest: p.largest, batches: make([]*recordBatch, 0, len(p.full)+1)}
			for j := range p.full {
				s.batches = append(s.batches, &p.full[j])
			}
			s.batches = append(s.batches, &p.open)
			todo = append(todo, s)
		}
	}
	return todo
}

// send sends the first batch of each partition to its leader, and returns what the leaders said; of a leader that gave no
// answer nothing is returned.
func (p *producer) send(ctx context.Context, todo []sending) (map[tp]kmsg.ProduceResponseTopicPartition, error) {
	leaders := p.requests(todo)
	answered := make(map[tp]kmsg.ProduceResponseTopicPartition, len(todo))
	var mu sync.Mutex
	var all sync.WaitGroup
	for leader, reqs := range leaders {
		all.Go(func() {
			for _, req := range reqs {
				resp, err := p.client.Broker(int(leader)).Request(ctx, req)
				if err != nil {
					p.log.Warn("write outputs: trying again", "broker", leader, "error", err)
					return
				}
				mu.Lock()
				for _, t := range resp.(*kmsg.ProduceResponse).Topics {
					for _, a := range t.Partitions {
						answered[tp{t.Topic, a.Partition}] = a
					}
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return answered, ctx.Err()
}

// requests makes the requests for each leader; a partition whose leader is not known is left out.
func (p *producer) requests(todo []sending) map[int32][]*kmsg.ProduceRequest {
	type open struct {
		req    *kmsg.ProduceRequest
		topics map[string]int
		bytes  int
	}
	opens, leaders := map[int32]*open{}, map[int32][]*kmsg.ProduceRequest{}
	for i := range todo {
		s := &todo[i]
		leader := p.layout.leader(s.topic, s.partition)
		if leader < 0 {
			continue
		}
		if s.sealed == nil {
			from := len(p.room)
			p.room = s.batches[0].seal(p.room, p.id, p.epoch, p.sequences[tp{s.topic, s.partition}])
			s.sealed = p.room[from:len(p.room):len(p.room)]
		}
		o := opens[leader]
		if o == nil || o.bytes+len(s.sealed) > maxRequestBytes {
			o = &open{req: kmsg.NewPtrProduceRequest(), topics: map[string]int{}}
			o.req.Acks, o.req.TimeoutMillis, o.req.TransactionID = -1, int32(p.timeout.Milliseconds()), &p.transactionalID
			opens[leader] = o
			leaders[leader] = append(leaders[leader], o.req)
		}
		at, ok := o.topics[s.topic]
		if !ok {
			at = len(o.req.Topics)
			o.topics[s.topic] = at
			t := kmsg.NewProduceRequestTopic()
			t.Topic = s.topic
			o.req.Topics = append(o.req.Topics, t)
		}
		part := kmsg.NewProduceRequestTopicPartition()
		part.Partition, part.Records = s.partition, s.sealed
		o.req.Topics[at].Partitions = append(o.req.Topics[at].Partitions, part)
		o.bytes += len(s.sealed)
	}
	return leaders
}

// lookUp learns the partitions of the topics in the box of which too little is known, and places what waits for that.
func (p *producer) lookUp(ctx context.Context) error {
	for try := 0; ; try++ {
		var names []string
		for name := range *p.out.topics.Load() {
			if !p.layout.fresh(name) {
				names = append(names, name)
			}
		}
		if len(names) == 0 {
			break
		}
		err := p.layout.refresh(ctx, p.admin, names)
		if ctx.Err() != nil {
			return fmt.Errorf("look up the topics of outputs: %w", errors.Join(err, ctx.Err()))
		}
		if unknown := (*refusedOutput)(nil); errors.As(err, &unknown) && try >= unknownTries {
			return err
		}
		if err == nil {
			continue
		}
		select {
		case <-time.After(sendPause << min(try, 4)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for name, t := range *p.out.topics.Load() {
		t.place(p.layout.partitions(name), p.out.now.Load())
	}
	return nil
}

// layout is what is known of topics: how many partitions they have, and who leads them. Safe for concurrent use.
type layout struct {
	mu     sync.RWMutex
	topics map[string]laidOut
}

type laidOut struct {
	leaders []int32 // by partition; -1: none
	at      time.Time
}

// partitions is how many partitions a topic has; 0: not known.
func (l *layout) partitions(topic string) int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.topics[topic].leaders)
}

func (l *layout) fresh(topic string) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t, ok := l.topics[topic]
	return ok && time.Since(t.at) < layoutAge
}

// leader is the broker that leads a partition; -1: not known.
func (l *layout) leader(topic string, partition int32) int32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if t := l.topics[topic]; int(partition) < len(t.leaders) {
		return t.leaders[partition]
	}
	return -1
}

// refresh asks for topics. A refusedOutput names one that does not exist, or that this client may not see.
func (l *layout) refresh(ctx context.Context, admin *kadm.Client, names []string) error {
	meta, err := admin.Metadata(ctx, names...)
	if err != nil {
		return fmt.Errorf("look up the topics of outputs: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		t, ok := meta.Topics[name]
		if !ok || t.Err != nil || len(t.Partitions) == 0 {
			failed := t.Err
			if failed == nil {
				failed = kerr.UnknownTopicOrPartition
			}
			err = &refusedOutput{topic: name, err: failed}
			continue
		}
		leaders := make([]int32, len(t.Partitions))
		for i := range leaders {
			leaders[i] = -1
			if d, ok := t.Partitions[int32(i)]; ok && d.Err == nil {
				leaders[i] = d.Leader
			}
		}
		l.topics[name] = laidOut{leaders, time.Now()}
	}
	return err
}
