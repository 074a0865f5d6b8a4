package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/processors/delivery"
)

// TestWebhook delivers, lets a receiver fail and come back, and withdraws between attempts.
func TestWebhook(t *testing.T) {
	var c clock
	b := start(t, webhooks(&c))
	r := b.receive()
	b.smallWorld(r.hooked(agencySub, postSub))
	b.nodes["a"].ready()

	b.sub("delivered", func() {
		who := person(1)
		b.inEffect(b.grantPost(who))
		b.accept(register, moved("first", who, "1"))
		b.eventually("both receivers have it", func() bool { return len(r.of(agencySub)) == 1 && len(r.of(postSub)) == 1 })
		got := r.of(postSub)[0]
		if want := b.keys.Delivery(registerSite, "first", b.subjectOf(who), postSub); got.id != want || got.street != "1" {
			b.t.Errorf("%+v, want id %s", got, want)
		}
		if sealed, err := b.keys.For(post).Seal(b.subjectOf(who)); err != nil || got.subject != sealed {
			b.t.Errorf("subject %s, want %s", got.subject, sealed)
		}
		b.eventually("nothing waits", func() bool { return b.waiting(who) == nil })
		b.awaitAttempts(postSub, "permit consent", 1)
		for _, rec := range b.deliveries() {
			b.t.Errorf("delivered on %s too", rec.Topic)
		}
		if r.asked[postSub] != 1 {
			b.t.Errorf("%d handshakes", r.asked[postSub])
		}
	})
	b.sub("down and back", func() {
		who := person(2)
		b.inEffect(b.grantPost(who))
		r.answers(func(taken) int { return http.StatusInternalServerError })
		b.accept(register, moved("down", who, "2"), moved("behind", who, "3"))
		for attempt := 1; attempt <= 4; attempt++ { // which take more than half an hour
			b.eventually(fmt.Sprint("attempt ", attempt), func() bool {
				w := b.waiting(who)
				return len(w) == 4 && w[0].Attempts >= int32(attempt) && w[1].Attempts >= int32(attempt)
			})
			c.forward(delivery.Wait("", int32(attempt)) * 6 / 5)
		}
		r.answers(nil)
		c.forward(3 * time.Hour)
		b.eventually("nothing waits", func() bool { return b.waiting(who) == nil })
		for _, sub := range []string{agencySub, postSub} {
			var streets []string
			for _, g := range r.of(sub) {
				if g.status == http.StatusNoContent && g.street != "1" {
					streets = append(streets, g.street)
				}
			}
			if fmt.Sprint(streets) != "[2 3]" {
				b.t.Errorf("%s took %v", sub, streets)
			}
		}
	})
	b.sub("gone", func() {
		who := person(3)
		b.inEffect(b.grantPost(who))
		r.answers(func(g taken) int {
			if g.subscription == postSub {
				return http.StatusGone
			}
			return http.StatusOK
		})
		b.accept(register, moved("gone", who, "4"))
		b.awaitStatus(postSub, "paused")
		if reason := b.row(postSub).StatusReason; reason != delivery.PausedGone {
			b.t.Errorf("paused for %s", reason)
		}
		b.eventually("its delivery is kept, and no other's", func() bool {
			w := b.waiting(who)
			return len(w) == 1 && w[0].Subscription == postSub && w[0].Attempts == 1
		})
		r.answers(nil)
		c.forward(time.Hour)
		b.inEffect(b.subscription("resume", "operator:anna", codecs.Subscription{ID: postSub}))
		b.eventually("nothing waits", func() bool { return b.waiting(who) == nil })
		if got := b.takenAbout(r, post, postSub, who); fmt.Sprint(got) != "[4]" {
			b.t.Errorf("taken %v", got)
		}
	})
	b.sub("asks to be left alone", func() {
		who := person(4)
		r.answers(func(taken) int { return http.StatusTooManyRequests }) // with Retry-After: two hours
		b.accept(register, moved("later", who, "5"))
		b.eventually("an attempt", func() bool { w := b.waiting(who); return len(w) == 1 && w[0].Attempts == 1 })
		if w := b.waiting(who)[0]; w.Due-w.Last < 2*time.Hour.Milliseconds() {
			b.t.Errorf("tried again after %d ms", w.Due-w.Last)
		}
		r.answers(nil)
		c.forward(3 * time.Hour)
		b.eventually("nothing waits", func() bool { return b.waiting(who) == nil })
	})
}

// TestWebhookLosesNothing lets a receiver answer at random while the process that sends is stopped and killed. Every permitted
// delivery arrives, and those about one subject in the order of publication.
func TestWebhookLosesNothing(t *testing.T) {
	var c clock
	b := prepare(t, webhooks(&c))
	r := b.receive()
	b.run("edge", "relay", "keepers")
	first := b.run("work", groups()...)
	b.smallWorld(r.hooked(agencySub, postSub))
	who := people(0, 20)
	var grants []*order
	for _, p := range who[:10] {
		grants = append(grants, b.grantPost(p))
	}
	b.inEffect(grants...)
	r.answers(func(taken) int {
		if rand.IntN(4) == 0 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	l := b.newLedger()
	rounds := 0
	round := func() {
		rounds++
		l.move(granted, who[:10]...)
		l.move(ungranted, who[10:]...)
		l.await()
	}
	round()
	r.stop() // for an hour
	round()
	for range 10 {
		before := attempted(b, first)
		c.forward(6 * time.Minute)
		b.eventually("more attempts", func() bool { return attempted(b, first) > before })
	}
	if n := len(r.of(agencySub)); n > 40 {
		b.t.Errorf("%d deliveries came to a receiver that was away", n)
	}
	r.start()
	round()
	first.stop()
	for range 2 {
		apart := b.runApart("work", groups()...)
		round()
		apart.kill() // with attempts under way, made and not reported, and due
	}
	r.answers(nil)
	b.run("work", groups()...)
	round()
	b.eventually("nothing waits", func() bool {
		c.forward(time.Minute)
		for _, p := range who {
			if b.waiting(p) != nil {
				return false
			}
		}
		return len(r.of(agencySub)) > 0
	})
	for sub, n := range map[string]int{agencySub: 20 * rounds, postSub: 10 * rounds} {
		ids, last := map[string]bool{}, map[string]int{}
		for _, g := range r.of(sub) {
			if g.status >= 300 || ids[g.id] {
				continue
			}
			ids[g.id] = true
			street, err := strconv.Atoi(g.street)
			b.must(err)
			if street <= last[g.subject] {
				b.t.Errorf("%s: street %d came after %d of the same subject", sub, street, last[g.subject])
			}
			last[g.subject] = street
		}
		if len(ids) != n {
			b.t.Errorf("%s took %d deliveries, want %d: %d lost", sub, len(ids), n, n-len(ids))
		}
	}
	if n := b.letters.count(func(*codecs.DeadLetter) bool { return true }); n > 0 {
		b.t.Errorf("%d dead letters", n)
	}
}

// attempted counts the attempts that a node has made.
func attempted(b *bus, n *node) float64 {
	b.t.Helper()
	return counted(b, n, "civicbus_webhook_attempts_total", func(map[string]string) bool { return true })
}
