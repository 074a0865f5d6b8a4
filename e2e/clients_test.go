package e2e

import (
	"context"
	_ "embed"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"civicbus/topology"
)

// TestAnyClient reads the post's topic with clients that share no code with civicbus: kcat, and Python with librdkafka and
// fastavro. What they need and is not installed is said; .ci/run has it all.
func TestAnyClient(t *testing.T) {
	b := start(t)
	b.smallWorld()
	who := people(1, 5)
	var grants []*order
	for _, p := range who {
		grants = append(grants, b.grantPost(p))
	}
	b.inEffect(grants...)
	l := b.newLedger()
	l.move(granted, who...)
	l.audit()
	topic := topology.SubscriberTopicName(post)
	broker := b.cfg.Connection.Brokers[0]

	b.sub("kcat", func() {
		kcat, err := exec.LookPath("kcat")
		if err != nil {
			b.t.Skip("kcat is not installed (Debian package kcat)")
		}
		// Alone, and as a member of a group, as a subscriber runs it.
		for _, args := range [][]string{
			{"-C", "-t", topic, "-o", "beginning"},
			{"-G", post + ".reader", "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000", topic},
		} {
			at := len(args)
			if args[0] == "-G" {
				at-- // options stand before the topic
			}
			args = append(append(append([]string{"-b", broker}, args[:at]...), "-e", "-q", "-X", "isolation.level=read_committed", "-f", "%k %h %S\n"), args[at:]...)
			out := b.command(kcat, args...)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if len(lines) != len(who) {
				b.t.Errorf("kcat %v: %d records, want %d", args, len(lines), len(who))
			}
			for _, line := range lines {
				key, rest, _ := strings.Cut(line, " ")
				if !strings.Contains(rest, "ce_subject="+key) || !strings.Contains(rest, "ce_subscription="+postSub) || !strings.Contains(rest, "ce_type="+moveType) {
					b.t.Errorf("kcat: %s", line)
				}
			}
		}
	})

	b.sub("python", func() {
		var read []map[string]any
		b.must(json.Unmarshal([]byte(b.python(reader, broker, b.cfg.Registry.URL, topic, "5")), &read))
		if len(read) != len(who) {
			b.t.Errorf("%d records, want %d", len(read), len(who))
		}
		streets := map[string]bool{}
		for _, v := range read {
			address, _ := v["newAddress"].(map[string]any)
			streets[address["street"].(string)] = true
			if v["oldAddress"] != nil || v["permanent"] != true {
				b.t.Errorf("read %v", v)
			}
		}
		if len(streets) != len(who) {
			b.t.Errorf("streets %v, want %d different ones", streets, len(who))
		}
	})
}

//go:embed testdata/value.py
var value string

// reader is a subscriber in Python.
//
//go:embed testdata/reader.py
var reader string

// python runs a script after value.py, and returns its standard output; without a Python that has its packages it skips the test.
func (b *bus) python(script string, args ...string) string {
	b.t.Helper()
	python := os.Getenv("CIVICBUS_TEST_PYTHON")
	if python == "" {
		if python = "python3"; !installed(python, "-c", "import confluent_kafka, fastavro") {
			b.t.Skip("python3 has no confluent-kafka and fastavro: pip install them, or name a Python that has by CIVICBUS_TEST_PYTHON")
		}
	}
	return b.command(python, append([]string{"-c", value + script}, args...)...)
}

// command runs a program and returns its standard output.
func (b *bus) command(name string, args ...string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("%s: %v: %s", name, err, said.String())
	}
	return string(out)
}
