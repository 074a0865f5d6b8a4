package e2e

import (
	"errors"
	"sync"
	"testing"
	"time"

	"civicbus/topology"
)

// groups are the names of the groups on the map: what a node runs that is no edge.
func groups() (all []string) {
	for _, g := range topology.Groups {
		all = append(all, g.Name)
	}
	return all
}

// granted and ungranted are the small world's verdicts on a move of a person who has, or has not, consented to the post.
var (
	granted   = map[string]string{agencySub: "permit rule", postSub: "permit consent", insurerSub: "deny no_grant"}
	ungranted = map[string]string{agencySub: "permit rule", postSub: "deny no_grant", insurerSub: "deny no_grant"}
)

// flow publishes moves of the people, the granted ones first in the list, until stop is called, which returns when all are
// published. It publishes all of them each time that the pace has passed and fewer than 200 events wait, so that a fault
// meets work in hand, and the test ends.
func (l *ledger) flow(pace time.Duration, grants int, people []string) (stop func()) {
	var wg sync.WaitGroup
	end := make(chan struct{})
	wg.Add(1)
	go func() {
		defer wg.Done()
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			if l.size()-l.decided() > 200 {
				continue
			}
			if err := errors.Join(l.publish(granted, people[:grants]...), l.publish(ungranted, people[grants:]...)); err != nil {
				l.b.root.Error(err)
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(end); wg.Wait() })
}

// more waits until n more events are decided.
func (l *ledger) more(n int) {
	l.b.t.Helper()
	want := l.decided() + n
	l.b.eventually("more events are decided", func() bool { return l.decided() >= want })
}

// people are n persons from the i-th on.
func people(i, n int) (all []string) {
	for range n {
		all = append(all, person(i))
		i++
	}
	return all
}

// TestRestart stops and kills the node that runs every group while events flow. Publishing goes on all the while. In the
// end each event has one decision and exactly the permitted deliveries, in order.
func TestRestart(t *testing.T) {
	b := prepare(t)
	b.run("edge", "relay", "keepers")
	first := b.run("work", groups()...)
	b.smallWorld()
	who := people(0, 40)
	var grants []*order
	for _, p := range who[:20] {
		grants = append(grants, b.grantPost(p))
	}
	b.inEffect(grants...)
	l := b.newLedger()
	stop := l.flow(5*time.Millisecond, 20, who)
	defer stop()
	l.more(100)
	first.stop()
	for range 3 { // a kill at a random point of a transaction
		apart := b.runApart("work", groups()...)
		l.more(150)
		apart.kill()
	}
	orderly := b.runApart("work", groups()...)
	l.more(100)
	orderly.stop()
	b.run("work", groups()...)
	l.more(100)
	stop()
	l.audit()
}
