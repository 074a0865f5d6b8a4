package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"civicbus/codecs"
	"civicbus/examples"

	"github.com/twmb/avro"
)

// foreigner is a schema that civicbus has never seen, where a subject's id stands in it, and a body of it as plain JSON.
type foreigner struct {
	file, path, id, data string
}

var foreigners = []foreigner{
	{"birth", "data.child.id", "b-1", `{"child":{"id":"b-1","name":"Aino","born":"2026-02-28","address":{"street":"Tie 1","city":"Oulu","country":"SE"}},
		"mother":null,"parentResidency":"Finland","guardians":[{"id":"g","name":null,"born":"1990-01-01","address":null}],"weightGrams":3500,
		"registeredAt":"2026-03-01T10:00:00Z","multiple":false,"languages":["fi","sv"]}`},
	{"company", "data.company.businessId", "c-1", `{"company":{"businessId":"c-1","name":"Oy Ab","form":"OYJ","shareCapital":"2500.50"},
		"founders":[{"id":null,"name":"A","shares":3,"roles":["OY","AY"],"homes":[{"city":"Turku","since":1}]},{"id":"f","name":"B","shares":0,"roles":[],"homes":[]}],"filedAt":17}`},
	{"deep", "data.a.s", "d-1", `{"a":{"b":{"c":[null,{"d":{"k":{"e":12,"f":"AAEC","again":{"c":[],"z":false}}},"n":-1}],"z":true},"s":"d-1"},"tail":{}}`},
	{"ledger", "data.lines[].account", "1900", `{"next":{"next":null,"lines":null,"day":null,"when":null},"lines":[{"account":"1900","sum":"-12.345678","contra":{"account":"2000","sum":null,"contra":null}}],
		"day":"1969-12-31","when":"2026-01-01T00:00:00.5"}`},
	{"mixed", "data.one", "m-1", `{"one":"m-1","ones":["a",""],"only":null,"pairs":[{"k":"k","v":2},{"w":3}],"any":[{"k":"deep","v":1}],"zero":""}`},
	{"payment", "data.reference", "b5b5e7b4-6e0b-4c2f-9d8e-0a1b2c3d4e5f", `{"id":"6f1c3c1e-5b1f-4d2a-8f4a-1234567890ab","reference":"b5b5e7b4-6e0b-4c2f-9d8e-0a1b2c3d4e5f","amount":"99.9500",
		"method":{"iban":"FI21","holder":"H","bank":"6f1c3c1e-5b1f-4d2a-8f4a-1234567890ab"},"rate":1.25,"ratio":0.5,"state":"DONE","profile":"the writer's own"}`},
	{"sensor", "data.window", "43200000", `{"site":{"north":[{"at":"2026-01-01T00:00:00.000001Z","values":[1.5,"n/a",{"x":0.25}],"tags":{"a":"b"}}],"south":[]},"matrix":[[[1,2],[]],[]],
		"gone":null,"nothing":[null,null],"span":"AQAAAAIAAAADAAAA","window":"12:00:00"}`},
	{"tree", "data.code", "t-1", `{"code":"t-1","budget":"0.05","head":{"code":"h","budget":"-1.00","head":null,"units":[],"byName":{}},
		"units":[{"code":"u","budget":"7.00","head":null,"units":[],"byName":{"n":null,"s":"text"}}],"byName":{"x":{"code":"y","budget":"1.00","head":null,"units":[],"byName":{}}}}`},
}

// TestForeignSchemas brings in event types whose schemas no one here wrote: for each a schema, a catalog entry and a
// subscription, and no code. Everything of each event is delivered, and any Avro library decodes it with the schema that
// the delivery names.
func TestForeignSchemas(t *testing.T) {
	b := start(t)
	w := &examples.World{Schemas: map[string]string{}}
	source := codecs.Organisation{ID: "foreign.example", Name: "Foreign", DID: "did:web:foreign.example", Status: "active", Source: "https://foreign.example"}
	sink := codecs.Organisation{ID: "sink.example", Name: "Sink", DID: "did:web:sink.example", Status: "active", PreApproved: []string{"testing"}}
	for _, f := range foreigners {
		text, err := os.ReadFile(filepath.Join("..", "codecs", "testdata", f.file+".avsc"))
		b.must(err)
		eventType := "example.foreign." + f.file
		w.Schemas[eventType] = string(text)
		w.EventTypes = append(w.EventTypes, codecs.EventType{Type: eventType, Stream: "services", RegistrySubject: eventType, Category: "domain", Owner: source.ID, Title: f.file,
			Classification: "internal", Roles: []codecs.Role{{Name: "thing", Path: f.path, Scheme: "thing", Many: strings.Contains(f.path, "[]")}},
			Rules: []codecs.Rule{{ID: "all", Recipient: sink.ID, Purpose: "testing", Basis: "public_task", Fields: []string{"data"}, ValidFrom: 1, Citation: "none"}}})
		source.Publishes = append(source.Publishes, eventType)
		sink.Receives = append(sink.Receives, codecs.Entitlement{EventType: eventType, Purposes: []string{"testing"}, Bases: []string{"public_task"}})
		w.Subscriptions = append(w.Subscriptions, codecs.Subscription{ID: "sub-" + f.file, Subscriber: sink.ID, EventTypes: []string{eventType}, Purpose: "testing", Basis: "public_task", Delivery: codecs.Delivery{Kind: "kafka"}})
	}
	w.Organisations = []codecs.Organisation{source, sink}
	b.load(w)
	for _, f := range foreigners {
		b.sub(f.file, func() {
			event := map[string]any{"specversion": "1.0", "id": f.file, "source": source.Source, "type": "example.foreign." + f.file, "data": json.RawMessage(f.data)}
			text, err := json.Marshal(event)
			b.must(err)
			b.accept(source.ID, text)
			b.eventually("a decision", func() bool {
				_, ok := b.decisions.find(func(_ string, d *codecs.Decision) bool {
					return d.Kind == "router" && d.LifeEventID == b.keys.LifeEvent(source.Source, f.file)
				})
				return ok
			})
			r, ok := b.delivery(b.keys.Delivery(source.Source, f.file, b.subject("thing", f.id), "sub-"+f.file))
			if !ok {
				b.t.Fatal("not delivered")
			}
			id, body, err := codecs.WireID(r.Value)
			b.must(err)
			s, err := b.registry.Load(b.t.Context(), id)
			b.must(err)
			parsed, err := avro.Parse(s.JSON())
			b.must(err)
			var any any
			if rest, err := parsed.Decode(body, &any); err != nil || len(rest) > 0 {
				b.t.Errorf("another library: %v, %d bytes too many", err, len(rest))
			}
			if f.file != "mixed" { // goavro knows no fixed of no bytes
				b.decode(r)
			}
			got, err := s.ToJSON(nil, body)
			b.must(err)
			b.sameFields(f.data, string(got))
		})
	}
}

// sameFields demands every field of the source's JSON in the delivered one, with its value.
func (b *bus) sameFields(want, got string) {
	b.t.Helper()
	var w, g map[string]any
	b.must(json.Unmarshal([]byte(want), &w))
	b.must(json.Unmarshal([]byte(got), &g))
	for name, v := range w {
		if d := g[name]; !reflect.DeepEqual(bare(v), bare(d)) {
			b.t.Errorf("%s: delivered as %v, want %v", name, d, v)
		}
	}
	if len(g) > len(w)+1 { // and the record profile
		b.t.Errorf("delivered %s, want no more than %s", got, strings.Join(strings.Fields(want), ""))
	}
}

// bare takes away what a projected schema cannot tell apart: a record of nothing but nulls, and null.
func bare(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			if x := bare(x); x != nil {
				out[k] = x
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, x := range v {
			out = append(out, bare(x))
		}
		return out
	}
	return v
}
