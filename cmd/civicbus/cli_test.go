package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"civicbus/codecs"
	"civicbus/internal/app"
	"civicbus/internal/embedded"
	"civicbus/internal/kafka"
	"civicbus/topology"
)

// said is what one call of the program answered.
type said struct {
	code     int
	out, err string
}

// call runs the program in this process, away from this machine's own settings.
func call(t *testing.T, stdin string, args ...string) said {
	t.Helper()
	root := newRoot()
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetIn(strings.NewReader(stdin))
	root.SetArgs(append([]string{}, args...)) // nil would be the test binary's own
	code := execute(t.Context(), root, &errs)
	return said{code, out.String(), errs.String()}
}

// want demands an exit code and texts in what was said.
func (s said) want(t *testing.T, code int, texts ...string) said {
	t.Helper()
	if s.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", s.code, code, s.out, s.err)
	}
	for _, text := range texts {
		if !strings.Contains(s.out+s.err, text) {
			t.Errorf("want %q in:\n%s%s", text, s.out, s.err)
		}
	}
	return s
}

// json demands that standard output is one JSON value, into value, and nothing else.
func (s said) json(t *testing.T, value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.out), value); err != nil {
		t.Errorf("standard output is not JSON: %v\n%s", err, s.out)
	}
}

func TestCalledWrongly(t *testing.T) {
	for name, args := range map[string][]string{
		"unknown command":       {"frobnicate"},
		"unknown subcommand":    {"topics", "frobnicate"},
		"unknown flag":          {"lag", "--frobnicate"},
		"unknown format":        {"topology", "-o", "xml"},
		"argument missing":      {"tail"},
		"argument too many":     {"version", "x"},
		"file missing":          {"trust", "apply"},
		"organisation missing":  {"publish", "-f", "-"},
		"half a schema":         {"schemas", "check", "r"},
		"place":                 {"dead-letters", "show", "x"},
		"time":                  {"dead-letters", "list", "--since", "yesterday"},
		"nothing chosen":        {"dead-letters", "redrive"},
		"from":                  {"tail", "kela.fi", "--from", "yesterday"},
		"setting":               {"lag", "--lease-age", "x"},
		"subject is none":       {"consent", "get"},
		"subjects are none":     {"dead-letters", "redrive", "0:0", "--subject-file", "-"},
		"unknown configuration": {"lag", "--config", "/nonexistent"},
	} {
		if s := call(t, "140392-9029", args...); s.code != 2 || s.out != "" || s.err == "" || strings.Contains(s.err, "140392") {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestHelp(t *testing.T) {
	call(t, "").want(t, 0, "Available Commands", "dead-letters")
	call(t, "", "topics").want(t, 0, "apply", "diff", "list")
	call(t, "", "help", "settings").want(t, 0, "--kafka-brokers", "CIVICBUS_LEASE_AGE")
	if s := call(t, "", "tail", "--help").want(t, 0, "--from", "--config"); strings.Contains(s.out, "--kafka-brokers") {
		t.Errorf("every setting is in a command's help:\n%s", s.out)
	}
	call(t, "", "topics", "dif").want(t, 2, "did you mean diff?")
}

func TestWithoutACluster(t *testing.T) {
	call(t, "", "topology").want(t, 0, "router: permits or denies")
	call(t, "", "topology", "-o", "mermaid").want(t, 0, "flowchart LR")
	var described struct{ Groups []any }
	call(t, "", "topology", "-o", "json").want(t, 0).json(t, &described)
	if len(described.Groups) != len(topology.Groups) {
		t.Errorf("%d groups", len(described.Groups))
	}
	call(t, "", "schemas", "check").want(t, 0, "compatible")
	call(t, "", "version").want(t, 0, "civicbus ", "go1.")
	var b build
	call(t, "", "version", "-o", "json").want(t, 0).json(t, &b)
	call(t, "", "config", "print").want(t, 0, "lease:", "age: 500ms", "partitions: 64")
	call(t, "", "config", "print", "--embedded").want(t, 0, "partitions: 8")
	call(t, "", "config", "print", "--lease-age", "1s").want(t, 0, "age: 1s", "[--lease-age]")
	call(t, "", "config", "validate").want(t, 0, "valid")
	call(t, "", "config", "validate", "--kafka-replication", "0").want(t, 1, "kafka.replication")
	call(t, "", "lag", "--kafka-brokers", "127.0.0.1:1").want(t, 1, "reach kafka at 127.0.0.1:1")
}

// running is a cluster with civicbus on it, which the tests below share: starting one takes longer than asking it.
var running = sync.OnceValues(func() (*shared, error) {
	cluster, err := embedded.Start(context.Background(), embedded.Config{})
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "civicbus")
	if err != nil {
		return nil, err
	}
	s := &shared{dir: dir, cluster: cluster, done: make(chan struct{})}
	key := []byte("the bus key of tests, of 32 bytes or more")
	if err := os.WriteFile(filepath.Join(dir, busKeyName), key, 0o600); err != nil {
		return nil, err
	}
	cfg := app.Config{Connection: kafka.Connection{Brokers: cluster.Brokers()}, Registry: codecs.RegistryConfig{URL: cluster.RegistryURL()},
		BusKey: key, Shape: topology.Shape{Partitions: 8}, Instance: "test", Logger: slog.New(slog.DiscardHandler)}
	if _, err := app.Apply(context.Background(), cfg); err != nil {
		return nil, err
	}
	n, err := app.Connect(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() {
		defer close(s.done)
		if err := n.Run(ctx); err != nil {
			panic(err) // the tests' answers are worth nothing then
		}
	}()
	return s, nil
})

type shared struct {
	dir     string
	cluster *embedded.Cluster
	stop    func()
	done    chan struct{}
}

func TestMain(m *testing.M) {
	for _, v := range os.Environ() { // this machine's own settings are no part of the tests
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "CIVICBUS_") && !strings.HasPrefix(name, "CIVICBUS_TEST_") {
			_ = os.Unsetenv(name)
		}
	}
	code := m.Run()
	if used {
		if s, err := running(); err == nil {
			s.stop()
			<-s.done
			_ = s.cluster.Close()
			_ = os.RemoveAll(s.dir)
		}
	}
	os.Exit(code)
}

var used bool // whether running was called

// on calls the program against the shared cluster, and demands that no id and no pseudonym is printed.
func on(t *testing.T, stdin string, args ...string) said {
	t.Helper()
	used = true
	s, err := running()
	if err != nil {
		t.Fatal(err)
	}
	answer := call(t, stdin, append(args, "--kafka-brokers", s.cluster.Brokers()[0], "--registry-url", s.cluster.RegistryURL(), "--embedded-data-dir", s.dir)...)
	if found := secret.FindString(answer.err); found != "" {
		t.Errorf("%v prints %s on standard error", args, found)
	}
	if found := secret.FindString(answer.out); found != "" && !reveals(args) {
		t.Errorf("%v prints %s", args, found)
	}
	return answer
}

// secret is a Finnish personal identity code, or a bus pseudonym.
var secret = regexp.MustCompile(`[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Y]|k1\.[A-Za-z0-9_-]{22}`)

// reveals lists the two calls that are meant to show what events say of people.
func reveals(args []string) bool {
	return args[0] == "tail" || strings.Join(args[:2], " ") == "dead-letters show"
}

// files are -f flags for every file of an example folder.
func files(t *testing.T, folder string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", "..", "examples", folder, "*.yaml"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no files in examples/%s: %v", folder, err)
	}
	var flags []string
	for _, n := range names {
		flags = append(flags, "-f", n)
	}
	return flags
}

func example(name string) string {
	return filepath.Join("..", "..", "examples", filepath.FromSlash(name))
}

// The day of an operator, by the command line alone, on the example world.
func TestOperatorsDay(t *testing.T) {
	schemas, err := filepath.Glob(example("schemas/*.avsc"))
	if err != nil || len(schemas) == 0 {
		t.Fatal(schemas, err)
	}
	for _, file := range schemas {
		subject := strings.TrimSuffix(filepath.Base(file), ".avsc")
		on(t, "", "schemas", "check", subject, file).want(t, 0)
		on(t, "", "schemas", "register", subject, file).want(t, 0)
	}
	on(t, "", "journeys", "setup").want(t, 0, "put civicbus", "put fi.civicbus.journey.updated", "in effect")
	on(t, "", append([]string{"trust", "apply"}, files(t, "trust")...)...).want(t, 0, "in effect")
	on(t, "", append([]string{"catalog", "apply"}, files(t, "catalog")...)...).want(t, 0, "in effect")
	if again := on(t, "", "journeys", "setup").want(t, 0); strings.Contains(again.out, "put ") {
		t.Errorf("what is there was put again: %s", again.out)
	}
	on(t, "", append([]string{"subscription", "apply", "--actor", "operator:anna"}, files(t, "subscriptions")...)...).want(t, 0, "in effect")
	on(t, "", "subscription", "approve", "--actor", "operator:anna", "sub-kela-address").want(t, 1, "second_person_required")
	on(t, "", "subscription", "approve", "--actor", "operator:bertta", "sub-kela-address", "sub-posti-address").want(t, 0, "in effect")
	on(t, "", "consent", "apply", "-f", example("consents/consents.yaml")).want(t, 0, "in effect")
	t.Run("apply", applies)
	t.Run("get and list", lists)
	t.Run("publish", publishes)
	t.Run("replay", replaysSent)
	t.Run("groups", groupsShown)
	t.Run("audit", audits)
	t.Run("subject", subjects)
	t.Run("topics", topics)
}

func applies(t *testing.T) {
	org := "id: test.example\nname: A\ndid: did:web:test.example\nsource: https://test.example\n"
	on(t, org, "trust", "apply", "-f", "-", "--no-wait").want(t, 0, "accepted, not yet in effect")
	var outcomes []struct {
		Status            string
		Version           int64
		InEffect          bool
		Reason, CommandID string
	}
	on(t, org+"version: 7\n", "trust", "apply", "-f", "-", "-o", "json").want(t, 1).json(t, &outcomes)
	if len(outcomes) != 1 || outcomes[0].Status != "refused" || outcomes[0].Reason != "version_conflict" {
		t.Errorf("%+v", outcomes)
	}
	on(t, "", "trust", "suspend", "test.example", "--id", "s1").want(t, 0, "in effect")
	on(t, "", "trust", "resume", "test.example", "--id", "r1").want(t, 0, "in effect")
	on(t, "", "trust", "suspend", "test.example", "--id", "s1").want(t, 0, "changed since (version 3)")
	on(t, "", "trust", "suspend", "test.example", "--if-version", "1").want(t, 1, "version_conflict")
	on(t, "", "trust", "revoke", "nobody.example").want(t, 1, "not_found")
	on(t, "", "catalog", "retire", "no.such.type").want(t, 1, "refused")
	on(t, "", "subscription", "pause", "sub-kela-address", "--reason", "whim").want(t, 1, "maintenance")
	on(t, "", "trust", "suspend", "test.example", "--timeout", "1ms").want(t, 1) // not even written
	on(t, "id: [", "trust", "apply", "-f", "-").want(t, 1, "malformed_document")
	// A fault in a consent document must not give its subject away.
	on(t, "subject: fi-hetu:140392-9029\nkind: frobnicate\n", "consent", "apply", "-f", "-").want(t, 1, "unknown_value")
	on(t, "subject: fi-hetu:140392-902X\nkind: restrict\n", "consent", "apply", "-f", "-").want(t, 1, "check character")
}

func lists(t *testing.T) {
	on(t, "", "trust", "list").want(t, 0, "kela.fi", "ORGANISATION")
	var orgs []codecs.Organisation
	on(t, "", "trust", "list", "-o", "json").want(t, 0).json(t, &orgs)
	if len(orgs) < 10 {
		t.Errorf("%d organisations", len(orgs))
	}
	on(t, "", "subscription", "list", "-o", "yaml").want(t, 0, "id: sub-kela-address")
	on(t, "", "subscription", "get", "sub-posti-address").want(t, 0, "purpose: mail-forwarding", "approvedBy: operator:bertta", "# from: in effect from recorded offsets")
	on(t, "", "subscription", "get", "sub-posti-address", "-o", "json").want(t, 0, `"partition": 1`)
	on(t, "", "catalog", "list").want(t, 0, "fi.dvv.person.birth")
	on(t, "", "catalog", "get", "fi.dvv.person.address.changed", "-o", "table").want(t, 0, "posti.fi", "mail-forwarding", "consent")
	on(t, "", "catalog", "get", "no.such.type").want(t, 1, "no event type")
	// What get prints can be applied again, and is then as it was.
	for _, what := range [][]string{{"catalog", "fi.dvv.person.address.changed"}, {"trust", "kela.fi"}} {
		for _, format := range []string{"yaml", "json"} {
			if what[0] == "catalog" && format == "json" {
				continue // it holds the receivers too
			}
			before := on(t, "", what[0], "get", what[1], "-o", format).want(t, 0)
			on(t, before.out, what[0], "apply", "-f", "-").want(t, 0, "in effect")
			if after := on(t, "", what[0], "get", what[1], "-o", format); after.out != before.out {
				t.Errorf("%s is\n%swas\n%s", what[1], after.out, before.out)
			}
		}
	}
	on(t, "fi-hetu:140392-9029\n", "consent", "get").want(t, 0, "recipient: kela.fi", "state: given")
	on(t, "test:nobody\n", "consent", "get").want(t, 1, "has said nothing")
}

func publishes(t *testing.T) {
	on(t, "", "publish", "--as", "dvv.fi", "-f", example("events/address.json")).want(t, 0, "accepted", "1 accepted")
	on(t, "", "publish", "--as", "kela.fi", "-f", example("events/address.json")).want(t, 1, "refused", "source_mismatch")
	on(t, "{", "publish", "--as", "dvv.fi", "-f", "-").want(t, 1, "not JSON")
	var a answer
	on(t, "", "publish", "--as", "hus.fi", "-f", example("events/birth-mother-unknown.json"), "-o", "json").want(t, 0).json(t, &a)
	if a.Status != "held" || a.LifeEvent == "" {
		t.Errorf("%+v", a)
	}
	got := on(t, "", "tail", "kela.fi", "--follow", "-n", "1").want(t, 0)
	var event map[string]any
	got.json(t, &event)
	if event["subscription"] != "sub-kela-address" {
		t.Errorf("%v", event)
	}
	on(t, "", "tail", "nobody.example").want(t, 1, "no such topic")
	var letters []letterLine
	on(t, "", "dead-letters", "list", "--cause", "no_subject", "-o", "json").want(t, 0).json(t, &letters)
	if len(letters) != 1 {
		t.Fatalf("%+v", letters)
	}
	place := letters[0].Place
	on(t, "", "dead-letters", "list", "--group", "router").want(t, 0)
	if s := on(t, "", "dead-letters", "show", place).want(t, 0, "no_subject"); secret.MatchString(s.out) {
		t.Errorf("without --data it shows\n%s", s.out)
	}
	on(t, "", "dead-letters", "show", place, "--data").want(t, 0, "hospital")
	on(t, "", "dead-letters", "show", "0:99999").want(t, 1, "no dead letter")
	on(t, "", "dead-letters", "redrive", "--cause", "no_subject").want(t, 0, "--subject-file", "Nothing was done")
	on(t, "", "dead-letters", "redrive", "--cause", "no_subject", "--execute").want(t, 1, "skipped")
	given := "mother=fi-hetu:140392-9029\n"
	on(t, given, "dead-letters", "redrive", place, "--subject-file", "-").want(t, 0, "planned", "Nothing was done")
	on(t, given, "dead-letters", "redrive", place, "--subject-file", "-", "--execute").want(t, 0, "accepted")
	on(t, "", "lag").want(t, 0, "router", "profile")
	var lags []struct{ Group string }
	on(t, "", "lag", "router", "-o", "json").want(t, 0).json(t, &lags)
	if want := len(topology.EventStreams) * 8; len(lags) != want {
		t.Errorf("%d partitions, want %d", len(lags), want)
	}
}

func subjects(t *testing.T) {
	on(t, "fi-hetu:140392-9029\n", "subject", "erase").want(t, 0, "would deny", "expires on", "Nothing was done")
	on(t, "fi-hetu:140392-9029\n", "consent", "get").want(t, 0, "state: given")
	on(t, "fi-hetu:140392-9029\n", "subject", "erase", "--execute").want(t, 0, "in effect", "expires on", "for 90 days")
	on(t, "fi-hetu:140392-9029\n", "consent", "get").want(t, 0, "restriction: erasure")
	on(t, "fi-hetu:140392-902X\n", "subject", "erase", "--execute").want(t, 1, "check character")
}

func topics(t *testing.T) {
	on(t, "", "topics", "list").want(t, 0, "subscriber.kela.fi", "consent-table")
	on(t, "", "topics", "diff").want(t, 0, "as it is wanted")
	on(t, "", "topics", "diff", "--kafka-partitions", "4").want(t, 1, "partitions")
	on(t, "", "topics", "apply").want(t, 0)
	on(t, "", "topics", "apply", "--lease-age", "2s").want(t, 1, "lease.age")
	on(t, "", "topics", "apply", "--kafka-partitions", "4").want(t, 1, "fixed")
	on(t, "", "schemas", "list").want(t, 0, "consent-table-value")
	on(t, "", "schemas", "register").want(t, 0, "registered")
}
