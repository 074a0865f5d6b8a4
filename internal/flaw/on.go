//go:build synctests

package flaw

import "sync/atomic"

var planted atomic.Int64

// Plant puts one defect in the place of whichever was planted before; None takes it away. Safe for concurrent use.
func Plant(f Flaw) { planted.Store(int64(f)) }

// Planted says whether f is the defect that is planted now.
func Planted(f Flaw) bool { return Flaw(planted.Load()) == f }
