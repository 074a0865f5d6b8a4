//go:build synctests

package flaw_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
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
	for _, f := range flaw.Later() {
		names["TestFlaws/"+strings.ReplaceAll(f.String(), " ", "_")] = true
	}
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

// noticed names the test that has to turn red where a defect of what is sent later, or of what comes back, is planted from the
// begin on.
var noticed = map[flaw.Flaw]struct{ in, by string }{
	flaw.AttemptUndecided: {"civicbus/e2e", "TestReplayToWebhooks"},
	flaw.RetryForgotten:   {"civicbus/processors/delivery", "TestSettle"},
	flaw.ReportTwice:      {"civicbus/processors/delivery", "TestSettle"},
	flaw.ReplayUndecided:  {"civicbus/internal/replay", "TestOnlyWhatIsPermittedNow"},
	flaw.ProgressEarly:    {"civicbus/internal/replay", "TestKilledAtRandomMoments"},
	flaw.OutcomeTwice:     {"civicbus/internal/journeys", "TestAnyOrder"},
	flaw.ConfirmedTwice:   {"civicbus/processors/journey", "TestFromDecisionsToConfirmation"},
	flaw.ConfirmUnasked:   {"civicbus/processors/journey", "TestWhoMayConfirm"},
}

// TestChaosFindsEveryLaterFlaw plants each of them in the test that has to notice it. A kill at a random moment may miss the
// moment that shows one: it has three tries.
func TestChaosFindsEveryLaterFlaw(t *testing.T) {
	for _, f := range flaw.Later() {
		t.Run(f.String(), func(t *testing.T) {
			test := noticed[f]
			for range 3 {
				cmd := exec.CommandContext(t.Context(), "go", "test", "-tags", "synctests", "-count=1", "-ldflags", "-X 'civicbus/internal/flaw.first="+f.String()+"'", "-run", "^"+test.by+"$", test.in)
				cmd.Env = append(os.Environ(), "CIVICBUS_TEST_REPLAY_KILLS=12")
				out, err := cmd.CombinedOutput()
				_, how, failed := strings.Cut(string(out), "--- FAIL: "+test.by)
				switch {
				case err != nil && failed:
					t.Logf("found by %s%s", test.by, how)
					return
				case err != nil || test.in == "":
					t.Fatalf("%v: %s", err, out)
				}
			}
			t.Errorf("not found by %s", test.by)
		})
	}
}
