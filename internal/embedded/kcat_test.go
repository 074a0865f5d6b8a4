package embedded

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
)

// kcat stands for every client on librdkafka.
func TestKcatReadsAndWrites(t *testing.T) {
	path, err := exec.LookPath("kcat")
	if err != nil {
		t.Skip("kcat is not installed (Debian package kcat)")
	}
	c := start(t, Config{})
	if _, err := kadm.NewClient(c.connect()).CreateTopic(within(t), 3, 1, nil, "subscriber.kela"); err != nil {
		t.Fatal(err)
	}
	kcat := func(input string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(within(t), path, append([]string{"-b", c.Brokers()[0]}, args...)...)
		cmd.Stdin = strings.NewReader(input)
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("kcat %v: %v: %s", args, err, said.String())
		}
		return string(out)
	}
	if out := kcat("", "-L"); !strings.Contains(out, `topic "subscriber.kela" with 3 partitions`) {
		t.Errorf("kcat -L: %s", out)
	}
	kcat("k:hyvää päivää\n", "-P", "-t", "subscriber.kela", "-K", ":", "-H", "ce_specversion=1.0", "-X", "enable.idempotence=true")
	got := kcat("", "-C", "-t", "subscriber.kela", "-o", "beginning", "-e", "-q", "-f", "%k %h %s", "-X", "isolation.level=read_committed")
	if want := "k ce_specversion=1.0 hyvää päivää"; got != want {
		t.Errorf("kcat read %q, want %q", got, want)
	}
	// A consumer group, as a subscriber would run it. The group ends at the end of every partition.
	if got := kcat("", "-G", "kela.reader", "-e", "-q", "-f", "%s", "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000", "subscriber.kela"); got != "hyvää päivää" {
		t.Errorf("kcat read %q in a group", got)
	}
}
