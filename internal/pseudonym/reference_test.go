package pseudonym

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"civicbus/internal/mutant"

	"pgregory.net/rapid"
)

// TestReferences: a reference is read as it was made, by whom it was made for; nothing else is one, and no two subscriptions' texts
// of one record have anything in common.
func TestReferences(t *testing.T) {
	ours, err := NewReferences(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := NewReferences(bytes.Repeat([]byte{2}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewReferences(make([]byte, 31)); !errors.Is(err, ErrShortSecret) {
		t.Errorf("a short secret: %v", err)
	}
	rapid.Check(t, func(t *rapid.T) {
		to := Reference{Stream: rapid.StringMatching(`[a-z.]{0,249}`).Draw(t, "stream"), Partition: rapid.Int32Range(0, 1<<31-1).Draw(t, "partition"),
			Offset: rapid.Int64Range(0, 1<<62).Draw(t, "offset"), Held: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "held")}
		text := string(ours.Append([]byte("x"), "sub-a", &to))[1:]
		got, err := ours.Open("sub-a", text)
		if err != nil || got.Stream != to.Stream || got.Partition != to.Partition || got.Offset != to.Offset || !bytes.Equal(got.Held, to.Held) {
			t.Fatalf("%+v, %v, want %+v", got, err, to)
		}
		if again := string(ours.Append(nil, "sub-a", &to)); again != text {
			t.Fatal("the same reference is another text")
		}
		other := string(ours.Append(nil, "sub-b", &to))
		if common(text, other) > len(ReferencePrefix)+6 {
			t.Fatalf("%s and %s begin alike", text, other)
		}
		for name, open := range map[string]func() (Reference, error){
			"another subscription": func() (Reference, error) { return ours.Open("sub-b", text) },
			"another key":          func() (Reference, error) { return theirs.Open("sub-a", text) },
			"cut":                  func() (Reference, error) { return ours.Open("sub-a", text[:len(text)-1]) },
			"longer":               func() (Reference, error) { return ours.Open("sub-a", text+"A") },
			"changed": func() (Reference, error) {
				b := []byte(text)
				i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
				b[i] = rapid.SampledFrom([]byte("ABCDEFGHwxyz0189-_=.\n ")).Filter(func(c byte) bool { return c != text[i] }).Draw(t, "to")
				return ours.Open("sub-a", string(b))
			},
		} {
			if _, err := open(); !errors.Is(err, ErrUnknownReference) {
				t.Fatalf("%s: %v", name, err)
			}
		}
	})
}

func common(a, b string) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// FuzzReference reads what only the holder of the key could have sealed, and what nobody has.
func FuzzReference(f *testing.F) {
	k, err := NewReferences(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		f.Fatal(err)
	}
	good := k.Append(nil, "sub-a", &Reference{Stream: "life.birth", Partition: 3, Offset: 99, Held: []byte{9, 255, 1}})
	plain := append(binary.AppendUvarint(binary.AppendUvarint(nil, 3), 99), "\x0alife.birth\x09\xff\x01"...)
	mutant.Fuzz(f, 64, func(tb testing.TB, in []byte) bool {
		if to, err := k.Open("sub-a", string(in)); err == nil && string(k.Append(nil, "sub-a", &to)) != string(in) {
			tb.Errorf("%q is not the text of %+v", in, to)
		}
		sealed := ReferencePrefix + text64.EncodeToString(k.seal("sub-a", bytes.Clone(in)))
		to, err := k.Open("sub-a", sealed)
		if err == nil && (len(to.Stream) > maxStream || to.Offset < 0 || to.Partition < 0) {
			tb.Errorf("%+v", to)
		}
		return err == nil
	}, plain, good, []byte(strings.Repeat("\xff", 20)))
}
