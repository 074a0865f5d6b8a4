package codecs

// Mask names fields that are written as null, whatever stands in the body. It never changes and is safe for concurrent use.
type Mask struct{ tree *want }

// Mask makes a mask of paths. A path that ends in the items of an array or the values of a map masks the field that holds
// them. The error wraps ErrNoPath for a path that the schema does not have, or that is the root.
func (s *Schema) Mask(paths []string) (*Mask, error) {
	m := &Mask{tree: &want{slot: -1}}
	for i, path := range paths {
		if _, err := s.Lookup(path); err != nil {
			return nil, err
		}
		segments, err := splitPath(path)
		if err != nil {
			return nil, err
		}
		for len(segments) > 0 && (segments[len(segments)-1] == intoItems || segments[len(segments)-1] == intoValues) {
			segments = segments[:len(segments)-1]
		}
		if len(segments) == 0 {
			return nil, ErrNoPath
		}
		m.tree.add(segments, i)
	}
	return m, nil
}

// ToJSONMasked is ToJSON with null in place of what the mask names; nil masks nothing. What is masked is still read, so
// that bad bytes in it are an error too.
func (s *Schema) ToJSONMasked(dst, body []byte, m *Mask) ([]byte, error) {
	if m == nil {
		return s.toJSON(dst, body, nil)
	}
	return s.toJSON(dst, body, m.tree)
}

// at is the part of a tree of paths below one step; nil where no path leads.
func (w *want) at(s segment) *want {
	if w == nil {
		return nil
	}
	return w.below[s]
}

// ProfilePath is the path of a projected schema's record of what civicbus knows of the subject; empty: the schema is no
// projection's.
func (s *Schema) ProfilePath() string {
	if s.root.kind != kindRecord || len(s.root.fields) == 0 {
		return ""
	}
	last := s.root.fields[len(s.root.fields)-1]
	for _, v := range last.typ.values() {
		if v.kind == kindRecord && len(v.name) >= len(profileRecord) && v.name[:len(profileRecord)] == profileRecord {
			return joinPath([]segment{segment(last.name)})
		}
	}
	return ""
}
