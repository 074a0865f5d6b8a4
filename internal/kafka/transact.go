package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// transact hands records to goka for at most the configured interval, waits until it has finished with them, and commits
// their outputs, table writes and offsets as one Kafka transaction. nil: committed, or aborted so that the same records can
// be tried again at once. An error ends the session.
func (s *session) transact() error {
	e := s.e
	if !s.anyReady() {
		return nil
	}
	e.mu.Lock()
	prod := e.prod
	e.mu.Unlock()
	if prod == nil {
		return fmt.Errorf("%w: no producer", errAgain)
	}
	if err := prod.client.BeginTransaction(); err != nil {
		return s.lost(nil, fmt.Errorf("begin transaction: %w", err))
	}
	b := newBatch(prod, e.table)
	e.setBatch(b)
	whole := s.fill(b)
	b.seal()
	if !whole || !s.finished(b) {
		if k, offset, stuck := b.stuck(); stuck && s.ctx.Err() == nil && !s.isBroken() {
			e.log.Error("callback takes longer than a transaction may", "topic", k.topic, "partition", k.partition, "offset", offset)
		}
		return errStopped // the batch stays open until goka is quiet: what it still emits must not join another transaction
	}
	return s.end(b)
}

// errStopped ends a session whose batch goka did not finish; Cleanup tells why.
var errStopped = fmt.Errorf("%w: a batch was not finished", errAgain)

// fill hands on what is ready, and what becomes ready within the interval; false when the session ended meanwhile.
func (s *session) fill(b *batch) bool {
	e := s.e
	n := 0
	for {
		before := n
		for k, q := range s.a.queues {
			for n < e.cfg.MaxRecords && q.next() != nil {
				at, ok := s.ready(k, q)
				if !ok {
					break
				}
				if !s.hand(b, k, q, at) {
					return false
				}
				n++
			}
		}
		if n == before || n >= e.cfg.MaxRecords || time.Since(b.started) >= e.cfg.Interval {
			return true
		}
		if !s.enqueue(e.consume.PollRecords(nil, e.cfg.MaxRecords)) { //nolint:staticcheck // nil means: only what is buffered
			return true
		}
	}
}

func (s *session) anyReady() bool {
	for k, q := range s.a.queues {
		if q.next() != nil {
			if _, ok := s.ready(k, q); ok {
				return true
			}
		}
	}
	return false
}

// ready says whether the next record of a partition may be decided now, and the confirmation it would be decided on.
func (s *session) ready(k tp, q *queue) (at time.Time, ok bool) {
	e := s.e
	if len(e.lease.views)+len(e.lease.joins) > 0 {
		if at, ok = e.lease.fresh(k.partition); !ok {
			e.held(k, "lease")
			return at, false
		}
	}
	if e.cfg.Ready != nil && !e.cfg.Ready(q.next()) {
		e.held(k, "schema")
		return at, false
	}
	return at, true
}

// finished waits until goka has finished with the batch; false when it did not before the transaction would time out.
func (s *session) finished(b *batch) bool {
	limit := time.NewTimer(s.e.cfg.TxnTimeout - s.e.cfg.TxnTimeout/5 - time.Since(b.started))
	defer limit.Stop()
	select {
	case <-b.done:
		// A callback that ran while the session was being stopped may have been told that a table is empty.
		return s.ctx.Err() == nil
	case <-s.broken:
	case <-s.ctx.Done():
	case <-limit.C:
	}
	return false
}

// end commits the batch, or aborts it and gives its records back.
func (s *session) end(b *batch) error {
	e := s.e
	ctx, cancel := context.WithDeadline(context.Background(), b.started.Add(e.cfg.TxnTimeout))
	err := b.prod.client.Flush(ctx)
	cancel()
	if err != nil {
		return s.lost(b, fmt.Errorf("flush: %w", err))
	}
	if err := b.failure(); err != nil {
		return s.abort(b, "output", err)
	}
	if !b.oldest.IsZero() && time.Since(b.oldest) >= e.cfg.LeaseAge {
		return s.abort(b, "lease", fmt.Errorf("the tables were last confirmed %s ago, want less than %s", time.Since(b.oldest).Round(time.Millisecond), e.cfg.LeaseAge))
	}
	offsets := s.offsets()
	who := e.member()
	ctx, cancel = context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	if b.outputCount() == 0 { // nothing to be atomic with; KIP-890 lets no transaction end that never began
		if err := b.prod.commit(); err != nil {
			return s.lost(b, fmt.Errorf("end an empty transaction: %w", err))
		}
		if err := e.commitOffsets(ctx, who, offsets); err != nil {
			s.giveBack(b)
			return s.refused(err)
		}
		s.committed(b)
		return nil
	}
	if err := b.prod.addOffsets(ctx, who, offsets); err != nil {
		if aerr := s.abort(b, "offsets", err); aerr != nil {
			return aerr
		}
		return s.refused(err)
	}
	if !b.oldest.IsZero() && time.Since(b.oldest) >= e.cfg.LeaseAge {
		return s.abort(b, "lease", errors.New("the offsets took longer than the lease"))
	}
	if err := b.prod.commit(); err != nil {
		return s.lost(b, fmt.Errorf("commit transaction: %w", err))
	}
	s.committed(b)
	return nil
}

// offsets are those after what was handed on, for the partitions that the batch touched.
func (s *session) offsets() map[string]map[int32]int64 {
	m := map[string]map[int32]int64{}
	for k, q := range s.a.queues {
		if q.head == 0 {
			continue
		}
		if m[k.topic] == nil {
			m[k.topic] = map[int32]int64{}
		}
		m[k.topic][k.partition] = q.follows
	}
	return m
}

func (s *session) committed(b *batch) {
	e := s.e
	last := b.tableOffsets()
	if e.table != "" {
		for _, t := range e.tables.all(e.table) {
			if l, ok := last[t.partition]; ok {
				t.apply(l)
			}
		}
	}
	n := 0
	for k, q := range s.a.queues {
		n += q.head
		q.commit()
		s.throttle(k, q)
	}
	e.setBatch(nil)
	e.committedBatch(n, time.Since(b.started))
}

// abort ends the transaction without its outputs; its records are tried again.
func (s *session) abort(b *batch, cause string, why error) error {
	s.e.log.Warn("transaction aborted, its records are tried again", "cause", cause, "error", why)
	s.e.aborted(cause)
	if err := b.prod.abort(); err != nil {
		return s.lost(b, fmt.Errorf("abort transaction: %w", err))
	}
	s.giveBack(b)
	return nil
}

func (s *session) giveBack(*batch) {
	for _, q := range s.a.queues {
		q.rewind()
	}
	s.e.dropOverlays()
	s.e.setBatch(nil)
}

// lost drops the producer after an end whose outcome is unknown. The next session takes the truth from the broker.
func (s *session) lost(b *batch, err error) error {
	e := s.e
	e.aborted("unknown")
	if b != nil {
		e.abandon(b)
	} else {
		e.dropProducer()
	}
	if fenced(err) {
		if ferr := e.fencedAgain(err); ferr != nil {
			return ferr
		}
	}
	return fmt.Errorf("%w: %w", errAgain, err)
}

// refused tells what a refused commit of offsets means: the coordinator knows another generation, so a revocation is on
// its way; anything else is tried again.
func (s *session) refused(err error) error {
	switch {
	case errors.Is(err, kerr.FencedInstanceID):
		return s.e.fencedAgain(err)
	case errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.RebalanceInProgress):
		select {
		case <-s.a.over:
		case <-s.ctx.Done():
		case <-time.After(s.e.cfg.Session / 10): // the next heartbeat learns it
		}
	}
	return nil
}

func (e *Engine) member() member {
	id, generation := e.consume.GroupMetadata()
	return member{id: id, generation: generation, instance: e.cfg.Instance}
}

// commitOffsets commits offsets outside a transaction, for a batch that wrote nothing.
func (e *Engine) commitOffsets(ctx context.Context, m member, offsets map[string]map[int32]int64) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.MemberID, req.InstanceID = e.group, m.generation, m.id, &m.instance
	for topic, ps := range offsets {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic = topic
		for p, o := range ps {
			part := kmsg.NewOffsetCommitRequestTopicPartition()
			part.Partition, part.Offset, part.LeaderEpoch = p, o, -1
			t.Partitions = append(t.Partitions, part)
		}
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, e.prodClient())
	if err != nil {
		return fmt.Errorf("commit offsets: %w", err)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("commit offset of %s/%d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}

// replaceOffsets takes the committed offsets of an assignment from the broker, waiting until no transaction that could
// still change them is open (KIP-447).
func (e *Engine) replaceOffsets(ctx context.Context, a *assignment) error {
	cl, err := e.cfg.Connection.Client()
	if err != nil {
		return err
	}
	admin := kadm.NewClient(cl)
	defer admin.Close()
	for {
		got, err := stableOffsets(ctx, cl, e.group, a.claims)
		if errors.Is(err, kerr.UnstableOffsetCommit) {
			select {
			case <-time.After(20 * time.Millisecond):
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
		for k, q := range a.queues {
			if o, ok := got[k]; ok && o >= 0 {
				q.replace(o)
			}
		}
		return nil
	}
}

func stableOffsets(ctx context.Context, cl *kgo.Client, group string, claims map[string][]int32) (map[tp]int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	req.Group = group
	for topic, ps := range claims {
		t := kmsg.NewOffsetFetchRequestTopic()
		t.Topic, t.Partitions = topic, ps
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("fetch the committed offsets of group %s: %w", group, err)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, fmt.Errorf("fetch the committed offsets of group %s: %w", group, err)
	}
	out := map[tp]int64{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, fmt.Errorf("fetch the committed offset of %s/%d: %w", t.Topic, p.Partition, err)
			}
			out[tp{t.Topic, p.Partition}] = p.Offset
		}
	}
	return out, nil
}

func (e *Engine) openBatch() *batch {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.batch
}

func (e *Engine) setBatch(b *batch) {
	e.mu.Lock()
	e.batch = b
	e.mu.Unlock()
}

func (e *Engine) prodClient() *kgo.Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.prod.client
}

// abandon gives up a batch together with its producer: whatever is still emitted for it goes to a closed client.
func (e *Engine) abandon(b *batch) {
	e.mu.Lock()
	if e.batch == b {
		e.batch = nil
	}
	e.mu.Unlock()
	e.dropProducer()
	e.dropOverlays()
}

func (e *Engine) dropProducer() {
	e.mu.Lock()
	p := e.prod
	e.prod = nil
	e.mu.Unlock()
	if p != nil {
		p.drop()
	}
}

func (e *Engine) dropOverlays() {
	if e.table != "" {
		for _, t := range e.tables.all(e.table) {
			t.drop()
		}
	}
}

// fencedAgain counts take-overs of our transactional id or instance id; two live instances with one id would fence each
// other for ever, so the fourth within a minute is an error that ends the processor.
func (e *Engine) fencedAgain(err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	recent := e.fencings[:0]
	for _, t := range e.fencings {
		if now.Sub(t) < time.Minute {
			recent = append(recent, t)
		}
	}
	e.fencings = append(recent, now)
	if len(e.fencings) > 3 {
		return fmt.Errorf("instance %q of group %s was fenced %d times within a minute: is another process running under the same instance id? %w", e.cfg.Instance, e.group, len(e.fencings), err)
	}
	return nil
}

// gokaProducer is goka's producer: every output joins the open transaction, and its promise is kept at once, because the
// transaction as a whole fails if one output does.
type gokaProducer struct{ e *Engine }

// Emit writes a record.
func (p gokaProducer) Emit(topic, key string, value []byte) *goka.Promise {
	return p.EmitWithHeaders(topic, key, value, nil)
}

// EmitWithHeaders writes a record with headers. The header TopicHeader names the topic in place of a placeholder.
func (p gokaProducer) EmitWithHeaders(topic, key string, value []byte, headers goka.Headers) *goka.Promise {
	r := &kgo.Record{Topic: topic, Key: []byte(key), Value: value}
	for k, v := range headers {
		if k == TopicHeader {
			r.Topic = string(v)
			continue
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: v})
	}
	p.e.Produce(r)
	promise, finish := goka.NewPromiseWithFinisher()
	finish(nil, nil)
	return promise
}

// Close does nothing: the engine owns its clients.
func (gokaProducer) Close() error { return nil }

// TopicHeader, on a record emitted through goka, names the topic that it is really for: goka's outputs are fixed when a
// group is built, subscribers' topics are not. It never reaches Kafka.
const TopicHeader = "civicbus-topic"

// Produce adds a record to the open transaction; callbacks may use it beside goka's Emit. Its failure aborts the
// transaction. Without an open transaction (a callback that goka has given up on) the record goes nowhere, and neither
// does the input that it came from.
func (e *Engine) Produce(r *kgo.Record) {
	if b := e.openBatch(); b != nil {
		b.produce(r, e.cfg.Failed)
	}
}
