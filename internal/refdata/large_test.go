package refdata

import (
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/mutant"
)

// A document of half a megabyte that is meant to hurt is refused with a few faults, and takes memory in proportion to itself.
func TestALargeDocument(t *testing.T) {
	times := func(open, text, closing string) []byte {
		return []byte(open + strings.Repeat(text, (1<<19)/len(text)) + closing)
	}
	for name, doc := range map[string][]byte{
		"documents":      times("", "---\nx: 1\n", ""),
		"items":          times("[", "1,", "1]"),
		"empty items":    times("", "-\n", ""),
		"unknown keys":   times("", "xy: 1\n", ""),
		"one key":        times("", "id: a\n", ""),
		"nested":         times("", "[", ""),
		"nested maps":    times("", "{a: ", ""),
		"nested filter":  times("id: s\nfilter: ", "[", ""),
		"wide filter":    times("id: s\nfilter: [", "1,", "1]"),
		"aliases":        times("id: &a [x, x, x]\nfields: [", "*a, ", "*a]"),
		"nested aliases": []byte("a: &a [x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c]\nid: *d\n"),
		"merged":         times("id: s\n<<: &a {x: 1}\n", "<<: *a\n", ""),
		"surrogates":     times(`{"id":"`, `\ud83d\ude00`, `"}`),
		"too large":      make([]byte, MaxDocumentBytes+1),
	} {
		t.Run(name, func(t *testing.T) {
			var faults []codecs.Fault
			began := time.Now()
			grown := mutant.Allocates(func() { _, faults = ParseSubscriptions(doc) })
			t.Logf("%d bytes, %d allocated for each, %d faults, %v", len(doc), grown/uint64(len(doc)), len(faults), time.Since(began))
			if len(faults) > codecs.MaxFaults+8 || len(faults) == 0 && name != "wide filter" && name != "surrogates" {
				t.Errorf("%d faults", len(faults))
			}
			if grown > 1<<20+200*uint64(len(doc)) {
				t.Errorf("%d bytes made it allocate %d", len(doc), grown)
			}
		})
	}
}
