package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/riferrei/srclient"
	"github.com/twmb/franz-go/pkg/sr"
)

const (
	schemaV1       = `{"type":"record","name":"Moved","namespace":"fi.test","fields":[{"name":"city","type":"string"}]}`
	schemaOptional = `{"type":"record","name":"Moved","namespace":"fi.test","fields":[{"name":"city","type":"string"},{"name":"zip","type":["null","string"],"default":null}]}`
	schemaRequired = `{"type":"record","name":"Moved","namespace":"fi.test","fields":[{"name":"city","type":"string"},{"name":"zip","type":"string"}]}`
	schemaEmpty    = `{"type":"record","name":"Moved","namespace":"fi.test","fields":[]}`
	schemaInt      = `{"type":"record","name":"Moved","namespace":"fi.test","fields":[{"name":"city","type":"int"}]}`
	schemaOther    = `{"type":"record","name":"Born","namespace":"fi.test","fields":[{"name":"child","type":{"type":"fixed","name":"Id","size":16}}]}`
)

// call sends one request and returns the status and the decoded answer.
func call(t *testing.T, method, url, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(raw, &answer); err != nil {
		answer = map[string]any{"raw": strings.TrimSpace(string(raw))}
	}
	return resp.StatusCode, answer
}

func schemaBody(schema string) string {
	b, _ := json.Marshal(map[string]string{"schema": schema})
	return string(b)
}

func (b bench) client() *sr.Client {
	b.t.Helper()
	cl, err := sr.NewClient(sr.URLs(b.url))
	if err != nil {
		b.t.Fatal(err)
	}
	return cl
}

// register registers schemas under several registry subjects, one of them shared, with a level of its own and a
// deletion, and returns the ids by registry subject and version.
func (b bench) register() map[string][]int {
	t := b.t
	t.Helper()
	ctx, cl := within(t), b.client()
	for _, r := range cl.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatFullTransitive}, "a-value") {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	ids := map[string][]int{}
	for _, s := range []struct{ subject, schema string }{
		{"a-value", schemaV1}, {"b-value", schemaOther}, {"a-value", schemaOptional}, {"shared-value", schemaV1}, {"gone-value", schemaInt}, {"b/odd value", schemaInt},
	} {
		got, err := cl.CreateSchema(ctx, s.subject, sr.Schema{Schema: s.schema})
		if err != nil {
			t.Fatal(err)
		}
		ids[s.subject] = append(ids[s.subject], got.ID)
	}
	if ids["shared-value"][0] != ids["a-value"][0] {
		t.Errorf("one schema under two registry subjects has ids %d and %d", ids["a-value"][0], ids["shared-value"][0])
	}
	if _, err := cl.DeleteSubject(ctx, "gone-value", sr.SoftDelete); err != nil {
		t.Fatal(err)
	}
	return ids
}

// expectRegistered checks that every id and version is what register saw, and that new ids go on after them.
func (b bench) expectRegistered(ids map[string][]int) {
	t := b.t
	t.Helper()
	ctx, cl := within(t), b.client()
	highest := 0
	for subject, want := range ids {
		highest = max(highest, want[len(want)-1])
		if subject == "gone-value" {
			continue
		}
		for i, id := range want {
			got, err := cl.SchemaByVersion(ctx, subject, i+1)
			if err != nil || got.ID != id {
				t.Errorf("%s version %d: id %d (%v), want %d", subject, i+1, got.ID, err, id)
			}
		}
	}
	if status, a := call(t, "GET", b.url+"/subjects/gone-value/versions", ""); a["error_code"] != 40401.0 {
		t.Errorf("deleted registry subject: %d %v", status, a)
	}
	if status, a := call(t, "POST", b.url+"/subjects/a-value/versions", schemaBody(schemaRequired)); status != 409 {
		t.Errorf("compatibility level after the restart: %d %v", status, a)
	}
	fresh, err := cl.CreateSchema(ctx, "fresh-value", sr.Schema{Schema: `"bytes"`})
	if err != nil || fresh.ID != highest+1 {
		t.Errorf("next id is %d (%v), want %d", fresh.ID, err, highest+1)
	}
}

func TestCompatibilityLevels(t *testing.T) {
	tests := []struct {
		level   string
		kept    []string
		schema  string
		refused string // a part of the message; empty: accepted
	}{
		{"NONE", []string{schemaV1}, schemaInt, ""},
		{"BACKWARD", []string{schemaV1}, schemaOptional, ""},
		{"BACKWARD", []string{schemaV1}, schemaRequired, "cannot read data of version 1"},
		{"BACKWARD", []string{schemaV1}, schemaEmpty, ""},
		{"FORWARD", []string{schemaV1}, schemaRequired, ""},
		{"FORWARD", []string{schemaV1}, schemaEmpty, "version 1 cannot read its data"},
		{"FULL", []string{schemaV1}, schemaOptional, ""},
		{"FULL", []string{schemaV1}, schemaRequired, "zip"},
		{"FULL", []string{schemaV1}, schemaEmpty, "city"},
		{"FULL", []string{schemaV1}, schemaInt, "city"},
		// Back and forth by way of a schema that both agree with: only the transitive levels see it.
		{"BACKWARD", []string{schemaEmpty, schemaV1}, schemaV1, "cannot read data of version 1"},
		{"BACKWARD", []string{schemaV1, schemaEmpty}, schemaInt, "cannot read data of version 2"},
		{"BACKWARD_TRANSITIVE", []string{schemaV1, schemaEmpty}, `{"type":"record","name":"Moved","namespace":"fi.test","fields":[{"name":"city","type":"int","default":0}]}`, "cannot read data of version 1"},
		{"BACKWARD", []string{schemaV1, schemaEmpty}, `{"type":"record","name":"Moved","namespace":"fi.test","fields":[{"name":"city","type":"int","default":0}]}`, ""},
		{"FULL_TRANSITIVE", []string{schemaV1, schemaOptional}, schemaOptional, ""},
		{"FORWARD_TRANSITIVE", []string{schemaV1, schemaOptional}, schemaV1, ""},
	}
	registries := map[string]string{"embedded": start(t, Config{}).RegistryURL()}
	if url := os.Getenv("CIVICBUS_TEST_REGISTRY"); url != "" {
		registries["real"] = url // a real registry must decide the same; its words may differ
	}
	for i, tt := range tests {
		for name, base := range registries {
			t.Run(fmt.Sprintf("%d %s %s", i, tt.level, name), func(t *testing.T) {
				subject := fmt.Sprintf("s%d-%d", i, time.Now().UnixNano())
				call(t, "PUT", base+"/config/"+subject, `{"compatibility":"NONE"}`)
				for _, s := range tt.kept {
					if status, a := call(t, "POST", base+"/subjects/"+subject+"/versions", schemaBody(s)); status != 200 && tt.refused == "" {
						t.Fatal(status, a)
					}
				}
				call(t, "PUT", base+"/config/"+subject, `{"compatibility":"`+tt.level+`"}`)
				_, check := call(t, "POST", base+"/compatibility/subjects/"+subject+"/versions?verbose=true", schemaBody(tt.schema))
				known := false
				for _, s := range tt.kept {
					known = known || s == tt.schema
				}
				status, a := call(t, "POST", base+"/subjects/"+subject+"/versions", schemaBody(tt.schema))
				switch {
				case known || tt.refused == "":
					if status != 200 {
						t.Errorf("refused with %d %v", status, a)
					}
				case status != 409 || a["error_code"] != 409.0 || (name == "embedded" && !strings.Contains(fmt.Sprint(a["message"]), tt.refused)):
					t.Errorf("answered %d %v, want 409 naming %q", status, a, tt.refused)
				}
				// Against all versions is decided by the level, as Confluent documents it; Apicurio looks at every version.
				if !known && name == "embedded" && check["is_compatible"] != (tt.refused == "") {
					t.Errorf("the compatibility check says %v", check)
				}
				if !known && tt.refused != "" && name == "embedded" && !strings.Contains(fmt.Sprint(check["messages"]), tt.refused) {
					t.Errorf("the compatibility check says %v, want %q named", check, tt.refused)
				}
			})
		}
	}
}

func TestRegistryAnswersAsARealOne(t *testing.T) {
	c := start(t, Config{})
	base := c.RegistryURL()
	steps := []struct {
		name, method, path, body string
		status                   int
		field                    string
		want                     any
	}{
		{"default level", "GET", "/config", "", 200, "compatibilityLevel", "BACKWARD"},
		{"no level of its own", "GET", "/config/x", "", 404, "error_code", 40408.0},
		{"level of all", "GET", "/config/x?defaultToGlobal=true", "", 200, "compatibilityLevel", "BACKWARD"},
		{"set level", "PUT", "/config/x", `{"compatibility":"FULL"}`, 200, "compatibility", "FULL"},
		{"own level", "GET", "/config/x", "", 200, "compatibilityLevel", "FULL"},
		{"a level makes no registry subject", "GET", "/subjects/x/versions/latest", "", 404, "error_code", 40401.0},
		{"unknown level", "PUT", "/config/x", `{"compatibility":"SOME"}`, 422, "error_code", 42203.0},
		{"no level", "PUT", "/config", `{}`, 422, "error_code", 42203.0},
		{"nothing to break", "POST", "/compatibility/subjects/x/versions/latest", schemaBody(schemaV1), 200, "is_compatible", true},
		{"no such version to check", "POST", "/compatibility/subjects/x/versions/7", schemaBody(schemaV1), 404, "error_code", 40402.0},
		{"odd version to check", "POST", "/compatibility/subjects/x/versions/x", schemaBody(schemaV1), 422, "error_code", 42202.0},
		{"garbage", "POST", "/subjects/x/versions", `{"schema":"garbage"}`, 422, "error_code", 42201.0},
		{"JSON, not Avro", "POST", "/subjects/x/versions", schemaBody(`{"type":"record"}`), 422, "error_code", 42201.0},
		{"unknown type", "POST", "/subjects/x/versions", schemaBody(`{"type":"array","items":"Nobody"}`), 422, "error_code", 42201.0},
		{"JSON Schema", "POST", "/subjects/x/versions", `{"schemaType":"JSON","schema":"{}"}`, 422, "error_code", 42201.0},
		{"no JSON", "POST", "/subjects/x/versions", `{`, 422, "error_code", 42201.0},
		{"first", "POST", "/subjects/x/versions", schemaBody(schemaV1), 200, "id", 1.0},
		{"the same again", "POST", "/subjects/x/versions", schemaBody(" " + schemaV1), 200, "id", 1.0},
		{"the same elsewhere", "POST", "/subjects/y/versions", schemaBody(schemaV1), 200, "id", 1.0},
		{"incompatible", "POST", "/subjects/x/versions", schemaBody(schemaRequired), 409, "error_code", 409.0},
		{"would be incompatible", "POST", "/compatibility/subjects/x/versions/latest", schemaBody(schemaRequired), 200, "is_compatible", false},
		{"against version 1", "POST", "/compatibility/subjects/x/versions/1", schemaBody(schemaOptional), 200, "is_compatible", true},
		{"second", "POST", "/subjects/x/versions", schemaBody(schemaOptional), 200, "id", 2.0},
		{"latest", "GET", "/subjects/x/versions/latest", "", 200, "version", 2.0},
		{"by id", "GET", "/schemas/ids/2", "", 200, "schema", schemaOptional},
		{"by id, under a registry subject that has it not", "GET", "/schemas/ids/2?subject=subscriber.z-value", "", 200, "schema", schemaOptional},
		{"unknown id, under a registry subject", "GET", "/schemas/ids/77?subject=x", "", 404, "error_code", 40403.0},
		{"by id, in a context", "GET", "/schemas/ids/2?subject=:.a:x", "", 404, "error_code", 40403.0},
		{"unknown id", "GET", "/schemas/ids/77", "", 404, "error_code", 40403.0},
		{"look up", "POST", "/subjects/x", schemaBody(schemaV1), 200, "version", 1.0},
		{"reference to nothing", "POST", "/subjects/z/versions", `{"schema":"\"fi.test.Moved\"","references":[{"name":"m","subject":"x","version":9}]}`, 422, "error_code", 42201.0},
		{"reference", "POST", "/subjects/z/versions", `{"schema":"{\"type\":\"array\",\"items\":\"fi.test.Moved\"}","references":[{"name":"m","subject":"x","version":1}]}`, 200, "id", 3.0},
		{"still referred to", "DELETE", "/subjects/x", "", 409, "error_code", 42201.0},
		{"delete version", "DELETE", "/subjects/x/versions/2", "", 200, "raw", "2"},
		{"deleted version", "GET", "/subjects/x/versions/2", "", 404, "error_code", 40402.0},
		{"delete odd version", "DELETE", "/subjects/x/versions/no", "", 422, "error_code", 42202.0},
		{"delete unknown", "DELETE", "/subjects/nobody", "", 404, "error_code", 40401.0},
		{"drop level", "DELETE", "/config/x", "", 200, "compatibilityLevel", "FULL"},
		{"drop no level", "DELETE", "/config/x", "", 404, "error_code", 40408.0},
		{"mode", "GET", "/mode", "", 200, "mode", "READWRITE"},
		{"no other mode", "PUT", "/mode", `{"mode":"IMPORT"}`, 422, "error_code", 42205.0},
		{"no contexts", "GET", "/contexts/a/subjects", "", 422, "error_code", 42205.0},
		{"too large", "POST", "/subjects/x/versions", schemaBody(strings.Repeat(" ", maxBodyBytes)), 422, "error_code", 42201.0},
	}
	for _, s := range steps {
		status, a := call(t, s.method, base+s.path, s.body)
		if status != s.status || a[s.field] != s.want {
			t.Errorf("%s: %d %v, want %d with %s %v", s.name, status, a, s.status, s.field, s.want)
		}
	}
}

func TestRegistryServesSrclient(t *testing.T) {
	c := start(t, Config{})
	cl := srclient.NewSchemaRegistryClient(c.RegistryURL())
	if _, err := cl.ChangeSubjectCompatibilityLevel("x", srclient.FullTransitive); err != nil {
		t.Fatal(err)
	}
	if l, err := cl.GetCompatibilityLevel("x", false); err != nil || *l != srclient.FullTransitive {
		t.Errorf("level %v, %v", l, err)
	}
	s, err := cl.CreateSchema("x", schemaV1, srclient.Avro)
	if err != nil {
		t.Fatal(err)
	}
	cl.ResetCache()
	if got, err := cl.GetSchema(s.ID()); err != nil || got.Schema() != schemaV1 {
		t.Errorf("by id: %v %v", got, err)
	}
	if ok, err := cl.IsSchemaCompatible("x", schemaRequired, "latest", srclient.Avro); err != nil || ok {
		t.Errorf("incompatible schema: %v %v", ok, err)
	}
	_, err = cl.CreateSchema("x", schemaRequired, srclient.Avro)
	var refused srclient.Error
	if !errors.As(err, &refused) || refused.Code != 409 || !strings.Contains(refused.Message, "zip") {
		t.Errorf("incompatible schema: %v", err)
	}
	if _, err := cl.GetSchema(99); !errors.As(err, &refused) || refused.Code != 40403 {
		t.Errorf("unknown id: %v", err)
	}
}

func TestRegistryDownAndBack(t *testing.T) {
	c := start(t, Config{DataDir: t.TempDir()})
	url := c.RegistryURL()
	cl := c.client()
	ctx := within(t)
	created, err := cl.CreateSchema(ctx, "x", sr.Schema{Schema: schemaV1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Registry().Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := cl.SchemaByID(ctx, created.ID); err == nil {
		t.Error("a stopped registry answered")
	}
	if err := c.Registry().Start(ctx); err != nil {
		t.Fatal(err)
	}
	if c.RegistryURL() != url {
		t.Errorf("came back on %s instead of %s", c.RegistryURL(), url)
	}
	if _, err := cl.SchemaByID(ctx, created.ID); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	c.Registry().Fail(http.StatusServiceUnavailable)
	if status, a := call(t, "GET", url+"/schemas/ids/1", ""); status != 503 || a["error_code"] == nil {
		t.Errorf("told to fail with 503, answered %d %v", status, a)
	}
	c.Registry().Fail(0)
	if status, _ := call(t, "GET", url+"/schemas/ids/1", ""); status != 200 {
		t.Errorf("told to work again, answered %d", status)
	}
}

func TestJournalToleratesAnUnfinishedLastLineOnly(t *testing.T) {
	dir := t.TempDir()
	first, err := Start(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ids := at(t, first.Brokers()[0], first.RegistryURL()).register()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "registry", "journal.jsonl")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(whole[:len(whole):len(whole)], `{"op":"register","subject":"a-va`...), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, Config{DataDir: dir}).expectRegistered(ids)

	for name, damaged := range map[string]string{
		"line torn in the middle": strings.Replace(string(whole), "\n", "", 1),
		"a line lost":             string(whole[strings.Index(string(whole), `{"op":"register"`):][strings.Index(string(whole[strings.Index(string(whole), `{"op":"register"`):]), "\n")+1:]),
		"unknown change":          `{"op":"shrug"}` + "\n" + string(whole),
	} {
		r := t.TempDir()
		if err := os.MkdirAll(filepath.Join(r, "registry"), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(r, "registry", "journal.jsonl"), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := Start(t.Context(), Config{DataDir: r}); err == nil {
			t.Errorf("%s: started", name)
			_ = c.Close()
		} else if !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: %v names no line", name, err)
		}
	}
}

func TestRegistryFallsSilentWhenItsJournalCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	c := start(t, Config{DataDir: dir})
	if err := c.registry.journal.file.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds the schema in memory: it must not get its id
		if _, err := c.client().CreateSchema(context.WithoutCancel(within(t)), "x", sr.Schema{Schema: schemaV1}); err == nil {
			t.Error("registered without a journal")
		}
	}
	if status, _ := call(t, "GET", c.RegistryURL()+"/schemas/ids/1", ""); status != 500 {
		t.Errorf("an id that a restart would lose was answered with %d", status)
	}
}
