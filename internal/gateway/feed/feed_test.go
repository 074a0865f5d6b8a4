package feed_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"civicbus/internal/gateway/feed"
	"civicbus/internal/gateway/gatewaytest"
)

// drain reads until nothing more is there, at most limit events a page.
func drain(t *testing.T, f *feed.Feed, subscription string, at feed.Position, limit int) (events []feed.Event, next feed.Position) {
	t.Helper()
	r := f.Reader(subscription)
	defer r.Close()
	for {
		page, err := r.Read(t.Context(), at, limit, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Events) > limit {
			t.Fatalf("%d events, limit %d", len(page.Events), limit)
		}
		events, at = append(events, page.Events...), page.Next
		if page.All && len(page.Events) == 0 {
			return events, at
		}
	}
}

// await drains until so many events have come.
func await(b *gatewaytest.Bus, t *testing.T, subscription string, at feed.Position, n int) (events []feed.Event, next feed.Position) {
	t.Helper()
	b.Eventually(fmt.Sprint(n, " deliveries of ", subscription), func() bool {
		var more []feed.Event
		more, at = drain(t, b.Feed, subscription, at, 3)
		events = append(events, more...)
		return len(events) >= n
	})
	return events, at
}

func oldest(t *testing.T, f *feed.Feed, subscription string) feed.Position {
	t.Helper()
	at, err := f.Oldest(t.Context(), subscription)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func code(err error) string {
	var e *feed.Ended
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func streets(events []feed.Event) (all []string) {
	for _, e := range events {
		var event struct{ Data struct{ Street string } }
		_ = json.Unmarshal(e.JSON, &event)
		all = append(all, event.Data.Street)
	}
	slices.Sort(all)
	return all
}

func TestFeed(t *testing.T) {
	b := gatewaytest.Start(t, 2)
	sub := gatewaytest.Subscription(0)
	b.Consent(gatewaytest.Grant(0, gatewaytest.Subscriber(0), gatewaytest.Scope, gatewaytest.NameScope), gatewaytest.Grant(1, gatewaytest.Subscriber(0), gatewaytest.Scope),
		gatewaytest.Grant(0, gatewaytest.Subscriber(1), gatewaytest.Scope))
	start := oldest(t, b.Feed, sub)
	b.Publish(gatewaytest.Moved("e0", 0, "A 0"), gatewaytest.Moved("e1", 1, "A 1"), gatewaytest.Moved("e2", 2, "A 2"), gatewaytest.Moved("e3", 0, "A 3"))
	first, end := await(b, t, sub, start, 3)

	t.Run("what is delivered", func(t *testing.T) {
		if got := streets(first); !slices.Equal(got, []string{"A 0", "A 1", "A 3"}) {
			t.Errorf("%v", got)
		}
		for _, e := range first {
			var event map[string]any
			if err := json.Unmarshal(e.JSON, &event); err != nil {
				t.Fatalf("%v: %s", err, e.JSON)
			}
			if event["id"] != e.ID || event["subscription"] != sub || event["legalbasis"] != "consent" || event["specversion"] != "1.0" || !strings.HasPrefix(event["subject"].(string), "p1.") {
				t.Errorf("%s", e.JSON)
			}
			if strings.Contains(string(e.JSON), "secret of") || strings.Contains(string(e.JSON), gatewaytest.Person(0)) || strings.Contains(string(e.JSON), "k1.") {
				t.Errorf("leaks: %s", e.JSON)
			}
		}
		again, _ := drain(t, b.Feed, sub, start, 1000)
		if fmt.Sprint(texts(again)) != fmt.Sprint(texts(first)) {
			t.Error("read again it is something else")
		}
	})
	t.Run("cursors", func(t *testing.T) {
		for _, e := range first { // whoever stands behind an event gets what came after it, and nothing else
			at, err := b.Feed.Position(sub, b.Feed.Cursor(sub, e.After))
			if err != nil {
				t.Fatal(err)
			}
			rest, _ := drain(t, b.Feed, sub, at, 1)
			i := slices.IndexFunc(first, func(o feed.Event) bool { return o.ID == e.ID })
			seen := append(ids(first[:i+1]), ids(rest)...)
			slices.Sort(seen)
			if want := ids(first); !slices.Equal(seen, sorted(want)) {
				t.Errorf("behind event %d: %v, want %v", i, seen, want)
			}
		}
		good := b.Feed.Cursor(sub, end)
		for name, bad := range map[string]string{"another's": b.Feed.Cursor(gatewaytest.Subscription(1), end), "none": "", "noise": "AAAA", "cut": good[:len(good)-2],
			"changed": flip(good), "longer": good + "A", "large": strings.Repeat("A", 1<<20)} {
			if _, err := b.Feed.Position(sub, bad); code(err) != feed.CursorInvalid {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("accesses are on record", func(t *testing.T) {
		found := 0
		for _, d := range b.Decisions(feed.Kind) {
			if len(d.Verdicts) == 1 && d.Verdicts[0].DeliveryID == first[0].ID && d.Verdicts[0].Permit {
				found++
				if d.Follows != -1 || d.LifeEventID == "" || d.Verdicts[0].Reason != "consent" || d.Verdicts[0].Subscriber != gatewaytest.Subscriber(0) {
					t.Errorf("%+v", d)
				}
			}
		}
		if found < 2 {
			t.Errorf("%d accesses on record, there were more", found)
		}
	})
	t.Run("the field set stays what it was", func(t *testing.T) {
		sets := map[string]int64{}
		for _, d := range b.Decisions("router") {
			for _, v := range d.Verdicts {
				sets[v.DeliveryID] = v.FieldSet
			}
		}
		for _, d := range b.Decisions(feed.Kind) {
			if v := d.Verdicts[0]; v.Permit && sets[v.DeliveryID] != v.FieldSet {
				t.Errorf("field set %d, and the router's %d", v.FieldSet, sets[v.DeliveryID])
			}
		}
	})
	t.Run("waiting", func(t *testing.T) {
		r := b.Feed.Reader(sub)
		defer r.Close()
		got := make(chan feed.Page, 1)
		go func() {
			page, err := r.Read(t.Context(), end, 10, time.Minute)
			if err != nil {
				t.Error(err)
			}
			got <- page
		}()
		b.Publish(gatewaytest.Moved("w0", 1, "W 0"))
		page := <-got
		if !slices.Equal(streets(page.Events), []string{"W 0"}) {
			t.Errorf("%v", streets(page.Events))
		}
		end = page.Next
	})
	t.Run("a narrower grant cuts what was delivered", func(t *testing.T) {
		b.Consent(gatewaytest.Withdraw(0, gatewaytest.Subscriber(0)), gatewaytest.Grant(0, gatewaytest.Subscriber(0), gatewaytest.Scope))
		again, _ := drain(t, b.Feed, sub, start, 1000)
		if got := streets(again); !slices.Equal(got, []string{"A 0", "A 1", "A 3", "W 0"}) {
			t.Errorf("%v", got)
		}
		for _, e := range again {
			if strings.Contains(string(e.JSON), "Name 0") || !strings.Contains(string(e.JSON), "data.person.name") {
				t.Errorf("%s", e.JSON)
			}
		}
	})
	t.Run("withdrawn", func(t *testing.T) {
		b.Consent(gatewaytest.Withdraw(0, gatewaytest.Subscriber(0)))
		again, _ := drain(t, b.Feed, sub, start, 1000)
		if got := streets(again); !slices.Equal(got, []string{"A 1", "W 0"}) {
			t.Errorf("%v", got)
		}
		denied := 0
		for _, d := range b.Decisions(feed.Kind) {
			if !d.Verdicts[0].Permit && d.Verdicts[0].Reason == "grant_withdrawn" {
				denied++
			}
		}
		if denied != 2 {
			t.Errorf("%d denials on record, want 2", denied)
		}
	})
	t.Run("paused and revoked", func(t *testing.T) {
		r := b.Feed.Reader(sub)
		defer r.Close()
		done := make(chan error, 1)
		go func() {
			_, err := r.Read(t.Context(), end, 10, time.Minute)
			done <- err
		}()
		b.Change("pause", sub)
		if err := <-done; code(err) != feed.SubscriptionPaused {
			t.Errorf("a waiting reader: %v", err)
		}
		if _, err := r.Read(t.Context(), start, 10, 0); code(err) != feed.SubscriptionPaused {
			t.Errorf("a new reading: %v", err)
		}
		b.Change("resume", sub)
		b.Active(sub)
		if again, _ := drain(t, b.Feed, sub, start, 1000); len(again) != 2 {
			t.Errorf("%d deliveries after the pause", len(again))
		}
		b.Change("revoke", sub)
		if _, err := r.Read(t.Context(), start, 10, 0); code(err) != feed.SubscriptionRevoked {
			t.Errorf("revoked: %v", err)
		}
		if _, err := b.Feed.Reader("sub-none").Read(t.Context(), start, 10, 0); code(err) != feed.SubscriptionUnknown {
			t.Errorf("unknown: %v", err)
		}
	})
}

func texts(events []feed.Event) (all []string) {
	for _, e := range events {
		all = append(all, string(e.JSON))
	}
	slices.Sort(all)
	return all
}

func ids(events []feed.Event) (all []string) {
	for _, e := range events {
		all = append(all, e.ID)
	}
	return all
}

func sorted(all []string) []string {
	slices.Sort(all)
	return all
}

func flip(text string) string {
	b := []byte(text)
	if b[5] == 'A' {
		b[5] = 'B'
	} else {
		b[5] = 'A'
	}
	return string(b)
}
