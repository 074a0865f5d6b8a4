package codecs

import (
	"fmt"
	"hash/fnv"
	"sync"

	"github.com/twmb/avro"
)

// NewLocalRegistry gives a registry without a server: it keeps what is registered in memory and checks it as
// FULL_TRANSITIVE. An id is a hash of the schema's text, so that every local
// registry of every process gives a schema the same id. For tests and tools; nothing of it outlives the process.
func NewLocalRegistry() *Registry {
	return newRegistry(&localStore{byID: map[int32]string{}, subjects: map[string][]int32{}, levels: map[string]string{}})
}

type localStore struct {
	mu       sync.Mutex
	byID     map[int32]string
	subjects map[string][]int32
	levels   map[string]string
}

func (s *localStore) schema(id int32) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok := s.byID[id]
	if !ok {
		return "", ErrUnknownSchema
	}
	return text, nil
}

func (s *localStore) register(subject, text string) (int32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := localID(text)
	next, err := avro.Parse(text)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrInvalidSchema, err)
	}
	for _, known := range s.subjects[subject] {
		if known == id {
			return id, nil
		}
		if s.levels[subject] == "NONE" {
			continue
		}
		was, err := avro.Parse(s.byID[known])
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrInvalidSchema, err)
		}
		if err := avro.CheckCompatibility(was, next); err != nil {
			return 0, fmt.Errorf("%w: it cannot read what an earlier version wrote: %w", ErrIncompatible, err)
		}
		if err := avro.CheckCompatibility(next, was); err != nil {
			return 0, fmt.Errorf("%w: an earlier version cannot read what it writes: %w", ErrIncompatible, err)
		}
	}
	if other, taken := s.byID[id]; taken && other != text {
		return 0, fmt.Errorf("local schema id %d is taken by another schema", id)
	}
	s.byID[id] = text
	s.subjects[subject] = append(s.subjects[subject], id)
	return id, nil
}

func (s *localStore) version(subject string, version int) (int32, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := s.subjects[subject]
	if version == 0 {
		version = len(ids)
	}
	if version < 1 || version > len(ids) {
		return 0, "", ErrUnknownSubject
	}
	id := ids[version-1]
	return id, s.byID[id], nil
}

func (s *localStore) versions(subject string) ([]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.subjects[subject]) == 0 {
		return nil, ErrUnknownSubject
	}
	out := make([]int, len(s.subjects[subject]))
	for i := range out {
		out[i] = i + 1
	}
	return out, nil
}

func (s *localStore) setCompatibility(subject, level string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.levels[subject] = level
	return nil
}

// localID hashes a schema's text into a positive id.
func localID(text string) int32 {
	h := fnv.New32a()
	h.Write([]byte(text))
	return int32(h.Sum32()&0x7fffffff) | 1
}
