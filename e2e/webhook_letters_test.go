package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/processors/delivery"
)

// TestWebhookDeadLetters lets deliveries run out of attempts and out of room, and redrives them: in order, each decided again.
func TestWebhookDeadLetters(t *testing.T) {
	var c clock
	begun := time.Now()
	b := start(t, webhooks(&c))
	r := b.receive()
	b.smallWorld(r.hooked(agencySub, postSub))
	b.nodes["a"].ready()
	client, err := admin.Dial(t.Context(), admin.Config{Connection: b.cfg.Connection, Registry: b.cfg.Registry, BusKey: b.cfg.BusKey})
	b.must(err)
	defer client.Close()
	open := func(cause, metric string) float64 {
		return counted(b, b.nodes["a"], metric, func(labels map[string]string) bool { return labels["cause"] == cause })
	}
	redrive := func(cause string, n int) {
		b.t.Helper()
		var letters []admin.Letter
		b.eventually(fmt.Sprint(n, " dead letters"), func() bool {
			letters = nil
			for l, err := range client.Letters(b.t.Context(), admin.LetterFilter{Causes: []string{cause}}) {
				b.must(err)
				letters = append(letters, l)
			}
			return len(letters) == n
		})
		for _, l := range letters {
			for _, text := range append([]string{l.Detail}, headersOf(l)...) {
				if strings.Contains(text, person(0)[:6]) {
					b.t.Error("a national id stands in a dead letter's detail or headers")
				}
			}
		}
		b.eventually("they are open", func() bool { return open(cause, "civicbus_dead_letters_open") >= float64(n) })
		if at := open(cause, "civicbus_dead_letter_oldest_timestamp_seconds"); at < float64(begun.Unix()) || at > float64(time.Now().Unix()+1) {
			b.t.Errorf("the oldest of them is of %f", at)
		}
		b.must(client.Redrive(b.t.Context(), admin.Plan(letters, nil), nil, func(result admin.Result) error {
			if result.Status != admin.Redriven {
				b.t.Errorf("%+v", result)
			}
			return nil
		}))
		b.eventually("none is open", func() bool { return open(cause, "civicbus_dead_letters_open") == 0 })
	}

	b.sub("after the last attempt", func() {
		kept, gone := person(1), person(2)
		b.inEffect(b.grantPost(kept), b.grantPost(gone))
		r.answers(func(g taken) int {
			if g.subscription == postSub {
				return http.StatusNotFound
			}
			return http.StatusOK
		})
		b.accept(register, moved("kept", kept, "1"), moved("gone", gone, "2"))
		begun := c.now()
		b.eventually("all attempts are made", func() bool {
			w, v := b.waitingOf(kept, postSub), b.waitingOf(gone, postSub)
			if len(w) == 0 && len(v) == 0 {
				return len(r.of(postSub)) > 0
			}
			if len(w) == len(v) && w[0].Attempts == v[0].Attempts && w[0].Attempts > 0 {
				if until := time.UnixMilli(max(w[0].Due, v[0].Due)); c.now().Before(until) {
					c.forward(until.Sub(c.now()))
				}
			}
			return false
		})
		if n := len(r.of(postSub)); n != 2*int(delivery.MaxAttempts) {
			b.t.Errorf("%d attempts, want %d", n, 2*delivery.MaxAttempts)
		}
		if d := c.now().Sub(begun); d < 75*time.Hour {
			b.t.Errorf("they took %s", d)
		}
		var letter codecs.DeadLetter
		b.eventually("the dead letter", func() (ok bool) {
			letter, ok = b.letters.find(func(_ string, l *codecs.DeadLetter) bool { return l.Cause == delivery.Undeliverable })
			return ok
		})
		if letter.Subscription != postSub || len(letter.Value) == 0 || !strings.HasPrefix(letter.Detail, "attempted 10 times, first 2") || !strings.HasSuffix(letter.Detail, "status 404") {
			b.t.Errorf("%s %s %d bytes", letter.Subscription, letter.Detail, len(letter.Value))
		}
		b.inEffect(b.withdrawPost(gone))
		r.answers(nil)
		before := len(r.of(postSub))
		redrive(delivery.Undeliverable, 2)
		b.eventually("decided again", func() bool { return b.attempts(postSub, "deny grant_withdrawn") == 1 && len(r.of(postSub)) > before })
		b.eventually("nothing waits", func() bool { return b.waiting(kept) == nil && b.waiting(gone) == nil })
		got := r.of(postSub)[before:]
		if len(got) != 1 || got[0].street != "1" || got[0].id != b.keys.Delivery(registerSite, "kept", b.subjectOf(kept), postSub) {
			b.t.Errorf("LEAK, or lost: %+v", got)
		}
	})
	b.sub("no room", func() {
		who := person(3)
		r.answers(refusing)
		var events [][]byte
		for i := range codecs.MaxWaiting {
			events = append(events, moved(fmt.Sprint("full-", i), who, fmt.Sprint(100+i)))
		}
		b.accept(register, events...)
		b.eventually("the row is full", func() bool { return len(b.waiting(who)) == codecs.MaxWaiting })
		b.inEffect(b.grantPost(who))
		b.accept(register, moved("full-more", who, "200")) // for both
		b.awaitStatus(agencySub, "paused")
		if reason := b.row(agencySub).StatusReason; reason != delivery.PausedFull {
			b.t.Errorf("paused for %s", reason)
		}
		if s := b.row(postSub).Status; s != "active" {
			b.t.Errorf("the other subscription is %s", s)
		}
		b.eventually("the other subscription's delivery waits", func() bool { return len(b.waitingOf(who, postSub)) == 1 })
		r.answers(nil)
		c.forward(time.Hour)
		b.inEffect(b.subscription("resume", "operator:anna", codecs.Subscription{ID: agencySub}))
		b.eventually("nothing waits", func() bool { return b.waiting(who) == nil })
		redrive(delivery.QueueFull, 2) // the one that came, and the one before it: that stands in its letter by its offset
		b.eventually("all are taken", func() bool {
			return len(b.takenAbout(r, agency, agencySub, who)) == codecs.MaxWaiting+1 && b.waiting(who) == nil
		})
		streets := b.takenAbout(r, agency, agencySub, who)
		for i, street := range streets {
			want := fmt.Sprint(100 + i)
			if i >= codecs.MaxWaiting-1 { // redriven, in the order of the letters
				continue
			}
			if street != want {
				b.t.Errorf("%d: street %s, want %s", i, street, want)
			}
		}
		if got := fmt.Sprint(b.takenAbout(r, post, postSub, who)); got != "[200]" {
			b.t.Errorf("the other subscription took %s", got)
		}
	})
}

func headersOf(l admin.Letter) (all []string) {
	for _, h := range l.Headers {
		all = append(all, string(h.Value))
	}
	return all
}

// takenAbout are the streets of the deliveries about a person that a subscription's receiver has taken, each once.
func (b *bus) takenAbout(r *receiver, subscriber, subscription, who string) (streets []string) {
	b.t.Helper()
	sealed, err := b.keys.For(subscriber).Seal(b.subjectOf(who))
	b.must(err)
	seen := map[string]bool{}
	for _, g := range r.of(subscription) {
		if g.subject == sealed && g.status < 300 && !seen[g.id] {
			seen[g.id] = true
			streets = append(streets, g.street)
		}
	}
	return streets
}
