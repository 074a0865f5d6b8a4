package router

import (
	"testing"

	"civicbus/codecs"
	"civicbus/processors/event/eventtest"

	"github.com/lovoo/goka"
)

// A follow-up's deliveries correlate with the event that caused it and keep ids of their own, and it never comes back to the
// organisation that published it.
func TestAFollowUp(t *testing.T) {
	w := eventtest.New(t)
	every(w)
	b := newBench(t, w)
	subject := w.Subject("a")
	b.consents(subject, codecs.Consents{Version: 11, Grants: []codecs.Grant{eventtest.Grant("g1", eventtest.Vero, "place")}})
	cause, own := w.Keys.LifeEvent("https://hus.fi", "birth"), w.Keys.LifeEvent(eventtest.Source, "answer-1")
	for _, test := range []struct {
		publisher, correlation string
		followUp               bool
		law, consent           string // verdicts; empty: a permit
	}{
		{"dvv.fi", cause, true, "", ""},
		{eventtest.Kela, cause, true, "own_event", ""},
		{eventtest.Vero, cause, true, "", "own_event"},
		{eventtest.Kela, own, false, "", ""},
		{eventtest.Kela, "no life event", false, "", ""},
	} {
		b.born("answer-1", subject, goka.Headers{codecs.HeaderCorrelation: []byte(test.correlation), codecs.HeaderOrganisation: []byte(test.publisher), codecs.HeaderSubjects: []byte("3")})
		d, _ := w.Decision()
		correlation, about := "", own
		if test.followUp {
			correlation, about = cause, cause
		}
		if d.LifeEventID != own || d.Correlation != correlation || d.Subjects != 3 {
			t.Errorf("%+v: the decision says %s, caused by %q, %d records", test, d.LifeEventID, d.Correlation, d.Subjects)
		}
		for _, v := range d.Verdicts {
			want := map[string]string{"sub-law": test.law, "sub-consent": test.consent}[v.Subscription]
			if v.Subscription == "sub-none" || v.Subscription == "sub-hook" {
				continue
			}
			if v.Permit != (want == "") || want != "" && v.Reason != want {
				t.Errorf("%+v: %s: %v %s", test, v.Subscription, v.Permit, v.Reason)
			}
		}
		if test.law == "" {
			h, pair := eventtest.HeadersOf(t, w.One("subscriber.kela.fi")), w.Keys.For(eventtest.Kela)
			if h[codecs.HeaderCorrelation] != pair.SealID(about) || h[codecs.HeaderID] != w.Keys.Delivery(eventtest.Source, "answer-1", subject, "sub-law") {
				t.Errorf("%+v: a delivery %v", test, h)
			}
			if got := h[codecs.HeaderLifeEvent]; got != map[bool]string{true: pair.SealID(own)}[test.followUp] {
				t.Errorf("%+v: its own life event is %q", test, got)
			}
		}
		w.Take("subscriber.vero.fi")
		w.Take("webhook-deliveries")
		w.Quiet()
	}
}
