package kafka_test

import (
	"sync"
	"testing"
	"time"

	"civicbus/e2e/realcluster"
)

// TestBrokersAreKilled kills each broker of a real cluster of three, one after another, while two instances work, and
// revives it: every input comes out once, in order, and counted.
func TestBrokersAreKilled(t *testing.T) {
	c := realcluster.FromEnv()
	if c == nil || len(c.Brokers) < 3 {
		t.Skip("it takes a real cluster of three brokers, started by e2e/realcluster/cluster")
	}
	w := newWorld(t)
	w.publish(w.rules, 1, 0)
	a, b := w.start("a"), w.start("b")
	until(t, 60*time.Second, "both instances work", func() bool { return a.engine.Status().Ready() && b.engine.Status().Ready() })
	stop := make(chan struct{})
	var load sync.WaitGroup
	total := 0
	load.Add(1)
	go func() {
		defer load.Done()
		for {
			select {
			case <-stop:
				return
			default:
				w.publish(w.in, 500, total)
				total += 500
			}
		}
	}()
	for broker := 1; broker <= 3; broker++ {
		before := a.engine.Status().LastCommit
		if err := c.Kill(t.Context(), broker); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		until(t, 60*time.Second, "commits go on without the broker", func() bool {
			return a.engine.Status().LastCommit.Sub(before) > 5*time.Second && a.engine.Status().Ready() && b.engine.Status().Ready()
		})
		t.Logf("broker %d: both instances ready and committing %s after its death", broker, time.Since(killed).Round(100*time.Millisecond))
		if err := c.Revive(t.Context(), broker); err != nil {
			t.Fatal(err)
		}
	}
	b.kill(t)
	close(stop)
	load.Wait()
	w.exactlyOnce(total, 120*time.Second)
	t.Logf("%d records", total)
}
