package event_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/lovoo/goka"

	"civicbus/internal/kafka"
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
