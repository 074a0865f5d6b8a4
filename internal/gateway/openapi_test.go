package gateway_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"civicbus/internal/gateway/web"
)

// python is one that has schemathesis and openapi-spec-validator; the test passes over what there is none for.
func python(t *testing.T) string {
	t.Helper()
	p := os.Getenv("CIVICBUS_TEST_OPENAPI_PYTHON")
	if p == "" {
		t.Skip("CIVICBUS_TEST_OPENAPI_PYTHON names no python with schemathesis and openapi-spec-validator")
	}
	return p
}

// wrongHere are the checks that do not fit this interface.
var wrongHere = []string{
	"positive_data_acceptance", // what its schema allows may still mean nothing: a purpose that nobody registered, a filter on an unknown field
	"negative_data_rejection",  // null counts as absent where something may be; and it takes 412 and 413 for acceptance
}

// The interface's own description is valid OpenAPI 3.1, and what the gateway answers is what it describes: no server error,
// no undocumented answer, whatever is sent.
func TestOpenAPI(t *testing.T) {
	py := python(t)
	b := start(t, web.Limit{Requests: 1_000_000, Window: time.Minute})
	b.want(http.StatusCreated, "kela.fi", "POST", "/api/subscriptions", seedRequest)
	dir := t.TempDir()
	file := filepath.Join(dir, "openapi.json")
	b.must(os.WriteFile(file, []byte(b.want(http.StatusOK, "", "GET", "/openapi.json", "").text), 0o600))
	if out, err := exec.CommandContext(t.Context(), py, "-m", "openapi_spec_validator", file).CombinedOutput(); err != nil {
		t.Fatalf("openapi-spec-validator: %v\n%s", err, out)
	}
	examples := os.Getenv("CIVICBUS_TEST_OPENAPI_EXAMPLES")
	if examples == "" {
		examples = "10"
	}
	for _, who := range []string{"kela.fi", "@anna", "fi-hetu:010594Y9032"} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(py), "schemathesis"), "run", b.base+"/openapi.json",
			"--header", "Authorization: Bearer "+b.token(who), "--max-examples", examples, "--phases", "examples,coverage,fuzzing", "--seed", "1", "--request-timeout", "30",
			"--checks", "all", "--exclude-checks", strings.Join(wrongHere, ","),
			"--exclude-path-regex", "(sse|websocket)$", "--no-color")
		cmd.Dir = dir // it leaves files behind
		out, err := cmd.CombinedOutput()
		text := string(out)
		if err != nil {
			t.Errorf("schemathesis as %s: %v\n%s", strings.SplitN(who, ":", 2)[0], err, text[max(0, len(text)-12_000):])
			continue
		}
		t.Log(text[max(0, len(text)-600):])
	}
	if strings.Contains(b.logs.String(), "level=ERROR") {
		t.Error("errors were logged")
	}
}
