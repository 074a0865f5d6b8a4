package population

import (
	"iter"
	"strconv"

	"civicbus/codecs"
	"civicbus/internal/refdata"
)

// People gives the subject of every living person, in a fixed order; those born on the way come last.
func (p *Population) People() iter.Seq[refdata.Subject] {
	return func(yield func(refdata.Subject) bool) {
		for i := range p.people {
			if !p.people[i].dead && !yield(subject(p.people[i].id())) {
				return
			}
		}
	}
}

// Size is how many people there ever were, the dead included.
func (p *Population) Size() int { return len(p.people) }

// Grants gives what the people of now have consented to: for each person and each of the example world's subscriptions on consent, at the
// configured rate, a grant to its subscriber for its purpose with the scopes that it requires. Ranging twice gives two different draws.
func (p *Population) Grants() iter.Seq[refdata.Consent] {
	return func(yield func(refdata.Consent) bool) {
		for i := range p.people {
			if p.people[i].dead {
				continue
			}
			for j := range p.consented {
				if p.random.Float64() >= p.config.GrantRate {
					continue
				}
				s := &p.consented[j]
				grant := codecs.Grant{
					ID: s.ID + "-" + strconv.Itoa(i), Recipient: s.Subscriber, Purpose: s.Purpose, Scopes: s.Scopes,
					ValidFrom: codecs.Millis(p.config.Start), Notice: "https://" + s.Subscriber + "/privacy", Language: "fi", Method: "synthetic",
				}
				if !yield(refdata.Consent{Subject: subject(p.people[i].id()), Command: codecs.ConsentCommand{Kind: "grant", Grant: grant}}) {
					return
				}
			}
		}
	}
}

func subject(id string) refdata.Subject { return refdata.Subject{Scheme: "fi-hetu", ID: id} }

func (o *person) id() string { return identityCode(int(o.born), o.separator, int(o.number)) }

func (o *person) male() bool { return o.number%2 == 1 }

func (o *person) givenName() string {
	if o.male() {
		return givenNames[givenEach+int(o.given)]
	}
	return givenNames[o.given]
}

func (o *person) name() string { return o.givenName() + " " + familyNames[o.family] }

// age is in whole years at a day, a year being 365.25 days.
func (o *person) age(today int) int { return (today - int(o.born)) * 4 / 1461 }

func (p *Population) pick(n int) uint8 { return uint8(p.random.IntN(n)) }

func (p *Population) home() household {
	return household{place: p.pick(len(places)), street: p.pick(len(streets)), number: uint16(1 + p.random.IntN(120))}
}

// found makes a company with the next business id.
func (p *Population) found() company {
	for {
		p.lastYID++
		if id, ok := businessID(p.lastYID); ok {
			word := p.random.IntN(len(companyWords[0]) * len(companyWords[1]))
			return company{
				id: id, industry: industries[p.pick(len(industries))], place: p.pick(len(places)),
				name: companyWords[0][word%12] + " " + companyWords[1][word/12] + " " + strconv.Itoa(p.lastYID%1000),
			}
		}
	}
}

// someone draws a living person whom fit accepts; -1 after 200 that it does not.
func (p *Population) someone(fit func(*person) bool) int {
	for range 200 {
		i := p.random.IntN(len(p.people))
		if o := &p.people[i]; !o.dead && fit(o) {
			return i
		}
	}
	return -1
}
