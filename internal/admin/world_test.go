package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/internal/admission"
	"civicbus/internal/refdata"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// publish publishes an example event and returns its answer.
func (b *bench) publish(p *admin.Publisher, organisation, file string) admission.Answer {
	b.t.Helper()
	event, err := examples.Event(file)
	if err != nil {
		b.t.Fatal(err)
	}
	var got []admission.Answer
	err = p.Events(b.t.Context(), organisation, admission.ReadEvents(bytes.NewReader(event), organisation), func(n int, a admission.Answer) error {
		if n != len(got)+1 {
			b.t.Errorf("event %d is answered after %d", n, len(got))
		}
		got = append(got, a)
		return nil
	})
	if err != nil || len(got) != 1 {
		b.t.Fatalf("%v, %v", got, err)
	}
	return got[0]
}

// deliveries waits for n of a subscriber's deliveries.
func (b *bench) deliveries(subscriber string, n int) []map[string]any {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	var got []map[string]any
	err := b.Tail(ctx, subscriber, admin.Tail{Limit: n, Follow: true}, func(line []byte) error {
		if bytes.ContainsRune(line, '\n') {
			b.t.Errorf("more than a line: %s", line)
		}
		var event map[string]any
		if err := json.Unmarshal(line, &event); err != nil {
			b.t.Errorf("%v: %s", err, line)
		}
		got = append(got, event)
		return nil
	})
	if err != nil || len(got) != n {
		b.t.Fatalf("%d deliveries of %s, want %d: %v", len(got), subscriber, n, err)
	}
	return got
}

// The way of an operator: events in, deliveries out, a held event redriven, an undeliverable one too, a person erased.
func TestOperatorsWay(t *testing.T) {
	t.Parallel()
	b := setUp(t).run().example()
	ctx := t.Context()
	p, err := b.NewPublisher(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if a := b.publish(p, "hus.fi", "events/birth.json"); a.Status != admission.Accepted || a.Subjects != 3 {
		t.Fatalf("%+v", a)
	}
	if a := b.publish(p, "kela.fi", "events/birth.json"); a.Status != admission.Refused || len(a.Faults) == 0 {
		t.Errorf("another organisation's event: %+v", a)
	}
	first := b.deliveries("kela.fi", 1)[0]
	if first["type"] != "fi.dvv.person.birth" || first["subscription"] != "sub-kela-birth" || first["specversion"] != "1.0" {
		t.Errorf("%v", first)
	}
	data := first["data"].(map[string]any)
	if data["numberOfChildren"] != 1.0 || data["mother"].(map[string]any)["bankAccount"] != nil {
		t.Errorf("%v", data)
	}
	t.Run("from", func(t *testing.T) { b.tailFrom(t) })
	t.Run("a held event gets its subject", func(t *testing.T) { b.redriveHeld(t, p) })
	t.Run("an undeliverable one is decided for its subscription alone", func(t *testing.T) { b.redriveUndeliverable(t) })
	t.Run("erased", func(t *testing.T) { b.erase(t, p) })
}

func (b *bench) tailFrom(t *testing.T) {
	for from, want := range map[string]int{"beginning": 1, "0": 1, "1": 0, "1h": 1, time.Now().Add(time.Hour).UTC().Format(time.RFC3339): 0} {
		f, err := admin.ParseFrom(from, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		if err := b.Tail(t.Context(), "kela.fi", admin.Tail{From: f}, func([]byte) error { got++; return nil }); err != nil || got != want {
			t.Errorf("from %s: %d, want %d, %v", from, got, want, err)
		}
	}
	if err := b.Tail(t.Context(), "nobody.fi", admin.Tail{}, nil); err == nil {
		t.Error("a subscriber that has no topic is tailed")
	}
}

// only gives the one dead letter that a filter chooses.
func (b *bench) only(t *testing.T, f admin.LetterFilter) admin.Letter {
	t.Helper()
	var all []admin.Letter
	for l, err := range b.Letters(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	if len(all) != 1 {
		t.Fatalf("%d dead letters, want 1: %v", len(all), all)
	}
	return all[0]
}

func (b *bench) redrive(t *testing.T, l admin.Letter, given ...admission.Given) admin.Result {
	t.Helper()
	var got []admin.Result
	err := b.Redrive(t.Context(), admin.Plan([]admin.Letter{l}, given), given, func(r admin.Result) error { got = append(got, r); return nil })
	if err != nil || len(got) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	return got[0]
}

func (b *bench) redriveHeld(t *testing.T, p *admin.Publisher) {
	if a := b.publish(p, "hus.fi", "events/birth-mother-unknown.json"); a.Status != admission.Held {
		t.Fatalf("%+v", a)
	}
	l := b.only(t, admin.LetterFilter{Causes: []string{"no_subject"}})
	if again := b.only(t, admin.LetterFilter{Places: []admin.Place{l.Place}}); again.Place != l.Place {
		t.Errorf("by its place: %v", again.Place)
	}
	if r := b.redrive(t, l); r.Status != admin.Skipped {
		t.Errorf("without a subject: %+v", r)
	}
	given, err := admin.ParseGiven([]byte("mother=fi-hetu:" + mother))
	if err != nil {
		t.Fatal(err)
	}
	if r := b.redrive(t, l, given...); r.Status != string(admission.Accepted) {
		t.Errorf("with its subject: %+v", r)
	}
	var late bool
	for _, d := range b.deliveries("wallet.example", 2) { // the mother's of the first, and this one; the father has not consented
		late = late || d["redriven"] == "true" && d["subjectrole"] == "mother"
	}
	if !late {
		t.Error("the redriven event has not arrived as one")
	}
	text, err := b.LetterJSON(t.Context(), l, false)
	if err != nil || bytes.Contains(text, []byte(`"data"`)) || !json.Valid(text) {
		t.Errorf("%s, %v", text, err)
	}
	if text, err := b.LetterJSON(t.Context(), l, true); err != nil || !bytes.Contains(text, []byte(`"children"`)) {
		t.Errorf("%s, %v", text, err)
	}
}

// redriveUndeliverable writes a dead letter as the router does, of an event that it has decided, and redrives it.
func (b *bench) redriveUndeliverable(t *testing.T) {
	var event *kgo.Record
	reader, err := b.cfg.Connection.Client(kgo.ConsumeTopics(topology.Birth.Name), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for event == nil {
		for _, r := range reader.PollFetches(t.Context()).Records() {
			for _, h := range r.Headers {
				if h.Key == codecs.HeaderSubjectRole && string(h.Value) == "child" && event == nil {
					event = r
				}
			}
		}
	}
	letter := codecs.DeadLetter{Cause: "undeliverable_topic", Group: "router", Topic: event.Topic, Partition: event.Partition, Offset: event.Offset,
		Subscription: "sub-vero-birth", Key: event.Key, Value: event.Value, At: codecs.Millis(time.Now())}
	for _, h := range event.Headers {
		letter.Headers = append(letter.Headers, codecs.Header{Key: h.Key, Value: h.Value})
	}
	b.write(&kgo.Record{Topic: topology.DeadLetters.Name, Key: event.Key, Value: encode(t, b.records.DeadLetter, letter)})
	count := func(subscriber string) (n int) {
		if err := b.Tail(t.Context(), subscriber, admin.Tail{}, func([]byte) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	b.deliveries("dvv.fi", 1)
	dvv, vero := count("dvv.fi"), count("vero.fi")
	if r := b.redrive(t, b.only(t, admin.LetterFilter{Causes: []string{"undeliverable_topic"}})); r.Status != admin.Redriven || r.To != topology.Birth.Name {
		t.Errorf("%+v", r)
	}
	all := b.deliveries("vero.fi", vero+1)
	ids := map[any]bool{}
	for _, d := range all {
		ids[d["id"]] = true
	}
	if len(ids) != vero {
		t.Errorf("%d ids on %d deliveries, want one that stands twice", len(ids), len(all))
	}
	if now := count("dvv.fi"); now != dvv {
		t.Errorf("another subscription got it too: %d, had %d", now, dvv)
	}
}

func (b *bench) erase(t *testing.T, p *admin.Publisher) {
	subject := refdata.Subject{Scheme: "fi-hetu", ID: mother}
	b.inEffect(b.EraseSubject(t.Context(), admin.By{Actor: "operator:anna"}, subject))
	key, err := b.Subject(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	row, err := admin.Consents.One(t.Context(), b.Client, key)
	if err != nil || row == nil || row.Restriction != "erasure" || len(row.Grants) != 0 {
		t.Errorf("%+v, %v", row, err)
	}
	requests, err := b.ChangeConsents(t.Context(), admin.By{Actor: "operator:anna"}, refdata.Consent{Subject: subject,
		Command: codecs.ConsentCommand{Kind: "grant", Grant: codecs.Grant{ID: "x", Recipient: "kela.fi", Purpose: "child-benefit", Scopes: []string{"birth-notification"}}}})
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := b.Send(t.Context(), requests, admin.Wait{Timeout: time.Minute})
	if err != nil || outcomes[0].Status != admin.Refused || outcomes[0].Reason != "under_erasure" {
		t.Errorf("%+v, %v", outcomes, err)
	}
	if strings.Contains(requests[0].About, key) || strings.Contains(requests[0].About, mother) {
		t.Errorf("a request names its subject: %q", requests[0].About)
	}
	_, err = b.Subject(t.Context(), refdata.Subject{Scheme: "fi-hetu", ID: wrong})
	if err == nil || strings.Contains(err.Error(), wrong) {
		t.Errorf("a wrong id: %v", err)
	}
}

// Bytes that are no Avro, and a schema that the registry does not know, do not end a tail.
func TestTailShowsWhatItCannotDecode(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	topic := topology.SubscriberTopicName("kela.fi")
	if _, err := kadm.NewClient(b.kafka).CreateTopic(t.Context(), 4, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	header := []kgo.RecordHeader{{Key: "ce_id", Value: []byte("1")}, {Key: "other", Value: []byte("x")}, {Key: "ce_odd", Value: []byte("a\"<\xff")}}
	b.write(&kgo.Record{Topic: topic, Value: []byte("poison"), Headers: header},
		&kgo.Record{Topic: topic, Value: codecs.AppendWire(nil, 9999)}, &kgo.Record{Topic: topic})
	for _, event := range b.deliveries("kela.fi", 3) {
		_, decoded := event["data"]
		_, raw := event["data_base64"]
		if decoded == raw || event["kafkaposition"] == nil || event["other"] != nil {
			t.Errorf("%v", event)
		}
	}
}
