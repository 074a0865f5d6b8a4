package e2e

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/e2e/realcluster"
	"civicbus/topology"
)

var update = flag.Bool("update", false, "write the map into the README anew")

// TestReadmeShowsTheMap compares the README's map with the one that the program prints.
func TestReadmeShowsTheMap(t *testing.T) {
	text := document(t, "README.md")
	before, rest, ok := strings.Cut(text, "-->\n```text\n")
	shown, after, closed := strings.Cut(rest, "```\n<!-- /topology -->")
	if !ok || !closed {
		t.Fatal("README.md: the marks around the map are gone")
	}
	if shown == topology.Text() {
		return
	}
	if !*update {
		t.Fatal("README.md shows another map; look at it, then: go test ./e2e -run TestReadmeShowsTheMap -update")
	}
	whole := before + "-->\n```text\n" + topology.Text() + "```\n<!-- /topology -->" + after
	if err := os.WriteFile(filepath.Join("..", "README.md"), []byte(whole), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestReadmeTour does what the README's tour says, block by block, with the program as it is built now, on an embedded
// cluster on free ports, and compares what is printed with what the README prints.
func TestReadmeTour(t *testing.T) {
	if realcluster.FromEnv() != nil {
		t.Skip("the tour is on the embedded cluster")
	}
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("the tour's blocks are for a shell, and there is none")
	}
	t.Parallel()
	_, rest, ok := strings.Cut(document(t, "README.md"), "\n## A first tour\n")
	if !ok {
		t.Fatal("README.md has no tour")
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	r := newTour(t)
	r.receiver()
	ran := r.follow(text)
	if ran < 12 {
		t.Errorf("only %d blocks of the tour were run", ran)
	}
	t.Run("commands", func(t *testing.T) { documentedCommands(t, filepath.Join(r.dir, "civicbus")) })
}

// tour is the reader of the README, or of another page, at a shell.
type tour struct {
	t       *testing.T
	file    string
	dir     string            // the program, and where it keeps its data
	env     []string          // of every block
	address map[string]string // what the README writes for an address -> what it is here
}

func newTour(t *testing.T) *tour {
	r := &tour{t: t, file: "README.md", dir: t.TempDir(), address: map[string]string{}}
	r.address["bin/civicbus"] = filepath.Join(r.dir, "civicbus")
	for _, v := range os.Environ() { // this machine's own settings are no part of the tour
		if name, _, _ := strings.Cut(v, "="); !strings.HasPrefix(name, "CIVICBUS_") && name != "PATH" {
			r.env = append(r.env, v)
		}
	}
	r.env = append(r.env, "PATH="+r.dir+string(os.PathListSeparator)+os.Getenv("PATH"),
		"CIVICBUS_EMBEDDED_DATA_DIR="+filepath.Join(r.dir, "civicbus-data"), "CIVICBUS_EMBEDDED_KAFKA_PORT=0", "CIVICBUS_EMBEDDED_REGISTRY_PORT=0")
	return r
}

// programDir holds the program once a page has needed it; TestMain removes it.
var programDir string

// receiver gives the tour's receiver of webhooks a free port and files of its own, and ends it when the tour breaks off.
func (r *tour) receiver() {
	r.t.Helper()
	for _, name := range []string{"webhook.secret", "receiver.log", "receiver-again.log", "receiver.pid"} {
		r.address["/tmp/"+name] = filepath.Join(r.dir, name)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.address["127.0.0.1:8765"] = l.Addr().String()
	r.address[" 8765 "] = fmt.Sprintf(" %d ", l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = exec.Command("sh", "-c", "kill $(cat "+r.address["/tmp/receiver.pid"]+")").Run() })
}

// program is civicbus as it is built now: linking takes longer than most pages.
var program = sync.OnceValues(func() (file string, err error) {
	if programDir, err = os.MkdirTemp("", "civicbus-program"); err != nil {
		return "", err
	}
	file = filepath.Join(programDir, "civicbus")
	if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", file, "../cmd/civicbus").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return file, nil
})

// build gives the reader of a page that does not say how the program.
func (r *tour) build() {
	r.t.Helper()
	file, err := program()
	if err == nil {
		err = os.Symlink(file, filepath.Join(r.dir, "civicbus"))
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// follow runs the blocks of a page until one is not as the page says, and returns how many it ran.
func (r *tour) follow(text string) (ran int) {
	r.t.Helper()
	blocks := fenced(text)
	for i, b := range blocks {
		var want string
		if i+1 < len(blocks) && blocks[i+1].language == "text" {
			want = blocks[i+1].text
		}
		switch b.language {
		case "sh", "python":
			if r.step(b, want) {
				ran++
			}
		case "text":
		default:
			r.t.Errorf("%s: a block is %q: nobody runs it", r.file, b.language)
		}
		if r.t.Failed() {
			break
		}
		for _, m := range exports.FindAllStringSubmatch(b.text, -1) {
			r.env = append(r.env, m[1]+"="+r.here(m[2])) // each block has a shell of its own
		}
	}
	return ran
}

var exports = regexp.MustCompile(`(?m)^export ((?:CIVICBUS|OTEL)_\w+)=(\S+)$`)

// step runs one block and compares what it prints with want. A block of a client that is not installed here is passed over,
// which is said, and which is no step.
func (r *tour) step(b block, want string) bool {
	r.t.Helper()
	words := strings.Fields(b.text)
	switch {
	case words[0] == "civicbus" && (words[1] == "up" || words[1] == "run"):
		r.keep(words[1:], want)
		return true
	case words[0] == "kcat" && strings.Contains(b.text, "inbox.hus.fi") && !installed("kcat"):
		r.t.Log("kcat is not installed: its event is published from the command line, for what follows")
		b.text = "civicbus publish --as hus.fi -f examples/events/birth.json\n"
	case strings.Contains(b.text, "-hook") && !installed("python3"), strings.Contains(b.text, "/tmp/receiver") && !installed("python3"),
		words[0] == "kcat" && !installed("kcat"), b.language == "python" && !installed(python(), "-c", "import "+needs(b.text)):
		r.t.Logf("passed over, the client is not installed: %s", strings.Join(words[:3], " "))
		return false
	}
	var got, rest string
	var err error
	for deadline := time.Now().Add(10 * time.Second); ; {
		got, rest, err = r.ask(b)
		if err == nil && matches(got, want) {
			return true
		}
		if changes.MatchString(b.text) || time.Now().After(deadline) {
			break
		}
	}
	r.t.Errorf("%s says\n%s\nprints\n%s\nit prints (%v)\n%s%s", r.file, b.text, want, err, got, rest)
	return true
}

// needs are the modules that a block in Python imports from.
func needs(text string) string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^from (\S+) import`).FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return strings.Join(names, ", ")
}

// python is the Python of whoever reads.
func python() string { return cmp.Or(os.Getenv("CIVICBUS_TEST_PYTHON"), "python3") }

// changes finds blocks that do more than ask. The others may be asked again, until what was done before them shows.
var changes = regexp.MustCompile(`go build|register|apply|approve|publish|-P|erase|pause|resume|--execute|consumer|issue|rotate|revoke|--data|-X POST`)

// ask runs a block once, and returns what it prints.
func (r *tour) ask(b block) (answer, rest string, err error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), within)
	defer cancel()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, "sh", "-e")
	cmd.Stderr = &out // the README shows both, in their order
	if b.language == "python" {
		cmd = exec.CommandContext(ctx, python(), "-")
		cmd.Stderr = &said // what librdkafka logs
	}
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout = "..", r.env, strings.NewReader(r.here(b.text)), &out
	err = cmd.Run()
	return r.there(out.String()), said.String(), err
}

// keep starts what runs until it is interrupted, and waits until it is ready. It is interrupted when the tour ends.
func (r *tour) keep(args []string, want string) {
	r.t.Helper()
	for i, a := range args {
		args[i] = strings.Replace(a, "127.0.0.1:9645", "127.0.0.1:0", 1)
	}
	cmd := exec.Command(filepath.Join(r.dir, "civicbus"), args...)
	said := &logBuffer{}
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "..", append(r.env, "CIVICBUS_LOG_LEVEL=info", "CIVICBUS_HTTP_LISTEN=127.0.0.1:0", "CIVICBUS_GATEWAY_LISTEN=127.0.0.1:0"), said, said
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan struct{})
	var left error // how it ended
	go func() { left = cmd.Wait(); close(ended) }()
	r.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if <-ended; left != nil {
			r.t.Errorf("civicbus %v: %v\n%s", args, left, said.tail(2000))
		}
	})
	ready := regexp.MustCompile(`(?m)^ready;|msg=ready`)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(within)
	for !ready.MatchString(said.String()) {
		select {
		case <-tick.C:
		case <-ended:
			r.t.FailNow() // the clean-up says why
		case <-limit:
			r.t.Fatalf("civicbus %v is not ready within %s:\n%s", args, within, said.tail(4000))
		}
	}
	if want == "" {
		return
	}
	var lines []string // what it prints, without what it logs
	for line := range strings.Lines(said.String()) {
		if !strings.HasPrefix(line, "time=") {
			lines = append(lines, line)
		}
	}
	got := strings.Join(lines, "")
	for name, place := range map[string]*regexp.Regexp{"127.0.0.1:9092": regexp.MustCompile(`Kafka +(\S+)`),
		"127.0.0.1:8081": regexp.MustCompile(`Schema Registry +http://(\S+)`), "127.0.0.1:9644": regexp.MustCompile(`http://(\S+)/metrics`), "127.0.0.1:8080": regexp.MustCompile(`http://(\S+)/docs`)} {
		if found := place.FindStringSubmatch(got); found != nil {
			r.address[name] = found[1]
		}
	}
	r.env = append(r.env, "CIVICBUS_KAFKA_BROKERS="+r.address["127.0.0.1:9092"], "CIVICBUS_REGISTRY_URL=http://"+r.address["127.0.0.1:8081"])
	if got := r.there(got); !matches(got, want) {
		r.t.Errorf("%s says that civicbus %v prints\n%s\nit prints\n%s", r.file, args, want, got)
	}
}

// here puts the addresses of this run in the place of the README's, there does the reverse.
func (r *tour) here(text string) string {
	for name, address := range r.address {
		text = strings.ReplaceAll(text, name, address)
	}
	return text
}

func (r *tour) there(text string) string {
	text = strings.ReplaceAll(text, filepath.Join(r.dir, "civicbus-data"), "civicbus-data")
	for name, address := range r.address {
		text = strings.ReplaceAll(text, address, name)
	}
	return text
}

func installed(name string, args ...string) bool {
	if len(args) == 0 {
		_, err := exec.LookPath(name)
		return err == nil
	}
	return exec.Command(name, args...).Run() == nil
}

// matches compares what is printed with what a document says is. In the document … stands for anything on a line, and a
// line with nothing else for any lines; how wide a table's columns are does not matter.
func matches(got, want string) bool {
	var pattern strings.Builder
	pattern.WriteString(`\A`)
	for line := range strings.Lines(want) {
		line = strings.TrimRight(line, "\n ")
		if line == "…" {
			pattern.WriteString(`(?:.*\n)*?`)
			continue
		}
		parts := strings.Split(line, "…")
		for i, p := range parts {
			words := regexp.MustCompile(` {2,}`).Split(p, -1)
			for j, w := range words {
				words[j] = regexp.QuoteMeta(w)
			}
			parts[i] = strings.Join(words, ` {2,}`)
		}
		pattern.WriteString(strings.Join(parts, `.*`) + ` *\n`)
	}
	pattern.WriteString(`\z`)
	return want == "" || regexp.MustCompile(pattern.String()).MatchString(got)
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		got, want string
		same      bool
	}{
		{"a\n", "a\n", true},
		{"a\nb\n", "a\n", false},
		{"b\n", "a\n", false},
		{"x=1 y\n", "x=… y\n", true},
		{"x=1 z\n", "x=… y\n", false},
		{"a\nb\nc\n", "a\n…\nc\n", true},
		{"a\nc\n", "a\n…\nc\n", true},
		{"a\nb\n", "a\n…\nc\n", false},
		{"a    b\n", "a  b\n", true},
		{"a b\n", "a  b\n", false},
		{"anything\n", "", true},
	} {
		if matches(c.got, c.want) != c.same {
			t.Errorf("%q as %q: want %t", c.got, c.want, c.same)
		}
	}
}

// long skips a test that .ci/run runs, and that would make the usual run longer than one waits for it.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("CIVICBUS_TEST_LONG") == "" {
		t.Skip("only with CIVICBUS_TEST_LONG")
	}
}
