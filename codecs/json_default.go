package codecs

import "errors"

var errDefault = errors.New("default does not fit its type")

// appendDefault encodes the default of a field as the specification writes it: of a union the branch that fits (its
// first, in schemas before 1.12), bytes and fixed as text whose characters are the bytes. Fields that a record's default
// leaves out take their own.
func appendDefault(dst []byte, n *node, v any, depth int) ([]byte, error) {
	if depth > MaxDepth || len(dst) > MaxBodyBytes {
		return dst, errTooDeep
	}
	switch n.kind {
	case kindUnion:
		for i, b := range n.branches {
			out, err := appendDefault(appendVarint(dst, int64(i)), b, v, depth+1)
			if err == nil || errors.Is(err, errTooDeep) { // trying on from every level would have no end
				return out, err
			}
		}
		return dst, errDefault
	case kindRecord:
		o, ok := v.(map[string]any)
		if !ok {
			return dst, errDefault
		}
		for _, f := range n.fields {
			def, ok := o[f.name]
			if !ok {
				if def, ok = f.props["default"]; !ok {
					return dst, errDefault
				}
			}
			var err error
			if dst, err = appendDefault(dst, f.typ, def, depth+1); err != nil {
				return dst, err
			}
		}
		return dst, nil
	case kindArray:
		list, ok := v.([]any)
		if !ok {
			return dst, errDefault
		}
		dst = appendCount(dst, len(list))
		for _, item := range list {
			var err error
			if dst, err = appendDefault(dst, n.items, item, depth+1); err != nil {
				return dst, err
			}
		}
		return append(dst, 0), nil
	case kindMap:
		o, ok := v.(map[string]any)
		if !ok {
			return dst, errDefault
		}
		dst = appendCount(dst, len(o))
		for _, key := range sortedKeys(o) {
			var err error
			if dst, err = appendDefault(append(appendVarint(dst, int64(len(key))), key...), n.items, o[key], depth+1); err != nil {
				return dst, err
			}
		}
		return append(dst, 0), nil
	case kindBytes, kindFixed:
		text, ok := v.(string)
		if !ok {
			return dst, errDefault
		}
		var b []byte
		for _, c := range text {
			if c > 255 {
				return dst, errDefault
			}
			b = append(b, byte(c))
		}
		if n.kind == kindFixed && len(b) != n.size {
			return dst, errDefault
		}
		if n.kind == kindBytes {
			dst = appendVarint(dst, int64(len(b)))
		}
		return append(dst, b...), nil
	}
	bare := *n // a default is of the bare type: a logical type has no text of its own there
	bare.logical = ""
	if !bare.takes(v) {
		return dst, errDefault
	}
	r := jsonReader{dst: dst}
	if reason := r.append(&bare, v); reason != "" {
		return dst, errDefault
	}
	return r.dst, nil
}
