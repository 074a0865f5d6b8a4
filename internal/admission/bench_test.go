package admission

import (
	"context"
	"testing"
)

// BenchmarkAdmit is one event with two subjects, its schema known.
func BenchmarkAdmit(b *testing.B) {
	w := newWorld(b)
	in := w.birth(b, child, mother)
	b.ReportAllocs()
	for b.Loop() {
		if err := w.resolver.Resolve(context.Background(), w.door, in, w); err != nil {
			b.Fatal(err)
		}
		if res := w.door.Admit(in, w, now); res.Status != Accepted {
			b.Fatal(res.Faults)
		}
	}
}
