package bench

import (
	"context"
	"fmt"
	"slices"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// rows compares what stands in the tables with what was asked for, once nobody writes any more, and says what is wrong. Every row
// must be the one that its last command left, every profile must have counted each event once, and the usage of a
// subscription must be the sum of its verdicts.
func (w *soakWorld) rows(ctx context.Context) (wrong []string, err error) {
	consents, err := admin.Consents.All(ctx, w.operator)
	if err != nil {
		return nil, err
	}
	subscriptions, err := admin.Subscriptions.All(ctx, w.operator)
	if err != nil {
		return nil, err
	}
	organisations, err := admin.Organisations.All(ctx, w.operator)
	if err != nil {
		return nil, err
	}
	usage, err := admin.Usage.All(ctx, w.operator)
	if err != nil {
		return nil, err
	}
	profiles, err := w.profiles(ctx)
	if err != nil {
		return nil, err
	}
	l := w.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	events := map[int32]int64{}
	for _, e := range l.events {
		if e.accepted {
			events[e.subject]++
		}
	}
	for i, subject := range w.subjects {
		row, there := consents[subject]
		version, state := l.consents[i].last()
		if got := stateOf(&row); row.Version != version || got != state || there != (version > 0) {
			say("consents of subject %d: version %d, %+v, want version %d, %+v", i, row.Version, got, version, state)
		}
		if got := profiles[subject]; got != events[int32(i)] {
			say("profile of subject %d: version %d after %d events", i, got, events[int32(i)])
		}
	}
	for k := range soakSubscribers {
		row, org := subscriptions[soakSubscription(k)], organisations[soakSubscriber(k)]
		if version, active := l.subscriptions[k].last(); row.Version < version || (row.Status == "active") != active {
			say("subscription %d: version %d, %s, want version %d, active: %t", k, row.Version, row.Status, version, active)
		}
		if version, trusted := l.trust[k].last(); org.Version != version || (org.Status == "active") != trusted {
			say("subscriber %d: version %d, %s, want version %d, active: %t", k, org.Version, org.Status, version, trusted)
		}
		var permits, denials int64
		for _, d := range l.decided {
			if d.verdicts[k].permit {
				permits++
			} else {
				denials++
			}
		}
		u, denied := usage[soakSubscription(k)], int64(0)
		for _, d := range u.Denied {
			denied += d.Count
		}
		if u.Delivered != permits || denied != denials || u.Repeated != 0 {
			say("usage of subscription %d: %d delivered, %d again, %d denied, want %d and %d", k, u.Delivered, u.Repeated, denied, permits, denials)
		}
	}
	return wrong, nil
}

// last is the newest version and its state; version 0: nothing was ever asked for.
func (h history[S]) last() (version int64, s S) {
	if len(h) == 0 {
		return 0, s
	}
	return h[len(h)-1].version, h[len(h)-1].state
}

// stateOf reads a row as the model has it.
func stateOf(row *codecs.Consents) (s consentState) {
	for k := range soakSubscribers {
		for _, g := range row.Grants {
			if g.Recipient == soakSubscriber(k) && g.State == "given" {
				s.given[k] = true
				s.identity[k] = slices.Contains(g.Scopes, "identity")
			}
		}
		s.objected[k] = slices.ContainsFunc(row.Objections, func(o codecs.Objection) bool { return o.Subscription == soakSubscription(k) })
	}
	return s
}

// profiles reads the version of every subject's profile from the table's topic, as it is committed.
func (w *soakWorld) profiles(ctx context.Context) (map[string]int64, error) {
	topic := topology.TableTopic(topology.Profile.Name)
	ends, err := w.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list where %s ends: %w", topic, err)
	}
	from, left := map[int32]kgo.Offset{}, map[int32]int64{}
	for _, o := range ends.Offsets().Sorted() {
		if o.At > 0 {
			from[o.Partition], left[o.Partition] = kgo.NewOffset().At(0), o.At
		}
	}
	if len(from) == 0 {
		return nil, nil
	}
	cl, err := w.cfg.Connection.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	versions := map[string]int64{}
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", topic, err)
		}
		for _, r := range fetches.Records() {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if r.Attrs.IsControl() {
				continue
			}
			row, err := w.records.Profile.Decode(r.Value)
			if err != nil {
				return nil, fmt.Errorf("%s/%d at %d: %w", r.Topic, r.Partition, r.Offset, err)
			}
			versions[string(r.Key)] = row.Version
		}
	}
	return versions, nil
}
