package topology_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport says which packages of civicbus each may import: schemas <- codecs <- internal/verdict <- topology <- processors
// <- internal/app <- cmd. A name stands for all packages below it; the longest that fits a package counts. What is not
// listed imports none of ours; a package that nothing here names fails the test, so that its place is decided.
var mayImport = map[string][]string{
	"schemas":            {},
	"codecs":             {"schemas"},
	"internal/flaw":      {},                          // what chaos plants; a constant without its build tag
	"internal/verdict":   {"codecs", "internal/flaw"}, // pure
	"internal/tracing":   {"codecs"},
	"internal/pseudonym": {"internal/flaw"}, // what hangs on the bus key knows nothing else
	"topology":           {"codecs", "internal/verdict"},

	"internal/access":      {"codecs", "internal/verdict", "topology"},
	"internal/admission":   {"codecs", "internal/flaw", "internal/pseudonym", "internal/tracing"}, // pure as verdict, and two ways to Kafka
	"internal/kafka":       {"internal/flaw", "topology"},
	"internal/projections": {"codecs", "internal/verdict", "topology"},
	"internal/tables":      {"codecs", "internal/flaw", "internal/kafka", "internal/verdict", "topology"},
	"internal/leave":       {"codecs", "internal/kafka", "internal/projections", "internal/pseudonym", "internal/tables", "internal/verdict", "topology"},
	"internal/journeys":    {"codecs", "internal/admission", "internal/flaw", "internal/pseudonym", "internal/verdict"}, // pure as verdict
	"internal/refdata":     {"codecs"},
	"internal/audit":       {"codecs", "internal/kafka", "topology"},
	"internal/config":      {},
	"internal/embedded":    {},

	"processors":   {"codecs", "internal/admission", "internal/audit", "internal/flaw", "internal/journeys", "internal/kafka", "internal/projections", "internal/pseudonym", "internal/verdict", "processors", "topology"},
	"internal/app": {"codecs", "internal/access", "internal/admin", "internal/admission", "internal/audit", "internal/delivery", "internal/flaw", "internal/gateway", "internal/journeys", "internal/kafka", "internal/projections", "internal/pseudonym", "internal/replay", "internal/tables", "internal/tracing", "internal/verdict", "processors", "topology"},

	// The edges stand beside the processors, not on them, and not on each other.
	"internal/admin":    edge,
	"internal/delivery": edge,
	"internal/gateway":  append([]string{"internal/gateway"}, edge...),
	"internal/replay":   edge,
	// for the gateway's tests: all that runs behind HTTP
	"internal/gateway/gatewaytest": append([]string{"e2e/realcluster", "internal/admin", "internal/app", "internal/embedded", "internal/gateway"}, edge...),

	"examples":        {"codecs", "examples", "internal/refdata", "schemas"},
	"internal/demo":   append([]string{"examples", "internal/admin"}, edge...),
	"internal/bench":  {"codecs", "internal/admin", "internal/admission", "internal/app", "internal/audit", "internal/gateway", "internal/kafka", "internal/pseudonym", "internal/refdata", "internal/replay", "internal/tables", "internal/verdict", "topology"},
	"internal/mutant": {}, // for tests
	"internal/waits":  {}, // for tests
	"e2e":             {"e2e"},
	"deploy":          {},
	"cmd":             {"codecs", "examples", "internal", "topology", "schemas"},
}

var edge = []string{"codecs", "internal/access", "internal/admission", "internal/audit", "internal/flaw", "internal/journeys", "internal/kafka", "internal/leave", "internal/projections", "internal/pseudonym", "internal/refdata", "internal/tables", "internal/tracing", "internal/verdict", "schemas", "topology"}

// below says whether a package is one of a name's.
func below(pkg, name string) bool { return pkg == name || strings.HasPrefix(pkg, name+"/") }

// rule is the longest name in mayImport that fits a package; empty: none.
func rule(pkg string) (longest string) {
	for name := range mayImport {
		if below(pkg, name) && len(name) > len(longest) {
			longest = name
		}
	}
	return longest
}

// faults finds the imports of one package that the table does not allow.
func faults(pkg string, imports []string) (bad []string) {
	name := rule(pkg)
	for _, i := range imports {
		if name == "" || !slices.ContainsFunc(mayImport[name], func(allowed string) bool { return below(i, allowed) }) {
			bad = append(bad, i)
		}
	}
	return bad
}

func TestImportsRunOneWay(t *testing.T) {
	const module = "civicbus/"
	list := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports,Deps", "./...")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("list the packages: %s", exit.Stderr)
		}
		t.Fatalf("list the packages: %v", err)
	}
	seen := map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath    string
			Imports, Deps []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkg, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours {
			continue
		}
		seen[pkg] = true
		own := func(all []string) (own []string) {
			for _, i := range all {
				if i, ok := strings.CutPrefix(i, module); ok {
					own = append(own, i)
				}
			}
			return own
		}
		if rule(pkg) == "" {
			t.Errorf("%s has no place among the imports: give it one in mayImport", pkg)
		}
		if bad := faults(pkg, own(p.Imports)); len(bad) > 0 {
			t.Errorf("%s may not import %v", pkg, bad)
		}
		for _, dep := range own(p.Deps) {
			if isEdge(pkg) && (below(dep, "processors") || below(dep, "internal/app") || isEdge(dep) && rule(dep) != rule(pkg)) {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
	for _, must := range []string{"schemas", "codecs", "internal/verdict", "internal/pseudonym", "topology", "processors/router", "internal/app", "cmd/civicbus"} {
		if !seen[must] {
			t.Errorf("%s was not listed", must)
		}
	}
}

func isEdge(pkg string) bool {
	return slices.Contains([]string{"internal/admin", "internal/gateway", "internal/replay"}, rule(pkg))
}

// The table itself is what the documents say of it.
func TestTheRuleOfImports(t *testing.T) {
	for _, bad := range [][2]string{{"codecs", "topology"}, {"internal/verdict", "internal/pseudonym"}, {"internal/verdict", "topology"}, {"topology", "processors/router"},
		{"processors/router", "internal/app"}, {"internal/gateway", "processors/router"}, {"internal/gateway", "internal/replay"}, {"internal/admin", "internal/app"},
		{"internal/pseudonym", "codecs"}, {"internal/app", "cmd/civicbus"}, {"internal/admission", "internal/kafka"}, {"something", "codecs"}, {"codecsx", "schemas"}} {
		if len(faults(bad[0], bad[1:])) == 0 {
			t.Errorf("%s may import %s", bad[0], bad[1])
		}
	}
	for _, good := range [][2]string{{"codecs", "schemas"}, {"internal/verdict", "codecs"}, {"processors/router", "processors/event"}, {"cmd/civicbus", "internal/app"}} {
		if bad := faults(good[0], good[1:]); len(bad) > 0 {
			t.Errorf("%s may not import %s", good[0], good[1])
		}
	}
}

// Flags and environment are read in cmd and internal/config alone: everything else is told.
func TestOnlyCmdReadsTheEnvironment(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))
		if d.IsDir() {
			if name != ".." && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"cmd", "internal/config", "internal/mutant", "internal/waits", "e2e"}, name)) {
				return fs.SkipDir // the last three are tests', told by the environment which cluster to run on and for how long
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, bad := range readsEnvironment(file) {
			t.Errorf("%s uses %s", name, bad)
		}
		return nil
	})
	if err != nil || files < 100 {
		t.Fatalf("%d files, %v", files, err)
	}
}

// readsEnvironment finds what a file has that reads flags or the environment.
func readsEnvironment(file *ast.File) (found []string) {
	osName := "os"
	for _, i := range file.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		switch path {
		case "flag", "github.com/spf13/pflag", "github.com/spf13/cobra":
			found = append(found, path)
		case "os":
			if i.Name != nil {
				osName = i.Name.Name
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			x, _ := sel.X.(*ast.Ident)
			if x != nil && x.Name == osName && slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Setenv", "Args"}, sel.Sel.Name) {
				found = append(found, "os."+sel.Sel.Name)
			}
		}
		return true
	})
	return found
}

func TestReadsEnvironment(t *testing.T) {
	for text, want := range map[string]int{
		`package a; import "os"; var x = os.Getenv("A")`:                    1,
		`package a; import o "os"; var x, _ = o.LookupEnv("A")`:             1,
		`package a; import ("flag"; "os"); var x = len(os.Args)`:            2,
		`package a; import "os"; var x = os.Stdout`:                         0,
		`package a; var os struct{Name string}; var x = os.Name`:            0,
		`package a; import "github.com/spf13/pflag"; var x pflag.FlagSet`:   1,
		`package a; import "strings"; var x = strings.ToLower("os.Getenv")`: 0,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "a.go", text, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := readsEnvironment(file); len(got) != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
