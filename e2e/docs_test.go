package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"civicbus/internal/config"
)

// document is a file of the repository.
func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// documents are the repository's Markdown files, by their paths below its root.
func documents(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (slices.Contains([]string{".git", "target", "bin", "testdata", "civicbus-data"}, d.Name())) {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			name, err := filepath.Rel("..", path)
			names = append(names, filepath.ToSlash(name))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, must := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md"} {
		if !slices.Contains(names, must) {
			t.Errorf("%s is missing", must)
		}
	}
	return names
}

// block is a fenced block of a document.
type block struct{ language, text string }

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

func fenced(text string) []block {
	var blocks []block
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, block{m[1], m[2]})
	}
	return blocks
}

var (
	link    = regexp.MustCompile(`\[([^\]]*)\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// TestLinks follows every relative link of every document: the file is there, and so is the heading in it. A link whose
// text is a test's name leads to the file that has the test.
func TestLinks(t *testing.T) {
	for _, name := range documents(t) {
		prose := fence.ReplaceAllString(document(t, name), "")
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			u, err := url.Parse(m[2])
			if err != nil {
				t.Errorf("%s: %s: %v", name, m[2], err)
				continue
			}
			if u.IsAbs() {
				continue
			}
			target := filepath.Join("..", filepath.Dir(name), filepath.FromSlash(u.Path))
			if u.Path == "" {
				target = filepath.Join("..", name)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: [%s](%s): %v", name, m[1], m[2], err)
				continue
			}
			if u.Fragment != "" && !slices.Contains(anchors(t, target), u.Fragment) {
				t.Errorf("%s: [%s](%s): there is no such heading", name, m[1], m[2])
			}
			if testName.MatchString(m[1]) && !slices.Contains(functions(t, target), m[1]) {
				t.Errorf("%s: there is no %s in %s", name, m[1], m[2])
			}
		}
	}
}

var testName = regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]\w*$`)

// functions are the functions of a Go file.
func functions(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return nil
	}
	var names []string
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
			names = append(names, f.Name.Name)
		}
	}
	return names
}

// anchors are what GitHub makes of a document's headings.
func anchors(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(string(text), ""), -1) {
		plain := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		list = append(list, strings.ReplaceAll(plain, " ", "-"))
	}
	return list
}

// documentedCommands asks the program for each civicbus command in a document's shell blocks: there is such a command, and
// it knows those flags. What they do is tested elsewhere.
func documentedCommands(t *testing.T, program string) {
	t.Helper()
	settings, err := exec.Command(program, "help", "settings").Output()
	if err != nil {
		t.Fatal(err)
	}
	called := regexp.MustCompile(`(?m)(?:^|[|(] *)(?:civicbus|go run \./cmd/civicbus) ([^|#)<\n]+)`)
	flags := regexp.MustCompile(`(?:^| )(--?[a-z][a-z-]*)`)
	known := map[string]string{} // the help of a command
	for _, name := range documents(t) {
		for _, b := range fenced(document(t, name)) {
			if b.language != "sh" {
				continue
			}
			for _, m := range called.FindAllStringSubmatch(b.text, -1) {
				var words []string // the command's own, which come first
				for _, w := range strings.Fields(m[1]) {
					if !regexp.MustCompile(`^[a-z][a-z-]*$`).MatchString(w) || len(words) == 2 {
						break
					}
					words = append(words, w)
				}
				command := strings.Join(words, " ")
				if _, asked := known[command]; !asked {
					out, err := exec.Command(program, append(words, "--help")...).CombinedOutput()
					if err != nil || !strings.Contains(string(out), "civicbus "+words[0]) {
						t.Errorf("%s: civicbus %s: %v", name, command, err)
					}
					known[command] = string(out) + string(settings)
				}
				for _, f := range flags.FindAllStringSubmatch(m[1], -1) {
					if !regexp.MustCompile(`(?m)[ ,]` + f[1] + `\b`).MatchString(known[command]) {
						t.Errorf("%s: civicbus %s does not know %s", name, command, f[1])
					}
				}
			}
		}
	}
	if len(known) < 10 {
		t.Errorf("only %d commands are documented: are the blocks found?", len(known))
	}
}

// TestDocumentedConfiguration reads the README's configuration file with the program's own reader. The files that it names
// are empty ones of this run.
func TestDocumentedConfiguration(t *testing.T) {
	found := 0
	for _, b := range fenced(document(t, "README.md")) {
		if b.language != "yaml" || !strings.HasPrefix(b.text, "# civicbus.yaml\n") {
			continue
		}
		found++
		dir := t.TempDir()
		for _, m := range regexp.MustCompile(`/etc/civicbus/([a-z.-]+)`).FindAllStringSubmatch(b.text, -1) {
			if err := os.WriteFile(filepath.Join(dir, m[1]), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(dir, "civicbus.yaml")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(b.text, "/etc/civicbus", filepath.ToSlash(dir))), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(config.Sources{File: file}); err != nil {
			t.Errorf("README.md: %v", err)
		}
	}
	if found != 1 {
		t.Errorf("%d configuration files in README.md, want 1", found)
	}
}
