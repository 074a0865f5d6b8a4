package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"civicbus/codecs"
	"civicbus/examples"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestEvolution lets a source's schema grow a field while events are published under the old and the new version in turn.
// A subscriber that was written against its first projected schema goes on reading everything, and one that looks at the
// newest sees the new field, in old events as null.
func TestEvolution(t *testing.T) {
	b := start(t)
	registrySubject := "moves-" + meta("").ID // a registry that is not wiped has it from no earlier run
	w := b.smallWorld(func(w *examples.World) {
		w.Schemas[registrySubject] = w.Schemas[moveType]
		w.EventTypes[0].RegistrySubject = registrySubject
	})
	v1, err := b.registry.Latest(t.Context(), w.EventTypes[0].RegistrySubject)
	b.must(err)
	who := person(1)
	b.inEffect(b.grantPost(who))
	delivered := func(id string, value []byte) *kgo.Record {
		b.t.Helper()
		b.fromSource(register, 0, id, moveType, value)
		b.want(b.decision(id, who), postSub, "permit consent")
		r, ok := b.delivery(b.keys.Delivery(registerSite, id, b.subjectOf(who), postSub))
		if !ok {
			b.t.Fatal("not delivered")
		}
		return r
	}
	remark := func(s string) map[string]any {
		d := moveData(who, "2")
		d["remark"] = s
		return d
	}
	first := delivered("v1", b.avro(v1, moveData(who, "1")))
	old := b.schemaOf(first)
	v2 := b.nextVersion(registrySubject, v1, "remark")
	second := delivered("v2", b.avro(v2, remark("new here")))
	third := delivered("v1 again", b.avro(v1, moveData(who, "3")))
	if b.schemaOf(second).ID() == old.ID() {
		t.Error("the new field is not in the new projected schema")
	}
	for i, r := range []*kgo.Record{first, second, third} {
		if got := b.readAs(old, r); got["newAddress"] == nil || got["remark"] != nil {
			t.Errorf("record %d as read by the old reader: %v", i, got)
		}
		want := any(nil)
		if r == second {
			want = "new here"
		}
		if got := b.readAs(b.schemaOf(second), r); got["newAddress"] == nil || got["remark"] != want {
			t.Errorf("record %d as read by the new reader: %v", i, got)
		}
	}
	projected := "subscriber." + post + "-" + v1.FullName()
	var config struct {
		Level string `json:"compatibilityLevel"`
	}
	b.must(json.Unmarshal(b.get("/config/"+projected), &config))
	if config.Level != codecs.FullTransitive {
		t.Errorf("projected schemas are registered %q, want %s", config.Level, codecs.FullTransitive)
	}
	if vs, err := b.registry.Versions(t.Context(), projected); err != nil || len(vs) < 2 {
		t.Errorf("%d versions of the projected schema, want two or more: %v", len(vs), err)
	}
	// The registry would have refused what breaks the old reader.
	broken := strings.Replace(old.JSON(), `"name":"permanent"`, `"name":"lasting"`, 1)
	broken = strings.ReplaceAll(broken, `["null","boolean"]`, `"boolean"`)
	if _, err := b.registry.Register(t.Context(), projected, broken); err == nil {
		t.Error("a projected schema that no old reader can read was registered")
	}
}

// schemaOf is the schema that a delivery names.
func (b *bus) schemaOf(r *kgo.Record) *codecs.Schema {
	b.t.Helper()
	id, _, err := codecs.WireID(r.Value)
	b.must(err)
	s, err := b.registry.Load(b.t.Context(), id)
	b.must(err)
	return s
}

// readAs decodes a delivery as a reader with a schema of its own does, by Avro's schema resolution.
func (b *bus) readAs(reader *codecs.Schema, r *kgo.Record) map[string]any {
	b.t.Helper()
	writer, err := avro.Parse(b.schemaOf(r).JSON())
	b.must(err)
	own, err := avro.Parse(reader.JSON())
	b.must(err)
	resolved, err := avro.Resolve(writer, own)
	b.must(err)
	var v map[string]any
	rest, err := resolved.Decode(r.Value[codecs.WireHeaderBytes:], &v)
	b.must(err)
	if len(rest) > 0 {
		b.t.Errorf("%d bytes too many", len(rest))
	}
	return v
}

// get asks the registry itself.
func (b *bus) get(path string) []byte {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.cfg.Registry.URL+path, nil)
	b.must(err)
	resp, err := http.DefaultClient.Do(req)
	b.must(err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	b.must(err)
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("%s: %s: %s", path, resp.Status, body)
	}
	return body
}
