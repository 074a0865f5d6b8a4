package app

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// TestCollectSeldom: while a node runs the collector waits for the floor; afterwards things are as before, also when nodes overlap.
func TestCollectSeldom(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	runtime.GC()
	percent := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	first := collectSeldom()
	second := collectSeldom()
	if p := percent(); p < 200 {
		t.Errorf("with a small heap the next collection is due at %d %%", p)
	}
	first()
	if p := percent(); p < 200 {
		t.Errorf("one node is left and it is due at %d %%", p)
	}
	second()
	if p := percent(); p != 100 {
		t.Errorf("after the last one it is due at %d %%", p)
	}
	debug.SetGCPercent(150)
	collectSeldom()()
	if p := percent(); p != 150 {
		t.Errorf("what the operator set was changed to %d %%", p)
	}
}
