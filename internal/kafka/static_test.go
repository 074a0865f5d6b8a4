package kafka_test

import (
	"testing"
	"time"
)

// TestRestartDisturbsNobody: a process that is killed and comes back under its instance id is given what it had without a
// rebalance, whoever leads the group and whatever came before: the others' sessions go on.
func TestRestartDisturbsNobody(t *testing.T) {
	w := newWorld(t)
	c := w.fake()
	a, b := w.start("a"), w.start("b")
	w.publish(w.in, 60, 0)
	w.exactlyOnce(60, 20*time.Second)
	until(t, 20*time.Second, "both have partitions", func() bool {
		return len(a.engine.Status().Partitions) == 2 && len(b.engine.Status().Partitions) == 2
	})
	epoch := c.GroupInfo(w.group).Epoch
	done := 60
	for round := range 2 {
		for i, n := range []**node{&a, &b} {
			had := (*n).engine.Status().Partitions
			(*n).kill(t)
			*n = w.start([]string{"a", "b"}[i])
			until(t, 20*time.Second, "it has its partitions again", func() bool { return len((*n).engine.Status().Partitions) == 2 })
			if has := (*n).engine.Status().Partitions; has[0] != had[0] || has[1] != had[1] {
				t.Errorf("round %d: it had %v and came back to %v", round, had, has)
			}
			w.publish(w.in, 60, done)
			done += 60
			w.exactlyOnce(done, 20*time.Second)
		}
	}
	if now := c.GroupInfo(w.group).Epoch; now != epoch {
		t.Errorf("the group went from generation %d to %d: restarts made it join anew", epoch, now)
	}
}
