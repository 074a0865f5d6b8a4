package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
)

// TestWebhookUnderFire withdraws consents one after another while deliveries are refused at random, tried again, and more come all
// the time. Nothing is sent after a withdrawal was acknowledged; everything else arrives, in order. No national id stands in
// what is kept of deliveries.
func TestWebhookUnderFire(t *testing.T) {
	var c clock
	b := start(t, webhooks(&c))
	r := b.receive()
	b.smallWorld(r.hooked(agencySub, postSub))
	b.nodes["a"].ready()
	who := people(0, 16)
	var grants []*order
	for _, p := range who {
		grants = append(grants, b.grantPost(p))
	}
	b.inEffect(grants...)
	r.answers(func(taken) int {
		if rand.IntN(3) == 0 {
			return http.StatusConflict
		}
		return http.StatusOK
	})
	street := 0
	published := map[string][]int{} // by person
	publish := func() {
		var events [][]byte
		for _, p := range who {
			street++
			published[p] = append(published[p], street)
			events = append(events, moved(fmt.Sprint("fire-", street), p, strconv.Itoa(street)))
		}
		b.accept(register, events...)
		c.forward(7 * time.Second) // first retries are due at once
	}
	acknowledged := map[string]time.Time{} // by pairwise subject
	for i, p := range who[:8] {
		publish()
		o := b.withdrawPost(p)
		publish()
		b.inEffect(o)
		sealed, err := b.keys.For(post).Seal(b.subjectOf(p))
		b.must(err)
		acknowledged[sealed] = time.Now()
		if i%2 == 0 {
			publish()
		}
	}
	publish()
	r.answers(nil)
	b.eventually("nothing waits", func() bool {
		c.forward(time.Minute)
		for _, p := range who {
			if b.waiting(p) != nil {
				return false
			}
		}
		return b.decisions.count(func(d *codecs.Decision) bool { return d.Kind == "router" }) >= street
	})
	// What was begun before the acknowledgement may still be on its way to the receiver when it comes (DESIGN.md 3.2).
	const onItsWay = slowness * 100 * time.Millisecond
	late, after := 0, 0
	for _, g := range r.of(postSub) {
		if ack, ok := acknowledged[g.subject]; ok && g.at.After(ack) {
			if after++; g.at.After(ack.Add(onItsWay)) {
				late++
			}
		}
	}
	if late > 0 {
		b.t.Errorf("LEAK: %d attempts after the acknowledgement of a withdrawal", late)
	}
	t.Logf("%d deliveries withdrawn between attempts, %d attempts on their way at an acknowledgement", b.attempts(postSub, "deny grant_withdrawn"), after)
	for _, p := range who {
		if got := b.takenAbout(r, agency, agencySub, p); fmt.Sprint(got) != fmt.Sprint(published[p]) {
			b.t.Errorf("%s took %v, want %v", agencySub, got, published[p])
		}
	}
	for _, p := range who[8:] {
		if got := b.takenAbout(r, post, postSub, p); fmt.Sprint(got) != fmt.Sprint(published[p]) {
			b.t.Errorf("%s took %v, want %v", postSub, got, published[p])
		}
	}
	for _, rec := range b.read("delivery-loop", "delivery-table", "usage-loop", "usage-table") {
		texts := []string{string(rec.Key), string(rec.Value)}
		for _, h := range rec.Headers {
			texts = append(texts, string(h.Value))
		}
		for _, text := range texts {
			for _, p := range who {
				if strings.Contains(text, p) {
					b.t.Fatalf("a national id stands on %s", rec.Topic)
				}
			}
		}
	}
}
