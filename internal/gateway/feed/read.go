package feed

import (
	"context"
	"errors"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/leave"
	"civicbus/internal/verdict"
)

// Bounds of one call.
const (
	MaxLimit  = 1_000   // events
	pageBytes = 4 << 20 // of values, as they stand on the topic
	scanMost  = 20_000  // records passed over, most of them other subscriptions'
	scanTime  = 2 * time.Second
	staleMost = 3 // how often a page is decided anew because the lease ran out before it was on record
)

// Page is a part of a subscription's deliveries.
type Page struct {
	Events    []Event
	Next      Position  // where to go on, behind what was denied too
	Confirmed time.Time // see Feed.Current; the zero time when there are no events
	All       bool      // there was nothing more when it was read
}

// Oldest is the position before everything that is kept of a subscriber's topic, Newest that behind it.
func (f *Feed) Oldest(ctx context.Context, subscription string) (Position, error) {
	return f.edge(ctx, subscription, f.log.starts)
}

// Newest is where a reader stands who wants only what comes from now on.
func (f *Feed) Newest(ctx context.Context, subscription string) (Position, error) {
	return f.edge(ctx, subscription, f.log.ends)
}

func (f *Feed) edge(ctx context.Context, subscription string, list func(context.Context, string, int32) (Position, error)) (Position, error) {
	sub := f.cfg.Tables.Snapshot().Subscription(subscription)
	if sub == nil {
		return nil, ended(SubscriptionUnknown, "there is no such subscription")
	}
	at, err := list(ctx, topic(sub), f.cfg.Partitions)
	if errors.Is(err, kafka.ErrNoTopic) { // it is made when the subscriber is first entitled; until then it holds nothing
		return make(Position, f.cfg.Partitions), nil
	}
	if err != nil {
		return nil, unavailable(ctx, "Kafka", err)
	}
	return at, nil
}

// Reader reads one subscription's deliveries, one call at a time. Close it.
type Reader struct {
	Bytes int // of values that a page holds, as they stand on the topic, and one more delivery; 0: pageBytes

	f            *Feed
	subscription string
	tail         *Tail // nil: not yet needed
}

// Reader makes a reader. It costs nothing until it waits.
func (f *Feed) Reader(subscription string) *Reader { return &Reader{f: f, subscription: subscription} }

// Close lets go of what the reader holds.
func (r *Reader) Close() {
	if r.tail != nil {
		r.tail.release()
		r.tail = nil
	}
}

// Read gives up to limit deliveries from a position on, waiting for the first up to wait; a page without any says how far it
// came. Decisions are on record when it returns, and hold as long as Current says. The error is *Ended, or the context's.
func (r *Reader) Read(ctx context.Context, at Position, limit int, wait time.Duration) (Page, error) {
	f := r.f
	limit = min(max(limit, 1), MaxLimit)
	patience := time.NewTimer(wait)
	defer patience.Stop()
	work := budget{records: scanMost, until: time.Now().Add(scanTime)}
	for {
		sub, err := f.standing(f.cfg.Tables.Snapshot(), r.subscription, false)
		if err != nil {
			return Page{}, r.confirmed(ctx, err)
		}
		watch, watching := r.waits()
		found, next, all, err := r.collect(ctx, sub, at, limit, &work)
		if err != nil {
			return Page{}, err
		}
		page, err := f.leave(ctx, r.subscription, at, found)
		if err != nil {
			return Page{}, err
		}
		if page.Next == nil { // else it is of a part of what was found
			page.Next, page.All = next, all
		}
		if len(page.Events) > 0 || !page.All && work.spent() {
			return page, nil
		}
		at = page.Next
		if !page.All {
			continue
		}
		if wait <= 0 {
			return page, nil
		}
		if !watching {
			if err := r.watch(ctx, sub); err != nil {
				return Page{}, err
			}
			if r.tail != nil { // what came before it began is still to be read
				continue
			}
		}
		more, err := r.wait(ctx, watch, patience.C)
		if err != nil {
			return Page{}, err
		}
		if !more {
			wait = 0
		}
		work = budget{records: scanMost, until: time.Now().Add(scanTime)}
	}
}

// wait returns when something came, when patience is over (more is false then), or with an error when the subscription does
// not stand any more.
func (r *Reader) wait(ctx context.Context, watch <-chan struct{}, patience <-chan time.Time) (more bool, err error) {
	look := time.NewTicker(lookAtStanding)
	defer look.Stop()
	for {
		select {
		case <-watch:
			return true, nil
		case <-look.C:
			if _, err := r.f.standing(r.f.cfg.Tables.Snapshot(), r.subscription, false); err != nil {
				return false, r.confirmed(ctx, err)
			}
			if watch == nil { // the topic is not there yet
				return true, nil
			}
		case <-patience:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// lookAtStanding is how often a waiting reader looks whether its subscription still stands.
const lookAtStanding = 500 * time.Millisecond

// confirmed makes sure that an end is not told on old tables: a subscription that was just made is not unknown.
func (r *Reader) confirmed(ctx context.Context, end error) error {
	_, snap, err := r.f.current(ctx)
	if err != nil {
		return err
	}
	if _, err := r.f.standing(snap, r.subscription, false); err != nil {
		return err
	}
	return ended(NotCurrent, end.Error())
}

// budget bounds the work of a call between two waits.
type budget struct {
	records int
	until   time.Time
}

func (b *budget) spent() bool { return b.records <= 0 || time.Now().After(b.until) }

// waits gives what is closed when something comes; watching is false while the topic is not followed.
func (r *Reader) waits() (watch <-chan struct{}, watching bool) {
	if r.tail == nil {
		return nil, false
	}
	watch, ok := r.tail.waits()
	if !ok {
		r.Close()
	}
	return watch, ok
}

// watch begins to follow the topic, if it is there.
func (r *Reader) watch(ctx context.Context, sub *codecs.Subscription) error {
	tail, err := r.f.tails.watch(ctx, topic(sub), r.f.cfg.Partitions)
	switch {
	case errors.Is(err, kafka.ErrNoTopic):
		return nil
	case err != nil:
		return unavailable(ctx, "Kafka", err)
	}
	r.tail = tail
	return nil
}

// collect finds the subscription's next records. all is true when every partition was read to its end. Partitions take turns
// at being first, by the position, so that a busy one does not keep the others out.
func (r *Reader) collect(ctx context.Context, sub *codecs.Subscription, at Position, limit int, work *budget) (found []*record, next Position, all bool, err error) {
	next = append(Position(nil), at...)
	turn := int64(0)
	for _, o := range at {
		turn += o
	}
	all = true
	bytes, most := 0, r.Bytes
	if most <= 0 {
		most = pageBytes
	}
	for i := range int64(len(at)) {
		p := int32((turn + i) % int64(len(at)))
		for {
			if len(found) >= limit || bytes >= most || work.spent() {
				return found, next, false, nil
			}
			records, to, done, err := r.read(ctx, topic(sub), p, next[p])
			if errors.Is(err, kafka.ErrNoTopic) {
				return nil, next, true, nil
			}
			if err != nil {
				return nil, nil, false, atEnd(ctx, err)
			}
			for _, rec := range records {
				if rec.Offset < next[p] { // a batch begins before what was asked for
					continue
				}
				if len(found) >= limit || bytes >= most {
					return found, next, false, nil
				}
				work.records--
				if next[p] = rec.Offset + 1; rec.subscription == sub.ID {
					found, bytes = append(found, rec), bytes+rec.size
				}
			}
			moved := to > next[p] || len(records) > 0
			if next[p] = max(next[p], to); done {
				break
			}
			if !moved { // it says that there is more and does not give it: the next call asks again
				all = false
				break
			}
		}
	}
	return found, next, all, nil
}

func atEnd(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, kafka.ErrExpired):
		return ended(CursorExpired, "what stood there is not kept any more: deliveries may have been missed")
	case errors.Is(err, kafka.ErrBeyond):
		return ended(CursorInvalid, "the cursor lies behind the end of what there is")
	}
	return unavailable(ctx, "Kafka", err)
}

// read gives records of a partition from the tail, where it reaches back that far, or from the log.
func (r *Reader) read(ctx context.Context, topic string, p int32, at int64) (records []*record, next int64, done bool, err error) {
	const most = 512
	if r.tail != nil {
		if records, next, known := r.tail.next(p, at, most); known {
			return records, next, len(records) < most, nil
		}
	}
	raw, next, done, err := r.f.log.Fetch(ctx, topic, p, at, 0)
	for _, rec := range raw {
		records = append(records, newRecord(rec))
	}
	return records, next, done, err
}

// leave decides on records, writes the decisions, and gives what may go out. The page's Next is set where it is about the first of
// the records alone.
func (f *Feed) leave(ctx context.Context, subscription string, at Position, found []*record) (Page, error) {
	page := Page{}
	if len(found) == 0 {
		return page, nil
	}
	of, n, err := f.originals(ctx, subscription, found)
	if err != nil {
		return page, err
	}
	part := n < len(found)
	found = found[:n]
	confirmed, results, err := f.decideAll(ctx, subscription, found, of, false)
	if err != nil {
		return page, err
	}
	page.Confirmed = confirmed
	for i, r := range found {
		if at = at.after(r.Partition, r.Offset); results[i].event != nil {
			results[i].event.After = at
			page.Events = append(page.Events, *results[i].event)
		}
	}
	if part {
		page.Next = at
	}
	return page, nil
}

// result is what became of a record: what leaves, or nil; and what is on record about it.
type result struct {
	event *Event
	entry leave.Entry
}

// decideAll decides on records and returns when the decisions are on record and still hold. Where writing them took longer than
// the lease, it is decided anew, and only what is decided differently is written again. of is what each
// refers to; whole gives thin deliveries' data.
func (f *Feed) decideAll(ctx context.Context, subscription string, found []*record, of []*leave.Original, whole bool) (confirmed time.Time, results []result, err error) {
	sub, err := f.standing(f.cfg.Tables.Snapshot(), subscription, whole)
	if err != nil {
		return confirmed, nil, err
	}
	outgoing := make([]*leave.Delivery, len(found))
	for i, r := range found {
		if outgoing[i], err = f.prepare(ctx, f.cfg.Tables.Snapshot(), sub, r, of[i], whole); err != nil {
			return confirmed, nil, err
		}
	}
	for range staleMost {
		var snap *verdict.Snapshot
		if confirmed, snap, err = f.current(ctx); err != nil {
			return confirmed, nil, err
		}
		if sub, err = f.standing(snap, subscription, whole); err != nil {
			return confirmed, nil, err
		}
		before := results
		results = make([]result, len(found))
		var due []leave.Entry
		for i, l := range outgoing {
			results[i] = f.result(snap, sub, l, whole)
			if before == nil || !results[i].entry.Same(&before[i].entry) {
				due = append(due, results[i].entry)
			}
		}
		if err := f.exit.Write(ctx, due...); err != nil {
			return confirmed, nil, unavailable(ctx, "the audit log", err)
		}
		if f.Current(confirmed) {
			return confirmed, results, nil
		}
	}
	return confirmed, nil, ended(NotCurrent, "the tables that are decided on do not stay confirmed long enough")
}

// result decides on one record. One whose data cannot be written is malformed and does not leave.
func (f *Feed) result(snap *verdict.Snapshot, sub *codecs.Subscription, l *leave.Delivery, whole bool) result {
	dataref := leave.DataRef(l.Record)
	thin := !whole && (dataref != "" || sub.Delivery.Thin)
	permit, on := f.exit.Decide(snap, sub, l, thin, f.cfg.Now())
	if permit == nil {
		return result{entry: on}
	}
	if thin && dataref == "" { // it was made before the subscription asked for thin ones
		dataref = f.cfg.DataRef(sub.ID, f.cursors.seal(sub.ID, cursorRecord, int64(l.Record.Partition), l.Record.Offset))
	}
	e, err := f.exit.Event(snap, l, permit, thin, dataref)
	if err != nil {
		on.Unreadable()
		return result{entry: on}
	}
	return result{&Event{Event: e}, on}
}

// One gives a single delivery whole, by the reference in a thin one: decided now, on record as an access. A denial is *Ended
// with its reason. It may be used as long as Current says of the time.
func (f *Feed) One(ctx context.Context, subscription, ref string) (Event, time.Time, error) {
	var rec *record
	var of *leave.Original
	var err error
	if leave.Reference(ref) {
		rec, of, err = f.refer(ctx, subscription, ref)
	} else {
		rec, err = f.find(ctx, subscription, ref)
	}
	if err != nil {
		return Event{}, time.Time{}, err
	}
	confirmed, results, err := f.decideAll(ctx, subscription, []*record{rec}, []*leave.Original{of}, true)
	switch {
	case err != nil:
		return Event{}, time.Time{}, err
	case results[0].event != nil:
		return *results[0].event, confirmed, nil
	case len(results[0].entry.Decision.Verdicts) > 0:
		return Event{}, time.Time{}, ended(results[0].entry.Decision.Verdicts[0].Reason, "the delivery is not permitted any more")
	}
	return Event{}, time.Time{}, ended(DeliveryGone, "the delivery cannot be read")
}

// find reads the record of the subscriber's topic that a reference names.
func (f *Feed) find(ctx context.Context, subscription, ref string) (*record, error) {
	numbers, err := f.cursors.open(subscription, cursorRecord, ref, 2)
	if err != nil || numbers[0] >= int64(f.cfg.Partitions) {
		return nil, ended(CursorInvalid, "the reference was not given out for this subscription")
	}
	sub, err := f.standing(f.cfg.Tables.Snapshot(), subscription, false)
	if err != nil {
		return nil, err
	}
	records, _, _, err := f.log.Fetch(ctx, topic(sub), int32(numbers[0]), numbers[1], 0)
	switch {
	case errors.Is(err, kafka.ErrExpired), errors.Is(err, kafka.ErrBeyond), errors.Is(err, kafka.ErrNoTopic):
		return nil, ended(DeliveryGone, "the delivery is not kept any more")
	case err != nil:
		return nil, unavailable(ctx, "Kafka", err)
	}
	for _, r := range records {
		if rec := newRecord(r); r.Offset == numbers[1] && rec.subscription == subscription {
			return rec, nil
		}
	}
	return nil, ended(DeliveryGone, "the delivery is not kept any more")
}
