package delivery

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"civicbus/codecs"

	"pgregory.net/rapid"
)

func TestScheduleIsThatOfStandardWebhooks(t *testing.T) {
	want := []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour}
	if int(MaxAttempts) != len(want)+1 {
		t.Fatalf("%d attempts", MaxAttempts)
	}
	sum, differ := time.Duration(0), false
	for i, w := range want {
		a, b := Wait("one", int32(i+1)), Wait("another", int32(i+1))
		if a < w || a >= w+w/10 || b < w || b >= w+w/10 {
			t.Errorf("after attempt %d: %s and %s, want %s and up to a tenth more", i+1, a, b, w)
		}
		if a != Wait("one", int32(i+1)) {
			t.Error("the same attempt waits another time")
		}
		differ = differ || a != b
		sum += w + w/10
	}
	if !differ {
		t.Error("no jitter")
	}
	if MaxAge < 2*sum || MaxAge > 30*24*time.Hour {
		t.Errorf("a delivery may wait %s, and its attempts take up to %s", MaxAge, sum)
	}
}

func waiting(offset int64, subscription string, attempts int32) codecs.WaitingDelivery {
	return codecs.WaitingDelivery{Offset: offset, Subscription: subscription, Attempts: attempts, Since: 1, Due: 1}
}

func TestSettle(t *testing.T) {
	row := codecs.DeliveryRow{Waiting: []codecs.WaitingDelivery{waiting(1, "a", 0), waiting(2, "b", 3), waiting(3, "a", 0), waiting(4, "c", MaxAttempts-1)}}
	for _, c := range []struct {
		name        string
		report      codecs.DeliveryReport
		known, gone bool
		bury, pause string
	}{
		{"taken", codecs.DeliveryReport{Offset: 1, Subscription: "a", Attempt: 1, Outcome: Delivered}, true, true, "", ""},
		{"not taken", codecs.DeliveryReport{Offset: 1, Subscription: "a", Attempt: 1, Outcome: Failed}, true, false, "", ""},
		{"refused for good", codecs.DeliveryReport{Offset: 2, Subscription: "b", Attempt: 4, Outcome: Gone}, true, false, "", PausedGone},
		{"not permitted any more", codecs.DeliveryReport{Offset: 2, Subscription: "b", Attempt: 4, Outcome: Denied}, true, true, "", ""},
		{"nobody can read it", codecs.DeliveryReport{Offset: 2, Subscription: "b", Attempt: 4, Outcome: Unreadable}, true, true, "malformed", ""},
		{"not kept", codecs.DeliveryReport{Offset: 2, Subscription: "b", Attempt: 4, Outcome: Expired}, true, true, NotKept, ""},
		{"never tried", codecs.DeliveryReport{Offset: 2, Subscription: "b", Attempt: 4, Outcome: Overdue}, true, true, Undeliverable, ""},
		{"the last attempt", codecs.DeliveryReport{Offset: 4, Subscription: "c", Attempt: MaxAttempts, Outcome: Failed}, true, true, Undeliverable, ""},
		{"the last attempt, refused", codecs.DeliveryReport{Offset: 4, Subscription: "c", Attempt: MaxAttempts, Outcome: Gone}, true, true, Undeliverable, PausedGone},
		{"an earlier attempt", codecs.DeliveryReport{Offset: 2, Subscription: "b", Attempt: 3, Outcome: Delivered}, false, false, "", ""},
		{"a later attempt", codecs.DeliveryReport{Offset: 2, Subscription: "b", Attempt: 5, Outcome: Delivered}, false, false, "", ""},
		{"another subscription", codecs.DeliveryReport{Offset: 2, Subscription: "a", Attempt: 4, Outcome: Delivered}, false, false, "", ""},
		{"nothing that waits", codecs.DeliveryReport{Offset: 9, Subscription: "a", Attempt: 1, Outcome: Delivered}, false, false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := fmt.Sprint(row)
			c.report.At, c.report.DeliveryID = 1_000, "d"
			next, got := Settle(row, &c.report)
			if fmt.Sprint(row) != before {
				t.Error("the row that was given has changed")
			}
			if got.Known != c.known || got.Bury != c.bury || got.Pause != c.pause {
				t.Fatalf("%+v", got)
			}
			i := slices.IndexFunc(next.Waiting, func(w codecs.WaitingDelivery) bool { return w.Offset == c.report.Offset })
			switch {
			case !c.known && fmt.Sprint(next) != before:
				t.Error("the row has changed")
			case c.known && (i < 0) != c.gone:
				t.Errorf("waits: %t", i >= 0)
			case c.known && !c.gone:
				w := next.Waiting[i]
				if w.Attempts != c.report.Attempt || w.First == 0 || w.Last != 1_000 || w.Due != 1_000+Wait("d", c.report.Attempt).Milliseconds() {
					t.Errorf("%+v", w)
				}
			}
		})
	}
}

func TestRetryAfterIsObeyedAndBounded(t *testing.T) {
	row := codecs.DeliveryRow{Waiting: []codecs.WaitingDelivery{waiting(1, "a", 0)}}
	for asked, want := range map[time.Duration]time.Duration{
		0: Wait("d", 1), time.Second: Wait("d", 1), -time.Hour: Wait("d", 1), time.Hour: time.Hour, 1 << 62: maxRetryAfter,
	} {
		next, _ := Settle(row, &codecs.DeliveryReport{Offset: 1, Subscription: "a", DeliveryID: "d", Attempt: 1, Outcome: Failed, At: 50, Millis: 7, RetryAfter: asked.Milliseconds()})
		if got := next.Waiting[0].Due - 57; got != want.Milliseconds() {
			t.Errorf("asked for %s: %d ms, want %s", asked, got, want)
		}
	}
}

// Whatever comes, a row is bounded, in the order of its input, and nobody but the subscription with most in it loses anything.
func TestARowIsBounded(t *testing.T) {
	records := codecs.NewRecords()
	if err := records.BindLocal(); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		var row codecs.DeliveryRow
		model := map[string][]int64{} // by subscription, what waits
		name := func(n int) string { return fmt.Sprintf("sub-%0120d", n) }
		for offset := range int64(rapid.IntRange(1, 200).Draw(t, "arrivals")) {
			sub := name(rapid.IntRange(0, 4).Draw(t, "subscription"))
			before := len(row.Waiting)
			next, left := Enqueue(row, waiting(offset, sub, 0))
			model[sub] = append(model[sub], offset)
			if before < codecs.MaxWaiting && left != nil {
				t.Fatal("one left a row that had room")
			}
			if left != nil {
				all := model[left.Subscription]
				for other, has := range model {
					if len(has) > len(all) {
						t.Fatalf("%s lost one and has %d, %s has %d", left.Subscription, len(all), other, len(has))
					}
				}
				if all[len(all)-1] != left.Offset {
					t.Fatal("the one that left is not the newest")
				}
				model[left.Subscription] = all[:len(all)-1]
			}
			row = next
			if rapid.IntRange(0, 3).Draw(t, "settles") == 0 && len(row.Waiting) > 0 {
				w := row.Waiting[rapid.IntRange(0, len(row.Waiting)-1).Draw(t, "which")]
				row, _ = Settle(row, &codecs.DeliveryReport{Offset: w.Offset, Subscription: w.Subscription, Attempt: w.Attempts + 1, Outcome: Delivered, At: 1})
				all := model[w.Subscription]
				i := slices.Index(all, w.Offset)
				model[w.Subscription] = slices.Delete(slices.Clone(all), i, i+1)
			}
			got := map[string][]int64{}
			for _, w := range row.Waiting {
				got[w.Subscription] = append(got[w.Subscription], w.Offset)
			}
			for sub, want := range model {
				if !slices.Equal(got[sub], want) {
					t.Fatalf("%s: %v, want %v", sub, got[sub], want)
				}
			}
		}
		b, err := records.DeliveryRow.Encode(&row)
		if err != nil || len(row.Waiting) > codecs.MaxWaiting || len(b) > 16<<10 {
			t.Fatalf("%d wait, %d bytes, %v", len(row.Waiting), len(b), err)
		}
	})
}
