//go:build synctests

package flaw

import "sync/atomic"

var planted atomic.Int64

// first is the name of the defect that is planted from the begin on, as the linker (-X) sets it for a whole test.
var first string

func init() {
	for f, name := range names {
		if name == first {
			Plant(f)
		}
	}
}

// Plant puts one defect in the place of whichever was planted before; None takes it away. Safe for concurrent use.
func Plant(f Flaw) { planted.Store(int64(f)) }

// Planted says whether f is the defect that is planted now.
func Planted(f Flaw) bool { return Flaw(planted.Load()) == f }
