package verdict

import (
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"civicbus/codecs"
)

// Bounds of what a plan keeps. A plan of more scopes than maxScopes covers nothing by those beyond; ValidateEventType
// refuses such a type. Field sets beyond maxFieldSets are made anew at each use.
const (
	maxScopes    = 256
	maxFieldSets = 1_024
	maxPlans     = 64 // for each event type: roles times writer schemas in use
)

// plan says of one event type, role and writer schema who may see which field. It is built at first use and shared.
type plan struct {
	schema *codecs.Schema
	role   string
	items  string // one item of the role's array; empty: a role of one
	ends   []end
	bits   map[string]int // scope to its number
	scopes []string       // by number

	mu   sync.Mutex // for writers of sets
	sets atomic.Pointer[fieldSets]
}

// fieldSets are the field sets of a plan that are kept.
type fieldSets struct {
	few []*fieldSet // the first of them: looking through these costs less than to hash a key
	all map[setKey]*fieldSet
}

// Up to so many keys, or scopes, are looked through instead of looked up. The scopes of the data come before those of the stamp.
const (
	fewSets   = 8
	fewScopes = 16
)

// end is one field that has none below it, the atom of permission.
type end struct {
	path   string
	mine   bool // its owner is the role's subject, or nobody
	scopes []int
}

// scopeSet is a set of a plan's scopes.
type scopeSet [maxScopes / 64]uint64

func (s *scopeSet) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *scopeSet) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

// setKey names a field set of a plan: what permits, and the narrowing by the subscription.
type setKey struct {
	rule   int // position in the type's rules, plus one; 0: consent by scopes
	scopes scopeSet
	narrow string
}

// fieldSet is the fields of one kind of permit.
type fieldSet struct {
	key    setKey // of one that is kept
	fields []string
	within map[string]struct{}
	hash   int64
	items  string              // as plan's
	shown  []*codecs.Attribute // of the stamp

	first      atomic.Pointer[selection] // without a look-up: most sets have one projection
	selections atomic.Pointer[map[*codecs.Projection]*selection]
	bare       atomic.Pointer[fieldSet] // the set without a field, of Verdict.Bare
}

// newPlan gathers the permissions of every field. A catalog entry that covers a field wins over the schema's annotations;
// of several the longest. An owner is inherited from a longer to a shorter entry, scopes are not: an entry without
// scopes closes what is below it.
func newPlan(et *codecs.EventType, s *codecs.Schema, role *codecs.Role) *plan {
	p := &plan{schema: s, role: role.Name, items: roleItems(role), bits: map[string]int{}}
	p.sets.Store(&fieldSets{})
	if s != nil {
		for _, path := range endsOf(s.Leaves()) {
			scopes, owner, inCatalog := catalogField(et, path)
			if !inCatalog {
				scopes, owner = schemaField(s, path)
			}
			p.add(path, scopes, owner, owner == "" || owner == p.role && (p.items == "" || p.own(path)))
		}
	}
	for _, a := range codecs.ProfileAttributes() {
		path := profilePrefix + a.Name
		scopes, owner, _ := catalogField(et, path)
		p.add(path, append([]string{path}, scopes...), owner, owner == "" || owner == p.role)
	}
	return p
}

// own tells whether a path stands in the array of the role's subjects, of which a delivery holds one item.
func (p *plan) own(path string) bool { return inItems(p.items, path) }

func inItems(items, path string) bool {
	return items != "" && (covers(items, path) || path == above(items))
}

func (p *plan) add(path string, scopes []string, owner string, mine bool) {
	e := end{path: path, mine: mine}
	for _, scope := range scopes {
		bit, ok := p.bits[scope]
		if !ok {
			if len(p.bits) == maxScopes {
				continue
			}
			bit = len(p.bits)
			p.bits[scope] = bit
			p.scopes = append(p.scopes, scope)
		}
		e.scopes = append(e.scopes, bit)
	}
	p.ends = append(p.ends, e)
}

func catalogField(et *codecs.EventType, path string) (scopes []string, owner string, found bool) {
	longest, ownerLength := -1, -1
	for i := range et.Fields {
		f := &et.Fields[i]
		if !covers(f.Path, path) {
			continue
		}
		if len(f.Path) > longest {
			longest, scopes = len(f.Path), f.Scopes
		}
		if f.Owner != "" && len(f.Path) > ownerLength {
			ownerLength, owner = len(f.Path), f.Owner
		}
	}
	return scopes, owner, longest >= 0
}

// schemaField gives a schema's own annotations. Below a path at which a recursive type was cut there may be others that
// this path does not show, so that no scope covers it; a catalog entry can.
func schemaField(s *codecs.Schema, path string) (scopes []string, owner string) {
	info, err := s.Lookup(path)
	if err != nil || recursive(s, path, info.Type) {
		return nil, info.Owner
	}
	return info.Scopes, info.Owner
}

func recursive(s *codecs.Schema, path, kind string) bool {
	for range codecs.MaxSchemaDepth {
		switch kind {
		case "array":
			path += "[]"
		case "map":
			path += "{}"
		default:
			return kind == "record"
		}
		info, err := s.Lookup(path)
		if err != nil {
			return true
		}
		kind = info.Type
	}
	return true
}

// byConsent tells whether some grant could cover the field.
func (e *end) byConsent() bool { return e.mine && len(e.scopes) > 0 }

// set gives the fields of a permit, from the cache where they are there.
func (p *plan) set(key setKey, rule *codecs.Rule, narrow []string) *fieldSet {
	if set := p.sets.Load().find(&key); set != nil {
		return set
	}
	var paths []string
	for i := range p.ends {
		e := &p.ends[i]
		permitted := false
		if rule != nil {
			permitted = anyCovers(rule.Fields, e.path)
		} else if e.mine {
			for _, bit := range e.scopes {
				permitted = permitted || key.scopes.has(bit)
			}
		}
		if permitted && (len(narrow) == 0 || anyCovers(narrow, e.path)) {
			paths = append(paths, e.path)
		}
	}
	set := newFieldSet(paths, p.items)
	p.mu.Lock()
	defer p.mu.Unlock()
	had := p.sets.Load()
	if was := had.all[key]; was != nil {
		return was
	}
	if len(had.all) < maxFieldSets {
		set.key = key
		next := fieldSets{few: had.few, all: make(map[setKey]*fieldSet, len(had.all)+1)}
		maps.Copy(next.all, had.all)
		next.all[key] = set
		if len(next.few) < fewSets {
			next.few = append(slices.Clip(next.few), set)
		}
		p.sets.Store(&next)
	}
	return set
}

func (s *fieldSets) find(key *setKey) *fieldSet {
	for _, set := range s.few {
		if set.key == *key {
			return set
		}
	}
	if len(s.all) <= fewSets {
		return nil
	}
	return s.all[*key]
}

// bit gives the number of a scope; false: no field has it.
func (p *plan) bit(scope string) (int, bool) {
	if len(p.scopes) > fewScopes {
		bit, ok := p.bits[scope]
		return bit, ok
	}
	bit := slices.Index(p.scopes, scope)
	return bit, bit >= 0
}

func newFieldSet(paths []string, items string) *fieldSet {
	set := &fieldSet{fields: paths, within: make(map[string]struct{}, len(paths)), items: items}
	h := fnv.New64a()
	for _, path := range paths {
		set.within[path] = struct{}{}
		h.Write([]byte(path))
		h.Write([]byte{'\n'})
		if a := attributeAt(path); a != nil {
			set.shown = append(set.shown, a)
		}
	}
	set.hash = int64(h.Sum64())
	return set
}

// has tells whether the set holds all that a path covers: a field itself, or every field below it.
func (s *fieldSet) has(path string) bool {
	_, ok := s.within[path]
	return ok
}
