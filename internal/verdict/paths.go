package verdict

import (
	"strings"

	"civicbus/codecs"
)

// covers tells whether a path is another one or stands above it: data.a covers data.a, data.a.b, data.a[].b and data.a{}.b.
func covers(path, other string) bool {
	rest, ok := strings.CutPrefix(other, path)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[' || rest[0] == '{')
}

// anyCovers tells whether one of the paths covers path.
func anyCovers(paths []string, path string) bool {
	for _, p := range paths {
		if covers(p, path) {
			return true
		}
	}
	return false
}

// above gives the path of what holds path; empty for a root.
func above(path string) string {
	if strings.HasSuffix(path, "[]") || strings.HasSuffix(path, "{}") {
		return path[:len(path)-2]
	}
	if i := strings.LastIndexByte(path, '.'); i > 0 {
		return path[:i]
	}
	return ""
}

// crosses tells whether a path goes into the items of an array or the values of a map.
func crosses(path string) bool { return strings.ContainsAny(path, "[{") }

// roleItems gives the path of one item of the array in which the subjects of a role with many stand:
// data.founders[] for data.founders[].id. Empty for a role of one.
func roleItems(role *codecs.Role) string {
	if role == nil || !role.Many {
		return ""
	}
	if i := strings.Index(role.Path, "[]"); i >= 0 {
		return role.Path[:i+2]
	}
	return ""
}

// endsOf keeps the paths that have none of the others below them, in their order. They are the atoms of every decision:
// a permission, a projection and a withheld list are sets of them.
func endsOf(paths []string) []string {
	holds := make(map[string]bool, len(paths))
	for _, p := range paths {
		for up := above(p); up != "" && !holds[up]; up = above(up) {
			holds[up] = true
		}
	}
	ends := make([]string, 0, len(paths))
	for _, p := range paths {
		if !holds[p] {
			ends = append(ends, p)
		}
	}
	return ends
}

// profilePrefix begins the path of every attribute of the stamp.
const profilePrefix = "profile."

// attributeAt finds the attribute that a path names; nil: none.
func attributeAt(path string) *codecs.Attribute {
	name, ok := strings.CutPrefix(path, profilePrefix)
	if !ok {
		return nil
	}
	return codecs.ProfileAttribute(name)
}

// isProfile tells whether a path is of the stamp.
func isProfile(path string) bool { return path == "profile" || strings.HasPrefix(path, profilePrefix) }
