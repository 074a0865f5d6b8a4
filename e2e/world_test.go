package e2e

import (
	"encoding/json"
	"fmt"
	"slices"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/kafka"
	"civicbus/internal/refdata"
)

// load puts reference data, consents excepted, in effect.
func (b *bus) load(w *examples.World) {
	b.t.Helper()
	for subject, schema := range w.Schemas {
		_, err := b.registry.Register(b.t.Context(), subject, schema)
		b.must(err)
	}
	var a []*order
	for _, o := range w.Organisations {
		a = append(a, b.trust("put", o))
	}
	for _, e := range w.EventTypes {
		a = append(a, b.catalog(e))
	}
	b.inEffect(a...)
	a = nil
	for _, s := range w.Subscriptions {
		a = append(a, b.subscription("put", "operator:anna", s))
	}
	b.inEffect(a...)
	b.approve(w.Subscriptions)
}

// The small world is the example world's change of address: one agency that gets it by law, a company that gets it by
// consent, and one that never got anyone's.
const (
	moveType     = "fi.dvv.person.address.changed"
	register     = "dvv.fi"
	agency       = "kela.fi"
	post         = "posti.fi"
	insurer      = "vakuutus.example"
	agencySub    = "sub-kela-address"
	postSub      = "sub-posti-address"
	insurerSub   = "sub-vakuutus-address"
	postPurpose  = "mail-forwarding"
	registerSite = "https://dvv.fi"
)

// smallWorld is that part of the example world, changed before it is loaded. Its subscriptions need no second person, which
// the stories show.
func (b *bus) smallWorld(change ...func(*examples.World)) *examples.World {
	b.t.Helper()
	all, err := examples.Load()
	b.must(err)
	w := &examples.World{Schemas: map[string]string{moveType: all.Schemas[moveType]}}
	for _, e := range all.EventTypes {
		if e.Type == moveType {
			w.EventTypes = append(w.EventTypes, e)
		}
	}
	for _, s := range all.Subscriptions {
		if s.ID == agencySub || s.ID == postSub || s.ID == insurerSub {
			w.Subscriptions = append(w.Subscriptions, s)
		}
	}
	for _, o := range all.Organisations {
		if !slices.Contains([]string{register, agency, post, insurer}, o.ID) {
			continue
		}
		for _, e := range o.Receives {
			o.PreApproved = append(o.PreApproved, e.Purposes...)
		}
		slices.Sort(o.PreApproved)
		o.PreApproved = slices.Compact(o.PreApproved)
		w.Organisations = append(w.Organisations, o)
	}
	for _, c := range change {
		c(w)
	}
	b.load(w)
	return w
}

// person is the i-th identity code of the range that is given to no one: 100 codes of each of 336 days.
func person(i int) string {
	const check = "0123456789ABCDEFHJKLMNPRSTUVWXY"
	number, day := 900+i%100, i/100
	d, m := day%28+1, day/28%12+1
	return fmt.Sprintf("%02d%02d84-%03d%c", d, m, number, check[(d*10_000_000+m*100_000+84*1000+number)%31])
}

// subjectOf is a person's subject.
func (b *bus) subjectOf(id string) string {
	b.t.Helper()
	return b.subject("fi-hetu", id)
}

// partitionOf is where a person's records are.
func (b *bus) partitionOf(id string) int32 {
	b.t.Helper()
	return kafka.Partition([]byte(b.subjectOf(id)), b.cfg.Shape.Partitions)
}

// someone is a person from the i-th on whose records are in the partition.
func (b *bus) someone(i int, partition int32) string {
	b.t.Helper()
	for b.partitionOf(person(i)) != partition {
		i++
	}
	return person(i)
}

// moved is the event of a person's move. The street tells events apart.
func moved(id, who, street string) []byte {
	text, err := json.Marshal(map[string]any{"specversion": "1.0", "id": id, "source": registerSite, "type": moveType, "time": "2026-08-01T08:00:00Z",
		"datacontenttype": "application/json", "data": moveData(who, street)})
	if err != nil {
		panic(err)
	}
	return text
}

func moveData(who, street string) map[string]any {
	return map[string]any{
		"person": map[string]any{"id": who, "name": "Venla Mäkinen"}, "oldAddress": nil,
		"newAddress": map[string]any{"street": street, "postalCode": "33100", "municipality": "Tampere", "country": "FI", "location": nil},
		"movedOn":    "2026-08-01", "permanent": true, "householdSize": 1,
	}
}

// grantPost is a person's consent to the post.
func (b *bus) grantPost(who string) *order {
	b.t.Helper()
	return b.consents(refdata.Consent{Subject: refdata.Subject{Scheme: "fi-hetu", ID: who}, Command: codecs.ConsentCommand{Kind: "grant",
		Grant: codecs.Grant{ID: "g", Recipient: post, Purpose: postPurpose, Scopes: []string{"contact-address"}, Notice: "https://posti.fi/privacy", Language: "fi", Method: "posti.fi"}}})[0]
}

// withdrawPost takes it back.
func (b *bus) withdrawPost(who string) *order {
	b.t.Helper()
	return b.consent(b.subjectOf(who), codecs.ConsentCommand{Kind: "withdraw", Grant: codecs.Grant{ID: "g"}})
}

// decision waits for the router's decision of an event's record of one person.
func (b *bus) decision(id, who string) codecs.Decision {
	b.t.Helper()
	var got codecs.Decision
	b.eventually("a decision of "+id, func() (ok bool) {
		got, ok = b.decided(id, who)
		return ok
	})
	return got
}

// decided finds it, if it is there.
func (b *bus) decided(id, who string) (codecs.Decision, bool) {
	b.t.Helper()
	subject, life := b.subjectOf(who), b.keys.LifeEvent(registerSite, id)
	return b.decisions.find(func(key string, d *codecs.Decision) bool {
		return d.Kind == "router" && d.LifeEventID == life && key == subject
	})
}

// verdict is one subscription's verdict in a decision, as line writes it; empty: there is none.
func verdictOf(d codecs.Decision, subscription string) string {
	for _, v := range d.Verdicts {
		if v.Subscription == subscription {
			return outcome(v.Permit, v.Reason)
		}
	}
	return ""
}

func outcome(permit bool, reason string) string {
	if permit {
		return "permit " + reason
	}
	return "deny " + reason
}

// want demands a verdict.
func (b *bus) want(d codecs.Decision, subscription, verdict string) {
	b.t.Helper()
	if got := verdictOf(d, subscription); got != verdict {
		b.t.Errorf("%s: %q, want %q; the decision's outcome is %s", subscription, got, verdict, d.Outcome)
	}
}
