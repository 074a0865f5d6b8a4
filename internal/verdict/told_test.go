package verdict

import (
	"testing"
	"time"

	"civicbus/codecs"
)

// What an organisation may be told goes by its subscriptions to the type and role, whatever their filters, and by no other's.
func TestDecideTold(t *testing.T) {
	for _, tt := range []struct {
		name, who string
		change    func(*world)
		want      string
	}{
		{"by the first that permits", "kela.fi", func(*world) {}, "sub-consent consent"},
		{"by another where the first denies", "kela.fi", func(w *world) { w.consents.Grants[0].State = GrantWithdrawn }, "sub-law rule"},
		{"whatever the filter", "kela.fi", func(w *world) { w.subs["sub-consent"].Filter = `{"data.place": "Nowhere"}` }, "sub-consent consent"},
		{"the first denial", "kela.fi", func(w *world) { w.consents.Restriction = "protected" }, "sub-consent restricted"},
		{"of the role alone", "kela.fi", func(w *world) { w.event.Role = "mother" }, ""},
		{"a subscription of that role", "kela.fi", func(w *world) {
			w.event.Role, w.subs["sub-law"].Role, w.types[birthType].Rules[0].Role = "mother", "mother", ""
		}, "sub-law rule"},
		{"nobody's", "vero.fi", func(*world) {}, ""},
		{"of an unknown type", "kela.fi", func(w *world) { w.event.Type = "other" }, ""},
		{"never answered", "kela.fi", func(w *world) { w.consents = nil; delete(w.subs, "sub-law"); delete(w.subs, "sub-task") }, "sub-consent no_grant"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.change(w)
			snap := NewSnapshot().With(Changes{EventTypes: w.types, Organisations: w.orgs, Subscriptions: w.subs})
			told := Event{Type: w.event.Type, Role: w.event.Role, Schema: w.schema}
			got := ""
			if v, ok := snap.DecideTold(&told, tt.who, w.consents, time.UnixMilli(w.now)); ok {
				item := v.Item()
				got = item.Subscription + " " + item.Reason
				if item.Permit != (item.Reason == ReasonConsent || item.Reason == ReasonRule) || item.Subscriber != tt.who {
					t.Errorf("%+v", item)
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Item is the verdict, but for what is delivered.
func TestItem(t *testing.T) {
	v := Verdict{Sub: &codecs.Subscription{ID: "s", Version: 2, Subscriber: "o", Purpose: "p"}, Permit: true, Reason: "r", Basis: "b", Reference: "f", ReferenceVersion: 3, TrustVersion: 4, FieldSet: 5}
	want := codecs.VerdictItem{Subscription: "s", SubscriptionVersion: 2, Subscriber: "o", Purpose: "p", Permit: true, Reason: "r", Basis: "b", Reference: "f", ReferenceVersion: 3, TrustVersion: 4}
	if got := v.Item(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
