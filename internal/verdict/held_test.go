package verdict

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestHeld: what a permit has is read back as it was, also by a later version that knows more attributes; nothing else is read.
func TestHeld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		deliverable := make([]string, rapid.IntRange(0, 40).Draw(t, "paths"))
		var fields []string
		for i := range deliverable {
			deliverable[i] = fmt.Sprint("data.f", i)
			if rapid.Bool().Draw(t, "held") {
				fields = append(fields, deliverable[i])
			}
		}
		bits := AppendHeld([]byte("x"), deliverable, fields)[1:]
		for _, more := range []int{0, 1, 9} {
			known := deliverable
			for i := range more {
				known = append(slices.Clip(known), fmt.Sprint("profile.new", i))
			}
			if got, ok := Held(bits, known); !ok || !slices.Equal(got, fields) {
				t.Fatalf("%v %t, want %v", got, ok, fields)
			}
		}
		if len(deliverable) > 0 {
			if _, ok := Held(bits, deliverable[1:]); ok {
				t.Fatal("read as of another schema")
			}
		}
		if _, ok := Held(bits[:len(bits)-1], deliverable); ok {
			t.Fatal("read though cut")
		}
		if _, ok := Held(append(bits, 0), deliverable); ok {
			t.Fatal("read though longer")
		}
	})
}

// TestBare: a thin delivery holds nothing, and is a permit still. What a permit can have is deliverable, in this order.
func TestBare(t *testing.T) {
	w := newWorld(t)
	s := w.snapshot()
	deliverable := Deliverable(w.schema)
	for _, v := range w.decide() {
		at := -1
		for _, path := range v.Fields {
			next := slices.Index(deliverable, path)
			if next <= at {
				t.Errorf("%s stands at %d, behind %d", path, next, at)
			}
			at = next
		}
		if got, ok := Held(AppendHeld(nil, deliverable, v.Fields), deliverable); !ok || !slices.Equal(got, v.Fields) {
			t.Errorf("%v, want %v", got, v.Fields)
		}
		bare := v.Bare()
		if again := v.Bare(); again.set != bare.set || bare.FieldSet != FieldSetOf(nil) || len(bare.Fields) != 0 || !bare.Permit || len(v.Fields) == 0 {
			t.Errorf("%+v of %+v", bare, v)
		}
		values, withheld := delivered(t, s, w.event, &bare)
		if len(values) != 0 || len(withheld) == 0 {
			t.Errorf("delivered %v, withheld %v", values, withheld)
		}
	}
	w.consents = nil
	w.only("sub-consent")
	if v := w.decide()[0]; v.Permit || v.Bare().Permit || v.Bare().Reason != v.Reason {
		t.Errorf("%+v", v)
	}
}
