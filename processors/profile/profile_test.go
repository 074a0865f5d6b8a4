package profile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lovoo/goka"

	"civicbus/codecs"
	"civicbus/processors/event/eventtest"
	"civicbus/topology"
)

// bench is the group in goka's tester.
type bench struct{ *eventtest.Bench }

func newBench(t *testing.T) *bench {
	w := eventtest.New(t)
	return &bench{w.Run(topology.Profile, New(w.Env()).Callbacks())}
}

// admit sends one admitted birth and gives the outcome of its decision, which is "published" where there is none.
func (b *bench) admit(id, subject, role string, data map[string]any, more goka.Headers) string {
	b.T.Helper()
	b.Send("admitted", subject, b.Value(data), b.Headers(eventtest.Birth, id, subject, role).Merged(more))
	if decisions := b.Take(topology.Decisions.Name); len(decisions) > 0 {
		d, err := b.Records.Decision.Decode(decisions[0].Value)
		if err != nil || len(decisions) > 1 || d.Kind != "profile" {
			b.T.Fatalf("decision %+v, %v", d, err)
		}
		return d.Outcome
	}
	return "published"
}

// stamp is that of the one event that was published.
func (b *bench) stamp() (codecs.Attributes, string) {
	b.T.Helper()
	h := eventtest.HeadersOf(b.T, b.One("life.birth"))
	if h[codecs.HeaderProfile] == "" {
		return codecs.Attributes{}, h[codecs.HeaderProfileVersion]
	}
	a, err := b.Records.Attributes.Decode([]byte(h[codecs.HeaderProfile]))
	if err != nil {
		b.T.Fatal(err)
	}
	return a, h[codecs.HeaderProfileVersion]
}

func (b *bench) row(subject string) codecs.Profile {
	b.T.Helper()
	row, err := b.Records.Profile.Decode(b.Row(subject))
	if err != nil {
		b.T.Fatal(err)
	}
	return row
}

func TestAnEventIsStampedAndPublished(t *testing.T) {
	b := newBench(t)
	subject, data := b.Subject("a"), eventtest.Data()
	forged := goka.Headers{codecs.HeaderProfile: []byte("forged"), codecs.HeaderProfileVersion: []byte("99")}
	if got := b.admit("birth-1", subject, "child", data, eventtest.Following(forged, 7)); got != "published" {
		t.Fatal(got)
	}
	r := b.One("life.birth")
	b.Quiet()
	h := eventtest.HeadersOf(t, r)
	want := map[string]string{}
	for name, v := range b.Headers(eventtest.Birth, "birth-1", subject, "child") {
		want[name] = string(v)
	}
	stamp, err := b.Records.Attributes.Encode(&codecs.Attributes{Municipality: "Espoo", PostalCode: "02100"})
	if err != nil {
		t.Fatal(err)
	}
	want[codecs.HeaderProfile], want[codecs.HeaderProfileVersion] = string(stamp), "1"
	if !maps.Equal(h, want) {
		t.Errorf("headers %v, want %v", h, want)
	}
	if string(r.Key) != subject || !bytes.Equal(r.Value, b.Value(data)) {
		t.Errorf("key %s, value %x", r.Key, r.Value)
	}
	if row := b.row(subject); row.Version != 1 || row.UpdatedAt != eventtest.Start.UnixMilli() || len(row.Seen) != 1 || row.Attributes != (codecs.Attributes{Municipality: "Espoo", PostalCode: "02100"}) {
		t.Errorf("row %+v", row)
	}
	if strings.Contains(string(b.Row(subject)), eventtest.Hetu) || strings.Contains(string(stamp), eventtest.Hetu) {
		t.Error("a national id in the row or the stamp")
	}
}

// What each event tells is folded into the subject's row; what it does not tell stays.
func TestStampsOverTime(t *testing.T) {
	b := newBench(t)
	subject := b.Subject("a")
	long, fits := strings.Repeat("x", MaxAttributeBytes+1), strings.Repeat("y", MaxAttributeBytes)
	data := func(place string, zip any) map[string]any {
		d := eventtest.Data()
		d["place"], d["zip"] = place, zip
		return d
	}
	text := func(s string) any { return map[string]any{"string": s} }
	orphan := eventtest.Data()
	orphan["mother"] = nil
	for i, test := range []struct {
		name, role string
		data       map[string]any
		more       goka.Headers
		want       codecs.Attributes
	}{
		{"a role that is told nothing, so far", "mother", orphan, nil, codecs.Attributes{}},
		{"two attributes", "child", data("Espoo", text("02100")), nil, codecs.Attributes{Municipality: "Espoo", PostalCode: "02100"}},
		{"null tells nothing", "child", data("Turku", nil), nil, codecs.Attributes{Municipality: "Turku", PostalCode: "02100"}},
		{"another role tells another attribute", "mother", eventtest.Data(), nil, codecs.Attributes{Municipality: "Turku", PostalCode: "02100", Language: "fi"}},
		{"a text that is too long tells nothing", "child", data(long, text("1")), nil, codecs.Attributes{Municipality: "Turku", PostalCode: "1", Language: "fi"}},
		{"one as long as can be", "child", data(fits, nil), nil, codecs.Attributes{Municipality: fits, PostalCode: "1", Language: "fi"}},
		{"the second of many", "sibling", eventtest.Data(), goka.Headers{codecs.HeaderSubjectIndex: []byte("1")}, codecs.Attributes{Municipality: "Oulu", PostalCode: "1", Language: "fi"}},
		{"the first of many", "sibling", eventtest.Data(), goka.Headers{codecs.HeaderSubjectIndex: []byte("0")}, codecs.Attributes{Municipality: "Turku", PostalCode: "1", Language: "fi"}},
		{"one beyond the end", "sibling", eventtest.Data(), goka.Headers{codecs.HeaderSubjectIndex: []byte("2")}, codecs.Attributes{Municipality: "Turku", PostalCode: "1", Language: "fi"}},
		{"many without an index", "sibling", eventtest.Data(), nil, codecs.Attributes{Municipality: "Turku", PostalCode: "1", Language: "fi"}},
	} {
		if got := b.admit(fmt.Sprint("birth-", i), subject, test.role, test.data, test.more); got != "published" {
			t.Fatalf("%s: %s", test.name, got)
		}
		stamp, version := b.stamp()
		if stamp != test.want || b.row(subject).Attributes != test.want {
			t.Errorf("%s: stamp %+v, row %+v, want %+v", test.name, stamp, b.row(subject).Attributes, test.want)
		}
		if wantVersion := map[bool]string{false: fmt.Sprint(i + 1)}[test.want == codecs.Attributes{}]; version != wantVersion {
			t.Errorf("%s: version %q, want %q", test.name, version, wantVersion)
		}
	}
	b.Quiet()
	if b.Row(b.Subject("b")) != nil {
		t.Error("another subject has a row")
	}
}

// A new catalog row is followed at once; one without stamps changes nothing and still publishes.
func TestStampsFollowTheCatalog(t *testing.T) {
	b := newBench(t)
	subject := b.Subject("a")
	b.admit("1", subject, "child", eventtest.Data(), nil)
	b.stamp()
	et := *b.Types[eventtest.Birth]
	et.Version, et.Profile, et.Stream = 8, []codecs.Stamp{{Role: "child", Attribute: "country", Path: "data.place"}}, "life.family"
	b.Types[eventtest.Birth] = &et
	b.Changed()
	b.admit("2", subject, "child", eventtest.Data(), nil)
	b.One("life.family")
	if got := b.row(subject).Attributes; got != (codecs.Attributes{Municipality: "Espoo", PostalCode: "02100", Country: "Espoo"}) {
		t.Errorf("attributes %+v", got)
	}
	b.Quiet()
}

func TestRepeats(t *testing.T) {
	b := newBench(t)
	a := b.Subject("a")
	for _, step := range []struct {
		name, id, subject string
		later             time.Duration
		more              goka.Headers
		want              string
	}{
		{"first", "birth-1", a, 0, nil, "published"},
		{"again", "birth-1", a, 0, nil, "repeat"},
		{"again, as another type and role of the same id", "birth-1", a, 0, goka.Headers{codecs.HeaderSubjectRole: []byte("mother")}, "repeat"},
		{"another id", "birth-2", a, 0, nil, "published"},
		{"another subject", "birth-1", b.Subject("b"), 0, nil, "published"},
		{"another source", "birth-1", a, 0, goka.Headers{codecs.HeaderSource: []byte("https://other.fi")}, "published"},
		{"another organisation under the same source", "birth-1", a, 0, goka.Headers{codecs.HeaderOrganisation: []byte("other.fi")}, "published"},
		{"redriven", "birth-1", a, 0, goka.Headers{codecs.HeaderRedriven: []byte("true")}, "published"},
		{"just within a day of the redrive", "birth-1", a, 24*time.Hour - time.Millisecond, nil, "repeat"},
		{"a day after it", "birth-1", a, time.Millisecond, nil, "published"},
	} {
		b.Now = b.Now.Add(step.later)
		before := b.Row(step.subject)
		if got := b.admit(step.id, step.subject, "child", eventtest.Data(), step.more); got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
		published := len(b.Take("life.birth"))
		if (published == 1) != (step.want == "published") || bytes.Equal(before, b.Row(step.subject)) != (step.want == "repeat") {
			t.Errorf("%s: %d published", step.name, published)
		}
	}
	b.Quiet()
	if !slices.Contains(b.Outcomes, "profile repeat") {
		t.Errorf("counted %v", b.Outcomes)
	}
}

func TestWhatIsNotPublished(t *testing.T) {
	b := newBench(t)
	subject := b.Subject("a")
	value := b.Value(eventtest.Data())
	right := b.Headers(eventtest.Birth, "birth-1", subject, "child")
	for _, test := range []struct {
		name, key string
		value     []byte
		headers   goka.Headers
		row       []byte
		outcome   string
	}{
		{"no source", subject, value, right.Merged(goka.Headers{codecs.HeaderSource: nil}), nil, "malformed"},
		{"a tombstone", subject, nil, right, nil, "malformed"},
		{"a body that ends before what it tells", subject, value[:6], right, nil, "malformed"},
		{"a body that ends in the array of many", subject, value[:len(value)-3], right.Merged(goka.Headers{codecs.HeaderSubjectRole: []byte("sibling"),
			codecs.HeaderSubjectIndex: []byte("1")}), nil, "malformed"},
		{"the key of another", b.Subject("b"), value, right, nil, "misplaced"},
		{"a national id as key", eventtest.Hetu, value, right.Merged(goka.Headers{codecs.HeaderSubject: []byte(eventtest.Hetu)}), nil, "misplaced"},
		{"a type that nobody knows", subject, value, right.Merged(goka.Headers{codecs.HeaderType: []byte("fi.test.unknown")}), nil, "unknown_type"},
		{"a schema that nobody knows", subject, []byte{0, 9, 9, 9, 9, 0}, right, nil, "unknown_schema"},
		{"a row that cannot be read", subject, value, right, []byte{0, 9, 9, 9, 9, 1}, "row_unreadable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.T = t
			if test.row != nil {
				b.Put("profile", subject, test.row)
			}
			b.Send("admitted", test.key, test.value, eventtest.Following(test.headers, 3))
			letter, under := b.Letter()
			d, key := b.Decision()
			b.Quiet()
			if letter.Cause != test.outcome || letter.Group != "profile" || letter.Topic != "admitted" || string(letter.Key) != test.key || !bytes.Equal(letter.Value, test.value) {
				t.Errorf("dead letter %+v", letter)
			}
			if d.Outcome != test.outcome || d.Kind != "profile" || d.Topic != "admitted" || d.Follows != 3 || d.Offset != letter.Offset {
				t.Errorf("decision %+v", d)
			}
			if strings.Contains(under+key+letter.Detail, eventtest.Hetu) {
				t.Errorf("a national id in key %q, %q or detail %q", under, key, letter.Detail)
			}
			if !bytes.Equal(b.Row(test.key), test.row) {
				t.Errorf("the row is %x", b.Row(test.key))
			}
		})
	}
}

// An erasure takes the row away; every other command, and what is no command, leaves it.
func TestErasure(t *testing.T) {
	b := newBench(t)
	subject := b.Subject("a")
	b.admit("1", subject, "child", eventtest.Data(), nil)
	command := func(kind string) []byte {
		v, err := b.Records.ConsentCommand.Encode(&codecs.ConsentCommand{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, value := range [][]byte{command("withdraw"), command("restrict"), command("revive"), []byte("erase"), nil} {
		b.Send("consent-commands", subject, value, nil)
		if b.Row(subject) == nil {
			t.Fatalf("%x took the row away", value)
		}
	}
	b.Send("consent-commands", b.Subject("b"), command("erase"), nil)
	if b.Row(subject) == nil {
		t.Fatal("another subject's erasure took the row away")
	}
	b.Send("consent-commands", subject, command("erase"), nil)
	if b.Row(subject) != nil {
		t.Fatal("the row is still there")
	}
	b.Send("consent-commands", subject, command("erase"), nil)
	b.Take("life.birth")
	b.Quiet()
	if got := b.admit("1", subject, "mother", eventtest.Data(), nil); got != "published" || b.row(subject).Version != 1 {
		t.Errorf("after the erasure: %s", got)
	}
}

// While stopping, a row that is not there may be one that was not read.
func TestNothingIsConcludedWhileStopping(t *testing.T) {
	w := eventtest.New(t)
	g := New(w.Env())
	subject := w.Subject("a")
	erase, err := w.Records.ConsentCommand.Encode(&codecs.ConsentCommand{Kind: "erase"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, call := range map[string]func(goka.Context){
		"event":   func(c goka.Context) { g.admitted(c, w.Value(eventtest.Data())) },
		"erasure": func(c goka.Context) { g.command(c, erase) },
	} {
		c := &eventtest.Context{On: "admitted", Of: subject, With: w.Headers(eventtest.Birth, "1", subject, "child"), Stopped: ctx}
		call(c)
		if w.Quiet(); len(c.Held) != 1 || !errors.Is(c.Held[0], context.Canceled) {
			t.Errorf("%s: committed with %v", name, c.Held)
		}
	}
	if len(w.Outcomes) > 0 {
		t.Errorf("counted %v", w.Outcomes)
	}
}
