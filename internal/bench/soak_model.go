package bench

import (
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"
)

const soakSubscribers = 4 // each with one subscription and a topic

// id16 is a life event id or a delivery id in half its space.
type id16 [16]byte

func parseID(text string) (id id16, ok bool) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, false
	}
	return id16(b), true
}

// consentState is what one subject has said to each subscriber.
type consentState struct {
	given, identity, objected [soakSubscribers]bool
}

func (s *consentState) permits(k int) bool { return s.given[k] && !s.objected[k] }

// change is one accepted command: from its version on the state holds, and after acked nothing older may be decided on.
type change[S any] struct {
	version int64
	acked   time.Time
	state   S
}

// history is one row's accepted commands, by version.
type history[S any] []change[S]

// at is the state that a row of this version holds; version 0 is the row that is not there.
func (h history[S]) at(version int64) (s S) {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].version <= version {
			return h[i].state
		}
	}
	return s
}

// demanded is the newest change that was acknowledged before a time.
func (h history[S]) demanded(before time.Time) (version int64, s S) {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].acked.Before(before) {
			return h[i].version, h[i].state
		}
	}
	return 0, s
}

type soakEvent struct {
	subject  int32
	accepted bool
	again    bool // it was published more than once: where it stands among its subject's events is not known
}

// decided is one verdict list of the router, and where it came from.
type decided struct {
	event     int32
	consents  int64
	at        int64 // Unix milliseconds
	place     string
	verdicts  [soakSubscribers]soakVerdict
	decisions int
}

type soakVerdict struct {
	version int64 // of the subscription
	trust   int64 // of the subscriber's row; 0: it was not looked at
	permit  bool
	there   bool
}

// delivered is what came on a subscriber's topic under one delivery id.
type delivered struct {
	times  int
	street bool // the field that the scope of every grant covers
	name   bool // the field that needs the scope identity
	id     bool // the field that no scope covers
	place  string
}

// ledger is all that was asked for and all that came of it. Safe for concurrent use.
type ledger struct {
	mu            sync.Mutex
	consents      []history[consentState] // by subject
	subscriptions [soakSubscribers]history[bool]
	trust         [soakSubscribers]history[bool]
	events        []soakEvent
	byLife        map[id16]int32
	deliveryID    func(event int32, k int) id16

	decided   map[int32]*decided
	delivered map[id16]*delivered
	newest    [soakSubscribers]map[int32]int32 // event that was delivered last, by subject
	disorder  []string
	owed      int // permitted deliveries so far that have not come
	accepted  int
	strange   []string // what fits nothing that was asked for
	letters   []string
}

// waiting is what was accepted and is not decided, and what was permitted and has not come.
func (l *ledger) waiting() (undecided, undelivered int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accepted - len(l.decided), l.owed
}

// decide notes a decision.
func (l *ledger) decide(life id16, d decided) {
	l.mu.Lock()
	defer l.mu.Unlock()
	event, ok := l.byLife[life]
	if !ok {
		l.strange = append(l.strange, "a decision on an event that nobody published: "+d.place)
		return
	}
	if before := l.decided[event]; before != nil {
		before.decisions++
		before.place += " and " + d.place
		return
	}
	d.event, d.decisions = event, 1
	l.decided[event] = &d
	for k, v := range d.verdicts {
		if v.permit && l.delivered[l.deliveryID(event, k)] == nil {
			l.owed++
		}
	}
}

// deliver notes a delivery.
func (l *ledger) deliver(life, id id16, d delivered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before := l.delivered[id]; before != nil {
		before.times++
		before.place += " and " + d.place
		return
	}
	d.times = 1
	l.delivered[id] = &d
	event, known := l.byLife[life]
	if known {
		l.order(event, id, d.place)
	}
	if decision := l.decided[event]; known && decision != nil {
		for k, v := range decision.verdicts {
			if v.permit && l.deliveryID(event, k) == id {
				l.owed--
			}
		}
	}
}

// order holds a delivery against the one before it of its subject and subscription; the caller holds mu.
func (l *ledger) order(event int32, id id16, place string) {
	e := l.events[event]
	for k := range l.newest {
		if e.again || l.deliveryID(event, k) != id {
			continue
		}
		if l.newest[k] == nil {
			l.newest[k] = map[int32]int32{}
		}
		if before, ok := l.newest[k][e.subject]; ok && event < before {
			l.disorder = append(l.disorder, fmt.Sprintf("event %d of subject %d came after event %d: %s", event, e.subject, before, place))
		}
		l.newest[k][e.subject] = event
	}
}

// findings is what the model has against what came out.
type findings struct {
	lost, leaked, duplicates, disorder int
	told                               []string
}

const toldAtMost = 20

func (f *findings) add(count *int, format string, args ...any) {
	if *count++; len(f.told) < toldAtMost {
		f.told = append(f.told, fmt.Sprintf(format, args...))
	}
}

// judge holds everything against the model: an event has one decision; a verdict is what consents and subscription said at the
// versions that it names; these are no older than what was acknowledged before it was made; a permit has one delivery with the
// fields of the grant and no others, a denial has none. An old row that would have led to the same is not counted.
func (l *ledger) judge() (f findings) {
	l.mu.Lock()
	defer l.mu.Unlock()
	explained := 0
	for i := range l.events {
		if !l.events[i].accepted {
			continue
		}
		event := int32(i)
		d := l.decided[event]
		if d == nil {
			f.add(&f.lost, "lost: event %d of subject %d has no decision", i, l.events[i].subject)
			continue
		}
		if d.decisions > 1 {
			f.add(&f.duplicates, "duplicate: event %d was decided %d times: %s", i, d.decisions, d.place)
		}
		for k := range d.verdicts {
			got := l.delivered[l.deliveryID(event, k)]
			if got != nil {
				explained++
			}
			l.judgeVerdict(&f, d, k, got)
		}
	}
	if n := len(l.delivered) - explained; n > 0 {
		f.leaked += n
		f.told = append(f.told, fmt.Sprintf("leaked: %d deliveries of no event that was accepted", n))
	}
	for _, s := range l.strange {
		f.add(&f.leaked, "leaked: %s", s)
	}
	for _, s := range l.disorder {
		f.add(&f.disorder, "out of order: %s", s)
	}
	if len(l.letters) > 0 {
		f.told = append(f.told, fmt.Sprintf("%d dead letters: %v", len(l.letters), l.letters[:min(3, len(l.letters))]))
	}
	return f
}

func (l *ledger) judgeVerdict(f *findings, d *decided, k int, got *delivered) {
	v, subject := d.verdicts[k], l.events[d.event].subject
	state := l.consents[subject].at(d.consents)
	want := l.subscriptions[k].at(v.version) && (v.trust == 0 || l.trust[k].at(v.trust)) && state.permits(k)
	about := fmt.Sprintf("event %d, subject %d, subscriber %d at version %d, consents at version %d, subscription at version %d, %s", d.event, subject, k, v.trust, d.consents, v.version, d.place)
	switch {
	case !v.there:
		f.add(&f.lost, "lost: no verdict: %s", about)
	case v.permit && (!want || v.trust == 0):
		f.add(&f.leaked, "leaked: permitted, and what it names denies: %s", about)
	case !v.permit && want && v.trust != 0:
		f.add(&f.lost, "lost: denied, and what it names permits: %s", about)
	case !v.permit && v.trust == 0 && l.subscriptions[k].at(v.version):
		f.add(&f.lost, "lost: denied without a look at the subscriber, though the subscription is active: %s", about)
	}
	// The line of a withdrawal: what was acknowledged before the decision must be in it.
	at := time.UnixMilli(d.at)
	consents, newest := l.consents[subject].demanded(at)
	subscription, active := l.subscriptions[k].demanded(at)
	trust, trusted := l.trust[k].demanded(at)
	if d.consents < consents || v.version < subscription || v.trust != 0 && v.trust < trust {
		due := active && trusted && newest.permits(k)
		old := fmt.Sprintf("on old rows, consents of version %d, subscription of version %d and subscriber of version %d were acknowledged: %s", consents, subscription, trust, about)
		switch {
		case v.permit && !due, got != nil && got.name && !newest.identity[k]:
			f.add(&f.leaked, "leaked: permitted %s", old)
		case !v.permit && due:
			f.add(&f.lost, "lost: denied %s", old)
		}
	}
	switch {
	case v.permit && got == nil:
		f.add(&f.lost, "lost: permitted and not delivered: %s", about)
	case !v.permit && got != nil:
		f.add(&f.leaked, "leaked: delivered and not permitted: %s, %s", got.place, about)
	}
	if got == nil {
		return
	}
	if got.times > 1 {
		f.add(&f.duplicates, "duplicate: delivered %d times: %s, %s", got.times, got.place, about)
	}
	if got.id || got.name && !state.identity[k] {
		f.add(&f.leaked, "leaked: a field that the grant does not cover: %s, %s", got.place, about)
	}
	if !got.street || !got.name && state.identity[k] {
		f.add(&f.lost, "lost: a field that the grant covers is missing: %s, %s", got.place, about)
	}
}

// changed notes an accepted command.
func changed[S any](h history[S], c change[S]) history[S] {
	h = append(h, c)
	slices.SortStableFunc(h, func(a, b change[S]) int { return int(a.version - b.version) })
	return h
}
