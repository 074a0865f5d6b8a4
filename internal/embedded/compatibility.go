package embedded

import (
	"fmt"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
)

// directions says what a level asks of a new schema: to read data of the old ones (backward), to be read by them
// (forward), and whether of all versions or of the last alone.
func directions(level sr.CompatibilityLevel) (backward, forward, all bool) {
	switch level {
	case sr.CompatBackward:
		return true, false, false
	case sr.CompatBackwardTransitive:
		return true, false, true
	case sr.CompatForward:
		return false, true, false
	case sr.CompatForwardTransitive:
		return false, true, true
	case sr.CompatFull:
		return true, true, false
	case sr.CompatFullTransitive:
		return true, true, true
	}
	return false, false, false
}

// differences returns what stands between a new schema and the kept versions (oldest first) under a level, one
// sentence each; none means compatible.
func (r *Registry) differences(level sr.CompatibilityLevel, schema *avro.Schema, kept []sr.SubjectSchema) ([]string, error) {
	backward, forward, all := directions(level)
	if !backward && !forward {
		return nil, nil
	}
	if !all && len(kept) > 1 {
		kept = kept[len(kept)-1:]
	}
	var found []string
	for _, old := range kept {
		o, err := r.parse(old.Schema)
		if err != nil {
			return nil, fmt.Errorf("version %d of %s: %w", old.Version, old.Subject, err)
		}
		if backward {
			if err := avro.CheckCompatibility(o, schema); err != nil {
				found = append(found, fmt.Sprintf("it cannot read data of version %d: %v", old.Version, err))
			}
		}
		if forward {
			if err := avro.CheckCompatibility(schema, o); err != nil {
				found = append(found, fmt.Sprintf("version %d cannot read its data: %v", old.Version, err))
			}
		}
	}
	return found, nil
}

// parse parses an Avro schema after everything that it refers to. References may be nested; the store has refused
// cycles before.
func (r *Registry) parse(s sr.Schema) (*avro.Schema, error) {
	if s.Type != sr.TypeAvro {
		return nil, fmt.Errorf("schema type %s: only AVRO is known here", s.Type)
	}
	var cache avro.SchemaCache
	if err := r.parseReferences(&cache, s.References, map[sr.SchemaReference]bool{}); err != nil {
		return nil, err
	}
	return cache.Parse(s.Schema)
}

func (r *Registry) parseReferences(cache *avro.SchemaCache, refs []sr.SchemaReference, seen map[sr.SchemaReference]bool) error {
	for _, ref := range refs {
		if seen[ref] {
			continue
		}
		seen[ref] = true
		s, ok := r.store.GetSchema(ref.Subject, ref.Version)
		if !ok {
			return fmt.Errorf("reference %s: version %d of %s is not known", ref.Name, ref.Version, ref.Subject)
		}
		if err := r.parseReferences(cache, s.References, seen); err != nil {
			return err
		}
		if _, err := cache.Parse(s.Schema.Schema); err != nil {
			return fmt.Errorf("reference %s: %w", ref.Name, err)
		}
	}
	return nil
}
