package router

import (
	"fmt"
	"strings"
	"testing"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
	"civicbus/internal/verdict"
	"civicbus/processors/event/eventtest"
)

// A thin delivery on a subscriber's topic holds nothing but where its data is. One to a webhook holds its data beside that: it is
// decided again before it is sent. Either is on record with the fields that its address can give.
func TestThin(t *testing.T) {
	w := eventtest.New(t)
	every(w)
	for _, id := range []string{"sub-consent", "sub-hook"} {
		w.Subs[id].Delivery.Thin = true
	}
	w.Changed()
	b := newBench(t, w)
	refs := map[string]*pseudonym.Reference{}
	b.dataRef = func(dst []byte, subscription string, to *pseudonym.Reference) []byte {
		refs[subscription] = to
		return append(dst, "/data/"+subscription...)
	}
	subject := w.Subject("a")
	b.consents(subject, codecs.Consents{Version: 1, Grants: []codecs.Grant{eventtest.Grant("g1", eventtest.Vero, "place")}})
	b.born("birth-1", subject, nil)
	law, thin, hook := w.One("subscriber.kela.fi"), w.One("subscriber.vero.fi"), w.One("webhook-deliveries")
	for name, value := range b.data(thin) {
		if value != nil {
			t.Errorf("%s is %v", name, value)
		}
	}
	headers := eventtest.HeadersOf(t, thin)
	if headers[codecs.HeaderDataRef] != "/data/sub-consent" || headers[codecs.HeaderWithheld] != "" {
		t.Errorf("%v", headers)
	}
	if !strings.Contains(fmt.Sprint(b.data(hook)), "Espoo") || eventtest.HeadersOf(t, hook)[codecs.HeaderDataRef] != "/data/sub-hook" || eventtest.HeadersOf(t, hook)[codecs.HeaderWithheld] == "" {
		t.Errorf("%v %v", b.data(hook), hook.Headers)
	}
	if eventtest.HeadersOf(t, law)[codecs.HeaderDataRef] != "" {
		t.Errorf("whole, and has a dataref: %v", law.Headers)
	}
	d, _ := w.Decision()
	for _, v := range d.Verdicts {
		ref := refs[v.Subscription]
		if ref == nil {
			continue
		}
		held, ok := verdict.Held(ref.Held, verdict.Deliverable(w.Schema))
		if !ok || len(held) == 0 || verdict.FieldSetOf(held) != v.FieldSet || !v.Permit || ref.Stream != d.Topic || ref.Partition != d.Partition || ref.Offset != d.Offset {
			t.Errorf("%+v refers to %+v", v, ref)
		}
	}
	if len(refs) != 2 {
		t.Errorf("%d references", len(refs))
	}
}
