package delivery

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
)

// queue is what waits in the partitions that this process holds: the rows, of each (subject, subscription) the one delivery that
// may be attempted next, and a lane for each subscription. All of it is made anew from the rows when a partition comes.
type queue struct {
	s        *Sender
	attempts sync.WaitGroup

	mu       sync.Mutex
	stopping context.Context // no attempt begins after its end; nil: the sender does not run
	attempt  context.Context // of attempts
	held     map[int32]bool
	rows     map[string]*row // by subject
	lanes    map[string]*lane
	ends     map[endpointKey]*endpoint
	slots    map[string]chan struct{} // by subscriber: what is in flight
}

// row is one subject's.
type row struct {
	partition int32
	waiting   []codecs.WaitingDelivery
	told      map[int64]told   // by offset: reports that the row does not show yet
	pairs     map[string]*pair // by subscription
}

// told is what was reported of a delivery: the number of the attempt, and whether the delivery is done with.
type told struct {
	attempt int32
	final   bool
}

// pair is one (subject, subscription) for which something can be attempted, now or when it is due.
type pair struct {
	subject   string
	partition int32
	lane      *lane
	next      codecs.WaitingDelivery
	busy      bool // an attempt is under way
	at        int  // in the lane's heap; -1: not in it
	notBefore time.Time
}

func (q *queue) init(s *Sender) {
	q.s, q.held, q.rows, q.lanes = s, map[int32]bool{}, map[string]*row{}, map[string]*lane{}
	q.ends, q.slots = map[endpointKey]*endpoint{}, map[string]chan struct{}{}
}

func (q *queue) begin(stopping, attempt context.Context) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopping, q.attempt = stopping, attempt
}

// hold takes in the rows of partitions that have come, and lets go of those that have gone.
func (q *queue) hold(now []int32) {
	q.mu.Lock()
	var came []int32
	for _, p := range now {
		if !q.held[p] {
			q.held[p] = true // from here on a change is taken in by Changed
			came = append(came, p)
		}
	}
	for p := range q.held {
		if !slices.Contains(now, p) {
			delete(q.held, p)
			for subject, r := range q.rows {
				if r.partition == p {
					q.put(subject, p, nil)
				}
			}
		}
	}
	q.mu.Unlock()
	if len(came) == 0 {
		return
	}
	q.s.cfg.Rows.Each(func(subject string, _ []byte) {
		p := kafka.PartitionOf(subject, q.s.cfg.Partitions)
		if !slices.Contains(came, p) {
			return
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.held[p] {
			q.put(subject, p, q.s.cfg.Rows.Row(subject)) // as it is now: what Each gave may be older than what Changed has told
		}
	})
}

// Changed is told of each committed row of the group.
func (q *queue) Changed(subject string, value []byte) {
	p := kafka.PartitionOf(subject, q.s.cfg.Partitions)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held[p] {
		q.put(subject, p, value)
	}
}

// put takes in a row; the caller holds mu.
func (q *queue) put(subject string, partition int32, value []byte) {
	var waiting []codecs.WaitingDelivery
	if value != nil {
		decoded, err := q.s.cfg.Records.DeliveryRow.Decode(value)
		if err != nil {
			q.s.cfg.Logger.Error("row of waiting deliveries cannot be decoded: nothing of it is attempted", "partition", partition, "error", err)
		}
		waiting = decoded.Waiting
	}
	r := q.rows[subject]
	if r == nil {
		if len(waiting) == 0 {
			return
		}
		r = &row{partition: partition, told: map[int64]told{}, pairs: map[string]*pair{}}
		q.rows[subject] = r
	}
	r.waiting = waiting
	for offset, t := range r.told { // what the row shows by now
		i := slices.IndexFunc(waiting, func(w codecs.WaitingDelivery) bool { return w.Offset == offset })
		if i < 0 || waiting[i].Attempts >= t.attempt {
			delete(r.told, offset)
		}
	}
	q.refresh(subject, r)
	if len(waiting) == 0 {
		delete(q.rows, subject)
	}
}

// refresh finds what may be attempted of a subject; the caller holds mu.
func (q *queue) refresh(subject string, r *row) {
	seen := map[string]bool{}
	for _, w := range r.waiting {
		if seen[w.Subscription] {
			continue // only the first that waits
		}
		t, reported := r.told[w.Offset]
		if reported && t.final {
			continue // it is about to leave the row
		}
		seen[w.Subscription] = true
		if !reported {
			q.next(subject, r, w)
		} else if p := r.pairs[w.Subscription]; p != nil { // its next attempt has not been set yet
			p.leave()
		}
	}
	for subscription, p := range r.pairs {
		if !seen[subscription] {
			p.leave()
			delete(r.pairs, subscription)
		}
	}
}

// next makes a delivery the one that its pair attempts next; the caller holds mu.
func (q *queue) next(subject string, r *row, w codecs.WaitingDelivery) {
	p := r.pairs[w.Subscription]
	if p == nil {
		p = &pair{subject: subject, partition: r.partition, lane: q.lane(w.Subscription), at: -1}
		r.pairs[w.Subscription] = p
	}
	p.next = w
	if p.busy {
		return
	}
	if p.at < 0 {
		heap.Push(&p.lane.due, p)
	} else {
		heap.Fix(&p.lane.due, p.at)
	}
	p.lane.signal()
	q.revive(p.lane)
}

// leave takes a pair out of its lane's heap.
func (p *pair) leave() {
	if p.at >= 0 {
		heap.Remove(&p.lane.due, p.at)
	}
}

// done ends an attempt: t says what was reported of it, nil that nothing was, so that it is due again at again.
func (q *queue) done(p *pair, offset int64, t *told, again time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p.busy = false
	p.lane.busy--
	p.notBefore = again
	defer p.lane.signal()
	r := q.rows[p.subject]
	if r == nil || r.pairs[p.next.Subscription] != p {
		return
	}
	if t != nil {
		i := slices.IndexFunc(r.waiting, func(w codecs.WaitingDelivery) bool { return w.Offset == offset })
		if i >= 0 && r.waiting[i].Attempts < t.attempt {
			r.told[offset] = *t
		}
	}
	q.refresh(p.subject, r)
}

// dueAt is when a pair may be attempted.
func (p *pair) dueAt() time.Time {
	due := time.UnixMilli(p.next.Due)
	if p.notBefore.After(due) {
		return p.notBefore
	}
	return due
}

// pairs are a heap, the first that is due on top.
type pairs []*pair

func (h pairs) Len() int           { return len(h) }
func (h pairs) Less(i, j int) bool { return h[i].dueAt().Before(h[j].dueAt()) }
func (h pairs) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *pairs) Push(x any) {
	p := x.(*pair)
	p.at = len(*h)
	*h = append(*h, p)
}
func (h *pairs) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	p.at = -1
	return p
}
