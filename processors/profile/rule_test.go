package profile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"civicbus/codecs"
	"civicbus/processors/command/commandtest"
	"civicbus/topology"
)

// Fold against a model: a map of what was told last, and the list of what was admitted.
func TestFoldAgainstAModel(t *testing.T) {
	names := []string{"municipality", "postal_code", "status", "postalCode", "shoe_size"}
	rapid.Check(t, func(t *rapid.T) {
		row, told, seen, now := codecs.Profile{}, map[string]string{}, []codecs.Seen{}, int64(0)
		for range rapid.IntRange(0, 30).Draw(t, "events") {
			now += rapid.Int64Range(0, codecs.SeenForMillis/3).Draw(t, "later")
			hash := rapid.Int64Range(0, 5).Draw(t, "hash")
			more := rapid.MapOf(rapid.SampledFrom(names), rapid.StringN(0, 3, 8)).Draw(t, "told")
			within := slices.ContainsFunc(seen, func(s codecs.Seen) bool { return s.Hash == hash && now-s.At < codecs.SeenForMillis })
			if Repeated(&row, hash, now) != within {
				t.Fatalf("repeated is %v", !within)
			}
			before := fmt.Sprintf("%+v", row)
			next := Fold(row, more, hash, now)
			if fmt.Sprintf("%+v", row) != before {
				t.Fatal("the row before was changed")
			}
			for name, v := range more {
				told[name] = v
			}
			seen = append(slices.DeleteFunc(slices.Clone(seen), func(s codecs.Seen) bool { return now-s.At >= codecs.SeenForMillis }), codecs.Seen{Hash: hash, At: now})
			if want := (codecs.Attributes{Municipality: told["municipality"], PostalCode: told["postal_code"], Status: told["status"]}); next.Attributes != want {
				t.Fatalf("attributes %+v, want %+v", next.Attributes, want)
			}
			if !slices.Equal(next.Seen, seen) || next.Version != row.Version+1 || next.UpdatedAt != now {
				t.Fatalf("row %+v, want seen %v", next, seen)
			}
			row = next
		}
	})
}

// A row remembers at most MaxSeen events, none older than a day, and forgets the oldest first.
func TestSeenIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row, now := codecs.Profile{}, int64(0)
		step := rapid.Int64Range(0, codecs.SeenForMillis/64).Draw(t, "step")
		events := rapid.IntRange(1, 3*codecs.MaxSeen).Draw(t, "events")
		for i := range events {
			now += step
			row = Fold(row, nil, int64(i), now)
			if len(row.Seen) > codecs.MaxSeen || now-row.Seen[0].At >= codecs.SeenForMillis {
				t.Fatalf("%d seen, the oldest %d ms ago", len(row.Seen), now-row.Seen[0].At)
			}
		}
		for i := range events {
			age := int64(events-1-i) * step
			if want := events-i <= codecs.MaxSeen && age < codecs.SeenForMillis; Repeated(&row, int64(i), now) != want {
				t.Fatalf("event %d of %d, %d ms ago: repeated is %v", i, events, age, !want)
			}
		}
	})
}

func TestTheLargestRowFitsIntoARecord(t *testing.T) {
	records := commandtest.Records(t)
	row := codecs.Profile{}
	told := map[string]string{}
	for _, a := range codecs.ProfileAttributes() {
		told[a.Name] = strings.Repeat("x", MaxAttributeBytes)
	}
	for i := range 2 * codecs.MaxSeen {
		row = Fold(row, told, -1<<63+int64(i), 1<<60)
	}
	row.Version = 1<<63 - 1
	bytes := commandtest.Encode(t, records.Profile, row)
	t.Logf("the largest row has %d bytes", len(bytes))
	if len(row.Seen) != codecs.MaxSeen || len(bytes) > 16<<10 || len(bytes) > topology.MaxRecordBytes {
		t.Errorf("%d bytes with %d seen", len(bytes), len(row.Seen))
	}
}

// The hash tells apart what differs in one part, also where the parts run into each other, and no organisation can make
// another's event a repeat.
func TestHash(t *testing.T) {
	e := func(organisation, source, id string) int64 {
		return Hash(&codecs.Envelope{Organisation: organisation, Source: source, ID: id, Subject: "not in it", Time: "nor this"})
	}
	seen := map[int64]bool{}
	for _, parts := range [][3]string{{"o", "s", "i"}, {"o", "s", "j"}, {"o", "t", "i"}, {"p", "s", "i"}, {"os", "", "i"}, {"o", "si", ""}, {"", "os", "i"}, {"", "", "osi"}, {"o", "", "si"}} {
		seen[e(parts[0], parts[1], parts[2])] = true
	}
	first := e("o", "s", "i")
	if again := e("o", "s", "i"); len(seen) != 9 || first != again {
		t.Errorf("%d hashes of 9 events", len(seen))
	}
	if day := 24 * time.Hour; codecs.SeenForMillis != day.Milliseconds() {
		t.Error("the repeat check is not a day's")
	}
}
