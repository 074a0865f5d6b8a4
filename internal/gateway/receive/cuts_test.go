package receive

import (
	"strconv"
	"testing"
	"time"
)

// What is remembered is told once, to whom it is about, for a while, and is bounded.
func TestCuts(t *testing.T) {
	var c cuts
	now := time.Now()
	if c.take("sub-a", "x", now) {
		t.Error("nothing was noted")
	}
	c.note("sub-a", "x", now)
	if c.take("sub-a", "y", now) || c.take("sub-b", "x", now) || !c.take("sub-a", "x", now) || c.take("sub-a", "x", now) {
		t.Error("told to another, or not once")
	}
	c.note("sub-a", "x", now)
	if c.take("sub-a", "x", now.Add(cutFor+1)) {
		t.Error("told too late")
	}
	for i := range 2 * maxCuts {
		c.note(strconv.Itoa(i), "x", now)
	}
	if len(c.at) != maxCuts || !c.take("0", "x", now) {
		t.Errorf("%d are remembered", len(c.at))
	}
	c.note("0", "x", now)
	if c.note("new", "x", now.Add(2*cutFor)); len(c.at) != 1 {
		t.Errorf("%d are remembered though all are old", len(c.at))
	}
	for i := range maxCuts + 1 {
		c.note(strconv.Itoa(i), "x", now.Add(2*cutFor))
	}
	if len(c.at) != maxCuts {
		t.Errorf("%d are remembered", len(c.at))
	}
}
