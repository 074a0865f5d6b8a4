package embedded

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// childDir tells the test binary that it is the process to be killed, and where that keeps its data.
const childDir = "CIVICBUS_TEST_CHILD_DIR"

// TestChild is no test: it is the process that TestKillLosesNothing kills.
func TestChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("runs in a process of its own, started by TestKillLosesNothing")
	}
	c, err := Start(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("up %s %s\n", c.Brokers()[0], c.RegistryURL())
	select {} // until killed
}

func TestKillLosesNothing(t *testing.T) {
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
	child.Env = append(os.Environ(), childDir+"="+dir)
	child.Stderr = t.Output()
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var broker, url string
	for lines := bufio.NewScanner(out); url == "" && lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "up "); ok {
			broker, url, _ = strings.Cut(rest, " ")
		}
	}
	if url == "" {
		t.Fatal("the process to be killed did not start")
	}
	remote := at(t, broker, url)
	remote.fill(20)
	ids := remote.register()
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // its error is the kill

	again := start(t, Config{DataDir: dir})
	again.expectFilled(20)
	again.expectRegistered(ids)
}
