package codecs

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// Whatever stands in a letter, what Fit leaves of it encodes to no more than the bound, and it cuts nothing that fits.
func TestDeadLettersFit(t *testing.T) {
	record := NewRecord[DeadLetter]("dead-letter", "dead-letters")
	if err := record.BindLocal(); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		size := func(name string) int { return rapid.SampledFrom([]int{0, 1, 127, 128, 5000, 20000}).Draw(t, name) }
		l := DeadLetter{Cause: "malformed", Detail: "why", Group: "router", Topic: "life.birth", Partition: 63, Offset: 1 << 60, At: 1 << 60,
			Key: make([]byte, size("key")%5001), Value: bytes.Repeat([]byte{1}, size("value"))}
		for range rapid.IntRange(0, 60).Draw(t, "headers") {
			l.Headers = append(l.Headers, Header{Key: "h", Value: make([]byte, size("header"))})
		}
		whole, err := record.Encode(&l)
		if err != nil {
			t.Fatal(err)
		}
		cut := l
		cut.Fit(16 << 10)
		got, err := record.Encode(&cut)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > 16<<10 {
			t.Fatalf("%d bytes", len(got))
		}
		if fits := len(whole) < 14<<10; fits && !bytes.Equal(got, whole) {
			t.Fatalf("a letter of %d bytes was cut", len(whole))
		}
		if len(cut.Value) < len(l.Value) != bytes.Contains([]byte(cut.Detail), []byte("the value")) {
			t.Fatalf("%d bytes of %d, and the detail says %q", len(cut.Value), len(l.Value), cut.Detail)
		}
	})
}
