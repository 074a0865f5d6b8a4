// Package schemas holds the Avro schemas of civicbus's own records, every published version of each.
//
// A file is named {name}.v{version}.avsc. A published file is never changed: a change is a new file with the next
// version, and every pair of versions of one name must be readable by each other (FULL_TRANSITIVE), so that any
// process of any release reads what any other has written. Every field has a default and every record and field a doc.
package schemas

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strconv"
	"strings"
)

//go:embed *.avsc
var files embed.FS

var published = read(files)

// Names lists the record names, such as subscription or catalog-command, in order.
func Names() []string {
	names := make([]string, 0, len(published))
	for name := range published {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Versions returns the JSON of every published version of a name, the oldest first; nil for an unknown name.
func Versions(name string) []string {
	return slices.Clone(published[name])
}

// Latest returns the JSON of the newest version of a name; empty for an unknown name.
func Latest(name string) string {
	versions := published[name]
	if len(versions) == 0 {
		return ""
	}
	return versions[len(versions)-1]
}

// read orders the embedded files by name and version. A gap in the versions or a file name of another form is a bug of
// this package, found by every test and every start, hence the panic.
func read(files fs.FS) map[string][]string {
	paths, err := fs.Glob(files, "*.avsc")
	if err != nil {
		panic(err)
	}
	byName := map[string]map[int]string{}
	for _, path := range paths {
		name, version, err := split(path)
		if err != nil {
			panic(err)
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			panic(err)
		}
		if byName[name] == nil {
			byName[name] = map[int]string{}
		}
		byName[name][version] = string(text)
	}
	out := make(map[string][]string, len(byName))
	for name, versions := range byName {
		for v := 1; v <= len(versions); v++ {
			text, ok := versions[v]
			if !ok {
				panic(fmt.Sprintf("schemas: %s has %d versions but no v%d", name, len(versions), v))
			}
			out[name] = append(out[name], text)
		}
	}
	return out
}

// split takes "subscription.v1.avsc" apart.
func split(path string) (name string, version int, err error) {
	rest, ok := strings.CutSuffix(path, ".avsc")
	at := strings.LastIndex(rest, ".v")
	if !ok || at <= 0 {
		return "", 0, fmt.Errorf("schemas: %q is not named {name}.v{version}.avsc", path)
	}
	version, err = strconv.Atoi(rest[at+2:])
	if err != nil || version < 1 {
		return "", 0, fmt.Errorf("schemas: %q has no version of 1 or more", path)
	}
	return rest[:at], version, nil
}
