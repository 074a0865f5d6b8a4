package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/admission"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ledger is what was published on a small world and what must have come of it: the model that a test under faults is held
// against. Safe for concurrent use.
type ledger struct {
	b  *bus
	mu sync.Mutex
	n  int
	// entries by life event id
	entries map[string]entry
}

type entry struct {
	id, who  string
	verdicts map[string]string
	street   int
}

func (b *bus) newLedger() *ledger { return &ledger{b: b, entries: map[string]entry{}} }

// move publishes a move of each person, in one call, and notes what must come of it. The streets are numbered in the order
// of publication.
func (l *ledger) move(verdicts map[string]string, people ...string) {
	l.b.t.Helper()
	l.b.must(l.publish(verdicts, people...))
}

// publish is move for goroutines that are not the test's own.
func (l *ledger) publish(verdicts map[string]string, people ...string) error {
	l.mu.Lock()
	var events [][]byte
	for _, who := range people {
		l.n++
		id := fmt.Sprintf("move-%d", l.n)
		l.entries[l.b.keys.LifeEvent(registerSite, id)] = entry{id, who, verdicts, l.n}
		events = append(events, moved(id, who, strconv.Itoa(l.n)))
	}
	l.mu.Unlock()
	for _, a := range l.b.publish(register, events...) {
		if a.Status != admission.Accepted {
			return fmt.Errorf("publish: %s %v %w", a.Status, a.Faults, a.Err)
		}
	}
	return nil
}

func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// decided counts the router's decisions so far.
func (l *ledger) decided() int {
	return l.b.decisions.count(func(d *codecs.Decision) bool { return d.Kind == "router" })
}

// await waits until as many decisions are there as events were published.
func (l *ledger) await() {
	l.b.t.Helper()
	l.b.eventually(fmt.Sprintf("%d decisions", l.size()), func() bool { return l.decided() >= l.size() })
}

// audit demands that each event on the ledger has exactly one committed decision with exactly those verdicts, that exactly
// the permitted deliveries are on the subscribers' topics, none twice, that each subject's came in the order of
// publication, and that the decisions prove that no record was passed over.
func (l *ledger) audit() {
	b := l.b
	b.t.Helper()
	l.await()
	deliveries := l.auditDecisions()
	times := map[string]int{}
	last := map[string]int{} // by topic and pairwise subject: the number of the street
	for _, r := range b.deliveries() {
		id := header(r.Headers, codecs.HeaderID)
		times[id]++
		e, ok := deliveries[id]
		if !ok {
			b.t.Errorf("%s/%d at %d: a delivery that no decision permits", r.Topic, r.Partition, r.Offset)
			continue
		}
		street := b.street(r)
		if street != e.street {
			b.t.Errorf("%s: street %d was delivered as %d", e.id, e.street, street)
		}
		k := r.Topic + " " + string(r.Key)
		if street <= last[k] {
			b.t.Errorf("%s: delivered after street %d of the same subject", e.id, last[k])
		}
		last[k] = street
	}
	for id, e := range deliveries {
		if times[id] != 1 {
			b.t.Errorf("%s: delivered %d times, want once", e.id, times[id])
		}
	}
	b.caughtUp()
}

// caughtUp demands that every group has committed all that is on its inputs, what led to no output included. What can stand
// beyond a committed offset for ever is what no reader of committed data is given: markers of transactions, one for each
// writer that wrote there last, and what aborted ones left.
func (b *bus) caughtUp() {
	b.t.Helper()
	ctx := b.t.Context()
	operator, err := admin.Dial(ctx, admin.Config{Connection: b.cfg.Connection, Registry: b.cfg.Registry, BusKey: b.cfg.BusKey})
	b.must(err)
	defer operator.Close()
	for _, g := range topology.Groups {
		var topics []string
		for _, s := range g.Consumes() {
			topics = append(topics, s.Name)
		}
		b.eventually("group "+g.Name+" has committed its inputs", func() bool {
			written, err := b.admin.ListEndOffsets(ctx, topics...)
			b.must(err)
			lags, err := operator.Lag(ctx, g.Name)
			b.must(err)
			done := 0
			for _, l := range lags {
				if end, ok := written.Lookup(l.Topic, l.Partition); ok && l.Records == 0 && l.Stable >= end.Offset {
					done++
				}
			}
			return done == len(topics)*int(b.cfg.Shape.Partitions)
		})
	}
}

// auditDecisions checks the decisions and returns the deliveries that they permit.
func (l *ledger) auditDecisions() map[string]entry {
	b := l.b
	b.t.Helper()
	deliveries := map[string]entry{}
	seen := map[string]int{}
	var routed []codecs.Decision
	for _, r := range b.read("audit-decisions") {
		d, err := b.records.Decision.Decode(r.Value)
		b.must(err)
		if d.Kind != "router" {
			continue
		}
		routed = append(routed, d)
		e, ok := l.entries[d.LifeEventID]
		if !ok {
			b.t.Errorf("%s/%d at %d: a decision of an event that was never published", d.Topic, d.Partition, d.Offset)
			continue
		}
		seen[d.LifeEventID]++
		if string(r.Key) != b.subjectOf(e.who) {
			b.t.Errorf("%s: decided under another subject", e.id)
		}
		got := map[string]string{}
		for _, v := range d.Verdicts {
			got[v.Subscription] = outcome(v.Permit, v.Reason)
			if v.Permit {
				if want := b.keys.Delivery(registerSite, e.id, b.subjectOf(e.who), v.Subscription); v.DeliveryID != want {
					b.t.Errorf("%s: %s: another delivery id than the event's", e.id, v.Subscription)
				}
				deliveries[v.DeliveryID] = e
			}
		}
		if !maps.Equal(got, e.verdicts) {
			b.t.Errorf("%s: verdicts %v, want %v", e.id, got, e.verdicts)
		}
	}
	for life, e := range l.entries {
		if seen[life] != 1 {
			b.t.Errorf("%s: decided %d times, want once", e.id, seen[life])
		}
	}
	b.chained(routed)
	return deliveries
}

// chained demands that each decision follows the one before it in its partition: what stands between was no record.
func (b *bus) chained(decisions []codecs.Decision) {
	b.t.Helper()
	slices.SortFunc(decisions, func(a, b codecs.Decision) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	for i, d := range decisions {
		follows := int64(0)
		if i > 0 && decisions[i-1].Topic == d.Topic && decisions[i-1].Partition == d.Partition {
			follows = decisions[i-1].Offset + 1
		}
		if d.Follows != follows {
			b.t.Errorf("%s/%d at %d: follows %d, want %d", d.Topic, d.Partition, d.Offset, d.Follows, follows)
		}
	}
}

// street reads the number of the street from a delivery, with the registry and a decoder that civicbus does not use here.
func (b *bus) street(r *kgo.Record) int {
	b.t.Helper()
	address, _ := b.decode(r)["newAddress"].(map[string]any)
	for _, branch := range address { // goavro names the branch of a union
		fields, _ := branch.(map[string]any)
		street, _ := fields["street"].(map[string]any)
		n, err := strconv.Atoi(fmt.Sprint(street["string"]))
		b.must(err)
		return n
	}
	b.t.Fatalf("%s/%d at %d: no address", r.Topic, r.Partition, r.Offset)
	return 0
}

// decode decodes a delivery with goavro, under the schema that it names.
func (b *bus) decode(r *kgo.Record) map[string]any {
	b.t.Helper()
	id, body, err := codecs.WireID(r.Value)
	b.must(err)
	s, err := b.registry.Load(b.t.Context(), id)
	b.must(err)
	codec, err := s.Goavro()
	b.must(err)
	native, rest, err := codec.NativeFromBinary(body)
	b.must(err)
	if len(rest) > 0 {
		b.t.Errorf("%s/%d at %d: %d bytes too many", r.Topic, r.Partition, r.Offset, len(rest))
	}
	fields, ok := native.(map[string]any)
	if !ok {
		b.t.Fatalf("%s/%d at %d: %T, want a record", r.Topic, r.Partition, r.Offset, native)
	}
	return fields
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
