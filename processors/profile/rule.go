package profile

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"civicbus/codecs"
	"civicbus/processors/event"
)

// Hash is what is remembered of an admitted event: 8 bytes of SHA-256 over who published it, its source and its id. Among
// the 256 events that a row remembers, two that differ share a hash in one of 10^14 rows.
//
// The publisher is in it because a source belongs to one organisation by convention alone: two rows of the trust registry can
// name the same one, they lie in different partitions. No organisation can then make another's event a repeat.
func Hash(e *codecs.Envelope) int64 {
	h := sha256.New()
	for _, text := range [...]string{e.Organisation, e.Source, e.ID} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text))))
		h.Write([]byte(text))
	}
	return int64(binary.BigEndian.Uint64(h.Sum(nil)))
}

// Repeated says whether the event is among those that the row remembers, admitted less than a day before now.
func Repeated(row *codecs.Profile, hash, now int64) bool {
	for _, s := range row.Seen {
		if s.Hash == hash && now-s.At < codecs.SeenForMillis {
			return true
		}
	}
	return false
}

// Fold is the row after an event that told the given attributes: what it did not tell stays.
func Fold(row codecs.Profile, told map[string]string, hash, now int64) codecs.Profile {
	next := row
	for name, v := range told {
		if a := codecs.ProfileAttribute(name); a != nil {
			*a.Of(&next.Attributes) = v
		}
	}
	next.Seen = make([]codecs.Seen, 0, len(row.Seen)+1)
	for _, s := range row.Seen {
		if now-s.At < codecs.SeenForMillis {
			next.Seen = append(next.Seen, s)
		}
	}
	next.Seen = append(next.Seen, codecs.Seen{Hash: hash, At: now})
	if n := len(next.Seen) - codecs.MaxSeen; n > 0 {
		next.Seen = next.Seen[n:]
	}
	next.Version++
	next.UpdatedAt = now
	return next
}

// MaxAttributeBytes bounds one attribute: with it and MaxSeen a row is bounded.
const MaxAttributeBytes = 256

// stamper reads what a type's events tell. Programs are compiled once per (catalog row, role, writer schema).
type stamper struct {
	programs sync.Map // stampKey -> *stampProgram
}

type stampKey struct {
	eventType string
	version   int64
	role      string
	schema    int32
}

type stampProgram struct {
	program    *codecs.Program // nil: no plain path
	attributes []string        // of the program's values
	crossing   []codecs.Stamp  // paths through an array: the subject's own element
}

// told gives the attributes that the event tells of its record's subject. The error is a codecs.Malformed body.
func (s *stamper) told(r *event.Record) (map[string]string, error) {
	p, err := s.program(r)
	if err != nil || (p.program == nil && len(p.crossing) == 0) {
		return nil, err
	}
	told := map[string]string{}
	take := func(attribute string, v codecs.Value) {
		switch v.Kind {
		case codecs.Absent, codecs.Null, codecs.Composite:
		default:
			if text := v.Text(); len(text) <= MaxAttributeBytes {
				told[attribute] = text
			}
		}
	}
	if p.program != nil {
		values := make([]codecs.Value, len(p.attributes))
		if err := p.program.Walk(r.Body, values); err != nil {
			return nil, err
		}
		for i, v := range values {
			take(p.attributes[i], v)
		}
	}
	for _, st := range p.crossing {
		values, err := r.Schema.Texts(r.Body, st.Path)
		if err != nil {
			return nil, err
		}
		if r.Envelope.Index >= 0 && r.Envelope.Index < len(values) {
			take(st.Attribute, values[r.Envelope.Index])
		}
	}
	return told, nil
}

func (s *stamper) program(r *event.Record) (*stampProgram, error) {
	k := stampKey{r.Type.Type, r.Type.Version, r.Envelope.Role, r.Schema.ID()}
	if p, ok := s.programs.Load(k); ok {
		return p.(*stampProgram), nil
	}
	p := &stampProgram{}
	var paths []string
	for _, st := range r.Type.Profile {
		if st.Role != r.Envelope.Role {
			continue
		}
		if strings.Contains(st.Path, "[]") {
			p.crossing = append(p.crossing, st)
			continue
		}
		if _, err := r.Schema.Lookup(st.Path); err != nil {
			continue // an older or newer writer schema does not have the field: it tells nothing
		}
		paths, p.attributes = append(paths, st.Path), append(p.attributes, st.Attribute)
	}
	if len(paths) > 0 {
		program, err := r.Schema.Compile(paths...)
		if err != nil {
			return nil, fmt.Errorf("read what %s tells: %w", r.Type.Type, err)
		}
		p.program = program
	}
	s.programs.Store(k, p)
	return p, nil
}
