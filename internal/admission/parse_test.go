package admission

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/twmb/franz-go/pkg/kgo"

	"civicbus/internal/pseudonym"
)

func read(t testing.TB, text string) (ins []*Input, err error) {
	t.Helper()
	for in, e := range ReadEvents(strings.NewReader(text), "dvv.fi") {
		if e != nil {
			return ins, e
		}
		ins = append(ins, in)
	}
	return ins, nil
}

const birthJSON = `{"specversion":"1.0","id":"birth-1","source":"https://dvv.fi","type":"fi.dvv.person.birth","time":"2026-02-28T10:00:00+02:00",
	"data":{"child":{"id":"` + child + `","name":"Testi"},"mother":{"id":"` + mother + `","name":"Testi"},"father":null,"municipality":"Espoo"}}`

func TestReadEventsInEveryShape(t *testing.T) {
	second := strings.Replace(birthJSON, "birth-1", "birth-2", 1)
	line := func(text string) string { return strings.ReplaceAll(strings.ReplaceAll(text, "\n", ""), "\t", "") }
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"single":             {birthJSON, []string{"birth-1"}},
		"array":              {"[" + birthJSON + ",\n" + second + "]", []string{"birth-1", "birth-2"}},
		"lines":              {line(birthJSON) + "\n\n" + line(second) + "\n", []string{"birth-1", "birth-2"}},
		"one after another":  {birthJSON + " " + second, []string{"birth-1", "birth-2"}},
		"empty array":        {" [ ] ", nil},
		"nothing":            {" \n", nil},
		"what follows [...]": {"[" + birthJSON + "] " + second, []string{"birth-1"}},
	} {
		ins, err := read(t, test.text)
		var got []string
		for _, in := range ins {
			got = append(got, in.Attributes["id"])
			if len(in.Faults) > 0 || len(in.JSON) == 0 || in.Organisation != "dvv.fi" {
				t.Errorf("%s: %v", name, in.Faults)
			}
		}
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestReadEventsEndsAtWhatIsNoJSON(t *testing.T) {
	for name, text := range map[string]string{
		"cut short": birthJSON + birthJSON[:50],
		"array":     "[" + birthJSON + ",x" + mother,
		"text":      birthJSON + "\nx" + mother,
		"endless":   birthJSON + `{"x":"` + strings.Repeat("y", MaxEventJSONBytes+1<<20) + `"}`,
	} {
		ins, err := read(t, text)
		if !errors.Is(err, ErrNotJSON) || len(ins) != 1 {
			t.Errorf("%s: %d events, %v", name, len(ins), err)
		}
		if holdsAny(fmt.Sprint(err)) {
			t.Errorf("%s: the error holds what was read: %v", name, err)
		}
	}
	broken := errors.New("disk gone")
	for _, err := range ReadEvents(io.MultiReader(strings.NewReader(birthJSON), iotest.ErrReader(broken)), "dvv.fi") {
		if err != nil && !errors.Is(err, broken) {
			t.Errorf("a reader's own error is lost: %v", err)
		}
	}
}

func manyMembers(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"x%d":%d`, i, i))
	}
	return strings.Join(all, ",")
}

func TestJSONAttributes(t *testing.T) {
	with := func(members string) string {
		return strings.Replace(birthJSON, `"data":`, members+`,"data":`, 1)
	}
	for _, test := range []struct {
		name, text string
		faults     []string
		check      func(*Input) bool
	}{
		{"canonical text", with(`"sequence":7,"flag":true,"note":"x","nothing":null`), nil, func(in *Input) bool {
			_, null := in.Attributes["nothing"]
			return in.Attributes["sequence"] == "7" && in.Attributes["flag"] == "true" && in.Attributes["note"] == "x" && !null
		}},
		{"consent object", with(`"consent":{"required":true,"authorizedSubscribers":["kela.fi","vero.fi"]}`), nil, func(in *Input) bool {
			_, left := in.Attributes["consent"]
			return in.HasList && slices.Equal(in.Authorized, []string{"kela.fi", "vero.fi"}) && !left
		}},
		{"consent object without list", with(`"consent":{"required":true}`), nil, func(in *Input) bool { return !in.HasList }},
		{"empty list", with(`"consent":{"authorizedSubscribers":[]}`), nil, func(in *Input) bool { return in.HasList && len(in.Authorized) == 0 }},
		{"list in an extension", with(`"authorizedsubscribers":"kela.fi, vero.fi"`), nil, func(in *Input) bool {
			return in.HasList && slices.Equal(in.Authorized, []string{"kela.fi", "vero.fi"})
		}},
		{"list twice", with(`"authorizedsubscribers":"kela.fi","consent":{"authorizedSubscribers":[]}`), []string{"authorizedsubscribers invalid_list"}, nil},
		{"consent twice", with(`"consent":{"authorizedSubscribers":["kela.fi"]},"consent":{"authorizedSubscribers":["vero.fi"]}`), []string{"consent duplicate_attribute"}, nil},
		{"list twice in consent", with(`"consent":{"authorizedSubscribers":[],"authorizedSubscribers":["vero.fi"]}`), []string{"consent invalid_list"}, nil},
		{"attribute twice", with(`"note":"x","note":"x"`), []string{"note duplicate_attribute"}, nil},
		{"too many", with(manyMembers(maxMembers)), []string{"attributes too_many_attributes"}, nil},
		{"consent as text", with(`"consent":"yes"`), []string{"consent invalid_list"}, nil},
		{"list as text", with(`"consent":{"authorizedSubscribers":"kela.fi"}`), []string{"consent.authorizedSubscribers invalid_list"}, nil},
		{"null list", with(`"consent":{"authorizedSubscribers":null}`), []string{"consent.authorizedSubscribers invalid_list"}, nil},
		{"object", with(`"other":{"a":1}`), []string{"other invalid_attribute"}, nil},
		{"list", with(`"other":[1]`), []string{"other invalid_attribute"}, nil},
		{"upper case", with(`"consentScope":"x"`), []string{"consentScope invalid_name"}, nil},
		{"number as subject", with(`"subject":5`), []string{"subject invalid_attribute"}, nil},
		{"fraction", with(`"ratio":0.5`), []string{"ratio invalid_attribute"}, nil},
		{"national id in subject is kept for Admit", with(`"subject":"` + mother + `"`), nil, func(in *Input) bool { return in.Attributes["subject"] == mother }},
		{"data twice", with(`"data_base64":"AAAA"`), []string{"data invalid_attribute"}, nil},
		{"base64 of one character", strings.Replace(birthJSON, `"data":`, `"data_base64":1,"x":`, 1), []string{"data_base64 invalid_attribute", "x invalid_attribute"}, nil},
		{"time", strings.Replace(birthJSON, "2026-02-28T10:00:00+02:00", "28.2.2026", 1), []string{"time invalid_time"}, nil},
		{"source keeps its spelling", strings.Replace(birthJSON, "https://dvv.fi", "https://dvv.fi/ä b", 1), nil, func(in *Input) bool { return in.Attributes["source"] == "https://dvv.fi/ä b" }},
		{"version 0.3", strings.Replace(birthJSON, `"1.0"`, `"0.3"`, 1), []string{"specversion wrong_specversion"}, nil},
		{"no version", strings.Replace(birthJSON, `"specversion":"1.0",`, ``, 1), []string{"specversion wrong_specversion"}, nil},
		{"XML", with(`"datacontenttype":"application/xml"`), []string{"datacontenttype invalid_attribute"}, nil},
		{"number", "5", []string{"event not_a_cloudevent"}, nil},
		{"null", "null", []string{"event not_a_cloudevent"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			ins, err := read(t, test.text)
			if err != nil || len(ins) != 1 {
				t.Fatal(ins, err)
			}
			if got := reasons(ins[0].Faults); !slices.Equal(got, test.faults) {
				t.Fatalf("faults %v, want %v", got, test.faults)
			}
			if test.check != nil && !test.check(ins[0]) {
				t.Errorf("%+v", ins[0])
			}
		})
	}
}

// TestEveryWayGivesTheSameRecords: JSON data, Avro in base64, and both Kafka modes become the same records.
func TestEveryWayGivesTheSameRecords(t *testing.T) {
	w := newWorld(t)
	want := w.admit(t, w.birth(t, child, mother)).Records
	value := w.birth(t, child, mother).Value
	var members map[string]any
	if err := json.Unmarshal([]byte(birthJSON), &members); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(members["data"])
	if err != nil {
		t.Fatal(err)
	}
	delete(members, "data")
	members["data_base64"] = base64.StdEncoding.EncodeToString(value)
	inBase64, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	headers := []kgo.RecordHeader{{Key: "traceparent", Value: []byte("not the event's")}}
	for name, v := range attributes("birth-1", "https://dvv.fi", "fi.dvv.person.birth") {
		headers = append(headers, kgo.RecordHeader{Key: "ce_" + name, Value: []byte(v)})
	}
	typed := func(mediaType string) []kgo.RecordHeader {
		return append(slices.Clone(headers), kgo.RecordHeader{Key: "Content-Type", Value: []byte(mediaType)})
	}
	single := func(text string) *Input {
		ins, err := read(t, text)
		if err != nil || len(ins) != 1 {
			t.Fatal(err)
		}
		return ins[0]
	}
	for name, in := range map[string]*Input{
		"JSON":              single(birthJSON),
		"base64":            single(string(inBase64)),
		"binary":            FromRecord(&kgo.Record{Topic: "inbox.dvv.fi", Key: []byte(mother), Value: value, Headers: headers}, "dvv.fi"),
		"binary, Avro":      FromRecord(&kgo.Record{Topic: "inbox.dvv.fi", Value: value, Headers: typed("application/avro")}, "dvv.fi"),
		"binary, JSON":      FromRecord(&kgo.Record{Topic: "inbox.dvv.fi", Value: data, Headers: typed("application/json; charset=utf-8")}, "dvv.fi"),
		"structured":        FromRecord(&kgo.Record{Topic: "inbox.dvv.fi", Value: []byte(birthJSON), Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/cloudevents+json; charset=UTF-8")}}}, "dvv.fi"),
		"structured, twice": FromRecord(&kgo.Record{Topic: "inbox.dvv.fi", Value: []byte(birthJSON), Headers: typed("application/cloudevents+json")}, "dvv.fi"),
	} {
		res := w.admit(t, in)
		if fmt.Sprint(res.Records) != fmt.Sprint(want) {
			t.Errorf("%s: %s %v\n%v\nwant\n%v", name, res.Status, res.Faults, res.Records, want)
		}
	}
}

func TestInboxRecordsThatAreNoEvents(t *testing.T) {
	w := newWorld(t)
	value := w.birth(t, child, mother).Value
	ce := func(pairs ...string) (hs []kgo.RecordHeader) {
		for i := 0; i < len(pairs); i += 2 {
			hs = append(hs, kgo.RecordHeader{Key: pairs[i], Value: []byte(pairs[i+1])})
		}
		return hs
	}
	flood := make([]string, 0, 2000)
	for i := range 1000 {
		flood = append(flood, fmt.Sprint("ce_x", i), "1")
	}
	for name, test := range map[string]struct {
		rec  *kgo.Record
		want []string
	}{
		"no headers":    {&kgo.Record{Value: value}, []string{"event not_a_cloudevent"}},
		"tombstone":     {&kgo.Record{Key: []byte(mother)}, []string{"event not_a_cloudevent"}},
		"twice":         {&kgo.Record{Value: value, Headers: ce("ce_id", "1", "ce_id", "2")}, []string{"id duplicate_attribute"}},
		"name":          {&kgo.Record{Value: value, Headers: ce("ce_Id", "1")}, []string{"Id invalid_name"}},
		"a person":      {&kgo.Record{Value: value, Headers: ce("ce_"+mother, "1")}, []string{"(withheld) invalid_name"}},
		"batch":         {&kgo.Record{Value: value, Headers: ce("content-type", "application/cloudevents-batch+json")}, []string{"content-type not_a_cloudevent"}},
		"no JSON":       {&kgo.Record{Value: value, Headers: ce("content-type", "application/cloudevents+json")}, []string{"event not_a_cloudevent"}},
		"large":         {&kgo.Record{Value: make([]byte, MaxEventJSONBytes+1), Headers: ce("content-type", "application/cloudevents+json")}, []string{"data too_large"}},
		"flood":         {&kgo.Record{Value: value, Headers: ce(flood...)}, []string{"attributes too_many_attributes"}},
		"empty headers": {&kgo.Record{Value: value, Headers: ce("ce_id", "", "ce_specversion", "1.0")}, []string{"id missing", "source missing", "type missing"}},
	} {
		res := w.admit(t, FromRecord(test.rec, "dvv.fi"))
		if res.Status != Refused || !slices.Equal(reasons(res.Faults), test.want) {
			t.Errorf("%s: %s %v, want %v", name, res.Status, reasons(res.Faults), test.want)
		}
	}
}

func TestPublicExampleIsAccepted(t *testing.T) {
	w := newWorld(t)
	text := strings.Replace(birthJSON, `"data":`, `"subject":"`+child+`","consent":{"status":"granted","authorizedSubscribers":["kela.fi"]},"data":`, 1)
	ins, err := read(t, text)
	if err != nil {
		t.Fatal(err)
	}
	res := w.admit(t, ins[0])
	if res.Status != Accepted {
		t.Fatal(res.Faults)
	}
	if subject, _ := header(res.Records[0].Headers, "ce_subject"); subject != w.subject(pseudonym.Hetu, child) {
		t.Errorf("ce_subject %q", subject)
	}
	if list, _ := header(res.Records[0].Headers, "ce_authorizedsubscribers"); list != "kela.fi" {
		t.Errorf("list %q", list)
	}
	if _, ok := header(res.Records[0].Headers, "ce_consent"); ok {
		t.Error("consent reached the record")
	}
}
