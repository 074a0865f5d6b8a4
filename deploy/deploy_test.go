// Package deploy holds what runs civicbus in containers. Its test finds what their tools would, as far as that can be
// done without them, and what they would not: a setting that civicbus does not know.
package deploy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"civicbus/internal/config"
)

type service struct {
	Image       string
	Build       string
	Environment map[string]string
	Volumes     []string
	Ports       []string
	Restart     string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck *struct {
		Test    []string
		Disable bool
	}
}

type compose struct {
	Services map[string]service
	Volumes  map[string]any
}

func root(parts ...string) string { return filepath.Join(append([]string{".."}, parts...)...) }

func read(t *testing.T, path string, into any) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if err := yaml.Unmarshal(raw, into); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return string(raw)
}

// pinned is an image with a full version, so that the same file runs the same programs next year.
var pinned = regexp.MustCompile(`^[a-z0-9./-]+:v?\d+\.\d+\.\d+$`)

func TestCompose(t *testing.T) {
	var c compose
	read(t, root("docker-compose.yml"), &c)
	for _, name := range []string{"kafka", "registry", "civicbus", "prometheus", "grafana"} {
		if _, ok := c.Services[name]; !ok {
			t.Errorf("there is no service %s", name)
		}
	}
	for name, s := range c.Services {
		if s.Build == "" && !pinned.MatchString(s.Image) {
			t.Errorf("%s: image %q has no full version", name, s.Image)
		}
		once := s.Restart == "no"
		if s.Healthcheck == nil || (len(s.Healthcheck.Test) == 0 && (!once || !s.Healthcheck.Disable)) {
			t.Errorf("%s has no health check", name)
		}
		for on, how := range s.DependsOn {
			want := "service_healthy"
			if c.Services[on].Restart == "no" {
				want = "service_completed_successfully"
			}
			if _, ok := c.Services[on]; !ok || how.Condition != want {
				t.Errorf("%s waits for %s with %q, want a service and %q", name, on, how.Condition, want)
			}
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to the network", name, p)
			}
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(from, ".") {
				if _, err := os.Stat(root(from)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			} else if _, ok := c.Volumes[from]; !ok {
				t.Errorf("%s: volume %s is not declared", name, from)
			}
		}
		known(t, name, s.Environment)
	}
}

// known checks that civicbus accepts the settings in an environment.
func known(t *testing.T, where string, environment map[string]string) {
	t.Helper()
	var environ []string
	for k, v := range environment {
		if strings.HasSuffix(k, "_FILE") {
			v = os.Args[0] // the file is made in the container; here any will do
		}
		environ = append(environ, k+"="+v)
	}
	if _, err := config.Load(config.Sources{Environ: environ}); err != nil {
		t.Errorf("%s: %v", where, err)
	}
}

func TestDockerfile(t *testing.T) {
	text := strings.ReplaceAll(read(t, root("Dockerfile"), nil), "\\\n", " ")
	var stages []string
	var user string
	environment := map[string]string{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] == "#" {
			continue
		}
		switch words[0] {
		case "FROM":
			if !pinned.MatchString(words[1]) {
				t.Errorf("image %s has no full version", words[1])
			}
			stages, user = append(stages, words[len(words)-1]), ""
		case "COPY":
			if from, ok := strings.CutPrefix(words[1], "--from="); ok && !slices.Contains(stages, from) {
				t.Errorf("%s is no stage", from)
			}
		case "USER":
			user = words[1]
		case "ENV":
			for _, w := range words[1:] {
				k, v, _ := strings.Cut(w, "=")
				environment[k] = v
			}
		case "RUN", "WORKDIR", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD":
		default:
			t.Errorf("unknown instruction %s", words[0])
		}
	}
	if len(stages) != 2 {
		t.Errorf("%d stages, want one to build and one to run", len(stages))
	}
	if user == "" || strings.HasPrefix(user, "0") || user == "root" {
		t.Errorf("it runs as user %q", user)
	}
	known(t, "Dockerfile", environment)
	wants := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, root("go.mod"), nil))
	if !strings.Contains(text, "FROM golang:"+wants[1]+".") {
		t.Errorf("go.mod wants Go %s, the image builds with another", wants[1])
	}
}

func TestPrometheusAndGrafanaFindEachOther(t *testing.T) {
	var c compose
	read(t, root("docker-compose.yml"), &c)
	var prometheus struct {
		Jobs []struct {
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	read(t, "prometheus.yml", &prometheus)
	for _, job := range prometheus.Jobs {
		for _, static := range job.Static {
			for _, target := range static.Targets {
				host, port, _ := strings.Cut(target, ":")
				s, ok := c.Services[host]
				if host == "localhost" {
					s, ok = c.Services["prometheus"]
				}
				if !ok || !slices.ContainsFunc(s.Ports, func(p string) bool { return strings.HasSuffix(p, ":"+port) }) {
					t.Errorf("no service listens on %s", target)
				}
			}
		}
	}
	var sources struct{ Datasources []struct{ UID, URL string } }
	read(t, "grafana/provisioning/datasources/prometheus.yml", &sources)
	var providers struct {
		Providers []struct{ Options struct{ Path string } }
	}
	read(t, "grafana/provisioning/dashboards/civicbus.yml", &providers)
	if !slices.ContainsFunc(c.Services["grafana"].Volumes, func(v string) bool { return strings.Contains(v, ":"+providers.Providers[0].Options.Path+":") }) {
		t.Errorf("nothing is mounted at %s", providers.Providers[0].Options.Path)
	}
	boards, err := filepath.Glob("grafana/dashboards/*.json")
	if err != nil || len(boards) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	for _, path := range boards {
		var board struct {
			UID        string
			Templating struct {
				List []struct{ Name, Type string }
			}
			Panels []struct {
				ID         int
				Title      string
				Datasource struct{ UID string }
				Targets    []struct{ Expr string }
			}
		}
		if err := json.Unmarshal([]byte(read(t, path, nil)), &board); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		seen := map[int]bool{}
		for _, p := range board.Panels {
			if seen[p.ID] || p.Title == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %d %q lacks a number of its own, a title, the data source or a query", path, p.ID, p.Title)
			}
			seen[p.ID] = true
		}
	}
}
