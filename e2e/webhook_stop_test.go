package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/processors/delivery"
)

// refusing answers every delivery with a status that shows a receiver at work and does not take it.
func refusing(taken) int { return http.StatusNotFound }

// TestWebhookStopsAtTheAcknowledgement takes a right away between two attempts, in every way in which it can be: nothing is
// sent after that was acknowledged, and the delivery is dropped with a decision of its own. What is paused is kept.
func TestWebhookStopsAtTheAcknowledgement(t *testing.T) {
	var c clock
	b := start(t, webhooks(&c))
	r := b.receive()
	w := b.smallWorld(r.hooked(agencySub, postSub))
	b.nodes["a"].ready()
	r.answers(refusing)
	last := int(delivery.MaxAttempts)

	b.sub("withdrawn between attempts k and k+1", func() {
		who := people(0, last)
		var grants []*order
		for _, p := range who {
			grants = append(grants, b.grantPost(p))
		}
		b.inEffect(grants...)
		for i, p := range who {
			b.accept(register, moved(fmt.Sprint("k-", i), p, fmt.Sprint(i)))
		}
		for k := 1; k < last; k++ {
			b.eventually(fmt.Sprint("attempt ", k, " of all"), func() bool {
				for _, p := range who[k-1:] {
					if w := b.waitingOf(p, postSub); len(w) != 1 || w[0].Attempts < int32(k) {
						return false
					}
				}
				return true
			})
			gone := who[k-1]
			b.inEffect(b.withdrawPost(gone))
			acknowledged := time.Now()
			c.forward(delivery.Wait("", int32(k)) * 6 / 5)
			b.eventually("it is dropped", func() bool { return len(b.waitingOf(gone, postSub)) == 0 })
			sealed, err := b.keys.For(post).Seal(b.subjectOf(gone))
			b.must(err)
			sent := 0
			for _, got := range r.of(postSub) {
				if got.subject == sealed {
					sent++
					if got.at.After(acknowledged) {
						b.t.Errorf("LEAK: sent %s after the acknowledgement, attempt %d", got.at.Sub(acknowledged), sent)
					}
				}
			}
			if sent != k {
				b.t.Errorf("sent %d times before the withdrawal, want %d", sent, k)
			}
		}
		b.awaitAttempts(postSub, "deny grant_withdrawn", last-1)
	})
	r.answers(nil)
	c.forward(24 * time.Hour)
	b.sub("paused", func() {
		who := person(40)
		b.inEffect(b.grantPost(who))
		r.answers(refusing)
		b.accept(register, moved("paused", who, "40"))
		b.eventually("an attempt", func() bool { w := b.waitingOf(who, postSub); return len(w) == 1 && w[0].Attempts > 0 })
		b.inEffect(b.subscription("pause", "operator:anna", codecs.Subscription{ID: postSub}))
		acknowledged := time.Now()
		r.answers(nil)
		c.forward(time.Hour)
		b.eventually("the other subscription goes on", func() bool { return len(b.waitingOf(who, agencySub)) == 0 })
		b.pass(2 * b.cfg.LeaseAge)
		for _, got := range r.of(postSub) {
			if got.at.After(acknowledged) {
				b.t.Error("LEAK: sent while it was paused")
			}
		}
		if len(b.waitingOf(who, postSub)) != 1 {
			b.t.Error("it was not kept")
		}
		b.inEffect(b.subscription("resume", "operator:anna", codecs.Subscription{ID: postSub}))
		b.eventually("it is taken", func() bool { return len(b.waitingOf(who, postSub)) == 0 })
		if got := r.of(postSub); got[len(got)-1].street != "40" || got[len(got)-1].status != http.StatusNoContent {
			b.t.Errorf("%+v", got[len(got)-1])
		}
	})
	for i, way := range []struct {
		name, verdict string
		take          func()
	}{
		{"certificate expires", "deny certification_missing", func() {
			o := organisation(w, post)
			for i := range o.Receives {
				o.Receives[i].Certification = "ISO27001"
			}
			o.Certifications = []codecs.Certification{{Name: "ISO27001", ValidFrom: 1, ValidTo: c.now().Add(2 * time.Minute).UnixMilli()}}
			b.inEffect(b.trust("put", o))
			c.forward(2 * time.Minute) // it ends by the clock, with nothing to acknowledge
		}},
		{"organisation suspended", "deny subscriber_not_trusted", func() {
			b.inEffect(b.trust("put", organisation(w, post)), b.trust("suspend", codecs.Organisation{ID: post}))
		}},
		{"subscription revoked", "deny subscription_not_active", func() {
			b.inEffect(b.subscription("revoke", "operator:anna", codecs.Subscription{ID: postSub}))
		}},
	} {
		b.sub(way.name, func() {
			who := person(50 + len(way.name))
			if i == 2 { // the one before has left it so
				b.inEffect(b.trust("resume", codecs.Organisation{ID: post}))
			}
			b.inEffect(b.trust("put", organisation(w, post)), b.grantPost(who))
			r.answers(refusing)
			b.accept(register, moved(way.name, who, "50"))
			b.eventually("an attempt", func() bool { w := b.waitingOf(who, postSub); return len(w) == 1 && w[0].Attempts > 0 })
			way.take() // what is tried until then is refused too
			acknowledged := time.Now()
			r.answers(nil)
			c.forward(time.Hour)
			b.eventually("it is dropped", func() bool { return len(b.waitingOf(who, postSub)) == 0 })
			for _, got := range r.of(postSub) {
				if got.at.After(acknowledged) {
					b.t.Errorf("LEAK: sent %s after the acknowledgement", got.at.Sub(acknowledged))
				}
			}
			b.awaitAttempts(postSub, way.verdict, 1)
		})
	}
}

func organisation(w *examples.World, id string) codecs.Organisation {
	for _, o := range w.Organisations {
		if o.ID == id {
			o.Receives = append([]codecs.Entitlement(nil), o.Receives...)
			return o
		}
	}
	return codecs.Organisation{}
}

// waitingOf is what waits about a person for one subscription.
func (b *bus) waitingOf(who, subscription string) (all []codecs.WaitingDelivery) {
	b.t.Helper()
	for _, w := range b.waiting(who) {
		if w.Subscription == subscription {
			all = append(all, w)
		}
	}
	return all
}
