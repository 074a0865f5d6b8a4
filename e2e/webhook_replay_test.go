package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/internal/refdata"
	"civicbus/internal/replay"
	"civicbus/processors/delivery"
)

// TestReplayToWebhooks sends deliveries to webhooks again, in every form in which they are sent: with the ids that they had and
// the mark, decided again when they are replayed and at each attempt, and in their turn with live deliveries of the same pair.
func TestReplayToWebhooks(t *testing.T) {
	var c clock
	b := start(t, webhooks(&c))
	r := b.receive()
	all := []string{agencySub, postSub, insurerSub} // structured, binary, and thin
	b.smallWorld(r.hooked(all...), func(w *examples.World) {
		for i := range w.Subscriptions {
			w.Subscriptions[i].Delivery.Thin = w.Subscriptions[i].ID == insurerSub
		}
	})
	b.nodes["a"].ready()
	who := people(1, 3)
	var grants []*order
	for _, p := range who {
		grants = append(grants, b.grantPost(p), b.grantInsurer(p))
	}
	b.inEffect(grants...)
	for i, p := range who {
		b.accept(register, moved(fmt.Sprint("first-", i), p, "1"), moved(fmt.Sprint("second-", i), p, "2"))
	}
	b.eventually("all is delivered once", func() bool { return len(r.got(nil)) == 6*len(all) && b.nothingWaits(who...) })
	once := map[string][]string{} // ids, and addresses of thin ones, by subscription and subject
	for _, g := range r.got(nil) {
		once[g.subscription+g.subject] = append(once[g.subscription+g.subject], g.id+g.dataref)
	}

	b.sub("each comes once more, as it was", func() {
		for _, sub := range all {
			if counts := b.replay("again-"+sub, sub); len(counts) != 1 || counts[0].Count != 6 || !replay.Sends(counts[0].Reason) {
				b.t.Errorf("%s: %+v", sub, counts)
			}
		}
		b.eventually("all is taken again", func() bool { return len(r.got(isReplayed)) == 6*len(all) && b.nothingWaits(who...) })
		again := map[string][]string{}
		for _, g := range r.got(isReplayed) {
			again[g.subscription+g.subject] = append(again[g.subscription+g.subject], g.id+g.dataref)
			if thin := g.subscription == insurerSub; thin != (g.dataref != "") || thin != (g.street == "") {
				b.t.Errorf("%s came with street %q and address %q", g.subscription, g.street, g.dataref)
			}
		}
		if fmt.Sprint(again) != fmt.Sprint(once) {
			b.t.Errorf("by subscription and subject %v, were %v", again, once)
		}
		for _, sub := range all {
			verdict := map[bool]string{true: "permit rule", false: "permit consent"}[sub == agencySub]
			b.eventually("a decision of each of 12 attempts at "+sub+", and of each of 6 replayed", func() bool {
				return b.attempts(sub, verdict) == 12 && b.decisions.count(func(d *codecs.Decision) bool { return d.Kind == replay.Kind && verdictOf(*d, sub) == verdict }) == 6
			})
		}
	})
	b.sub("a right that ends between attempts, and a live delivery behind", func() {
		gone, kept := who[0], who[1]
		sealed := b.sealed(post, gone)
		before := len(r.of(postSub))
		r.answers(func(g taken) int { return map[bool]int{true: http.StatusNotFound, false: http.StatusOK}[g.replayed] })
		b.replay("refused", postSub)
		b.accept(register, moved("live", kept, "3"))
		b.eventually("an attempt at the first of each, and what is live waits behind", func() bool {
			first, second := b.waitingOf(gone, postSub), b.waitingOf(kept, postSub)
			return len(first) == 2 && first[0].Attempts == 1 && len(second) == 3 && second[0].Attempts == 1 && second[2].Attempts == 0
		})
		b.inEffect(b.withdrawPost(gone))
		acknowledged := time.Now()
		r.answers(nil)
		c.forward(delivery.Wait("", 1) * 6 / 5)
		b.eventually("nothing waits", func() bool { return b.nothingWaits(who...) })
		for _, g := range r.of(postSub)[before:] {
			if g.subject == sealed && g.at.After(acknowledged) {
				b.t.Errorf("LEAK: sent %s after the acknowledgement", g.at.Sub(acknowledged))
			}
		}
		b.eventually("each of the two that are dropped has its decision", func() bool { return b.attempts(postSub, "deny grant_withdrawn") == 2 })
		var streets []string
		for _, g := range r.of(postSub)[before:] {
			if g.subject == b.sealed(post, kept) && g.status < 300 {
				streets = append(streets, g.street)
			}
		}
		if fmt.Sprint(streets) != "[1 2 3]" {
			b.t.Errorf("taken in the order %v, want the replayed and then the live one", streets)
		}
	})
	b.sub("what is not permitted any more is not sent at all", func() {
		before := len(r.of(postSub))
		counts := b.replay("later", postSub)
		if fmt.Sprint(counts) != "[{consent 5} {grant_withdrawn 2}]" {
			b.t.Errorf("%v", counts)
		}
		b.eventually("nothing waits", func() bool { return len(r.of(postSub)) == before+5 && b.nothingWaits(who...) })
		for _, g := range r.of(postSub)[before:] {
			if g.subject == b.sealed(post, who[0]) || !g.replayed {
				b.t.Errorf("LEAK: %+v", g)
			}
		}
	})
}

func isReplayed(g taken) bool { return g.replayed }

// grantInsurer is a person's consent to the insurer.
func (b *bus) grantInsurer(who string) *order {
	b.t.Helper()
	return b.consents(refdata.Consent{Subject: refdata.Subject{Scheme: "fi-hetu", ID: who}, Command: codecs.ConsentCommand{Kind: "grant",
		Grant: codecs.Grant{ID: "i", Recipient: insurer, Purpose: "home-insurance", Scopes: []string{"contact-address"}, Notice: "https://vakuutus.example/privacy", Language: "fi", Method: insurer}}})[0]
}

// nothingWaits says whether no delivery about these people waits.
func (b *bus) nothingWaits(who ...string) bool {
	b.t.Helper()
	for _, p := range who {
		if b.waiting(p) != nil {
			return false
		}
	}
	return true
}

// replay asks for a replay of all that a subscription ever got, lets a second person approve it, waits until it is done, and
// gives what became of it.
func (b *bus) replay(id, subscription string) []codecs.ReasonCount {
	b.t.Helper()
	ctx, op := b.t.Context(), b.operator()
	row := codecs.Replay{ID: id, Subscription: subscription, Rate: 1000}
	var err error
	row.Scan, err = replay.Scan(ctx, op.Kafka(), &row)
	b.must(err)
	send := func(requests []admin.Request, err error) {
		b.t.Helper()
		b.must(err)
		outcomes, err := op.Send(ctx, requests, admin.Wait{Timeout: within})
		b.must(err)
		if !outcomes[0].InEffect {
			b.t.Fatalf("%+v", outcomes[0])
		}
	}
	send(op.StartReplay(ctx, admin.By{Actor: "operator:anna"}, row))
	send(op.ChangeReplays(ctx, admin.By{Actor: "operator:bertil"}, "approve", id))
	b.eventually("replay "+id+" is done", func() bool {
		rows, err := admin.ReplaysNamed(ctx, op, id)
		b.must(err)
		row = rows[0]
		return row.Status == "done"
	})
	return row.Counts
}
