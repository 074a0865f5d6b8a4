package event_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lovoo/goka"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/verdict"
	"civicbus/processors/event"
	"civicbus/processors/event/eventtest"
	"civicbus/topology"
)

// What is too large for the records that are made of it is malformed, and its dead letter is cut: neither may fail a
// transaction for ever.
func TestWhatIsTooLarge(t *testing.T) {
	w := eventtest.New(t)
	env := w.Env()
	subject := w.Subject("a")
	read := func(value []byte, more goka.Headers) (outcome string, letter int) {
		ctx := &eventtest.Context{On: "admitted", Of: subject, With: w.Headers(eventtest.Birth, "1", subject, "child").Merged(more), Stopped: context.Background()}
		r := new(event.Record)
		outcome, detail := r.Read(&env, ctx, "profile", event.InputOf(ctx, value))
		r.Bury("malformed", detail, "")
		return outcome, len(w.One(topology.DeadLetters.Name).Value)
	}
	const admitted = 900<<10 + 32<<10 // the largest value and the most headers that admission lets in, and more
	value := func(bytes int) []byte { return append(w.Value(eventtest.Data()), make([]byte, bytes)...) }
	for _, test := range []struct {
		name    string
		value   []byte
		headers goka.Headers
		outcome string
		whole   bool // the dead letter keeps the value
	}{
		{"as large as admission lets in", value(admitted), nil, event.Decided, true},
		{"a large value", value(1000 << 10), nil, event.Malformed, false},
		{"large headers", value(0), goka.Headers{"ce_x": make([]byte, 1000<<10)}, event.Malformed, true},
		{"a large header of no name", value(0), goka.Headers{string(bytes.Repeat([]byte("x"), 1000<<10)): nil}, event.Malformed, true},
	} {
		outcome, letter := read(test.value, test.headers)
		if outcome != test.outcome || letter > topology.MaxRecordBytes-60<<10 || (letter >= len(test.value)) != test.whole {
			t.Errorf("%s: %s, a dead letter of %d bytes", test.name, outcome, letter)
		}
	}
}

// The key of a dead letter is the record's where that is a pseudonym, else nothing that stood in it.
func TestKeysOfDeadLetters(t *testing.T) {
	w := eventtest.New(t)
	env := w.Env()
	for _, key := range []string{w.Subject("a"), eventtest.Hetu, "", "__offset"} {
		ctx := &eventtest.Context{On: "admitted", Of: key, With: w.Headers(eventtest.Birth, "1", key, "child"), Stopped: context.Background()}
		r := new(event.Record)
		_, detail := r.Read(&env, ctx, "profile", event.InputOf(ctx, w.Value(eventtest.Data())))
		r.Bury("misplaced", detail, "")
		letter, under := w.Letter()
		if string(letter.Key) != key || (under == key) != (key == w.Subject("a")) {
			t.Errorf("key %q became %q, in the letter %q", key, under, letter.Key)
		}
	}
}

// Follows is what the engine says, or not known.
func TestFollows(t *testing.T) {
	for want, headers := range map[int64]goka.Headers{-1: nil, 0: eventtest.Following(nil, 0), 1 << 40: eventtest.Following(goka.Headers{"a": nil}, 1<<40)} {
		if got := event.Follows(&eventtest.Context{With: headers}); got != want {
			t.Errorf("follows %d, want %d", got, want)
		}
	}
	if event.Follows(&eventtest.Context{With: goka.Headers{kafka.FollowsHeader: []byte("x")}}) != -1 {
		t.Error("a header that is none was read")
	}
}

// A decision that is too large for a record becomes several, which together say the same; the first alone covers the record, and has
// what group journey looks at.
func TestDecisionsOfManyVerdicts(t *testing.T) {
	w := eventtest.New(t)
	env := w.Env()
	seen := 0
	env.Seen = func(string, string) { seen++ }
	subject := w.Subject("a")
	rng := rand.New(rand.NewPCG(7, 8)) // the same each time
	for _, n := range []int{0, 1, 3000, 20_000, 50_000} {
		var verdicts []codecs.VerdictItem
		permits, restricted := 0, 0
		for i := range n {
			v := codecs.VerdictItem{Subscription: fmt.Sprint("sub-", i), Subscriber: "kela.fi", Purpose: "social-security", Reason: "no_grant", Reference: strings.Repeat("r", rng.IntN(200))}
			switch {
			case i%9 == 4:
				v.Permit, v.Reason, permits = true, "rule", permits+1
			case i == n-1:
				v.Reason, restricted = verdict.ReasonRestricted, 1
			}
			verdicts = append(verdicts, v)
		}
		ctx := &eventtest.Context{On: "life.birth", Of: subject, With: w.Headers(eventtest.Birth, "1", subject, "child").Merged(goka.Headers{kafka.FollowsHeader: binary.BigEndian.AppendUint64(nil, 41)}), Stopped: context.Background()}
		r := new(event.Record)
		if outcome, detail := r.Read(&env, ctx, "router", event.InputOf(ctx, w.Value(eventtest.Data()))); outcome != event.Decided {
			t.Fatal(outcome, detail)
		}
		d := r.Decision(event.Decided)
		d.Verdicts, seen = slices.Clone(verdicts), 0
		r.Decide(d)
		var got []codecs.VerdictItem
		records := w.Take(topology.Decisions.Name)
		for i, rec := range records {
			part, err := w.Records.Decision.Decode(rec.Value)
			if err != nil {
				t.Fatal(err)
			}
			if len(rec.Value) > topology.MaxRecordBytes-60<<10 || part.LifeEventID != d.LifeEventID || string(rec.Key) != subject || part.Follows != map[bool]int64{true: 41, false: -1}[i == 0] {
				t.Errorf("%d verdicts: part %d has %d bytes, follows %d, is of %s under %s", n, i, len(rec.Value), part.Follows, part.LifeEventID, rec.Key)
			}
			first := slices.IndexFunc(part.Verdicts, func(v codecs.VerdictItem) bool { return v.Permit || v.Reason == verdict.ReasonRestricted })
			if all := permits + restricted; i == 0 && len(records) > 1 && (first != 0 || all <= len(part.Verdicts) && !(part.Verdicts[all-1].Permit || part.Verdicts[all-1].Reason == verdict.ReasonRestricted)) {
				t.Errorf("%d verdicts: the first of %d parts does not begin with the permits", n, len(records))
			}
			got = append(got, part.Verdicts...)
		}
		number := func(a, b codecs.VerdictItem) int {
			return cmp.Or(len(a.Subscription)-len(b.Subscription), strings.Compare(a.Subscription, b.Subscription))
		}
		slices.SortFunc(got, number)
		if !slices.Equal(got, verdicts) || seen != 1 || (len(records) > 1) != (n >= 20_000) {
			t.Errorf("%d verdicts became %d in %d records, counted %d times", n, len(got), len(records), seen)
		}
	}
}
