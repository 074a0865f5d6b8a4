package schemas

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/linkedin/goavro/v2"
	"github.com/twmb/avro"
)

func TestEveryVersionReadsEveryOther(t *testing.T) {
	if len(Names()) < 13 {
		t.Fatalf("only %d record types: %v", len(Names()), Names())
	}
	for _, name := range Names() {
		if err := Check(Versions(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if Latest(name) != Versions(name)[len(Versions(name))-1] {
			t.Errorf("%s: Latest is not the last version", name)
		}
	}
	if Latest("no-such-record") != "" || Versions("no-such-record") != nil {
		t.Error("an unknown name has a schema")
	}
}

func TestEverySchemaIsDocumentedAndHasDefaults(t *testing.T) {
	for _, name := range Names() {
		for _, text := range Versions(name) {
			if _, err := avro.Parse(text); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := goavro.NewCodec(text); err != nil {
				t.Errorf("%s: goavro: %v", name, err)
			}
			var root map[string]any
			if err := json.Unmarshal([]byte(text), &root); err != nil {
				t.Fatal(err)
			}
			if root["namespace"] != "fi.civicbus" {
				t.Errorf("%s: namespace %v", name, root["namespace"])
			}
			wantDocs(t, name, root)
		}
	}
}

// wantDocs visits every record below a schema node and requires docs and defaults.
func wantDocs(t *testing.T, path string, node any) {
	t.Helper()
	switch n := node.(type) {
	case []any:
		for _, branch := range n {
			wantDocs(t, path, branch)
		}
	case map[string]any:
		wantDocs(t, path, n["type"])
		wantDocs(t, path, n["items"])
		if n["type"] != "record" {
			return
		}
		if doc, _ := n["doc"].(string); !strings.HasSuffix(doc, ".") {
			t.Errorf("%s: record %v has no doc", path, n["name"])
		}
		for _, f := range n["fields"].([]any) {
			field := f.(map[string]any)
			at := path + "." + field["name"].(string)
			if doc, _ := field["doc"].(string); !strings.HasSuffix(doc, ".") {
				t.Errorf("%s: no doc", at)
			}
			if _, ok := field["default"]; !ok {
				t.Errorf("%s: no default", at)
			}
			wantDocs(t, at, field["type"])
		}
	}
}

func TestCheckNamesWhatDiffers(t *testing.T) {
	record := func(fields string) string {
		return `{"type":"record","name":"R","fields":[` + fields + `]}`
	}
	a := `{"name":"a","type":"string","default":""}`
	for _, c := range []struct {
		name     string
		versions []string
		want     []string // parts of the message; none: compatible
	}{
		{"no versions", nil, nil},
		{"one", []string{record(a)}, nil},
		{"field with default added", []string{record(a), record(a + `,{"name":"b","type":"long","default":0}`)}, nil},
		{"field without default added", []string{record(a), record(a + `,{"name":"b","type":"long"}`)},
			[]string{"version 2 cannot read what version 1 wrote", "b", "default"}},
		{"type widened is not readable backwards", []string{record(`{"name":"a","type":"int","default":0}`), record(`{"name":"a","type":"long","default":0}`)},
			[]string{"version 1 cannot read what version 2 wrote", "a", "int", "long"}},
		{"not with the version before but with the first", []string{
			record(`{"name":"b","type":"long"}`), record(a + `,{"name":"b","type":"long","default":0}`), record(a)},
			[]string{"version 1 cannot read what version 3 wrote"}},
		{"not a schema", []string{`{"type":"no-type"}`}, []string{"parse version 1"}},
	} {
		err := Check(c.versions)
		if len(c.want) == 0 {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: found compatible", c.name)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", c.name, err, part)
			}
		}
	}
}

func TestMisnamedFilesAreABug(t *testing.T) {
	for _, path := range []string{"a.avsc", "a.v0.avsc", "a.vx.avsc", ".v1.avsc", "a.v2.avsc"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was accepted", path)
				}
			}()
			read(fstest.MapFS{path: {Data: []byte(`"string"`)}})
		}()
	}
}
