package journey

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admission"
	"civicbus/internal/journeys"
	"civicbus/internal/verdict"
	"civicbus/processors/event/eventtest"
	"civicbus/topology"

	"github.com/lovoo/goka"
)

const outcomeType = "fi.test.outcome"

// bench is the group in goka's tester: Kela and Vero report outcomes of births, a wallet does not.
type bench struct {
	*eventtest.Bench
	group   *Group
	counted []string
	life    string
}

func newBench(t *testing.T) *bench {
	w := eventtest.New(t)
	w.Types[eventtest.Birth].JourneyHours = 2
	outcome := *w.Types[eventtest.Birth]
	outcome.Type, outcome.Stream, outcome.JourneyHours = outcomeType, "services", 0
	outcome.Outcome = codecs.Outcome{Path: "data.place", Of: []string{eventtest.Birth}, Done: []string{"done"}, Failed: []string{"failed"}, NeedsConfirmation: []string{"needs"}}
	w.Types[outcomeType] = &outcome
	for _, et := range journeys.OwnEventTypes() {
		w.Types[et.Type] = &et
	}
	own := journeys.OwnOrganisation("urn:civicbus")
	w.Orgs[own.ID] = &own
	w.Orgs[eventtest.Kela].Publishes, w.Orgs[eventtest.Vero].Publishes = []string{outcomeType}, []string{outcomeType}
	for _, id := range []string{"wallet", "other"} { // both may be told, by those who let them
		purse := eventtest.Organisation(id)
		purse.Receives = append(purse.Receives, codecs.Entitlement{EventType: journeys.UpdatedType, Purposes: []string{"benefit"}, Bases: []string{verdict.BasisConsent}})
		sub := eventtest.Subscription("sub-"+id, id, verdict.BasisConsent)
		sub.EventTypes, sub.Scopes = []string{journeys.UpdatedType}, []string{journeys.Scope}
		w.Orgs[id], w.Subs[sub.ID] = purse, sub
	}
	w.Changed()
	b := &bench{life: w.Keys.LifeEvent(eventtest.Source, "birth-1")}
	b.group = New(Env{Env: w.Env(), Count: func(what string) { b.counted = append(b.counted, what) },
		Door: &admission.Door{Keys: w.Keys, RegistryURL: "http://registry:8081", Belongs: func(string, int32) bool { return true }}})
	b.Bench = w.Run(topology.Journey, b.group.Callbacks())
	return b
}

// decide sends a router decision of the birth.
func (b *bench) decide(subject string, records int32, change func(*codecs.Decision), services ...string) {
	b.T.Helper()
	d := codecs.Decision{Kind: "router", Outcome: "decided", LifeEventID: b.life, EventType: eventtest.Birth, Subjects: records, DecidedAt: b.Now.UnixMilli()}
	for _, s := range services {
		d.Verdicts = append(d.Verdicts, codecs.VerdictItem{Subscriber: s, Purpose: "benefit", Permit: true, Reason: "rule"})
	}
	d.Verdicts = append(d.Verdicts, codecs.VerdictItem{Subscriber: "denied.fi", Reason: "no_grant"})
	if change != nil {
		change(&d)
	}
	v, err := b.Records.Decision.Encode(&d)
	if err != nil {
		b.T.Fatal(err)
	}
	b.Send(topology.Decisions.Name, subject, v, nil)
}

// answer sends an outcome about a subject, caused by the birth.
func (b *bench) answer(organisation, subject, outcome string, more goka.Headers) {
	b.T.Helper()
	data := eventtest.Data()
	data["place"] = outcome
	b.Send(topology.Services.Name, subject, b.Value(data), b.Headers(outcomeType, organisation+outcome, subject, "child").
		Merged(goka.Headers{codecs.HeaderOrganisation: []byte(organisation), codecs.HeaderCorrelation: []byte(b.life)}).Merged(more))
}

// lets puts the subject's consent to a wallet, or what has become of it.
func (b *bench) lets(subject, state string) {
	b.T.Helper()
	g := eventtest.Grant("g1", "wallet", journeys.Scope)
	g.State = state
	row, err := b.Records.Consents.Encode(&codecs.Consents{Version: 4, Grants: []codecs.Grant{g}})
	if err != nil {
		b.T.Fatal(err)
	}
	b.Put(topology.Consent.Name, subject, row)
}

// confirm sends the subject's own confirmation to civicbus, as the gateway does.
func (b *bench) confirm(service, subject string) {
	b.T.Helper()
	b.command(journeys.Organisation, service, subject, journeys.Organisation)
}

// command sends an organisation's confirmation to anybody.
func (b *bench) command(organisation, service, subject, recipient string) {
	b.T.Helper()
	v, err := b.Records.JourneyConfirm.Encode(&codecs.JourneyConfirm{Service: service})
	if err != nil {
		b.T.Fatal(err)
	}
	b.Send(topology.Orders.Name, subject, v, b.Headers(journeys.ConfirmType, "confirm", subject, "subject").
		Merged(goka.Headers{codecs.HeaderOrganisation: []byte(organisation), codecs.HeaderCorrelation: []byte(b.life), codecs.HeaderRecipient: []byte(recipient)}))
}

func (b *bench) row(key string) (row codecs.Journey) {
	b.T.Helper()
	if v := b.Row(key); v != nil {
		var err error
		if row, err = b.Records.Journey.Decode(v); err != nil {
			b.T.Fatal(err)
		}
	}
	return row
}

func TestFromDecisionsToConfirmation(t *testing.T) {
	b := newBench(t)
	mother, child := b.Subject("mother"), b.Subject("child")
	b.decide(mother, 2, nil, eventtest.Kela, "wallet")
	b.decide(child, 2, nil, eventtest.Vero)
	b.answer(eventtest.Vero, child, "done", nil)
	b.answer("denied.fi", mother, "needs", nil)
	b.confirm(eventtest.Kela, mother)
	b.Quiet()
	b.answer(eventtest.Kela, mother, "needs", nil)
	var texts []string
	for _, r := range b.Take(topology.Admitted.Name) {
		v, err := b.Records.JourneyUpdated.Decode(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		h := eventtest.HeadersOf(t, r)
		if h[codecs.HeaderCorrelation] != b.life || h[codecs.HeaderType] != journeys.UpdatedType || h[codecs.HeaderSubject] != string(r.Key) || h[codecs.HeaderSource] != "urn:civicbus" {
			t.Errorf("headers %v", h)
		}
		texts = append(texts, map[string]string{mother: "mother: ", child: "child: "}[string(r.Key)]+v.Text)
	}
	if !slices.Equal(texts, []string{"mother: 1 service updated. Review and confirm.", "child: 1 service updated."}) {
		t.Errorf("told %q", texts)
	}
	b.Quiet()

	b.confirm(eventtest.Kela, child)
	b.confirm(eventtest.Vero, mother)
	b.command(journeys.Organisation, eventtest.Kela, mother, eventtest.Kela)
	b.Quiet()
	b.confirm(eventtest.Kela, mother)
	b.confirm(eventtest.Kela, mother)
	r := b.One(topology.Admitted.Name)
	if h := eventtest.HeadersOf(t, r); h[codecs.HeaderRecipient] != eventtest.Kela || h[codecs.HeaderType] != journeys.ConfirmedType || h[codecs.HeaderCorrelation] != b.life || string(r.Key) != mother {
		t.Errorf("headers %v", h)
	}
	b.answer(eventtest.Kela, mother, "done", nil)
	for _, r := range b.Take(topology.Admitted.Name) {
		if v, err := b.Records.JourneyUpdated.Decode(r.Value); err != nil || !v.Closed || v.Text != "1 service updated." {
			t.Errorf("closed: %+v, %v", v, err)
		}
	}
	b.Quiet()
	if got := fmt.Sprint(b.counted); got != "[notified notified confirmed closed closed]" {
		t.Errorf("counted %s", got)
	}
	if row := b.row(mother); len(row.Mine) != 1 || row.Mine[0].LifeEvent != b.life {
		t.Errorf("her own row %+v", row)
	}
}

// A wallet confirms for those who let it know of their services now, and for nobody else; each time is on record.
func TestWhoMayConfirm(t *testing.T) {
	b := newBench(t)
	subject := b.Subject("mother")
	b.decide(subject, 1, nil, eventtest.Kela)
	b.answer(eventtest.Kela, subject, "needs", nil)
	b.Take(topology.Admitted.Name)
	denied := func(who, sub, reason string, consents int64) {
		t.Helper()
		b.command(who, eventtest.Kela, subject, journeys.Organisation)
		d, key := b.Decision()
		if len(d.Verdicts) != 1 || d.Kind != "journey" || key != subject || d.EventType != journeys.ConfirmType || d.Correlation != b.life || d.ConsentVersion != consents {
			t.Fatalf("decision %+v under %s", d, key)
		}
		if v := d.Verdicts[0]; v.Permit || v.Subscriber != who || v.Subscription != sub || v.Reason != reason || v.DeliveryID != "" {
			t.Errorf("verdict %+v, want %s", v, reason)
		}
		b.Quiet()
	}
	denied("wallet", "sub-wallet", "no_grant", 0)
	b.lets(subject, verdict.GrantWithdrawn)
	denied("wallet", "sub-wallet", "grant_withdrawn", 4)
	b.lets(subject, verdict.GrantGiven)
	denied("other", "sub-other", "no_grant", 4)
	denied(eventtest.Vero, "", "subscription_not_active", 4)
	for name, change := range map[string]func(){
		"subscription_not_active": func() { b.Subs["sub-wallet"].Status = "paused" },
		"subscriber_not_trusted":  func() { b.Orgs["wallet"].Status = "suspended" },
	} {
		sub, org := *b.Subs["sub-wallet"], *b.Orgs["wallet"]
		change()
		b.Changed()
		denied("wallet", "sub-wallet", name, 4)
		b.Subs["sub-wallet"], b.Orgs["wallet"] = &sub, &org
		b.Changed()
	}
	b.Put(topology.Consent.Name, subject, []byte("no row"))
	denied("wallet", "sub-wallet", "consents_unreadable", -1)
	if row := b.row(b.life); row.Items[0].ConfirmedAt != 0 {
		t.Fatalf("row %+v", row)
	}

	b.lets(subject, verdict.GrantGiven)
	b.command("wallet", eventtest.Kela, subject, journeys.Organisation)
	if d, _ := b.Decision(); len(d.Verdicts) != 1 || !d.Verdicts[0].Permit || d.Verdicts[0].Reference != "g1" {
		t.Errorf("decision %+v", d)
	}
	if h := eventtest.HeadersOf(t, b.One(topology.Admitted.Name)); h[codecs.HeaderType] != journeys.ConfirmedType || h[codecs.HeaderRecipient] != eventtest.Kela {
		t.Errorf("headers %v", h)
	}
	if row := b.row(b.life); row.Items[0].ConfirmedAt == 0 {
		t.Errorf("row %+v", row)
	}
	b.Quiet()

	b.answer(eventtest.Kela, subject, "needs", goka.Headers{codecs.HeaderID: []byte("again")})
	b.lets(subject, verdict.GrantWithdrawn)
	b.Take(topology.Admitted.Name)
	b.confirm(eventtest.Kela, subject) // she herself
	if h := eventtest.HeadersOf(t, b.One(topology.Admitted.Name)); h[codecs.HeaderType] != journeys.ConfirmedType {
		t.Errorf("headers %v", h)
	}
	b.Quiet()
}

func TestWhatTellsNothing(t *testing.T) {
	b := newBench(t)
	subject := b.Subject("a")
	for name, change := range map[string]func(*codecs.Decision){
		"of another group":       func(d *codecs.Decision) { d.Kind = "gateway" },
		"not decided":            func(d *codecs.Decision) { d.Outcome = "malformed" },
		"of a type without":      func(d *codecs.Decision) { d.EventType = eventtest.Order },
		"of a type that is gone": func(d *codecs.Decision) { d.EventType = "fi.test.gone" },
	} {
		b.decide(subject, 1, change, eventtest.Kela)
		if b.Row(subject) != nil || b.Row(b.life) != nil {
			t.Fatalf("a decision %s made a row", name)
		}
	}
	b.Send(topology.Decisions.Name, subject, []byte("no decision"), nil)
	own := b.Keys.LifeEvent(eventtest.Source, eventtest.Kela+"done")
	for name, h := range map[string]goka.Headers{
		"caused by nothing": {codecs.HeaderCorrelation: []byte(own)},
		"redriven for one":  {codecs.HeaderOnly: []byte("sub")},
		"of another key":    {codecs.HeaderSubject: []byte(b.Subject("b"))},
		"of another type":   {codecs.HeaderType: []byte(eventtest.Birth)},
	} {
		b.answer(eventtest.Kela, subject, "done", h)
		if b.Row(b.life) != nil || b.Row(own) != nil {
			t.Fatalf("an answer %s made a row", name)
		}
	}
	b.answer(eventtest.Kela, subject, "no outcome", nil)
	b.Send(topology.JourneyInputs.Name, b.life, []byte("no input"), nil)
	if b.Row(b.life) != nil {
		t.Fatal("an answer without an outcome made a row")
	}
	b.Quiet()
}

// Of whom nobody may know, nothing is kept but that there was one.
func TestAProtectedSubject(t *testing.T) {
	b := newBench(t)
	subject := b.Subject("a")
	b.decide(subject, 1, func(d *codecs.Decision) { d.Verdicts[0].Permit, d.Verdicts[0].Reason = false, "restricted" }, eventtest.Kela)
	if row := b.row(b.life); b.Row(subject) != nil || len(row.Items) > 0 || len(row.Subjects) != 1 || row.Subjects[0].Subject != "" || !row.Subjects[0].Decided {
		t.Errorf("row %+v", row)
	}
	b.Quiet()
}

func TestErasure(t *testing.T) {
	b := newBench(t)
	mother, child := b.Subject("mother"), b.Subject("child")
	erase := func(subject, kind string) {
		v, err := b.Records.ConsentCommand.Encode(&codecs.ConsentCommand{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		b.Send(topology.ConsentCommands.Name, subject, v, nil)
	}
	b.decide(mother, 2, nil, eventtest.Kela)
	b.decide(child, 2, nil, eventtest.Kela)
	erase(mother, "withdraw")
	erase(mother, "erase")
	if row := b.row(b.life); b.Row(mother) != nil || len(row.Items) != 1 || row.Subjects[0].Subject != "" || row.Subjects[1].Subject != child {
		t.Errorf("row %+v", row)
	}
	erase(child, "erase")
	erase(child, "erase")
	if b.Row(child) != nil || b.Row(b.life) != nil {
		t.Error("rows are left")
	}
	b.Quiet()
}

// What the door refuses is kept, to be let in when civicbus is in its own registry.
func TestBeforeItIsSetUp(t *testing.T) {
	b := newBench(t)
	b.Orgs[journeys.Organisation] = nil
	b.Changed()
	subject := b.Subject("a")
	b.decide(subject, 1, nil, eventtest.Kela)
	b.answer(eventtest.Kela, subject, "done", nil)
	letter, _ := b.Letter()
	b.Quiet()
	own := journeys.OwnOrganisation(journeys.Source)
	b.Orgs[own.ID] = &own
	b.Changed()
	again, err := admission.FromDeadLetter(&letter)
	if err != nil {
		t.Fatal(err)
	}
	if id, _, err := codecs.WireID(again.Value); err == nil {
		again.Schema, _ = b.Registry.Cached(id)
	}
	res := b.group.env.Door.Admit(again, b.Snapshot, b.Now)
	if res.Status != admission.Accepted || len(res.Records) != 1 || string(res.Records[0].Key) != subject {
		t.Errorf("once it is set up: %s %v", res.Status, res.Faults)
	}
	if fmt.Sprint(b.counted) != "[refused]" {
		t.Errorf("counted %v", b.counted)
	}
}

func TestASubjectsOwnRowIsBounded(t *testing.T) {
	var row codecs.Journey
	for i := range int64(200) {
		row = join(row, fmt.Sprint("life", i), i, 1_000+i)
		row = join(row, fmt.Sprint("life", i), i, 1_000+i)
	}
	if len(row.Mine) != codecs.MaxJourneysOfSubject || row.Mine[0].LifeEvent != "life136" || row.Due != 1_136 {
		t.Errorf("%d journeys, from %+v, due %d", len(row.Mine), row.Mine[0], row.Due)
	}
	if row = join(row, "last", 1_150, 9_000); len(row.Mine) != 50 || row.Due != 1_151 {
		t.Errorf("%d journeys are left, due %d", len(row.Mine), row.Due)
	}
}

func TestTimersNameWhatIsDue(t *testing.T) {
	records := codecs.NewRecords()
	if err := records.BindLocal(); err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(100)
	timers := NewTimers(records.Journey, func() time.Time { return now }, 1)
	put := func(key string, due int64) {
		v, err := records.Journey.Encode(&codecs.Journey{Due: due})
		if err != nil {
			t.Fatal(err)
		}
		timers.Changed(key, v)
	}
	want := func(most int, keys ...string) {
		t.Helper()
		if got := timers.Due(0, most); !slices.Equal(got, keys) {
			t.Errorf("due %v, want %v", got, keys)
		}
	}
	want(9)
	put("b", 90)
	put("a", 80)
	put("late", 101)
	put("never", 0)
	timers.Changed("unreadable", []byte("x"))
	want(9, "unreadable", "a", "b")
	want(2, "unreadable", "a")
	timers.Changed("unreadable", nil)
	put("a", 200)
	put("a", 80)
	want(9, "a", "b")
	put("a", 200)
	want(9, "b")
	now = time.UnixMilli(300)
	want(9, "b", "late", "a")
	if len(timers.Due(1, 9)) > 0 {
		t.Error("another partition has timers")
	}
}
