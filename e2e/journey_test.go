package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/admission"
	"civicbus/internal/app"
	"civicbus/internal/journeys"
	"civicbus/internal/refdata"
)

// The world of journeys: five services that a birth goes to, three about the mother and two about the child, a mother's wallet
// and one that is not hers, and a register of companies. Everything in it is data.
const (
	bornType    = "test.born"
	foundedType = "test.founded"
	answerType  = "test.answer"
	hospital    = "hospital.test"
	companies   = "companies.test"
	wallet      = "wallet.test"
	rival       = "rival.test" // another wallet
	taxes       = "taxes.test"
	persons     = "persons.test"
	benefits    = "benefits.test"
	pensions    = "pensions.test"
	city        = "city.test"
)

var services = []string{benefits, pensions, city, taxes, persons}

const bornSchema = `{"type":"record","name":"Born","namespace":"test","fields":[{"name":"mother","type":"string"},{"name":"child","type":"string"}]}`

const foundedSchema = `{"type":"record","name":"Founded","namespace":"test","fields":[{"name":"company","type":"string"},{"name":"name","type":"string"}]}`

const answerSchema = `{"type":"record","name":"Answer","namespace":"test","fields":[
 {"name":"person","type":["null","string"],"default":null},{"name":"guardian","type":["null","string"],"default":null},{"name":"company","type":["null","string"],"default":null},
 {"name":"outcome","type":{"type":"enum","name":"AnswerOutcome","symbols":["done","failed","ask"]}},
 {"name":"reference","type":["null","string"],"default":null}]}`

// journeyWorld puts that world in effect.
func (b *bus) journeyWorld() {
	b.t.Helper()
	const law = "legal_obligation"
	org := func(id string, publishes ...string) codecs.Organisation {
		return codecs.Organisation{ID: id, Name: "The " + strings.TrimSuffix(id, ".test"), DID: "did:web:" + id, Status: "active", Source: "https://" + id, Publishes: publishes, PreApproved: []string{"work", "wallet"}}
	}
	rule := func(recipient, role string, fields ...string) codecs.Rule {
		return codecs.Rule{ID: "to-" + recipient + "-" + role, Recipient: recipient, Purpose: "work", Basis: law, Role: role, Fields: fields, ValidFrom: 1, Citation: "Act 1"}
	}
	w := &examples.World{Schemas: map[string]string{bornType: bornSchema, foundedType: foundedSchema, answerType: answerSchema}}
	hetu, business := "fi-hetu", "fi-ytunnus"
	born := codecs.EventType{Type: bornType, Stream: "life.birth", RegistrySubject: bornType, Category: "state-change", Title: "A birth", Classification: "internal", JourneyHours: 2,
		Roles: []codecs.Role{{Name: "mother", Path: "data.mother", Scheme: hetu}, {Name: "child", Path: "data.child", Scheme: hetu}}}
	founded := codecs.EventType{Type: foundedType, Stream: "business", RegistrySubject: foundedType, Category: "state-change", Title: "A company", Classification: "open", JourneyHours: 2,
		Roles: []codecs.Role{{Name: "company", Path: "data.company", Scheme: business}}}
	answer := codecs.EventType{Type: answerType, Stream: "services", RegistrySubject: answerType, Category: "domain", Title: "An answer", Classification: "internal",
		Roles: []codecs.Role{{Name: "person", Path: "data.person", Scheme: hetu, Optional: true}, {Name: "guardian", Path: "data.guardian", Scheme: hetu, Optional: true},
			{Name: "company", Path: "data.company", Scheme: business, Optional: true}},
		Outcome: codecs.Outcome{Path: "data.outcome", Of: []string{bornType, foundedType}, Done: []string{"done"}, Failed: []string{"failed"}, NeedsConfirmation: []string{"ask"}}}
	subscribe := func(id, subscriber, role, basis, purpose string, scopes []string, types ...string) {
		w.Subscriptions = append(w.Subscriptions, codecs.Subscription{ID: id, Subscriber: subscriber, EventTypes: types, Role: role, Purpose: purpose, Basis: basis, Scopes: scopes, Delivery: codecs.Delivery{Kind: "kafka"}})
	}
	entitle := func(o *codecs.Organisation, basis, purpose string, types ...string) {
		for _, t := range types {
			o.Receives = append(o.Receives, codecs.Entitlement{EventType: t, Purposes: []string{purpose}, Bases: []string{basis}})
		}
	}
	own := journeys.OwnEventTypes()
	confirmed := &own[2]
	w.Organisations = append(w.Organisations, org(hospital, bornType), org(companies, foundedType), journeys.OwnOrganisation("urn:civicbus"))
	for i, id := range services {
		o := org(id, answerType)
		role := "mother"
		if i >= 3 {
			role = "child"
		}
		entitle(&o, law, "work", bornType, journeys.ConfirmedType, answerType)
		born.Rules = append(born.Rules, rule(id, role, "data.mother"))
		confirmed.Rules = append(confirmed.Rules, rule(id, "", "data"))
		answer.Rules = append(answer.Rules, rule(id, "person", "data.outcome"))
		subscribe("born-"+id, id, role, law, "work", nil, bornType)
		subscribe("confirmed-"+id, id, "", law, "work", nil, journeys.ConfirmedType)
		subscribe("answer-"+id, id, "person", law, "work", nil, answerType)
		if id == taxes {
			entitle(&o, law, "work", foundedType)
			founded.Rules = append(founded.Rules, rule(id, "", "data"))
			subscribe("founded-"+id, id, "", law, "work", nil, foundedType)
		}
		w.Organisations = append(w.Organisations, o)
	}
	for _, id := range []string{wallet, rival} {
		purse := org(id, journeys.ConfirmType)
		purse.Commands = purse.Publishes
		entitle(&purse, "consent", "wallet", journeys.UpdatedType)
		subscribe(strings.TrimSuffix(id, ".test"), id, "", "consent", "wallet", []string{journeys.Scope}, journeys.UpdatedType)
		w.Organisations = append(w.Organisations, purse)
	}
	office := &w.Organisations[1]
	entitle(office, law, "work", answerType)
	answer.Rules = append(answer.Rules, rule(companies, "company", "data.outcome", "data.reference"))
	subscribe("answer-companies", companies, "company", law, "work", nil, answerType)
	w.EventTypes = append(own, born, founded, answer)
	b.load(w)
}

// happened is a CloudEvent of an organisation of that world.
func (b *bus) happened(organisation, eventType, id string, data any, attributes ...string) []byte {
	b.t.Helper()
	e := map[string]any{"specversion": "1.0", "id": id, "source": "https://" + organisation, "type": eventType, "data": data}
	for i := 0; i+1 < len(attributes); i += 2 {
		e[attributes[i]] = attributes[i+1]
	}
	text, err := json.Marshal(e)
	b.must(err)
	return text
}

// got waits for the n-th delivery of a type to an organisation, caused by a life event (or that event itself), and gives its
// headers and its data.
func (b *bus) got(organisation, eventType, lifeEvent string, n int) (headers map[string]string, data map[string]any) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("delivery %d of %s to %s", n, eventType, organisation), func() bool {
		seen := 0
		for _, r := range b.read("subscriber." + organisation) {
			if header(r.Headers, codecs.HeaderType) != eventType || header(r.Headers, codecs.HeaderCorrelation) != b.keys.For(organisation).SealID(lifeEvent) {
				continue
			}
			if seen++; seen == n {
				headers, data = map[string]string{}, plain(b.decode(r))
				for _, h := range r.Headers {
					headers[h.Key] = string(h.Value)
				}
				return true
			}
		}
		return false
	})
	return headers, data
}

// plain are a projection's fields without the unions that all of them are.
func plain(fields map[string]any) map[string]any {
	for name, v := range fields {
		if union, ok := v.(map[string]any); ok && len(union) == 1 {
			for _, inner := range union {
				fields[name] = inner
			}
		}
	}
	return fields
}

// count counts the deliveries of a type to an organisation.
func (b *bus) count(organisation, eventType string) (n int) {
	b.t.Helper()
	for _, r := range b.read("subscriber." + organisation) {
		if header(r.Headers, codecs.HeaderType) == eventType {
			n++
		}
	}
	return n
}

// answered publishes an outcome of a service on a life event that was delivered to it. mother empty: the service names whom it
// was told of by the pseudonym that it was given.
func (b *bus) answered(service, lifeEvent, id, outcome, child, mother string) {
	b.t.Helper()
	h, _ := b.got(service, bornType, lifeEvent, 1)
	data := map[string]any{"outcome": outcome, "person": nil, "guardian": nil}
	attributes := []string{"correlationid", h[codecs.HeaderCorrelation]}
	if mother == "" {
		attributes = append(attributes, "subject", h[codecs.HeaderSubject], "subjectrole", "person")
	} else {
		data["person"], data["guardian"] = child, mother
	}
	b.accept(service, b.happened(service, answerType, id+"-"+service, data, attributes...))
}

func TestJourney(t *testing.T) {
	clock := &clock{}
	b := start(t, func(cfg *app.Config) { cfg.Now = clock.now })
	b.journeyWorld()
	mother, child, other := person(1), person(2), person(3)
	lets := func(who, grant string) {
		b.t.Helper()
		b.inEffect(b.consents(refdata.Consent{Subject: refdata.Subject{Scheme: "fi-hetu", ID: who}, Command: codecs.ConsentCommand{Kind: "grant",
			Grant: codecs.Grant{ID: grant, Recipient: wallet, Purpose: "wallet", Scopes: []string{journeys.Scope}, Notice: "https://wallet.test", Language: "fi", Method: "wallet"}}})...)
	}
	lets(mother, "w")
	lets(other, "w")
	life := b.keys.LifeEvent("https://"+hospital, "b1")

	b.sub("five services answer, one of them asks, over a restart", func() {
		b.accept(hospital, b.happened(hospital, bornType, "b1", map[string]any{"mother": mother, "child": child}))
		b.answered(benefits, life, "1", "ask", child, "")
		b.answered(pensions, life, "1", "done", child, "")
		b.answered(taxes, life, "1", "done", child, mother)
		b.caughtUp()
		b.nodes["a"].stop()
		b.run("a").ready()
		b.answered(city, life, "1", "done", child, "")
		b.answered(persons, life, "1", "done", child, mother)
		h, data := b.got(wallet, journeys.UpdatedType, life, 1)
		if data["text"] != "5 services updated. Review and confirm." || data["title"] != "A birth" || data["waiting"] != int32(1) || data["closed"] != false {
			b.t.Errorf("the wallet shows %v", data)
		}
		if h[codecs.HeaderSubject] != b.sealed(wallet, mother) || h[codecs.HeaderSource] != "urn:civicbus" {
			b.t.Errorf("headers %v", h)
		}
	})

	b.sub("nobody gets its own answer", func() {
		b.eventually("the others have the answer of the benefits", func() bool { return b.count(pensions, answerType) >= 4 })
		subject, own := b.subjectOf(mother), b.keys.LifeEvent("https://"+benefits, "1-"+benefits)
		d, ok := b.decisions.find(func(key string, d *codecs.Decision) bool {
			return d.Kind == "router" && d.LifeEventID == own && key == subject
		})
		if !ok || d.Correlation != life || verdictOf(d, "answer-"+benefits) != "deny own_event" || verdictOf(d, "answer-"+pensions) != "permit rule" {
			b.t.Errorf("decision %+v", d)
		}
	})

	b.sub("another's name of the event is refused", func() {
		h, _ := b.got(taxes, bornType, life, 1)
		a := b.publish(benefits, b.happened(benefits, answerType, "forged", map[string]any{"outcome": "done", "person": mother, "guardian": nil}, "correlationid", h[codecs.HeaderCorrelation]))[0]
		if a.Status != admission.Refused || a.Faults[0].Reason != admission.UnknownCorrelation {
			b.t.Errorf("%s %v", a.Status, a.Faults)
		}
	})

	b.sub("a wallet that she does not let know of her services cannot confirm for her", func() {
		denied := func(who, reason string) {
			b.t.Helper()
			id := "confirm-" + reason
			b.accept(who, b.happened(who, journeys.ConfirmType, id, map[string]any{"service": benefits}, "subject", b.sealed(who, mother),
				"correlationid", b.keys.For(who).SealID(life), "recipient", journeys.Organisation))
			own := b.keys.LifeEvent("https://"+who, id)
			b.eventually("the verdict on "+id, func() bool {
				d, ok := b.decisions.find(func(_ string, d *codecs.Decision) bool { return d.Kind == "journey" && d.LifeEventID == own })
				return ok && d.Correlation == life && verdictOf(d, strings.TrimSuffix(who, ".test")) == "deny "+reason
			})
		}
		denied(rival, "no_grant")
		b.inEffect(b.consent(b.subjectOf(mother), codecs.ConsentCommand{Kind: "withdraw", Grant: codecs.Grant{ID: "w"}}))
		denied(wallet, "grant_withdrawn")
		b.caughtUp()
		if n := b.count(benefits, journeys.ConfirmedType); n != 0 {
			b.t.Errorf("LEAK: the service was told %d times", n)
		}
		lets(mother, "w2")
	})

	b.sub("she confirms, the service is told once, and its answer closes the journey", func() {
		h, _ := b.got(wallet, journeys.UpdatedType, life, 1)
		for _, id := range []string{"confirm-1", "confirm-2"} {
			b.accept(wallet, b.happened(wallet, journeys.ConfirmType, id, map[string]any{"service": benefits}, "subject", h[codecs.HeaderSubject], "correlationid", h[codecs.HeaderCorrelation], "recipient", journeys.Organisation))
		}
		c, data := b.got(benefits, journeys.ConfirmedType, life, 1)
		if c[codecs.HeaderSubject] != b.sealed(benefits, mother) || data["eventType"] != bornType {
			b.t.Errorf("the command: %v %v", c, data)
		}
		b.answered(benefits, life, "2", "done", child, "")
		if _, data = b.got(wallet, journeys.UpdatedType, life, 2); data["text"] != "5 services updated." || data["closed"] != true {
			b.t.Errorf("the wallet shows %v", data)
		}
		b.caughtUp()
		for _, s := range services {
			if n := b.count(s, journeys.ConfirmedType); n != map[bool]int{true: 1}[s == benefits] {
				b.t.Errorf("%s was told %d times", s, n)
			}
		}
		if n := b.count(wallet, journeys.UpdatedType); n != 2 {
			b.t.Errorf("the wallet was told %d times", n)
		}
	})

	b.sub("the time passes while no node runs", func() {
		slow := b.keys.LifeEvent("https://"+hospital, "b2")
		b.accept(hospital, b.happened(hospital, bornType, "b2", map[string]any{"mother": other, "child": person(4)}))
		b.answered(pensions, slow, "s", "done", "", "")
		for _, s := range services {
			b.got(s, bornType, slow, 1)
		}
		b.caughtUp()
		b.nodes["a"].stop()
		clock.forward(2*time.Hour + time.Minute)
		b.run("a").ready()
		if _, data := b.got(wallet, journeys.UpdatedType, slow, 1); data["text"] != "1 service updated. 2 services not yet." {
			b.t.Errorf("the wallet shows %v", data)
		}
	})

	b.sub("a company's ids come back", func() {
		begun := b.keys.LifeEvent("https://"+companies, "c1")
		b.accept(companies, b.happened(companies, foundedType, "c1", map[string]any{"company": "9000004-6", "name": "Uusi Oy"}))
		h, _ := b.got(taxes, foundedType, begun, 1)
		b.accept(taxes, b.happened(taxes, answerType, "vat", map[string]any{"outcome": "done", "company": nil, "reference": "FI90000046"},
			"correlationid", h[codecs.HeaderCorrelation], "subject", h[codecs.HeaderSubject], "subjectrole", "company"))
		h, data := b.got(companies, answerType, begun, 1)
		if data["reference"] != "FI90000046" || h[codecs.HeaderLifeEvent] != b.keys.For(companies).SealID(b.keys.LifeEvent("https://"+taxes, "vat")) {
			b.t.Errorf("%v %v", h, data)
		}
	})
}

// sealed is a person's pseudonym at an organisation.
func (b *bus) sealed(organisation, who string) string {
	b.t.Helper()
	s, err := b.keys.For(organisation).Seal(b.subjectOf(who))
	b.must(err)
	return s
}
