package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/gateway/publish"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// rawJSON is JSON as it was written.
type rawJSON = json.RawMessage

func (b *bus) read(text string, into any) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		b.t.Fatalf("%v: %s", err, text)
	}
}

// birth is the example's birth under another id.
func (b *bus) birth(id string) event.Event {
	b.t.Helper()
	text, err := examples.Event("events/birth.json")
	b.must(err)
	var e event.Event
	b.must(json.Unmarshal(text, &e))
	e.SetID(id)
	return e
}

// results reads the answer for one event, or for a batch.
func (b *bus) results(a *answer) []publish.Result {
	b.t.Helper()
	var batch publish.Batch
	b.read(a.text, &batch)
	if batch.Results != nil {
		return batch.Results
	}
	var one publish.Result
	b.read(a.text, &one)
	return []publish.Result{one}
}

func publishing(b *bus) {
	const structured, batch = "application/cloudevents+json", "application/cloudevents-batch+json"
	one := func(change func(map[string]any)) string {
		text, err := examples.Event("events/birth.json")
		b.must(err)
		var e map[string]any
		b.must(json.Unmarshal(text, &e))
		if change != nil {
			change(e)
		}
		out, err := json.Marshal(e)
		b.must(err)
		return string(out)
	}
	data := func(e map[string]any) map[string]any { return e["data"].(map[string]any) }
	for _, c := range []struct {
		name, who, media, body string
		status                 int
		want                   string
	}{
		{"good", "hus.fi", structured, one(nil), 202, `"status": "accepted"`},
		{"good, with a character set", "hus.fi", structured + "; charset=utf-8", one(nil), 202, `"status": "accepted"`},
		{"as another", "kela.fi", structured, one(nil), 403, `"source_mismatch"`},
		{"another's source", "hus.fi", structured, one(func(e map[string]any) { e["source"] = "https://kela.fi" }), 403, `"source_mismatch"`},
		{"not its type", "hus.fi", structured, one(func(e map[string]any) { e["type"] = "fi.dvv.person.death" }), 403, `"type_not_allowed"`},
		{"unknown type", "hus.fi", structured, one(func(e map[string]any) { e["type"] = "fi.nothing" }), 422, `"pointer": "/type"`},
		{"wrong field", "hus.fi", structured, one(func(e map[string]any) { data(e)["numberOfChildren"] = "one" }), 422, `"pointer": "/data/numberOfChildren"`},
		{"field too many", "hus.fi", structured, one(func(e map[string]any) { data(e)["shoeSize"] = 42 }), 422, `"unknown_field"`},
		{"no data", "hus.fi", structured, one(func(e map[string]any) { delete(e, "data") }), 422, `"no_data"`},
		{"no id", "hus.fi", structured, one(func(e map[string]any) { delete(e, "id") }), 422, `"missing"`},
		{"wrong id of a person", "hus.fi", structured, one(func(e map[string]any) { data(e)["mother"].(map[string]any)["id"] = "010594Y9033" }), 422, `"invalid_subject"`},
		{"national id in an attribute", "hus.fi", structured, one(func(e map[string]any) { e["id"] = "birth-010594Y9032" }), 422, `"personal_identifier"`},
		{"a delivery's attribute", "hus.fi", structured, one(func(e map[string]any) { e["grantreference"] = "x" }), 422, `"reserved_attribute"`},
		{"no subject", "hus.fi", structured, one(func(e map[string]any) { e["id"] = "held"; data(e)["mother"].(map[string]any)["id"] = "" }), 202, `"status": "held"`},
		{"no CloudEvent", "hus.fi", "application/json", "{}", 422, `"not_a_cloudevent"`},
		{"other format", "hus.fi", "application/cloudevents+avro", "x", 415, `"unsupported_media_type"`},
		{"other batch", "hus.fi", "application/cloudevents-batch+avro", "x", 415, `"unsupported_media_type"`},
		{"batch", "hus.fi", batch, "[" + one(nil) + "," + one(func(e map[string]any) { e["id"] = "second" }) + "]", 202, `"results": [{"status": "accepted"`},
		{"empty batch", "hus.fi", batch, "[]", 202, `{"results": []}`},
		{"batch in parts", "hus.fi", batch, "[" + one(nil) + "," + one(func(e map[string]any) { data(e)["hospital"] = 7 }) + "]", 422, `"pointer": "/1/data/hospital"`},
		{"batch that is none", "hus.fi", batch, one(nil), 400, `"malformed"`},
		{"batch cut off", "hus.fi", batch, "[" + one(nil), 400, `"malformed"`},
		{"batch of other things", "hus.fi", batch, `[1, "x", null]`, 422, `"not_a_cloudevent"`},
		{"too many", "hus.fi", batch, "[" + strings.Repeat("0,", publish.MaxBatch) + "0]", 413, `"too_large"`},
	} {
		a := b.ask(c.who, "POST", "/api/events", c.body, "Content-Type", c.media)
		if a.status != c.status || !strings.Contains(a.text, c.want) || strings.Contains(a.text, "010594Y903") {
			b.t.Errorf("%s: %d %s, want %d with %s", c.name, a.status, a.text, c.status, c.want)
		}
	}
	parts := b.results(b.ask("hus.fi", "POST", "/api/events", "["+one(func(e map[string]any) { e["id"] = "a" })+`,{"id":"b"},`+one(func(e map[string]any) { e["id"] = "c" })+"]", "Content-Type", batch))
	if len(parts) != 3 || parts[0].Status != "accepted" || parts[1].Status != "refused" || parts[2].Status != "accepted" || parts[0].ID != "a" || parts[2].ID != "c" {
		b.t.Errorf("each event of a batch: %+v", parts)
	}
	b.avro()
	b.headers()
}

// avro publishes data as Avro, in both modes.
func (b *bus) avro() {
	schema, err := b.admin.Registry().Latest(b.t.Context(), "fi.dvv.person.birth")
	b.must(err)
	body, faults := schema.FromJSON(b.birth("x").Data())
	if len(faults) > 0 {
		b.t.Fatal(faults)
	}
	value := append(codecs.AppendWire(nil, schema.ID()), body...)
	binary := []string{"Ce-Specversion", "1.0", "Ce-Id", "avro", "Ce-Source", "https://hus.fi", "Ce-Type", "fi.dvv.person.birth", "Content-Type", "application/avro"}
	a := b.want(http.StatusAccepted, "hus.fi", "POST", "/api/events", string(value), binary...)
	if r := b.results(a); r[0].Status != "accepted" || r[0].ID != "avro" || r[0].Subjects != 3 {
		b.t.Errorf("%s", a.text)
	}
	structured, err := json.Marshal(map[string]any{"specversion": "1.0", "id": "avro64", "source": "https://hus.fi", "type": "fi.dvv.person.birth", "data_base64": value})
	b.must(err)
	b.want(http.StatusAccepted, "hus.fi", "POST", "/api/events", string(structured), "Content-Type", "application/cloudevents+json")
	for name, bad := range map[string][]byte{"cut off": value[:len(value)-1], "other schema": append([]byte{0, 0, 0, 0, 99}, value[5:]...), "no wire format": value[5:], "nothing": nil} {
		if a := b.ask("hus.fi", "POST", "/api/events", string(bad), binary...); a.status != http.StatusUnprocessableEntity {
			b.t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
}

// headers are CloudEvents attributes in binary mode: percent-encoded, and each once.
func (b *bus) headers() {
	binary := []string{"Ce-Specversion", "1.0", "Ce-Id", "h%C3%A4%20%25", "Ce-Source", "https://hus.fi", "Ce-Type", "fi.dvv.person.birth"}
	data := string(b.birth("x").Data())
	if r := b.results(b.want(http.StatusAccepted, "hus.fi", "POST", "/api/events", data, binary...)); r[0].ID != "hä %" {
		b.t.Errorf("%+v", r)
	}
	for name, more := range map[string][]string{
		"not percent-encoded":  {"Ce-Note", "%zz"},
		"a name that is none":  {"Ce-No_te", "x"},
		"a control character":  {"Ce-Note", "a%00b"},
		"a national id":        {"Ce-Note", "010594Y9032"},
		"what civicbus writes": {"Ce-Subscription", "x"},
	} {
		if a := b.ask("hus.fi", "POST", "/api/events", data, append(more, binary...)...); a.status != http.StatusUnprocessableEntity || strings.Contains(a.text, "010594Y9032") {
			b.t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	req, err := http.NewRequest(http.MethodPost, b.base+"/api/events", strings.NewReader(data))
	b.must(err)
	req.Header = http.Header{"Authorization": {"Bearer " + b.token("hus.fi")}, "Content-Type": {"application/json"}, "Ce-Id": {"a", "b"}, "Ce-Specversion": {"1.0"}, "Ce-Source": {"https://hus.fi"}, "Ce-Type": {"fi.dvv.person.birth"}}
	res, err := http.DefaultClient.Do(req)
	b.must(err)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusUnprocessableEntity {
		b.t.Errorf("an attribute twice: %d", res.StatusCode)
	}
}

// sdkPublishes uses the official Go SDK as a client, in every mode.
func sdkPublishes(b *bus) {
	protocol, err := cehttp.New(cehttp.WithTarget(b.base+"/api/events"), cehttp.WithHeader("Authorization", "Bearer "+b.token("hus.fi")))
	b.must(err)
	client, err := cloudevents.NewClient(protocol, cloudevents.WithTimeNow())
	b.must(err)
	for name, mode := range map[string]func(context.Context) context.Context{"binary": binding.WithForceBinary, "structured": binding.WithForceStructured} {
		if result := client.Send(mode(b.t.Context()), b.birth("sdk-"+name)); cloudevents.IsUndelivered(result) || !cloudevents.IsACK(result) {
			b.t.Errorf("%s: %v", name, result)
		}
		bad := b.birth("sdk-bad-" + name)
		bad.SetSource("https://kela.fi")
		var answered *cehttp.Result
		if result := client.Send(mode(b.t.Context()), bad); cloudevents.IsACK(result) || !cloudevents.ResultAs(result, &answered) || answered.StatusCode != http.StatusForbidden {
			b.t.Errorf("%s, of another: %v", name, result)
		}
	}
	var events []event.Event
	for i := range 20 {
		events = append(events, b.birth(fmt.Sprint("sdk-batch-", i)))
	}
	req, err := cehttp.NewHTTPRequestFromEvents(b.t.Context(), b.base+"/api/events", events)
	b.must(err)
	req.Header.Set("Authorization", "Bearer "+b.token("hus.fi"))
	res, err := http.DefaultClient.Do(req)
	b.must(err)
	defer func() { _ = res.Body.Close() }()
	var text bytes.Buffer
	_, err = text.ReadFrom(res.Body)
	b.must(err)
	results := b.results(&answer{text: text.String()})
	if res.StatusCode != http.StatusAccepted || len(results) != 20 {
		b.t.Fatalf("batch: %d %s", res.StatusCode, text.String())
	}
	for i, r := range results {
		if r.Status != "accepted" || r.ID != events[i].ID() || r.LifeEvent == "" {
			b.t.Errorf("batch: %+v", r)
		}
	}
}
