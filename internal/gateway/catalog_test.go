package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"civicbus/internal/gateway/catalog"

	"go.yaml.in/yaml/v3"
)

// catalogue reads the catalog as it stands after the stories before it.
func catalogue(b *bus) {
	a := b.want(http.StatusOK, "kela.fi", "GET", "/api/event-types", "")
	var all struct{ EventTypes []catalog.Type }
	b.read(a.text, &all)
	if len(all.EventTypes) != len(b.world.EventTypes) {
		b.t.Errorf("%d types, want %d", len(all.EventTypes), len(b.world.EventTypes))
	}
	for _, et := range all.EventTypes {
		a := b.want(http.StatusOK, "fi-hetu:010594Y9032", "GET", "/api/event-types/"+et.Type, "")
		var whole struct {
			Fields []catalog.Field
			Sample rawJSON
			Schema rawJSON
		}
		b.read(a.text, &whole)
		if len(whole.Fields) == 0 || len(whole.Sample) == 0 || len(whole.Schema) == 0 {
			b.t.Errorf("%s has %d fields, sample %s", et.Type, len(whole.Fields), whole.Sample)
		}
		// What is shown as a sample is let in: who may publish the type can send it as it stands.
		for _, org := range b.world.Organisations {
			for _, may := range org.Publishes {
				if may != et.Type || et.Category == "command" {
					continue
				}
				body := fmt.Sprintf(`{"specversion": "1.0", "id": "sample-%s", "source": %q, "type": %q, "data": %s}`, et.Type, org.Source, et.Type, whole.Sample)
				b.want(http.StatusAccepted, org.ID, "POST", "/api/events", body, "Content-Type", "application/cloudevents+json")
			}
		}
	}
	birth := b.want(http.StatusOK, "@anna", "GET", "/api/event-types/fi.dvv.person.birth", "").text
	for _, want := range []string{`{"path": "data.mother.bankAccount", "type": "string", "owner": "mother", "scopes": ["benefit-payment"], "classification": "sensitive"}`,
		`"citation": "Laki verotusmenettelystä (1558/1995) 18 §"`, `{"name": "child", "path": "data.children[].id", "scheme": "fi-hetu", "many": true, "optional": false}`} {
		if !strings.Contains(birth, want) {
			b.t.Errorf("%s is not in %s", want, birth)
		}
	}
	receivers := b.want(http.StatusOK, "fi-hetu:010594Y9032", "GET", "/api/event-types/fi.dvv.person.birth/receivers", "").text
	if !strings.Contains(receivers, `{"subscription": "sub-kela-birth-001", "subscriber": "kela.fi", "name": "Kela, the Social Insurance Institution of Finland", "status": "active", "role": "mother"`) ||
		strings.Contains(receivers, "revoked") || strings.Contains(receivers, "parentResidency") {
		b.t.Error(receivers)
	}
	b.want(http.StatusNotFound, "kela.fi", "GET", "/api/event-types/fi.nothing", "")
	b.want(http.StatusUnauthorized, "", "GET", "/asyncapi.json", "")
	b.asyncAPI()
}

// asyncAPI compares both forms and gives each caller's to the official parser, where there is one.
func (b *bus) asyncAPI() {
	dir := b.t.TempDir()
	var files []string
	for _, who := range []string{"kela.fi", "hus.fi", "@anna", "fi-hetu:010594Y9032"} {
		text := b.want(http.StatusOK, who, "GET", "/asyncapi.json", "").text
		var fromJSON, fromYAML any
		b.read(text, &fromJSON)
		b.must(yaml.Unmarshal([]byte(b.want(http.StatusOK, who, "GET", "/asyncapi.yaml", "").text), &fromYAML))
		again, err := json.Marshal(fromYAML)
		b.must(err)
		if first, err := json.Marshal(fromJSON); err != nil || string(first) != string(again) {
			b.t.Errorf("%s: JSON and YAML differ", who)
		}
		b.resolves(text, fromJSON)
		file := filepath.Join(dir, fmt.Sprintf("%d.json", len(files)))
		b.must(os.WriteFile(file, []byte(text), 0o600))
		files = append(files, file)
		for what, is := range map[string]bool{
			"subscriber.kela.fi": who == "kela.fi", "subscriber.{organisation}": who[0] == '@' || who[0] == 'f', "inbox.hus.fi": who == "hus.fi", "/api/events": true,
		} {
			if strings.Contains(text, `"address": "`+what+`"`) != is {
				b.t.Errorf("%s: %s is there: %t", who, what, !is)
			}
		}
		// The bank account is in no field set of Kela's child benefit subscription but that of a granted scope, and hus.fi's apgar in none.
		if who == "kela.fi" && (!strings.Contains(text, `"delivery.fi.dvv.person.birth"`) || strings.Contains(text, `"delivery.fi.dvv.person.death"`)) {
			b.t.Error("the deliveries of kela.fi are not those of its subscriptions")
		}
	}
	modules := os.Getenv("CIVICBUS_TEST_NODE_MODULES")
	if modules == "" {
		b.t.Log("CIVICBUS_TEST_NODE_MODULES names no directory with @asyncapi/parser and @asyncapi/avro-schema-parser: the official parser is not asked")
		return
	}
	cmd := exec.CommandContext(b.t.Context(), "node", append([]string{"-e", parserScript}, files...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Errorf("the AsyncAPI parser: %v\n%s", err, out)
	}
}

// parserScript ends with 1 when a document has an error or a warning, but that a newer version of AsyncAPI exists.
const parserScript = `
const { Parser } = require('@asyncapi/parser');
const { AvroSchemaParser } = require('@asyncapi/avro-schema-parser');
(async () => {
  let bad = 0;
  for (const file of process.argv.slice(1)) {
    const parser = new Parser();
    parser.registerSchemaParser(AvroSchemaParser());
    const { document, diagnostics } = await parser.parse(require('fs').readFileSync(file, 'utf8'));
    for (const d of diagnostics) {
      if (d.severity > 1 || d.code === 'asyncapi-latest-version') continue;
      bad++;
      console.log(file, d.code, d.path.join('.'), d.message);
    }
    if (!document || document.channels().isEmpty()) { bad++; console.log(file, 'no document'); }
  }
  process.exit(bad ? 1 : 0);
})();`

// resolves follows every reference of a document.
func (b *bus) resolves(text string, document any) {
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				at := document
				for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
					m, _ := at.(map[string]any)
					at = m[part]
				}
				if at == nil {
					b.t.Errorf("%s leads nowhere in %s", ref, text[:200])
				}
			}
			for _, below := range v {
				walk(below)
			}
		case []any:
			for _, below := range v {
				walk(below)
			}
		}
	}
	walk(document)
}
