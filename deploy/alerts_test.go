package deploy

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// metrics are the names that the program's sources give to metrics, and those that every Go process has.
func metrics(t *testing.T) []string {
	t.Helper()
	names := []string{"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
	for _, folder := range []string{"internal", "processors", "cmd"} {
		err := filepath.WalkDir(root(folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					if name, err := strconv.Unquote(l.Value); err == nil && regexp.MustCompile(`^civicbus_[a-z_]+$`).MatchString(name) {
						names = append(names, name)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// named are the metrics that a query reads.
func named(query string) []string {
	quoted := regexp.MustCompile(`"[^"]*"|\{[^}]*\}|by \([^)]*\)|\[[^\]]*\]`)
	var names []string
	for _, word := range regexp.MustCompile(`[a-z_]+\(?`).FindAllString(quoted.ReplaceAllString(query, " "), -1) {
		if !strings.HasSuffix(word, "(") && !slices.Contains([]string{"and", "or", "unless", "sum", "max", "min", "by", "le"}, word) {
			names = append(names, word)
		}
	}
	return names
}

// exists says whether there is such a metric; a histogram has three.
func exists(all []string, name string) bool {
	if slices.Contains(all, name) {
		return true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if of, ok := strings.CutSuffix(name, suffix); ok && strings.HasSuffix(of, "_seconds") && slices.Contains(all, of) {
			return true
		}
	}
	return false
}

type alert struct {
	Alert       string
	Expr        string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var rules struct{ Groups []struct{ Rules []alert } }
	read(t, "rules/civicbus.yml", &rules)
	var all []alert
	for _, g := range rules.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there are no alerts")
	}
	return all
}

// TestQueriesReadMetricsThatExist reads every query of the dashboards and the alerts.
func TestQueriesReadMetricsThatExist(t *testing.T) {
	all := metrics(t)
	queries := map[string]string{}
	for _, a := range alerts(t) {
		queries["alert "+a.Alert] = a.Expr
	}
	boards, err := filepath.Glob("grafana/dashboards/*.json")
	if err != nil || len(boards) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	for _, path := range boards {
		var board struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal([]byte(read(t, path, nil)), &board); err != nil {
			t.Fatal(err)
		}
		for _, p := range board.Panels {
			for _, q := range p.Targets {
				queries["panel "+p.Title+": "+q.Expr] = q.Expr
			}
		}
	}
	for where, query := range queries {
		names := named(query)
		if len(names) == 0 {
			t.Errorf("%s reads no metric: %s", where, query)
		}
		for _, name := range names {
			if !exists(all, name) {
				t.Errorf("%s reads %s, which nothing exposes", where, name)
			}
		}
	}
	for query, want := range map[string][]string{
		`max by (group) (a_total{x="civicbus_b"}) > 60`:                              {"a_total"},
		`histogram_quantile(0.99, sum by (route, le) (rate(a_seconds_bucket[5m])))`:  {"a_seconds_bucket"},
		`sum(increase(a[10m])) > 0 and sum(rate(b{job="x"}[2m])) / sum(rate(c[1m]))`: {"a", "b", "c"},
		`absent(up{job="civicbus"})`:                                                 {"up"},
	} {
		if got := named(query); !slices.Equal(got, want) {
			t.Errorf("%s reads %v, want %v", query, got, want)
		}
	}
}

// TestAlerts demands of each alert a severity, a chapter of the runbook, a case where it rings, and one where it does not.
func TestAlerts(t *testing.T) {
	runbook := read(t, root("docs", "runbook.md"), nil)
	var cases struct {
		Tests []struct {
			Rules []struct {
				Name   string `yaml:"alertname"`
				Expect []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	read(t, "rules/civicbus_test.yml", &cases)
	rings, quiet := map[string]bool{}, map[string]bool{}
	for _, c := range cases.Tests {
		for _, r := range c.Rules {
			if len(r.Expect) > 0 {
				rings[r.Name] = true
			} else {
				quiet[r.Name] = true
			}
		}
	}
	chapters := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(runbook, -1) {
		chapters[m[1]] = true
	}
	for _, a := range alerts(t) {
		if !slices.Contains([]string{"critical", "warning"}, a.Labels["severity"]) || a.Annotations["summary"] == "" {
			t.Errorf("%s has the severity %q and the summary %q", a.Alert, a.Labels["severity"], a.Annotations["summary"])
		}
		if a.Annotations["runbook"] != "docs/runbook.md#"+strings.ToLower(a.Alert) || !chapters[a.Alert] {
			t.Errorf("%s has no chapter in docs/runbook.md, or does not lead there", a.Alert)
		}
		if !rings[a.Alert] || !quiet[a.Alert] {
			t.Errorf("%s is not tested: it rings %t, it keeps quiet %t", a.Alert, rings[a.Alert], quiet[a.Alert])
		}
		delete(chapters, a.Alert)
	}
	for c := range chapters {
		t.Errorf("docs/runbook.md has a chapter on %s, which is no alert", c)
	}
}
