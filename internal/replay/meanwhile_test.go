package replay_test

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/gateway/gatewaytest"
	"civicbus/internal/pseudonym"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ends are the last stable offsets of a subscriber's topic.
func (b *bus) ends(i int) kadm.ListedOffsets {
	b.T.Helper()
	ends, err := b.Admin.Kafka().ListCommittedOffsets(context.Background(), topicOf(i))
	b.Must(err)
	return ends
}

// Whatever takes a right away in the middle of a replay: nothing of it is sent once that is acknowledged.
func TestRightsThatEndMeanwhile(t *testing.T) {
	t.Parallel()
	const people, events = 4, 10
	b := newBus(t, 6, people, events)
	person := func(i int) *pseudonym.Pairwise { return b.Keys.For(gatewaytest.Subscriber(i)) }
	subscriber := func(i int, change func(*codecs.Organisation)) {
		org := gatewaytest.Organisation(gatewaytest.Subscriber(i))
		change(&org)
		b.InEffect(b.Admin.PutOrganisations(context.Background(), anna, org))
	}
	all := func(string) bool { return true }
	of := func(i, p int) func(string) bool {
		sealed, err := person(i).Seal(b.Subject(p))
		b.Must(err)
		return func(subject string) bool { return subject == sealed }
	}
	var expires time.Time
	cases := []struct {
		name, reason string
		end          func(i int)
		silent       func(i int) func(subject string) bool
	}{
		{"withdrawal", "grant_withdrawn", func(i int) { b.Consent(gatewaytest.Withdraw(1, gatewaytest.Subscriber(i))) }, func(i int) func(string) bool { return of(i, 1) }},
		{"pause", "subscription_not_active", func(i int) { b.Change("pause", gatewaytest.Subscription(i)) }, func(int) func(string) bool { return all }},
		{"revocation of the subscription", "subscription_not_active", func(i int) { b.Change("revoke", gatewaytest.Subscription(i)) }, func(int) func(string) bool { return all }},
		{"revocation of the subscriber", "subscriber_not_trusted", func(i int) {
			b.InEffect(b.Admin.ChangeOrganisation(context.Background(), anna, "revoke", gatewaytest.Subscriber(i)))
		}, func(int) func(string) bool { return all }},
		{"cancellation", "", func(i int) {
			b.InEffect(b.Admin.ChangeReplays(context.Background(), anna, "cancel", gatewaytest.Subscription(i)))
		}, func(int) func(string) bool { return all }},
		{"expiry of a certificate", "certification_missing", func(i int) {
			expires = time.Now().Add(600 * time.Millisecond)
			subscriber(i, func(o *codecs.Organisation) { o.Certifications[0].ValidTo = codecs.Millis(expires) })
			<-time.After(time.Until(expires)) // the moment itself is what ends it
		}, func(int) func(string) bool { return all }},
	}
	for i, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			if os.Getenv(killsVariable) == "" && i%4 != 0 {
				t.Skipf("set %s for all", killsVariable)
			}
			id := gatewaytest.Subscription(i)
			b.start(codecs.Replay{ID: id, Subscription: id, Rate: 12})
			b.Eventually("something was sent", func() bool { return b.progress(id).Sent > 0 })
			tt.end(i)
			acknowledged := b.ends(i)
			row := b.over(id)
			if tt.reason != "" && (row.Status != "done" || count(row.Counts, tt.reason) == 0) {
				t.Errorf("row %s %+v, want denials for %s", row.Status, row.Counts, tt.reason)
			}
			if tt.reason == "" && row.Status != "cancelled" {
				t.Errorf("row %+v", row)
			}
			silent, after := tt.silent(i), 0
			again := b.deliveries(i, true)
			for _, r := range again {
				end, _ := acknowledged.Lookup(r.Topic, r.Partition)
				if r.Offset >= end.Offset && silent(header(r, codecs.HeaderSubject)) {
					after++
				}
			}
			if after != 0 {
				t.Errorf("%d deliveries were sent after the acknowledgement", after)
			}
			if len(again) == people*events {
				t.Error("all was sent before: the replay is too fast for this test")
			}
			t.Logf("%d of %d sent", len(again), people*events)
		})
	}
	for _, d := range b.Decisions("replay") {
		if v := d.Verdicts[0]; v.Subscription == gatewaytest.Subscription(5) && v.Permit && d.DecidedAt >= codecs.Millis(expires) {
			t.Errorf("permitted %d ms after the certificate had expired", d.DecidedAt-codecs.Millis(expires))
		}
	}
}

// TestCrossings: each subscriber replays all that it had; nobody gets anything of another's.
func TestCrossings(t *testing.T) {
	t.Parallel()
	subscribers, people := 20, 2
	if os.Getenv(killsVariable) == "" {
		subscribers = 4
	}
	b := newBus(t, subscribers, people, 1)
	var rows []codecs.Replay
	for i := range subscribers {
		rows = append(rows, b.ask(codecs.Replay{ID: gatewaytest.Subscription(i), Subscriber: gatewaytest.Subscriber(i)}))
	}
	var names []string
	for _, row := range rows {
		names = append(names, row.ID)
	}
	b.InEffect(b.Admin.ChangeReplays(t.Context(), bertil, "approve", names...))
	for i, id := range names {
		if row := b.over(id); row.Status != "done" || count(row.Counts, "consent") != int64(people) {
			t.Errorf("replay %d: %+v", i, row)
		}
	}
	crossings, pairs := 0, 0
	for i := range subscribers {
		again := b.deliveries(i, true)
		if len(again) != people {
			t.Errorf("subscriber %d: %d deliveries, want %d", i, len(again), people)
		}
		for j := range subscribers {
			if i == j {
				continue
			}
			pairs++
			for _, r := range again {
				_, err := b.Keys.For(gatewaytest.Subscriber(j)).Open(header(r, codecs.HeaderSubject))
				known := slices.ContainsFunc(b.once[topicOf(j)], func(o *kgo.Record) bool {
					return slices.ContainsFunc([]string{codecs.HeaderID, codecs.HeaderSubject, codecs.HeaderCorrelation}, func(name string) bool { return header(r, name) == header(o, name) })
				})
				if err == nil || known || header(r, codecs.HeaderSubscription) == gatewaytest.Subscription(j) {
					crossings++
				}
			}
		}
	}
	if crossings != 0 || pairs != subscribers*(subscribers-1) {
		t.Errorf("%d crossings in %d pairs", crossings, pairs)
	}
}
