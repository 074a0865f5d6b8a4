package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kgo"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
	"civicbus/internal/verdict"
	"civicbus/processors/event"
	"civicbus/processors/event/eventtest"
	"civicbus/topology"
)

// bench is the router in goka's tester. refused is asked for each delivery.
type bench struct {
	*eventtest.Bench
	refused func(topic string, bytes int) string
	missing bool // no projection is registered
	packed  *verdict.PackedConsents
	dataRef func(dst []byte, subscription string, to *pseudonym.Reference) []byte // nil: thin deliveries have none
}

func newBench(t *testing.T, w *eventtest.World) *bench {
	b := &bench{refused: func(string, int) string { return "" }, packed: verdict.NewPackedConsents(w.Records.Consents)}
	known := newRegistered(w)
	b.Bench = w.Run(topology.Router, New(Env{Env: w.Env(), Consents: b.packed,
		Projection: func(t verdict.Target) (*codecs.Projection, int32) {
			if b.missing {
				return nil, 0
			}
			return known.find(t)
		},
		Refused: func(topic string, bytes int) string { return b.refused(topic, bytes) },
		DataRef: func(dst []byte, subscription string, to *pseudonym.Reference) []byte {
			if b.dataRef == nil {
				return dst
			}
			return b.dataRef(dst, subscription, to)
		}}).Callbacks())
	return b
}

// born sends one birth about a subject in the role of the child.
func (b *bench) born(id, subject string, more goka.Headers) {
	b.T.Helper()
	b.Send("life.birth", subject, b.Value(eventtest.Data()), b.Headers(eventtest.Birth, id, subject, "child").Merged(more))
}

// consents puts a subject's row as the engine keeps it: packed.
func (b *bench) consents(subject string, c codecs.Consents) {
	b.T.Helper()
	row, err := b.Records.Consents.Encode(&c)
	if err != nil {
		b.T.Fatal(err)
	}
	b.Put("consent", subject, b.packed.Pack(nil, row))
}

// data decodes a delivery under the schema that it names.
func (b *bench) data(r *kgo.Record) map[string]any {
	b.T.Helper()
	id, body, err := codecs.WireID(r.Value)
	if err != nil {
		b.T.Fatal(err)
	}
	s, err := b.Registry.Load(context.Background(), id)
	if err != nil {
		b.T.Fatal(err)
	}
	codec, err := s.Goavro()
	if err != nil {
		b.T.Fatal(err)
	}
	native, rest, err := codec.NativeFromBinary(body)
	if err != nil || len(rest) > 0 {
		b.T.Fatalf("%v, %d bytes left", err, len(rest))
	}
	return native.(map[string]any)
}

// every adds a subscription of each way: by consent, by consent to a webhook, and another organisation's without a basis.
func every(w *eventtest.World) {
	consent := eventtest.Subscription("sub-consent", eventtest.Vero, verdict.BasisConsent)
	hook := eventtest.Subscription("sub-hook", eventtest.Vero, verdict.BasisConsent)
	hook.Delivery = codecs.Delivery{Kind: "webhook", Sink: "https://vero.example/hook"}
	none := eventtest.Subscription("sub-none", eventtest.Vero, verdict.BasisLegalObligation)
	for _, s := range []*codecs.Subscription{consent, hook, none} {
		w.Subs[s.ID] = s
	}
	w.Changed()
}

func TestADeliveryAndItsDecision(t *testing.T) {
	w := eventtest.New(t)
	every(w)
	b := newBench(t, w)
	subject := w.Subject("a")
	b.consents(subject, codecs.Consents{Version: 11, Grants: []codecs.Grant{eventtest.Grant("g1", eventtest.Vero, "place", "profile.language")}})
	stamp, err := w.Records.Attributes.Encode(&codecs.Attributes{Municipality: "Espoo", Language: "sv"})
	if err != nil {
		t.Fatal(err)
	}
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" // a subscriber's topic has nothing of it
	b.born("birth-1", subject, eventtest.Following(goka.Headers{codecs.HeaderProfile: stamp, codecs.HeaderProfileVersion: []byte("12"), codecs.HeaderTrace: []byte(trace)}, 41))

	law, consent, hook := w.One("subscriber.kela.fi"), w.One("subscriber.vero.fi"), w.One("webhook-deliveries")
	lifeEvent := w.Keys.LifeEvent(eventtest.Source, "birth-1")
	pair := func(subscriber string) string {
		s, err := w.Keys.For(subscriber).Seal(subject)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	schemaOf := func(r *kgo.Record) string {
		id, _, _ := codecs.WireID(r.Value)
		return fmt.Sprintf("http://registry:8081/schemas/ids/%d", id)
	}
	for _, test := range []struct {
		name                         string
		r                            *kgo.Record
		subscriber, sub, basis, ref  string
		withheld, key, child, weight string
	}{
		{"by law", law, eventtest.Kela, "sub-law", "legal_obligation", "law-1", "", pair(eventtest.Kela), "Aino", "3500"},
		{"by consent", consent, eventtest.Vero, "sub-consent", "consent", "g1", "data.child.name,data.child.weight", pair(eventtest.Vero), "", ""},
		{"to a webhook", hook, eventtest.Vero, "sub-hook", "consent", "g1", "data.child.name,data.child.weight", subject, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := map[string]string{
				"ce_specversion": "1.0", "ce_id": w.Keys.Delivery(eventtest.Source, "birth-1", subject, test.sub), "ce_source": eventtest.Source,
				"ce_type": eventtest.Birth, "ce_time": "2026-02-28T08:00:00Z", "ce_subject": pair(test.subscriber), "ce_subjectrole": "child",
				"ce_dataschema": schemaOf(test.r), "content-type": "application/avro", "ce_correlationid": w.Keys.For(test.subscriber).SealID(lifeEvent),
				"ce_subscription": test.sub, "ce_purpose": "benefit", "ce_legalbasis": test.basis, "ce_grantreference": test.ref,
			}
			if test.withheld != "" {
				want["ce_withheld"] = test.withheld
			}
			if test.r == hook { // its sender lets neither of them leave
				want[codecs.HeaderRecordedTime], want[codecs.HeaderTrace] = "2026-03-01T12:00:00Z", trace
			}
			if got := eventtest.HeadersOf(t, test.r); !maps.Equal(got, want) {
				t.Errorf("headers\n%v, want\n%v", got, want)
			}
			if string(test.r.Key) != test.key {
				t.Errorf("key %s, want %s", test.r.Key, test.key)
			}
			data := b.data(test.r)
			text := fmt.Sprint(data)
			for _, field := range []string{test.child, test.weight} {
				if !strings.Contains(text, field) {
					t.Errorf("%s lacks %q", text, field)
				}
			}
			if test.child == "" && (strings.Contains(text, "Aino") || strings.Contains(text, "Espoo") == false || !strings.Contains(text, "sv")) {
				t.Errorf("by consent to place and language: %s", text)
			}
			if test.child != "" && (strings.Contains(text, "02100") || strings.Contains(text, "sv") || !strings.Contains(text, "Espoo")) {
				t.Errorf("by the rule on the child and the municipality: %s", text)
			}
		})
	}
	if pair(eventtest.Kela) == pair(eventtest.Vero) {
		t.Error("two subscribers know one person by one name")
	}
	for r, subscriber := range map[*kgo.Record]string{law: eventtest.Kela, consent: eventtest.Vero} {
		if opened, err := w.Keys.For(subscriber).Open(string(r.Key)); err != nil || opened != subject {
			t.Errorf("%s opens to %q, %v", r.Key, opened, err)
		}
	}

	decided := w.One(topology.Decisions.Name)
	d, err := w.Records.Decision.Decode(decided.Value)
	if err != nil {
		t.Fatal(err)
	}
	if string(decided.Key) != subject || len(d.Verdicts) != 4 {
		t.Fatalf("decision %+v under %s", d, decided.Key)
	}
	verdicts := d.Verdicts
	d.Verdicts = nil
	if want := (codecs.Decision{Kind: "router", Topic: "life.birth", Follows: 41, DecidedAt: w.Now.UnixMilli(), LifeEventID: lifeEvent, Subjects: 1, EventType: eventtest.Birth,
		Source: eventtest.Source, Role: "child", Outcome: "decided", CatalogVersion: 7, ConsentVersion: 11, ProfileVersion: 12}); fmt.Sprint(d) != fmt.Sprint(want) {
		t.Errorf("decision %+v, want %+v", d, want)
	}
	item := func(sub, subscriber, basis, reason, reference string, version int64) codecs.VerdictItem {
		v := codecs.VerdictItem{Subscription: sub, SubscriptionVersion: 2, Subscriber: subscriber, TrustVersion: 3, Permit: reference != "", Reason: reason, Basis: basis,
			Purpose: "benefit", Reference: reference, ReferenceVersion: version}
		if v.Permit {
			v.DeliveryID = w.Keys.Delivery(eventtest.Source, "birth-1", subject, sub)
			v.FieldSet = verdict.FieldSetOf(map[string][]string{"law-1": {"data.child.id", "data.child.name", "data.child.weight", "profile.municipality"},
				"g1": {"data.place", "data.zip", "profile.language"}}[reference])
		}
		return v
	}
	if want := []codecs.VerdictItem{item("sub-consent", eventtest.Vero, "consent", "consent", "g1", 5), item("sub-hook", eventtest.Vero, "consent", "consent", "g1", 5),
		item("sub-law", eventtest.Kela, "legal_obligation", "rule", "law-1", 7), item("sub-none", eventtest.Vero, "legal_obligation", "rule_not_in_force", "", 0)}; !slices.Equal(verdicts, want) {
		t.Errorf("verdicts\n%+v, want\n%+v", verdicts, want)
	}
	for _, secret := range []string{eventtest.Hetu, "Aino", "Espoo", "02100", "Liisa", "Turku", "birth-1"} {
		if bytes.Contains(decided.Value, []byte(secret)) {
			t.Errorf("the decision holds %q", secret)
		}
	}
	w.Quiet()
	if !slices.Equal(w.Outcomes, []string{"router decided"}) {
		t.Errorf("counted %v", w.Outcomes)
	}
}

// The joined row decides: none, one that grants, one that cannot be read.
func TestConsentsAreJoined(t *testing.T) {
	w := eventtest.New(t)
	every(w)
	b := newBench(t, w)
	subject := w.Subject("a")
	decide := func(id string) (codecs.Decision, string) {
		t.Helper()
		b.born(id, subject, nil)
		d, _ := w.Decision()
		var got []string
		for _, v := range d.Verdicts {
			got = append(got, v.Reason)
		}
		w.Out = nil
		return d, strings.Join(got, " ")
	}
	if d, got := decide("1"); got != "no_grant no_grant rule rule_not_in_force" || d.ConsentVersion != 0 {
		t.Errorf("without a row: %s, version %d", got, d.ConsentVersion)
	}
	b.consents(subject, codecs.Consents{Version: 4, Grants: []codecs.Grant{eventtest.Grant("g1", eventtest.Vero, "name")}})
	if d, got := decide("2"); got != "consent consent rule rule_not_in_force" || d.ConsentVersion != 4 {
		t.Errorf("with a grant: %s, version %d", got, d.ConsentVersion)
	}
	b.consents(subject, codecs.Consents{Version: 5, Objections: []codecs.Objection{{Subscription: "sub-hook"}}})
	if d, got := decide("3"); got != "no_grant objected rule rule_not_in_force" || d.ConsentVersion != 5 {
		t.Errorf("with an objection: %s, version %d", got, d.ConsentVersion)
	}
	whole, err := w.Records.Consents.Encode(&codecs.Consents{Version: 6})
	if err != nil {
		t.Fatal(err)
	}
	b.Put("consent", subject, whole)
	if d, _ := decide("whole"); d.ConsentVersion != 6 {
		t.Errorf("with a row that is not packed: version %d", d.ConsentVersion)
	}
	other := commandResult(t, w)
	for name, row := range map[string][]byte{"cut": {0, 0, 0, 0, 1, 2}, "empty": {}, "another record": other, "another record, packed": b.packed.Pack(nil, other)} {
		b.Put("consent", subject, row)
		if d, got := decide(name); got != strings.TrimSpace(strings.Repeat("consents_unreadable ", 4)) || d.ConsentVersion != -1 {
			t.Errorf("with a row that cannot be read (%s): %s, version %d", name, got, d.ConsentVersion)
		}
	}
	if stranger := w.Subject("b"); stranger != subject {
		b.born("4", stranger, nil)
		if d, _ := w.Decision(); d.ConsentVersion != 0 {
			t.Error("another subject's row was joined")
		}
	}
}

func commandResult(t *testing.T, w *eventtest.World) []byte {
	t.Helper()
	b, err := w.Records.CommandResult.Encode(&codecs.CommandResult{Kind: "grant"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCommandsGoToTheOneThatTheyName(t *testing.T) {
	w := eventtest.New(t)
	vero := eventtest.Subscription("sub-vero", eventtest.Vero, verdict.BasisLegalObligation)
	w.Subs[vero.ID] = vero
	w.Changed()
	b := newBench(t, w)
	subject := w.Subject("a")
	for recipient, want := range map[string][]string{eventtest.Kela: {"sub-law"}, eventtest.Vero: {"sub-vero"}, "other.fi": nil, "": nil} {
		b.Send("commands", subject, w.Value(eventtest.Data()), w.Headers(eventtest.Order, "order-"+recipient, subject, "child").Merged(
			goka.Headers{codecs.HeaderRecipient: []byte(recipient)}))
		d, _ := w.Decision()
		var got []string
		for _, v := range d.Verdicts {
			got = append(got, v.Subscription)
			if r := w.One("subscriber." + recipient); eventtest.HeadersOf(t, r)["ce_subscription"] != v.Subscription || eventtest.HeadersOf(t, r)["ce_recipient"] != "" {
				t.Errorf("to %s went %v", recipient, eventtest.HeadersOf(t, r))
			}
		}
		if !slices.Equal(got, want) || d.Outcome != "decided" {
			t.Errorf("a command to %q was decided for %v, want %v", recipient, got, want)
		}
		w.Quiet()
	}
}

// What is redriven for one subscription is decided for that one alone, and says that it is late.
func TestOnlyOneSubscription(t *testing.T) {
	w := eventtest.New(t)
	every(w)
	b := newBench(t, w)
	subject := w.Subject("a")
	late := func(only string) goka.Headers {
		return goka.Headers{codecs.HeaderRedriven: []byte("true"), codecs.HeaderOnly: []byte(only)}
	}
	b.born("birth-1", subject, late("sub-law"))
	d, _ := w.Decision()
	if r := w.One("subscriber.kela.fi"); len(d.Verdicts) != 1 || d.Verdicts[0].Subscription != "sub-law" || eventtest.HeadersOf(t, r)["ce_redriven"] != "true" ||
		eventtest.HeadersOf(t, r)["ce_id"] != w.Keys.Delivery(eventtest.Source, "birth-1", subject, "sub-law") {
		t.Errorf("decision %+v, delivery %+v", d, r)
	}
	b.born("birth-1", subject, late("sub-consent"))
	if d, _ := w.Decision(); len(d.Verdicts) != 1 || d.Verdicts[0].Reason != "no_grant" {
		t.Errorf("without a grant: %+v", d)
	}
	b.born("birth-1", subject, late("sub-gone"))
	if d, _ := w.Decision(); len(d.Verdicts) != 0 || d.Outcome != "decided" {
		t.Errorf("a subscription that is gone: %+v", d)
	}
	b.born("birth-1", subject, goka.Headers{codecs.HeaderRedriven: []byte("true")})
	if d, _ := w.Decision(); len(d.Verdicts) != 4 {
		t.Errorf("redriven for all: %+v", d)
	}
	w.One("subscriber.kela.fi")
	w.Quiet()
}

func TestWhatIsNoEvent(t *testing.T) {
	w := eventtest.New(t)
	b := newBench(t, w)
	subject := w.Subject("a")
	value := w.Value(eventtest.Data())
	right := w.Headers(eventtest.Birth, "birth-1", subject, "child")
	without := func(name string) goka.Headers {
		h := maps.Clone(right)
		delete(h, name)
		return h
	}
	bad := bytes.Clone(value[:len(value)-3]) // ends inside the last sibling, which no filter reads and every cut does
	for _, test := range []struct {
		name, key string
		value     []byte
		headers   goka.Headers
		outcome   string
	}{
		{"no id", subject, value, without(codecs.HeaderID), "malformed"},
		{"no role", subject, value, without(codecs.HeaderSubjectRole), "malformed"},
		{"an old envelope", subject, value, right.Merged(goka.Headers{codecs.HeaderSpecVersion: []byte("0.3")}), "malformed"},
		{"an index that is none", subject, value, right.Merged(goka.Headers{codecs.HeaderSubjectIndex: []byte("-1")}), "malformed"},
		{"a tombstone", subject, nil, right, "malformed"},
		{"no wire format", subject, []byte("{}"), right, "malformed"},
		{"a body that ends early", subject, bad, right, "malformed"},
		{"a body of nothing", subject, value[:5], right, "malformed"},
		{"larger than any event", subject, append(bytes.Clone(value), make([]byte, topology.MaxRecordBytes-70<<10)...), right, "malformed"},
		{"a key of another", w.Subject("b"), value, right, "misplaced"},
		{"a national id as key", eventtest.Hetu, value, right.Merged(goka.Headers{codecs.HeaderSubject: []byte(eventtest.Hetu)}), "misplaced"},
		{"a type that nobody knows", subject, value, right.Merged(goka.Headers{codecs.HeaderType: []byte("fi.test.unknown")}), "unknown_type"},
		{"a schema that nobody knows", subject, []byte{0, 1, 2, 3, 4, 0}, right, "unknown_schema"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.T = t
			b.Send("life.birth", test.key, test.value, eventtest.Following(test.headers, 7))
			letter, under := w.Letter()
			d, key := w.Decision()
			w.Quiet()
			if letter.Cause != test.outcome || letter.Group != "router" || letter.Topic != "life.birth" || letter.Subscription != "" || string(letter.Key) != test.key ||
				!bytes.HasPrefix(test.value, letter.Value) || letter.Offset != d.Offset || letter.At != w.Now.UnixMilli() {
				t.Errorf("dead letter %+v", letter)
			}
			if len(letter.Headers) != len(test.headers) || slices.ContainsFunc(letter.Headers, func(h codecs.Header) bool { return !bytes.Equal(h.Value, test.headers[h.Key]) }) {
				t.Errorf("headers of the dead letter %+v", letter.Headers)
			}
			if d.Outcome != test.outcome || d.Kind != "router" || d.Follows != 7 || len(d.Verdicts) != 0 {
				t.Errorf("decision %+v", d)
			}
			for _, k := range []string{under, key} {
				if strings.Contains(k, eventtest.Hetu) || strings.Contains(letter.Detail, eventtest.Hetu) {
					t.Errorf("a national id came into key %q or detail %q", k, letter.Detail)
				}
			}
		})
	}
}

func TestMisplacedByPartition(t *testing.T) {
	w := eventtest.New(t)
	w.Partitions = 8
	g := New(Env{Env: w.Env(), Projection: newRegistered(w).find, Refused: func(string, int) string { return "" }})
	for partition := range w.Partitions {
		subject := w.SubjectOn(partition, w.Partitions)
		g.run(&eventtest.Context{On: "life.birth", Part: 3, Of: subject, With: w.Headers(eventtest.Birth, "1", subject, "child"), Stopped: context.Background()}, w.Value(eventtest.Data()))
		d, _ := w.Decision()
		if want := map[bool]string{true: event.Decided, false: event.Misplaced}[partition == 3]; d.Outcome != want || d.Partition != 3 {
			t.Errorf("a key of partition %d on partition 3: %s", partition, d.Outcome)
		}
		w.Out = nil
	}
}

// A delivery's id depends on source, id, subject and subscription alone.
func TestDeliveryIDs(t *testing.T) {
	w := eventtest.New(t)
	w.Partitions = 8
	g := New(Env{Env: w.Env(), Projection: newRegistered(w).find, Refused: func(string, int) string { return "" }})
	id := func(topic string, partition int32, offset int64, subject, event string) string {
		t.Helper()
		g.run(&eventtest.Context{On: topic, Part: partition, At: offset, Of: subject, With: w.Headers(eventtest.Birth, event, subject, "child"), Stopped: context.Background()}, w.Value(eventtest.Data()))
		r := w.One("subscriber.kela.fi")
		w.Out = nil
		return eventtest.HeadersOf(t, r)["ce_id"]
	}
	a, b := w.SubjectOn(2, 8), w.SubjectOn(5, 8)
	first := id("life.birth", 2, 10, a, "birth-1")
	w.Now = w.Now.AddDate(0, 1, 0)
	w.Types[eventtest.Birth].Version++
	w.Changed()
	if again := id("life.family", 2, 99, a, "birth-1"); again != first {
		t.Errorf("the same event at another place and time: %s, was %s", again, first)
	}
	if id("life.birth", 2, 10, a, "birth-2") == first || id("life.birth", 5, 10, b, "birth-1") == first {
		t.Error("another event or subject has the same delivery id")
	}
	w.Partitions = 1
	g = New(Env{Env: w.Env(), Projection: newRegistered(w).find, Refused: func(string, int) string { return "" }})
	if again := id("life.birth", 0, 3, a, "birth-1"); again != first {
		t.Errorf("on another number of partitions: %s, was %s", again, first)
	}
}

func TestUndeliverable(t *testing.T) {
	for _, reason := range []string{UndeliverableTopic, UndeliverableSize, UndeliverableAccess, UndeliverableSchema} {
		t.Run(reason, func(t *testing.T) {
			w := eventtest.New(t)
			every(w)
			b := newBench(t, w)
			subject := w.Subject("a")
			b.consents(subject, codecs.Consents{Version: 1, Grants: []codecs.Grant{eventtest.Grant("g1", eventtest.Vero, "place")}})
			b.missing = reason == UndeliverableSchema
			b.refused = func(topic string, bytes int) string {
				if topic == "subscriber.kela.fi" && bytes > 300 {
					return reason
				}
				return ""
			}
			b.born("birth-1", subject, nil)
			w.Take("webhook-deliveries")
			delivered := len(w.Take("subscriber.vero.fi"))
			d, _ := w.Decision()
			letters, commands := w.Take(topology.DeadLetters.Name), w.Take(topology.SubscriptionCommands.Name)
			w.Quiet()
			if b.missing {
				if delivered != 0 || len(letters) != 3 || len(commands) != 0 {
					t.Fatalf("%d delivered, %d dead letters, %d commands", delivered, len(letters), len(commands))
				}
				return
			}
			if delivered != 1 || len(letters) != 1 || len(commands) != 1 {
				t.Fatalf("%d delivered to others, %d dead letters, %d commands", delivered, len(letters), len(commands))
			}
			letter, err := w.Records.DeadLetter.Decode(letters[0].Value)
			if err != nil || letter.Cause != reason || letter.Subscription != "sub-law" || letter.Detail == "" || letter.Topic != "life.birth" ||
				!bytes.Equal(letter.Value, w.Value(eventtest.Data())) || string(letter.Key) != subject || string(letters[0].Key) != subject {
				t.Errorf("dead letter %+v, %v", letter, err)
			}
			i := slices.IndexFunc(d.Verdicts, func(v codecs.VerdictItem) bool { return v.Subscription == "sub-law" })
			if v := d.Verdicts[i]; v.Permit || v.Reason != reason || v.DeliveryID != "" || v.FieldSet != 0 || v.Reference != "law-1" || d.Outcome != "decided" {
				t.Errorf("verdict %+v", v)
			}
			cmd, err := w.Records.SubscriptionCommand.Decode(commands[0].Value)
			if err != nil || cmd.Kind != "pause" || cmd.Subscription.ID != "sub-law" || string(commands[0].Key) != "sub-law" || cmd.Reason != reason ||
				cmd.Meta.Actor != "civicbus" || len(cmd.Meta.ID) != 32 {
				t.Errorf("command %+v, %v", cmd, err)
			}
			b.born("birth-1", subject, nil) // at the next offset: another record, another command
			second, _ := w.Records.SubscriptionCommand.Decode(w.One(topology.SubscriptionCommands.Name).Value)
			if second.Meta.ID == cmd.Meta.ID {
				t.Error("two records ask by one command id")
			}
		})
	}
}

// The same record tried again, after an abort, asks by the same command id.
func TestPauseOnceARecord(t *testing.T) {
	w := eventtest.New(t)
	g := New(Env{Env: w.Env(), Projection: newRegistered(w).find, Refused: func(string, int) string { return UndeliverableTopic }})
	subject := w.Subject("a")
	seen := map[string]bool{}
	for range 3 {
		g.run(&eventtest.Context{On: "life.birth", At: 5, Of: subject, With: w.Headers(eventtest.Birth, "1", subject, "child"), Stopped: context.Background()}, w.Value(eventtest.Data()))
		cmd, err := w.Records.SubscriptionCommand.Decode(w.One(topology.SubscriptionCommands.Name).Value)
		if err != nil {
			t.Fatal(err)
		}
		seen[cmd.Meta.ID] = true
		w.Now = w.Now.Add(1)
	}
	if len(seen) != 1 {
		t.Errorf("ids %v", seen)
	}
}

// While stopping, a row that is not there may be a row that was not read: nothing is concluded.
func TestNothingIsDecidedWhileStopping(t *testing.T) {
	w := eventtest.New(t)
	g := New(Env{Env: w.Env(), Projection: newRegistered(w).find, Refused: func(string, int) string { return "" }})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	subject := w.Subject("a")
	c := &eventtest.Context{On: "life.birth", Of: subject, With: w.Headers(eventtest.Birth, "1", subject, "child"), Stopped: ctx}
	g.run(c, w.Value(eventtest.Data()))
	w.Quiet()
	if len(c.Held) != 1 || !errors.Is(c.Held[0], context.Canceled) {
		t.Errorf("committed with %v", c.Held)
	}
}

// The in-event list narrows consent only, and an unreadable stamp is no stamp.
func TestListsAndStamps(t *testing.T) {
	w := eventtest.New(t)
	every(w)
	w.Subs["sub-law"].Filter = `{"profile.municipality":"Espoo"}`
	w.Changed()
	b := newBench(t, w)
	subject := w.Subject("a")
	b.consents(subject, codecs.Consents{Version: 1, Grants: []codecs.Grant{eventtest.Grant("g1", eventtest.Vero, "place")}})
	for list, want := range map[string]string{eventtest.Vero: "consent", "other.fi," + eventtest.Vero: "consent", "other.fi": "not_in_event_list", "": "not_in_event_list"} {
		b.born("birth-"+list, subject, goka.Headers{codecs.HeaderAuthorized: []byte(list), codecs.HeaderProfile: []byte("no record")})
		d, _ := w.Decision()
		if len(d.Verdicts) != 3 || d.Verdicts[0].Reason != want {
			t.Errorf("with the list %q: %+v", list, d.Verdicts)
		}
		w.Out = nil
	}
}
