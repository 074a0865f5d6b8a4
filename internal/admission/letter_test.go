package admission

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/twmb/franz-go/pkg/kgo"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
)

func boundLetters(t testing.TB) *codecs.Record[codecs.DeadLetter] {
	t.Helper()
	records := codecs.NewRecords()
	if err := records.BindLocal(); err != nil {
		t.Fatal(err)
	}
	return records.DeadLetter
}

// TestRedrive: what was held passes, once the subject is given, through the bytes of the dead letter.
func TestRedrive(t *testing.T) {
	w := newWorld(t)
	letters := boundLetters(t)
	in := w.birth(t, child)
	in.Attributes["subject"], in.Attributes["traceparent"] = "fi-hetu:"+child, "00-1"
	in.HasList, in.Authorized = true, []string{"kela.fi"}
	in.Origin = Origin{Topic: "inbox.dvv.fi", Partition: 3, Offset: 42}
	held := w.admit(t, in)
	if held.Status != Held {
		t.Fatal(held.Faults)
	}
	rec, err := letterRecord(&held, letters)
	if err != nil {
		t.Fatal(err)
	}
	letter, err := letters.Decode(rec.Value)
	if err != nil {
		t.Fatal(err)
	}
	back, err := FromDeadLetter(&letter, Given{Role: "mother", Subject: "fi-hetu:" + mother})
	if err != nil {
		t.Fatal(err)
	}
	if back.Origin != in.Origin || back.Organisation != "dvv.fi" {
		t.Errorf("origin %+v of %s", back.Origin, back.Organisation)
	}
	res := w.admit(t, back)
	want := []string{"child=" + w.subject(pseudonym.Hetu, child), "mother=" + w.subject(pseudonym.Hetu, mother)}
	if res.Status != Accepted || !slices.Equal(about(res.Records), want) || res.LifeEvent != held.LifeEvent {
		t.Fatalf("%s %v %v", res.Status, about(res.Records), res.Faults)
	}
	for name, want := range map[string]string{"ce_redriven": "true", "ce_traceparent": "00-1", "ce_authorizedsubscribers": "kela.fi"} {
		if got, _ := header(res.Records[0].Headers, name); got != want {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	// Without the subject it is held again, and nothing is lost by trying.
	again, err := FromDeadLetter(&letter)
	if err != nil {
		t.Fatal(err)
	}
	if res := w.admit(t, again); res.Status != Held || !slices.Equal(res.Letter.Value, letter.Value) {
		t.Errorf("%s %v", res.Status, res.Faults)
	}
}

// TestAGivenSubjectCannotBeForged: a bus pseudonym is believed in a letter of admission's own, not in what an operator types.
func TestAGivenSubjectCannotBeForged(t *testing.T) {
	w := newWorld(t)
	held := w.admit(t, w.birth(t, child))
	in, err := FromDeadLetter(held.Letter, Given{Role: "mother", Subject: w.subject(pseudonym.Hetu, mother)})
	if err != nil {
		t.Fatal(err)
	}
	if res := w.admit(t, in); !slices.Equal(reasons(res.Faults), []string{"subject subject_form"}) {
		t.Errorf("%s %v", res.Status, reasons(res.Faults))
	}
}

func TestARefusedInboxRecordPassesOnceItsCauseIsGone(t *testing.T) {
	w := newWorld(t)
	w.organisations["dvv.fi"].Status = "suspended"
	structured := &kgo.Record{Topic: "inbox.dvv.fi", Value: []byte(birthJSON), Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte(structuredType)}}}
	res := w.admit(t, FromRecord(structured, "dvv.fi"))
	if res.Status != Refused || res.Letter.Cause != "refused" || !strings.Contains(res.Letter.Detail, OrganisationNotActive) {
		t.Fatalf("%s %+v", res.Status, res.Letter)
	}
	w.organisations["dvv.fi"].Status = "active"
	in, err := FromDeadLetter(res.Letter)
	if err != nil {
		t.Fatal(err)
	}
	if res := w.admit(t, in); res.Status != Accepted || len(res.Records) != 2 {
		t.Errorf("%s %v", res.Status, res.Faults)
	}
}

func TestFromDeadLetterRefusesOthers(t *testing.T) {
	w := newWorld(t)
	own := w.admit(t, w.birth(t, child)).Letter
	for name, change := range map[string]func(*codecs.DeadLetter){
		"of a group":      func(l *codecs.DeadLetter) { l.Group, l.Topic = "router", "life.birth" },
		"no value":        func(l *codecs.DeadLetter) { l.Value = nil },
		"no headers":      func(l *codecs.DeadLetter) { l.Headers = nil },
		"no content type": func(l *codecs.DeadLetter) { l.Headers = l.Headers[1:] },
	} {
		l := *own
		change(&l)
		if _, err := FromDeadLetter(&l); !errors.Is(err, ErrNotAdmissions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLettersFitTheirTopic: the largest that admission can write stays below franz-go's batch and Kafka's default bound.
func TestLettersFitTheirTopic(t *testing.T) {
	w := newWorld(t)
	letters := boundLetters(t)
	for name, value := range map[string][]byte{"largest kept": make([]byte, MaxValueBytes), "too large": make([]byte, MaxEventJSONBytes)} {
		in := w.birth(t, child, mother)
		in.Value = value
		for i := range 100 {
			in.Attributes[fmt.Sprint("x", i)] = strings.Repeat("y", 1000)
		}
		in.HasList = true
		for range 5000 {
			in.Authorized = append(in.Authorized, strings.Repeat("z", 100))
		}
		for i := range 1000 {
			in.fault(fmt.Sprint("data.field", i), "wrong_type", strings.Repeat("ä", 500))
			in.Given = append(in.Given, Given{Role: "child", Subject: "fi-hetu:" + testHetu(i)})
		}
		res := w.admit(t, in)
		rec, err := letterRecord(&res, letters)
		if err != nil {
			t.Fatal(err)
		}
		if len(rec.Value) > 999_000 {
			t.Errorf("%s: %d bytes", name, len(rec.Value))
		}
		if kept := len(res.Letter.Value) > 0; kept != (len(value) <= MaxValueBytes) {
			t.Errorf("%s: kept %v", name, kept)
		}
	}
}

// TestNoNationalIDLeaves is the canary: ids are strewn over everything that a source can write, and may come out in the
// data alone.
func TestNoNationalIDLeaves(t *testing.T) {
	w := newWorld(t)
	ids := []string{child, mother, father, strings.ToLower(mother), "fi-hetu:" + mother}
	w.organisations[strings.ToLower(mother)] = &codecs.Organisation{ID: strings.ToLower(mother), Status: "active"}
	test, accepted := t, 0
	rapid.Check(t, func(t *rapid.T) {
		canary := rapid.SampledFrom(ids)
		text := rapid.OneOf(canary, rapid.Map(canary, func(id string) string { return "urn:x-" + id + "/1" }), rapid.StringMatching(`[a-z0-9 :/.-]{0,30}`))
		members := map[string]any{"specversion": "1.0", "id": "birth-1", "source": "https://dvv.fi", "type": "fi.dvv.person.birth",
			"data": map[string]any{"child": person(child), "mother": person(mother), "father": nil, "municipality": "Espoo"}}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"id", "source", "type", "time", "subject", "subjectrole", "recipient",
			"dataschema", "datacontenttype", "traceparent", "correlationid", "partitionkey", "authorizedsubscribers", strings.ToLower(mother), mother, "specversion"}), 0, 2, rapid.ID).Draw(t, "names") {
			members[name] = text.Draw(t, name)
		}
		if rapid.IntRange(0, 3).Draw(t, "consent") == 3 {
			members["consent"] = map[string]any{"authorizedSubscribers": rapid.SliceOfN(text, 0, 3).Draw(t, "list"), mother: mother}
		}
		switch rapid.IntRange(0, 8).Draw(t, "data") {
		case 0:
			members["data"] = map[string]any{mother: mother}
		case 1:
			members["data"] = text.Draw(t, "text")
		case 2:
			members["data"] = map[string]any{"child": person(text.Draw(t, "child")), "mother": nil, "father": nil, "municipality": 5}
		}
		ins, err := read(test, mustJSON(members))
		if err != nil || len(ins) != 1 {
			t.Fatal(err)
		}
		in := ins[0]
		if rapid.IntRange(0, 5).Draw(t, "foreign") == 5 {
			in.Organisation = strings.ToLower(mother)
		}
		res := w.admit(test, in)
		if res.Status == Accepted {
			accepted++
		}
		out := fmt.Sprint(res.Faults, res.LifeEvent)
		for _, rec := range res.Records {
			out += string(rec.Key)
			for _, h := range rec.Headers {
				out += h.Key + "=" + string(h.Value) + "\n"
			}
		}
		if l := res.Letter; l != nil {
			out += l.Cause + l.Detail + l.Group + l.Topic + string(l.Key)
			for _, h := range l.Headers {
				out += h.Key + "=" + string(h.Value) + "\n"
			}
		}
		if holdsAny(out) {
			t.Fatalf("a national id came out:\n%s", out)
		}
	})
	if accepted == 0 {
		t.Error("no event was accepted: the test shows nothing of records")
	}
}

func TestScrubIsTheLastGuard(t *testing.T) {
	faults := scrub([]codecs.Fault{{Field: "data." + mother, Reason: "wrong_type", Text: "no field " + strings.ToLower(mother)}, {Field: "data.a", Text: "kept"}})
	if holdsAny(fmt.Sprint(faults)) || faults[1].Field != "data.a" || faults[1].Text != "kept" {
		t.Error(faults)
	}
}
