package verdict

import (
	"slices"
	"strings"

	"cel.dev/cel-go/cel"

	"civicbus/codecs"
)

// CompileFilter parses a filter and checks it against an event type's writer schema: every path exists, is a scalar outside
// arrays and maps, is covered by allowed (what the subscription may receive; nil: nothing), and fits its literals. The
// Filter is nil if there is any fault. A Filter works for every later writer schema of the type too: where a field
// is gone or has another type, what reads it is unknown.
func CompileFilter(spec string, et *codecs.EventType, s *codecs.Schema, allowed []string) (*Filter, []codecs.Fault) {
	f, faults := parseFilter(spec)
	if len(faults) > 0 {
		return nil, faults
	}
	if faults := f.check(et, s, allowed); len(faults) > 0 {
		return nil, faults
	}
	return f, nil
}

// check gives what is wrong with a filter for one event type: paths first, then literals and expressions on good paths.
func (f *Filter) check(et *codecs.EventType, s *codecs.Schema, allowed []string) []codecs.Fault {
	var faults []codecs.Fault
	kinds := make([]codecs.Kind, len(f.paths))
	for i, path := range f.paths {
		reason, text := checkPath(path, s, allowed)
		if reason != "" {
			if et != nil {
				text += " (" + et.Type + ")"
			}
			faults = append(faults, codecs.Fault{Field: boundedText(path), Reason: reason, Text: boundedText(text)})
			continue
		}
		kinds[i] = scalarAt(s, path)
	}
	return f.root.check(f.paths, kinds, faults)
}

func checkPath(path string, s *codecs.Schema, allowed []string) (reason, text string) {
	switch name, isCE := strings.CutPrefix(path, attributePrefix); {
	case isCE && slices.Contains(filterAttributes[:], name):
		return "", ""
	case isCE && slices.Contains(innerAttributes[:], name):
		return FaultFilterFieldNotPermitted, "of CloudEvents attributes only " + strings.Join(filterAttributes[:], ", ")
	case isCE:
		return FaultFilterUnknownField, "of CloudEvents attributes only " + strings.Join(filterAttributes[:], ", ")
	case isProfile(path):
		if attributeAt(path) == nil {
			return FaultFilterUnknownField, "one of the attributes of the profile, such as profile.municipality"
		}
	case s == nil:
		return FaultFilterUnknownField, "a field of the event type's schema, which is not known"
	default:
		if _, err := s.Lookup(path); err != nil {
			return FaultFilterUnknownField, "a field of the event type's schema"
		}
		if scalarAt(s, path) == codecs.Absent {
			return FaultFilterTypeError, "a field of one scalar type, outside arrays and maps"
		}
	}
	if !anyCovers(allowed, path) {
		return FaultFilterFieldNotPermitted, "a field that the subscription may receive"
	}
	return "", ""
}

// innerAttributes are attributes that exist inside the bus, but that no filter may name.
var innerAttributes = [...]string{"id", "subject", "dataschema", "correlationid", "causationid", "recordedtime", "recipient",
	"authorizedsubscribers", "subjectindex", "redriven", "partitionkey", "sequence", "traceparent", "tracestate"}

func (n *node) check(paths []string, kinds []codecs.Kind, faults []codecs.Fault) []codecs.Fault {
	for _, part := range n.parts {
		faults = part.check(paths, kinds, faults)
	}
	switch n.op {
	case opCEL:
		for _, i := range n.reads {
			if kinds[i] == codecs.Absent {
				return faults // it has its fault
			}
		}
		_, fault := n.cel.compile(func(path string) *cel.Type { return celTypes[kinds[slices.Index(paths, path)]] })
		if fault != nil {
			faults = append(faults, *fault)
		}
	case opEqual, opPrefix, opSuffix:
		kind := kinds[n.path]
		if kind == codecs.Absent {
			return faults
		}
		for i := range n.values {
			if !fits(n.values[i].kind, kind) || n.op != opEqual && kind != codecs.String {
				return append(faults, codecs.Fault{Field: boundedText(paths[n.path]), Reason: FaultFilterTypeError,
					Text: "the field is " + kindName(kind) + ", compared with " + kindName(n.values[i].kind)})
			}
		}
	}
	return faults
}

// fits tells whether a literal can equal a field: of one kind, or both numbers (5 fits a double; 5.5 never equals an int).
func fits(literal, field codecs.Kind) bool {
	return literal == field || literal == codecs.Int && field == codecs.Float
}

func kindName(k codecs.Kind) string {
	switch k {
	case codecs.String:
		return "text"
	case codecs.Int:
		return "a whole number"
	case codecs.Float:
		return "a floating-point number"
	case codecs.Bool:
		return "true or false"
	case codecs.Bytes:
		return "bytes"
	}
	return "no scalar"
}

// scalarAt gives the kind of the values at a path; Absent: there are none that a filter can read.
func scalarAt(s *codecs.Schema, path string) codecs.Kind {
	if isAttribute(path) {
		if slices.Contains(filterAttributes[:], path[len(attributePrefix):]) {
			return codecs.String
		}
		return codecs.Absent
	}
	if isProfile(path) {
		if attributeAt(path) != nil {
			return codecs.String
		}
		return codecs.Absent
	}
	if s == nil || crosses(path) {
		return codecs.Absent
	}
	info, err := s.Lookup(path)
	if err != nil {
		return codecs.Absent
	}
	switch info.Type {
	case "string", "enum":
		return codecs.String
	case "int", "long":
		return codecs.Int
	case "float", "double":
		return codecs.Float
	case "boolean":
		return codecs.Bool
	case "bytes", "fixed":
		return codecs.Bytes
	}
	return codecs.Absent
}
