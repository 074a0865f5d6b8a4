package verdict

import (
	"fmt"
	"hash/fnv"
	"slices"
	"sync"

	"civicbus/codecs"
)

// Recorded tells which fields the number of a field set on record stands for: a decision holds the number alone. It learns
// from the rows that were in force, older versions included, which permits there can have been: by each rule that a
// subscription claims, whatever its dates, and by each combination of scopes that a grant can have had. A number that it
// does not know is one of a row that it was not told of. It is safe for concurrent use.
type Recorded struct {
	mu    sync.Mutex
	about map[recordedKey]*recordedSets
}

type recordedKey struct{ subscription, eventType, role string }

type recordedSets struct {
	found   map[int64][]string // by number
	missing map[int64]bool     // numbers that no combination has
	combos  []*combination
	seen    map[string]bool // fingerprints of combos
}

// Bounds of a Recorded. A combination of more scopes is looked for only up to so many; numbers beyond are looked for anew.
const (
	maxCombined = 16
	maxRecorded = 4_096
)

// combination is what grants can cover of one plan.
type combination struct {
	ends  []string // in the plan's order
	masks []uint32 // by end: the scopes that cover it
	bits  int      // scopes that tell ends apart
}

// NewRecorded knows no numbers.
func NewRecorded() *Recorded { return &Recorded{about: map[recordedKey]*recordedSets{}} }

// Learn adds what permits of a subscription there can have been under a catalog row and a row of the subscription, for each of
// the writer schemas. Rows that change nothing cost nothing later.
func (r *Recorded) Learn(et *codecs.EventType, sub *codecs.Subscription, writers []*codecs.Schema) {
	if !slices.Contains(sub.EventTypes, et.Type) || len(et.Roles) == 0 {
		return
	}
	role := roleNamed(et, sub.Role)
	if role == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := recordedKey{sub.ID, et.Type, role.Name}
	sets := r.about[key]
	if sets == nil {
		sets = &recordedSets{found: map[int64][]string{}, missing: map[int64]bool{}, seen: map[string]bool{}}
		r.about[key] = sets
	}
	clear(sets.missing)
	for _, w := range writers {
		p := newPlan(et, w, role)
		if sub.Basis == BasisConsent {
			sets.combine(p.combination(sub.Fields))
			continue
		}
		for i := range et.Rules {
			if rule := &et.Rules[i]; claims(sub, rule, role.Name) {
				set := p.set(setKey{rule: i + 1}, rule, sub.Fields)
				sets.found[set.hash] = set.fields
			}
		}
	}
}

// Fields lists what a number stands for; known is false for one that cannot be told.
func (r *Recorded) Fields(subscription, eventType, role string, set int64) (fields []string, known bool) {
	if set == FieldSetOf(nil) {
		return nil, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	sets := r.about[recordedKey{subscription, eventType, role}]
	if sets == nil || sets.missing[set] {
		return nil, false
	}
	if fields, known = sets.found[set]; known {
		return fields, true
	}
	for _, c := range sets.combos {
		if fields, known = c.find(set); known {
			if len(sets.found) < maxRecorded {
				sets.found[set] = fields
			}
			return fields, true
		}
	}
	if len(sets.missing) < maxRecorded {
		sets.missing[set] = true
	}
	return nil, false
}

func (s *recordedSets) combine(c *combination) {
	if print := fmt.Sprint(c.ends, c.masks); !s.seen[print] {
		s.seen[print] = true
		s.combos = append(s.combos, c)
	}
}

// combination gathers what consent can cover. Scopes that cover the same ends are one.
func (p *plan) combination(narrow []string) *combination {
	c := &combination{}
	var mine []*end
	for i := range p.ends {
		if e := &p.ends[i]; e.byConsent() && (len(narrow) == 0 || anyCovers(narrow, e.path)) {
			mine = append(mine, e)
			c.ends = append(c.ends, e.path)
		}
	}
	c.masks = make([]uint32, len(mine))
	known := map[string]bool{}
	for scope := range p.scopes {
		covered := make([]byte, len(mine))
		for i, e := range mine {
			if slices.Contains(e.scopes, scope) {
				covered[i] = 1
			}
		}
		if known[string(covered)] || c.bits == maxCombined || !slices.Contains(covered, 1) {
			continue
		}
		known[string(covered)] = true
		for i := range mine {
			c.masks[i] |= uint32(covered[i]) << c.bits
		}
		c.bits++
	}
	return c
}

// find tries the combinations of scopes: the one whose fields have the number.
func (c *combination) find(set int64) ([]string, bool) {
	h := fnv.New64a()
	for scopes := range uint32(1) << c.bits {
		h.Reset()
		for i, path := range c.ends {
			if c.masks[i]&scopes != 0 {
				h.Write([]byte(path))
				h.Write([]byte{'\n'})
			}
		}
		if int64(h.Sum64()) != set {
			continue
		}
		var fields []string
		for i, path := range c.ends {
			if c.masks[i]&scopes != 0 {
				fields = append(fields, path)
			}
		}
		return fields, true
	}
	return nil, false
}
