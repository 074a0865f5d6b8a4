//go:build synctests

package flaw_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"civicbus/internal/flaw"
)

// TestChaosFindsEveryFlaw plants every flaw there is, one at a time, in the harness that has to notice it, and wants each to
// turn it red: those of the engine in internal/kafka, those of the bus in e2e.
func TestChaosFindsEveryFlaw(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "test", "-tags", "synctests", "-count=1", "-json", "-run", "^TestFlaws$", "civicbus/internal/kafka", "civicbus/e2e")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	ended, how := map[string]string{}, map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var line struct{ Action, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		switch line.Action {
		case "pass", "fail", "skip":
			ended[line.Test] = line.Action
		case "output":
			if _, found, ok := strings.Cut(line.Output, "found by "); ok {
				how[line.Test] = "found by " + strings.TrimSpace(found)
			}
		}
	}
	all := slices.Concat(flaw.Engine(), flaw.Bus())
	if len(all) < 20 {
		t.Errorf("%d flaws can be planted, want at least 20", len(all))
	}
	names := map[string]bool{}
	for _, f := range all {
		name := "TestFlaws/" + strings.ReplaceAll(f.String(), " ", "_")
		if f.String() == "" || names[name] {
			t.Errorf("flaw %d has no name of its own: %q", f, f)
		}
		names[name] = true
		t.Run(f.String(), func(t *testing.T) {
			if ended[name] != "pass" {
				t.Errorf("not found: %q", ended[name])
			}
			t.Log(how[name])
		})
	}
	if err != nil {
		t.Errorf("%v: %s", err, said.String())
	}
}
