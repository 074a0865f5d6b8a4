package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"civicbus/internal/mutant"

	"github.com/spf13/pflag"
	"pgregory.net/rapid"
)

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "civicbus.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestDefaultsAreValid(t *testing.T) {
	for _, embedded := range []bool{false, true} {
		c, err := Load(Sources{Embedded: embedded})
		if err != nil {
			t.Fatal(err)
		}
		want := Defaults(embedded)
		want.origins = c.origins
		if !reflect.DeepEqual(c, want) {
			t.Errorf("without any source: %+v, want %+v", c, want)
		}
	}
	if e := Defaults(true).Kafka; e.Partitions != 8 || e.Replication != 1 {
		t.Errorf("embedded: %+v", e)
	}
	if k := Defaults(false).Kafka; k.Partitions != 64 || k.Replication != 3 {
		t.Errorf("not embedded: %+v", k)
	}
}

// Each setting is given by every combination of the three sources, and the strongest must win.
func TestPrecedence(t *testing.T) {
	samples := map[string][3]string{ // by kind: the value in the file, the environment, the flag
		"string":   {"from-file", "from-env", "from-flag"},
		"strings":  {"f:1", "e:1,e:2", "g:1"},
		"int":      {"2", "3", "4"},
		"bool":     {"true", "false", "true"},
		"duration": {"1.5s", "2s", "3s"},
	}
	for i, s := range settings(Defaults(false)) {
		given := samples[s.kind()]
		for combination := range 8 {
			from, want := Sources{}, s.text()
			if combination&1 != 0 {
				path := strings.Split(s.key, ".")
				var y strings.Builder
				for depth, p := range path {
					y.WriteString(strings.Repeat(" ", depth) + p + ":")
					if depth < len(path)-1 {
						y.WriteString("\n")
					}
				}
				from.File, want = file(t, y.String()+" "+given[0]+"\n"), given[0]
			}
			if combination&2 != 0 {
				from.Environ, want = []string{s.env() + "=" + given[1]}, given[1]
			}
			if combination&4 != 0 {
				from.Flags, want = flags(t, "--"+s.flag()+"="+given[2]), given[2]
			}
			c, _ := Load(from) // what is read is shown, valid or not
			if got := settings(c)[i].text(); got != want {
				t.Errorf("%s with sources %03b: %q, want %q", s.key, combination, got, want)
			}
		}
	}
}

func TestBareBoolFlagIsTrue(t *testing.T) {
	c, err := Load(Sources{Flags: flags(t, "--kafka-tls-enabled")})
	if err != nil || !c.Kafka.TLS.Enabled {
		t.Errorf("%v, %v", c.Kafka.TLS.Enabled, err)
	}
}

func TestFileMayBeNamedByTheEnvironment(t *testing.T) {
	env, arg := file(t, "lease: {age: 1s}"), file(t, "lease: {age: 2s}")
	for _, tt := range []struct {
		from Sources
		want time.Duration
	}{
		{Sources{Environ: []string{"CIVICBUS_CONFIG=" + env}}, time.Second},
		{Sources{Environ: []string{"CIVICBUS_CONFIG=" + env}, File: arg}, 2 * time.Second},
	} {
		if c, err := Load(tt.from); err != nil || c.Lease.Age != tt.want {
			t.Errorf("%v, %v, want %v", c.Lease.Age, err, tt.want)
		}
	}
}

// What is nobody's business or says nothing must not stop a start.
func TestIgnored(t *testing.T) {
	_, err := Load(Sources{
		File:    file(t, "kafka:\nlog:\n  level:\n"),
		Environ: []string{"CIVICBUS_TEST_BROKERS=x", "CIVICBUS_LEASE_AGE=", "PATH=/bin", "odd"},
	})
	if err != nil {
		t.Error(err)
	}
}

func TestFaultsNameKeyValueAndRemedy(t *testing.T) {
	secret := file(t, "secret")
	tests := []struct {
		name string
		yaml string
		env  []string
		want []string // all in the error
	}{
		{"key near a known one", "kafka: {partition: 8}", nil, []string{"kafka.partition;", "did you mean kafka.partitions?"}},
		{"section near a known one", "kafca: {partitions: 8}", nil, []string{"unknown key kafca", "kafka"}},
		{"key near none", "zookeeper: {x: 1}", nil, []string{"unknown key zookeeper", "config print"}},
		{"key below a value", "lease: {age: {x: 1s}}", nil, []string{"lease.age", "duration"}},
		{"variable", "", []string{"CIVICBUS_KAFKA_BROKER=x:1"}, []string{"CIVICBUS_KAFKA_BROKER;", "did you mean CIVICBUS_KAFKA_BROKERS?"}},
		{"several at once", "lease: {age: soon}\nkafka: {partitions: many}", nil, []string{`lease.age`, `"soon"`, "500ms", `"many" is no whole number`}},
		{"number without a unit", "lease: {age: 500}", nil, []string{"lease.age", "with its unit"}},
		{"number too large", "kafka: {replication: 40000}", nil, []string{"40000 is out of range"}},
		{"origin of a bad value", "", []string{"CIVICBUS_KAFKA_TLS_ENABLED=maybe"}, []string{"kafka.tls.enabled", "$CIVICBUS_KAFKA_TLS_ENABLED", "neither true nor false"}},
		{"list for a text", "log: {level: [info]}", nil, []string{"log.level", "one text"}},
		{"number for a list", "kafka: {brokers: 9092}", nil, []string{"kafka.brokers", "no list"}},
		{"no YAML", "kafka: [", nil, []string{"read configuration file"}},
		{"broker without a port", "kafka: {brokers: [a:1, b]}", nil, []string{`kafka.brokers: "b"`, "host:port"}},
		{"no broker", "kafka: {brokers: []}", nil, []string{"kafka.brokers", "at least one"}},
		{"no partitions", "kafka: {partitions: 0, replication: 0}", nil, []string{"kafka.partitions", "kafka.replication"}},
		{"lease out of bounds", "lease: {age: 1ms}", nil, []string{"lease.age: 1ms", "between 50ms and 30s"}},
		{"interval too long", "engine: {interval: 51ms}", nil, []string{"engine.interval: 51ms", "50ms"}},
		{"level", "log: {level: loud, format: xml}", nil, []string{`log.level: "loud"`, "debug, info, warn, error", `log.format: "xml"`}},
		{"mechanism", "kafka: {sasl: {mechanism: GSSAPI}}", nil, []string{`"GSSAPI"`, "SCRAM-SHA-512"}},
		{"half a login", "kafka: {sasl: {mechanism: PLAIN, user: a}}", nil, []string{"kafka.sasl.password_file", "needed by PLAIN"}},
		{"login without a mechanism", "kafka: {sasl: {user: a}}", nil, []string{"kafka.sasl.user", "no effect"}},
		{"token for SCRAM", "kafka: {sasl: {mechanism: SCRAM-SHA-512, user: a, password_file: " + secret + ", token_file: " + secret + "}}", nil, []string{"kafka.sasl.token_file", "no effect"}},
		{"no token", "kafka: {sasl: {mechanism: OAUTHBEARER}}", nil, []string{"kafka.sasl.token_file", "needed"}},
		{"TLS files without TLS", "kafka: {tls: {ca: " + secret + "}}", nil, []string{"kafka.tls.ca", "kafka.tls.enabled"}},
		{"certificate without a key", "kafka: {tls: {enabled: true, cert: " + secret + "}}", nil, []string{"kafka.tls.cert", "both, or neither"}},
		{"missing file", "keys: {bus_key_file: /nowhere/key}", nil, []string{"keys.bus_key_file", "/nowhere/key", "no such file"}},
		{"registry", "registry: {url: 'localhost:8081'}", nil, []string{"registry.url", "http"}},
		{"registry query", "registry: {url: 'http://r/?a=b'}", nil, []string{"registry.url", "base URL"}},
		{"registry user", "registry: {user: a}", nil, []string{"registry.user", "both, or neither"}},
		{"listen", "http: {listen: 9644}", nil, []string{"http.listen", "host:port"}},
		{"embedded", "embedded: {host: 0.0.0.0, kafka_port: 70000, data_dir: ''}", nil, []string{"embedded.host", "embedded.kafka_port", "embedded.data_dir"}},
		{"embedded, one port", "embedded: {kafka_port: 8081}", nil, []string{"embedded.registry_port", "differ"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(Sources{File: file(t, tt.yaml), Environ: tt.env})
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q:\n%v", want, err)
				}
			}
		})
	}
	if _, err := Load(Sources{File: filepath.Join(t.TempDir(), "none.yaml")}); err == nil {
		t.Error("a missing file was accepted")
	}
}

func TestFullConfigurationIsAccepted(t *testing.T) {
	secret := file(t, "secret\n")
	for name, sasl := range map[string]string{
		"SCRAM":  "{mechanism: SCRAM-SHA-512, user: a, password_file: " + secret + "}",
		"bearer": "{mechanism: OAUTHBEARER, token_file: " + secret + "}",
	} {
		_, err := Load(Sources{File: file(t, `
kafka:
  brokers: [k1:9093, "[::1]:9093"]
  tls: {enabled: true, ca: `+secret+`, cert: `+secret+`, key: `+secret+`}
  sasl: `+sasl+`
registry: {url: "https://r/apis/ccompat/v7", user: a, password_file: `+secret+`}
http: {listen: ":0"}
`)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoPasswordInAnyError(t *testing.T) {
	for _, u := range []string{"http://a:hunter2@r", "http://a:hunter2@r:x", "a:hunter2@r", "ftp://hunter2@r/%zz", "hunter2@://x"} {
		c, err := Load(Sources{Environ: []string{"CIVICBUS_REGISTRY_URL=" + u}})
		if err == nil {
			t.Errorf("%s was accepted", u)
			continue
		}
		var out bytes.Buffer
		if err := c.Print(&out, true); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(out.String(), "hunter2") {
			t.Errorf("%s: the password is told:\n%v\n%s", u, err, out.String())
		}
	}
}

// What Print writes must load to the same configuration, whatever the values are.
func TestPrintCanBeLoaded(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		c := Defaults(rapid.Bool().Draw(t, "embedded"))
		for _, s := range settings(c) {
			switch s.kind() {
			case "string":
				s.value.SetString(rapid.StringMatching(`[ -~äöå]{0,12}`).Filter(func(v string) bool { return !strings.Contains(v, "@") }).Draw(t, s.key))
			case "strings":
				s.value.Set(reflect.ValueOf(rapid.SliceOfN(rapid.StringMatching(`[a-z0-9.:\[\]#"]{1,12}`), 1, 3).Draw(t, s.key)))
			case "bool":
				s.value.SetBool(rapid.Bool().Draw(t, s.key))
			case "duration":
				s.value.SetInt(rapid.Int64().Draw(t, s.key))
			case "int":
				s.value.SetInt(int64(rapid.Int16().Draw(t, s.key)))
			}
		}
		var out bytes.Buffer
		if err := c.Print(&out, false); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "printed.yaml")
		if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		again, _ := Load(Sources{File: path})
		again.origins = nil
		if !reflect.DeepEqual(again, c) {
			t.Fatalf("printed and loaded:\n%+v\nwant\n%+v\nprinted:\n%s", again, c, out.String())
		}
	})
}

func TestPrintRedactsAndTellsOrigins(t *testing.T) {
	c, err := Load(Sources{
		File:    file(t, "kafka: {sasl: {mechanism: PLAIN, user: kela, password_file: "+file(t, "pw")+"}}"),
		Environ: []string{"CIVICBUS_LOG_LEVEL=debug"},
		Flags:   flags(t, "--lease-age=1s"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := c.Print(&out, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"user: '***'", "level: debug # least severe log line: debug, info, warn or error [$CIVICBUS_LOG_LEVEL]", "[--lease-age]", "civicbus.yaml]", "  sasl:\n    mechanism: PLAIN"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("printed lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "kela") || strings.Contains(out.String(), ": pw") {
		t.Errorf("printed with the user's name or password:\n%s", out.String())
	}
}

func TestEverySettingIsDocumentedAndUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range settings(Defaults(false)) {
		if s.usage == "" {
			t.Errorf("%s has no usage text", s.key)
		}
		for _, name := range []string{s.env(), s.flag()} {
			if seen[name] {
				t.Errorf("two settings are called %s", name)
			}
			seen[name] = true
		}
	}
}

func TestReadSecret(t *testing.T) {
	for content, want := range map[string]string{"pw": "pw", "pw\n": "pw", "pw \r\n": "pw "} {
		if got, err := ReadSecret(file(t, content)); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	for _, path := range []string{file(t, "\n"), "/nowhere"} {
		if _, err := ReadSecret(path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
}

// A file with one key many times is refused at the second, and a long one before it is read.
func TestAFileThatIsMeantToHurt(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"one key":        {"kafka:\n" + strings.Repeat("  a: 1\n", 9_000), `key "a" stands in line 2 and in line 3`},
		"a long file":    {strings.Repeat("#\n", maxFileBytes), "at most 65536"},
		"nested lists":   {strings.Repeat("[", 60_000), "exceeded max depth"},
		"nested aliases": {"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n", "excessive aliasing"},
	} {
		grown := mutant.Allocates(func() {
			if _, err := Load(Sources{File: file(t, c.text)}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %.200v", name, err)
			}
		})
		if grown > 32<<20 {
			t.Errorf("%s: %d bytes made it allocate %d", name, len(c.text), grown)
		}
	}
}
