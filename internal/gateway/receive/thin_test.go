package receive_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/gateway/feed"
	"civicbus/internal/gateway/gatewaytest"
	"civicbus/internal/verdict"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// thinner makes another subscription of a subscriber, which asks for thin deliveries.
func (h *house) thinner(i int, id string, change ...func(*codecs.Subscription)) (row codecs.Subscription) {
	row = gatewaytest.Row(i)
	row.ID, row.Delivery.Thin = id, true
	for _, c := range change {
		c(&row)
	}
	h.InEffect(h.Admin.PutSubscriptions(h.t.Context(), admin.By{Actor: "operator:anna"}, row))
	h.Active(row.ID)
	return row
}

// of one record: a header's value.
func headerOf(r *kgo.Record, name string) string {
	i := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == name })
	if i < 0 {
		return ""
	}
	return string(r.Headers[i].Value)
}

// onTopic are the records of a topic that are for one subscription.
func (h *house) onTopic(topic, subscription string) []*kgo.Record {
	h.t.Helper()
	return slices.DeleteFunc(h.Topic(topic), func(r *kgo.Record) bool { return headerOf(r, codecs.HeaderSubscription) != subscription })
}

// json is a record's value under the schema that it names.
func (h *house) json(r *kgo.Record) string {
	h.t.Helper()
	id, body, err := codecs.WireID(r.Value)
	h.Must(err)
	s, err := h.Registry.Load(h.t.Context(), id)
	h.Must(err)
	text, err := s.ToJSON(nil, body)
	h.Must(err)
	return string(text)
}

// thin: by every way, the subscriber's own topic included, a thin delivery is the envelope and where its data is.
func (h *house) thin(t *testing.T) {
	h = h.of(t)
	// Its filter reads what is in no thin delivery.
	row := h.thinner(1, "sub-thin", func(s *codecs.Subscription) { s.Filter = `{"data.city":"Tampere"}` })
	h.Consent(gatewaytest.Grant(1, gatewaytest.Subscriber(1), gatewaytest.Scope))
	h.Publish(moves("thin", 1, 3)...)
	token := own(gatewaytest.Subscriber(1))
	refs := map[string]string{}
	for _, way := range ways {
		for id, e := range gather(t, h.reader(way, row.ID, token), 3) {
			if e.DataRef == "" || strings.Contains(e.text, `"data"`) || strings.Contains(e.text, "thin-") || strings.Contains(e.text, "withheld") {
				t.Errorf("%s: %s", way, e.text)
			}
			if refs[id] != "" && refs[id] != e.DataRef {
				t.Errorf("%s: another dataref", way)
			}
			refs[id] = e.DataRef
		}
	}
	native := h.onTopic(topology.SubscriberTopicName(row.Subscriber), row.ID)
	for _, r := range native {
		id := headerOf(r, codecs.HeaderID)
		if refs[id] == "" || headerOf(r, codecs.HeaderDataRef) != refs[id] || headerOf(r, codecs.HeaderWithheld) != "" {
			t.Errorf("on the topic: %v, want the dataref %s", r.Headers, refs[id])
		}
		if text := h.json(r); text != `{"person":null,"street":null,"city":null,"secret":null,"profile":null}` && text != `{"person":null,"street":null,"city":null,"profile":null}` && text != `{"street":null,"city":null,"profile":null}` {
			t.Errorf("on the topic: %s", text)
		}
	}
	if len(native) != 3 {
		t.Errorf("%d records on the topic", len(native))
	}
	for _, d := range h.Decisions("router") {
		for _, v := range d.Verdicts {
			if v.Subscription == row.ID && v.Permit && v.FieldSet != verdict.FieldSetOf([]string{"data.street", "data.city"}) {
				t.Errorf("on record with another field set than what its reference may give: %+v", v)
			}
		}
	}
	var streets []string
	for id, ref := range refs {
		res, text := h.get(h.url+ref, token) //nolint:bodyclose // get has read it, dial has closed it
		if res.StatusCode != http.StatusOK || res.Header.Get("Ce-Id") != id || res.Header.Get("Content-Type") != "application/json" || !strings.HasPrefix(res.Header.Get("Ce-Subject"), "p1.") ||
			!strings.Contains(res.Header.Get("Ce-Withheld"), "data.person") || strings.Contains(text, "secret of") || strings.Contains(text, "Name ") {
			t.Fatalf("%d %v %s", res.StatusCode, res.Header, text)
		}
		streets = append(streets, parse(t, `{"data":`+text+`}`).Data.Street)
		for _, other := range []string{own(gatewaytest.Subscriber(0)), gatewaytest.PersonToken(1, later)} {
			if res, _ := h.get(h.url+ref, other); res.StatusCode == http.StatusOK { //nolint:bodyclose // get has read it, dial has closed it
				t.Error("given to another")
			}
		}
		if res, text := h.get(h.url+strings.Replace(ref, "sub-thin", gatewaytest.Subscription(1), 1), token); res.StatusCode != http.StatusNotFound { //nolint:bodyclose // get has read it, dial has closed it
			t.Errorf("by another subscription: %d %s", res.StatusCode, text)
		}
	}
	slices.Sort(streets)
	if !slices.Equal(streets, []string{"thin-0", "thin-1", "thin-2"}) {
		t.Errorf("%v", streets)
	}
	accesses := 0
	for _, d := range h.Decisions(feed.Kind) {
		if d.Topic == topology.Address.Name && d.Verdicts[0].Permit {
			if accesses++; d.Follows != -1 || d.LifeEventID == "" || d.Verdicts[0].Subscription != row.ID || refs[d.Verdicts[0].DeliveryID] == "" || d.Verdicts[0].FieldSet != verdict.FieldSetOf([]string{"data.street", "data.city"}) {
				t.Errorf("%+v", d)
			}
		}
	}
	if accesses != 3 {
		t.Errorf("%d accesses on record", accesses)
	}
	h.thinFields(t, row, token)
	h.thinLater(t, row, token)
	h.thinner(1, "sub-thin-kept")
	h.Consent(gatewaytest.Withdraw(1, gatewaytest.Subscriber(1)), gatewaytest.Grant(9, gatewaytest.Subscriber(1), gatewaytest.Scope))
	h.Publish(moves("kept", 9, 1)...)
	for _, ref := range refs {
		if res, text := h.get(h.url+ref, token); res.StatusCode != http.StatusForbidden || problem(text) != "not_permitted" || !strings.Contains(text, "grant_withdrawn") || strings.Contains(text, "thin-") { //nolint:bodyclose // get has read it, dial has closed it
			t.Errorf("withdrawn: %d %s", res.StatusCode, text)
		}
	}
}

// thinFields: what a dataref gives is what was permitted then and is permitted now.
func (h *house) thinFields(t *testing.T, row codecs.Subscription, token string) {
	subscriber := gatewaytest.Subscriber(1)
	h.Consent(gatewaytest.Grant(30, subscriber, gatewaytest.Scope), gatewaytest.Grant(31, subscriber, gatewaytest.Scope, gatewaytest.NameScope))
	h.Publish(gatewaytest.Moved("widened", 30, "widened"), gatewaytest.Moved("narrowed", 31, "narrowed"))
	refs := map[string]string{}
	h.Eventually("both are delivered", func() bool {
		for _, r := range h.onTopic(topology.SubscriberTopicName(subscriber), row.ID) {
			for _, id := range []string{"widened", "narrowed"} {
				life, _ := h.Keys.For(subscriber).OpenID(headerOf(r, codecs.HeaderCorrelation))
				if life == h.Keys.LifeEvent(gatewaytest.Site, id) {
					refs[id] = headerOf(r, codecs.HeaderDataRef)
				}
			}
		}
		return len(refs) == 2
	})
	data := func(id string) string {
		res, text := h.get(h.url+refs[id], token) //nolint:bodyclose // get has read it
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s", id, res.StatusCode, text)
		}
		return text
	}
	if text := data("narrowed"); !strings.Contains(text, "Name 31") || !strings.Contains(text, `"street":"narrowed"`) {
		t.Error(text)
	}
	h.Consent(gatewaytest.Grant(30, subscriber, gatewaytest.Scope, gatewaytest.NameScope), gatewaytest.Withdraw(31, subscriber))
	h.Consent(gatewaytest.Grant(31, subscriber, gatewaytest.Scope))
	for _, id := range []string{"widened", "narrowed"} {
		if text := data(id); strings.Contains(text, "Name 3") || !strings.Contains(text, `"street":"`+id+`"`) {
			t.Errorf("%s: %s", id, text)
		}
	}
}

// thinLater: a dataref outlives the delivery on the subscriber's topic, and a change of the subscription in either direction.
func (h *house) thinLater(t *testing.T, row codecs.Subscription, token string) {
	subscriber := gatewaytest.Subscriber(1)
	whole := gatewaytest.Row(1)
	whole.ID = "sub-changes"
	by := admin.By{Actor: "operator:anna"}
	h.InEffect(h.Admin.PutSubscriptions(t.Context(), by, whole))
	h.Active(whole.ID)
	h.Consent(gatewaytest.Grant(32, subscriber, gatewaytest.Scope))
	h.Publish(gatewaytest.Moved("while whole", 32, "while whole"))
	gather(t, h.reader("sse", whole.ID, token), 1)
	h.thinner(1, whole.ID)
	h.Publish(gatewaytest.Moved("while thin", 32, "while thin"))
	both := gather(t, h.reader("sse", whole.ID, token), 2)
	for id, e := range both {
		if e.DataRef == "" || e.Data.Street != "" {
			t.Errorf("%s: %s", id, e.text)
		}
		if res, text := h.get(h.url+e.DataRef, token); res.StatusCode != http.StatusOK || !strings.Contains(text, `"street":"while `) { //nolint:bodyclose // get has read it
			t.Errorf("%d %s", res.StatusCode, text)
		}
	}
	h.InEffect(h.Admin.PutSubscriptions(t.Context(), by, whole))
	h.Active(whole.ID)
	seen := map[bool]int{}
	for _, e := range gather(t, h.reader("sse", whole.ID, token), 2) {
		seen[e.DataRef != ""]++ // one holds its data, and is whole again; the other never did
	}
	if seen[true] != 1 || seen[false] != 1 {
		t.Errorf("%v", seen)
	}
	client, err := h.Config.Connection.Client()
	h.Must(err)
	defer client.Close()
	adm := kadm.NewClient(client)
	topic := topology.SubscriberTopicName(subscriber)
	var ref string
	for _, r := range h.onTopic(topic, row.ID) {
		ref = headerOf(r, codecs.HeaderDataRef)
	}
	ends, err := adm.ListEndOffsets(t.Context(), topic)
	h.Must(err)
	before := kadm.Offsets{}
	ends.Each(func(o kadm.ListedOffset) { before.AddOffset(topic, o.Partition, o.Offset, -1) })
	_, err = adm.DeleteRecords(t.Context(), before)
	h.Must(err)
	if res, text := h.get(h.url+ref, token); res.StatusCode != http.StatusOK { //nolint:bodyclose // get has read it
		t.Errorf("after the topic was emptied: %d %s", res.StatusCode, text)
	}
}
