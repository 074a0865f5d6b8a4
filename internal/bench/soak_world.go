package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/admission"
	"civicbus/internal/app"
	"civicbus/internal/pseudonym"
	"civicbus/internal/refdata"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The soak's world: one event type, one source, four subscribers with a subscription on consent each.
const (
	soakSubjects = 4_000
	soakType     = "soak.moved"
	soakSource   = "source.example"
	soakScheme   = "soak"

	// How the values of the three fields begin. None is a part of another, nor of anything else that is written.
	idText, nameText, streetText = "soak-subject-", "Name-of-", "Street-of-"
)

// soakSchema has a field that no scope covers, one that some grants cover, and one that all of them do.
const soakSchema = `{"type":"record","name":"Moved","namespace":"soak","fields":[
{"name":"id","type":"string"},
{"name":"name","type":"string","civicbus.scopes":["identity"],"civicbus.owner":"person"},
{"name":"street","type":"string","civicbus.scopes":["address"],"civicbus.owner":"person"}]}`

func soakSubscriber(k int) string   { return fmt.Sprintf("agency%d.example", k) }
func soakSubscription(k int) string { return fmt.Sprintf("soak-%d", k) }
func soakSubject(i int32) string    { return fmt.Sprintf("%s%05d", idText, i) }

// soakWorld is the cluster under the soak, as its operators and its source see it.
type soakWorld struct {
	cfg       app.Config
	client    *kgo.Client
	admin     *kadm.Client
	operator  *admin.Client
	publisher *admin.Publisher
	records   *codecs.Records
	keys      *pseudonym.Keys
	subjects  []string // pseudonyms
	people    int32    // how many of the subjects events are about
	ledger    *ledger
	commands  int // accepted, guarded by the ledger's mutex
}

func newSoakWorld(ctx context.Context, c Config) (w *soakWorld, err error) {
	w = &soakWorld{cfg: soakConfig(c.Brokers, c.Registry), people: soakSubjects}
	if _, err = app.Apply(ctx, w.cfg); err != nil {
		return nil, err
	}
	if w.keys, err = pseudonym.NewKeys(w.cfg.BusKey); err != nil {
		return nil, err
	}
	if w.client, err = w.cfg.Connection.Client(); err != nil {
		return nil, err
	}
	w.admin = kadm.NewClient(w.client)
	if w.operator, err = admin.Dial(ctx, admin.Config{Connection: w.cfg.Connection, Registry: w.cfg.Registry, BusKey: w.cfg.BusKey, Logger: w.cfg.Logger}); err != nil {
		return nil, err
	}
	if w.records, err = w.operator.Records(ctx); err != nil {
		return nil, err
	}
	for i := range int32(soakSubjects) {
		w.subjects = append(w.subjects, w.keys.Subject(soakScheme, soakSubject(i)))
	}
	l := &ledger{consents: make([]history[consentState], soakSubjects), byLife: map[id16]int32{}, decided: map[int32]*decided{}, delivered: map[id16]*delivered{}}
	l.deliveryID = func(event int32, k int) id16 {
		id, _ := parseID(w.keys.Delivery(source, eventID(int(event)), w.subjects[l.events[event].subject], soakSubscription(k))) // is hexadecimal
		return id
	}
	w.ledger = l
	return w, nil
}

func (w *soakWorld) close() {
	if w.publisher != nil {
		w.publisher.Close()
	}
	if w.operator != nil {
		w.operator.Close()
	}
	w.client.Close()
}

// load sets up the reference data, through nodes that run.
func (w *soakWorld) load(ctx context.Context) error {
	if _, err := w.operator.RegisterSource(ctx, soakType, soakSchema); err != nil {
		return err
	}
	orgs := []codecs.Organisation{{ID: soakSource, Name: "source", DID: "did:web:" + soakSource, Status: "active", Source: source, Publishes: []string{soakType}}}
	var subs []codecs.Subscription
	for k := range soakSubscribers {
		id := soakSubscriber(k)
		orgs = append(orgs, codecs.Organisation{ID: id, Name: id, DID: "did:web:" + id, Status: "active", PreApproved: []string{purpose},
			Receives: []codecs.Entitlement{{EventType: soakType, Purposes: []string{purpose}, Bases: []string{"consent"}}}})
		subs = append(subs, codecs.Subscription{ID: soakSubscription(k), Subscriber: id, EventTypes: []string{soakType}, Purpose: purpose, Basis: "consent",
			Scopes: []string{"address"}, Delivery: codecs.Delivery{Kind: "kafka"}})
	}
	by := admin.By{Actor: "operator:soak"}
	types_, err := w.operator.PutEventTypes(ctx, by, codecs.EventType{Type: soakType, Stream: stream, RegistrySubject: soakType, Category: "state-change", Owner: soakSource,
		Title: "moved", Classification: "confidential", Roles: []codecs.Role{{Name: "person", Path: "data.id", Scheme: soakScheme}}})
	if err == nil {
		_, err = w.send(ctx, types_)
	}
	if err != nil {
		return err
	}
	organisations, err := w.operator.PutOrganisations(ctx, by, orgs...)
	if err != nil {
		return err
	}
	trusted, err := w.send(ctx, organisations)
	if err != nil {
		return err
	}
	for k := range soakSubscribers { // the first is the source
		w.ledger.trust[k] = changed(nil, change[bool]{trusted[1+k].Version, time.Now(), true})
	}
	subscriptions, err := w.operator.PutSubscriptions(ctx, by, subs...)
	if err != nil {
		return err
	}
	outcomes, err := w.send(ctx, subscriptions)
	if err != nil {
		return err
	}
	for k, o := range outcomes {
		w.ledger.subscriptions[k] = changed(nil, change[bool]{o.Version, time.Now(), true})
	}
	for active := 0; active < soakSubscribers; {
		rows, err := admin.Subscriptions.All(ctx, w.operator)
		if err != nil {
			return err
		}
		if active = 0; ctx.Err() != nil {
			return ctx.Err()
		}
		for _, r := range rows {
			if r.Status == "active" {
				active++
			}
		}
	}
	w.publisher, err = w.operator.NewPublisher(ctx)
	return err
}

// commandLimit is how long a command may take to be in effect, whatever is killed meanwhile.
const commandLimit = time.Minute

// send asks for changes and waits until they are in effect, and asks again, under the same ids, while Kafka cannot be reached. A
// refusal is an error: nothing that the soak asks for may be refused.
func (w *soakWorld) send(ctx context.Context, requests []admin.Request) ([]admin.Outcome, error) {
	for began := time.Now(); ; {
		outcomes, err := w.operator.Send(ctx, requests, admin.Wait{Timeout: commandLimit})
		if err == nil {
			return outcomes, unfulfilled(outcomes, time.Since(began))
		}
		if time.Since(began) > commandLimit || !wait(ctx, time.Second) {
			return outcomes, err
		}
	}
}

// unfulfilled says what became of the commands that did not do what they were asked to; nil: all did.
func unfulfilled(outcomes []admin.Outcome, waited time.Duration) error {
	var late []error
	for _, o := range outcomes {
		switch {
		case o.Status == admin.Refused: // whoever is refused makes the others of its Send wait in vain, so it goes first
			return fmt.Errorf("command %s (%s) was refused at version %d: %s %v", o.ID, o.About, o.Version, o.Reason, o.Faults)
		case o.Status == admin.Unanswered:
			late = append(late, fmt.Errorf("command %s (%s) has no answer after %s", o.ID, o.About, waited.Round(time.Second)))
		case !o.InEffect:
			late = append(late, fmt.Errorf("command %s (%s) was accepted at version %d and is not in effect after %s: its row is at version %d", o.ID, o.About, o.Version, waited.Round(time.Second), o.Row))
		}
	}
	return errors.Join(late...)
}

// change changes some of a worker's subjects, one command each, and waits until that is in effect.
func (w *soakWorld) change(ctx context.Context, r *rand.Rand, subjects []int32) error {
	documents := make([]refdata.Consent, len(subjects))
	states := make([]consentState, len(subjects))
	for i, s := range subjects {
		w.ledger.mu.Lock()
		if h := w.ledger.consents[s]; len(h) > 0 {
			states[i] = h[len(h)-1].state
		}
		w.ledger.mu.Unlock()
		documents[i] = refdata.Consent{Subject: refdata.Subject{Scheme: soakScheme, ID: soakSubject(s)}, Command: step(r, &states[i])}
	}
	requests, err := w.operator.ChangeConsents(ctx, admin.By{Actor: "person"}, documents...)
	if err != nil {
		return err
	}
	outcomes, err := w.send(ctx, requests)
	if err != nil {
		return err
	}
	acked := time.Now()
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	for i, s := range subjects {
		w.ledger.consents[s] = changed(w.ledger.consents[s], change[consentState]{outcomes[i].Version, acked, states[i]})
		w.commands++
	}
	return nil
}

// step picks one thing that a subject can say next, and what then holds.
func step(r *rand.Rand, s *consentState) codecs.ConsentCommand {
	k := r.IntN(soakSubscribers)
	g := codecs.Grant{Recipient: soakSubscriber(k), Purpose: purpose}
	switch {
	case s.objected[k]:
		s.objected[k] = false
		return codecs.ConsentCommand{Kind: "unobject", Subscription: soakSubscription(k)}
	case s.given[k] && r.IntN(4) == 0:
		s.objected[k] = true
		return codecs.ConsentCommand{Kind: "object", Subscription: soakSubscription(k)}
	case s.given[k]:
		s.given[k], s.identity[k] = false, false
		return codecs.ConsentCommand{Kind: "withdraw", Grant: g}
	}
	g.ID = fmt.Sprintf("%016x", r.Uint64()) // a new consent has a new id
	g.Scopes, g.Notice, g.Language, g.Method = []string{"address"}, "https://example.org/notice", "fi", "form"
	s.given[k] = true
	if s.identity[k] = r.IntN(2) == 0; s.identity[k] {
		g.Scopes = append(g.Scopes, "identity")
	}
	return codecs.ConsentCommand{Kind: "grant", Grant: g}
}

// toggle pauses or resumes a subscription.
func (w *soakWorld) toggle(ctx context.Context, k int, active bool) error {
	kind, reason := "resume", ""
	if !active {
		kind, reason = "pause", "requested"
	}
	requests, err := w.operator.ChangeSubscriptions(ctx, admin.By{Actor: "operator:soak"}, kind, reason, soakSubscription(k))
	if err != nil {
		return err
	}
	return w.turn(ctx, requests, &w.ledger.subscriptions[k], active)
}

// trust suspends or resumes a subscriber.
func (w *soakWorld) trust(ctx context.Context, k int, active bool) error {
	kind := "resume"
	if !active {
		kind = "suspend"
	}
	requests, err := w.operator.ChangeOrganisation(ctx, admin.By{Actor: "operator:soak"}, kind, soakSubscriber(k))
	if err != nil {
		return err
	}
	return w.turn(ctx, requests, &w.ledger.trust[k], active)
}

// turn sends one command and notes what holds from it on.
func (w *soakWorld) turn(ctx context.Context, requests []admin.Request, row *history[bool], holds bool) error {
	outcomes, err := w.send(ctx, requests)
	if err != nil {
		return err
	}
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	*row = changed(*row, change[bool]{outcomes[0].Version, time.Now(), holds})
	w.commands++
	return nil
}

// publish lets n events in, each of a subject at random, and repeats what was not answered, as a source must.
func (w *soakWorld) publish(ctx context.Context, r *rand.Rand, n int) error {
	var left []int32
	w.ledger.mu.Lock()
	for range n {
		i := int32(len(w.ledger.events))
		life, _ := parseID(w.keys.LifeEvent(source, eventID(int(i)))) // is hexadecimal
		w.ledger.events = append(w.ledger.events, soakEvent{subject: r.Int32N(w.people)})
		w.ledger.byLife[life] = i
		left = append(left, i)
	}
	events := slices.Clone(w.ledger.events[len(w.ledger.events)-n:])
	w.ledger.mu.Unlock()
	first := left[0]
	for len(left) > 0 {
		inputs := make([]*admission.Input, len(left))
		for j, i := range left {
			s := events[i-first].subject
			inputs[j] = &admission.Input{Attributes: map[string]string{"specversion": "1.0", "id": eventID(int(i)), "source": source, "type": soakType},
				JSON: []byte(`{"id":"` + soakSubject(s) + `","name":"` + nameText + strconv.Itoa(int(i)) + `","street":"` + streetText + strconv.Itoa(int(i)) + `"}`)}
		}
		var again []int32
		for j, a := range w.publisher.Publish(ctx, soakSource, inputs) {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case a.Status == admission.Unavailable:
				w.ledger.mu.Lock()
				w.ledger.events[left[j]].again = true
				w.ledger.mu.Unlock()
				again = append(again, left[j])
			case a.Status != admission.Accepted:
				return fmt.Errorf("event %d: %s %v", left[j], a.Status, a.Faults)
			default:
				w.ledger.mu.Lock()
				w.ledger.events[left[j]].accepted = true
				w.ledger.accepted++
				w.ledger.mu.Unlock()
			}
		}
		left = again
	}
	return nil
}
