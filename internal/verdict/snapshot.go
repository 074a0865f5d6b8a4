package verdict

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"civicbus/codecs"
	"civicbus/internal/flaw"
)

// Snapshot is a compiled view of the catalog, the trust registry and the subscriptions at one moment. It never changes
// and is safe for concurrent use; With makes the next one. What is compiled for a writer schema is compiled at first
// use, inside, and kept over later Snapshots as long as its rows stay.
type Snapshot struct {
	seed    maphash.Seed
	types   tree[*compiledType]
	orgs    tree[*compiledOrg]
	subs    tree[*compiled]
	indexes tree[*typeIndex]
	leaves  celLeaves
	pool    *sync.Pool // of *scratch, shared by all Snapshots of one line
	targets *sync.Map  // targetKey -> Target, of this Snapshot alone
}

// Changes are rows that differ from a Snapshot's; a nil value says that the row is gone. Rows are kept, not copied: the caller
// must not change them afterwards.
type Changes struct {
	EventTypes    map[string]*codecs.EventType
	Organisations map[string]*codecs.Organisation
	Subscriptions map[string]*codecs.Subscription
}

// compiledType is a catalog row.
type compiledType struct {
	row   *codecs.EventType
	rules map[string][]int // by recipient: positions in row.Rules

	mu    sync.Mutex
	plans atomic.Pointer[[]*plan]
}

// compiledOrg is a trust row.
type compiledOrg struct {
	row      *codecs.Organisation
	receives map[string][]*codecs.Entitlement // by event type
}

// compiled is a subscription row.
type compiled struct {
	row      *codecs.Subscription
	filter   *Filter // nil: it cannot be parsed, and so matches nothing
	accesses []access
	narrow   string // Fields as one key
	entries  []*entry
}

// access is an equality at the top of a filter: what must be true for all of it to be true.
type access struct {
	of     *node
	path   int
	values []constant
}

// maxAccessValues bounds the postings of one subscription.
const maxAccessValues = 64

// NewSnapshot is empty: no type, no organisation, no subscription, and so no verdict.
func NewSnapshot() *Snapshot {
	return &Snapshot{seed: maphash.MakeSeed(), targets: new(sync.Map), pool: &sync.Pool{New: func() any { return new(scratch) }}}
}

// With gives the Snapshot after changes; s itself stays as it is. It costs in proportion to the changes, and to the
// logarithm of what there is.
func (s *Snapshot) With(changes Changes) *Snapshot {
	next := *s
	next.targets = new(sync.Map)
	ix := &indexing{edit: new(edit), seed: s.seed}
	for name, row := range changes.EventTypes {
		next.types = put(ix, next.types, name, compileType(row), row != nil)
	}
	for name, row := range changes.Organisations {
		next.orgs = put(ix, next.orgs, name, compileOrg(row), row != nil)
	}
	added := make([]*compiled, 0, len(changes.Subscriptions))
	for id, row := range changes.Subscriptions {
		if was, ok := at(next.subs, hashText(s.seed, id), id); ok {
			if flaw.Planted(flaw.IndexStale) {
				next.subs = put(ix, next.subs, id, compileSubscription(row), row != nil)
				continue
			}
			next.unindex(ix, was)
			if was.filter != nil {
				next.leaves.release(ix, was.filter.root)
			}
		}
		c := compileSubscription(row)
		next.subs = put(ix, next.subs, id, c, row != nil)
		if row == nil {
			continue
		}
		if c.filter != nil {
			next.leaves.hold(ix, c.filter.root)
		}
		added = append(added, c)
	}
	for _, c := range added { // first all are counted, then each is posted by the counts
		next.count(ix, c)
	}
	for _, c := range added {
		next.post(ix, c)
	}
	return &next
}

func put[V any](ix *indexing, t tree[V], key string, value V, there bool) tree[V] {
	if !there {
		return t.without(ix.edit, hashText(ix.seed, key), key)
	}
	return t.with(ix.edit, hashText(ix.seed, key), key, value)
}

// count makes a subscription's entries and mentions their equalities.
func (s *Snapshot) count(ix *indexing, c *compiled) {
	if c.filter == nil {
		return
	}
	for _, name := range c.row.EventTypes {
		if slices.ContainsFunc(c.entries, func(en *entry) bool { return en.eventType == name }) {
			continue
		}
		h := hashText(s.seed, name)
		had, _ := at(s.indexes, h, name)
		t := ix.typeIndex(had)
		en := &entry{sub: c, eventType: name, access: -1}
		en.slots = ix.slotsOf(t, c.filter.paths, en.few[:0])
		c.entries = append(c.entries, en)
		ix.mention(ix.role(t, c.row.Role), en, 1)
		s.indexes = s.indexes.with(ix.edit, h, name, t)
	}
}

func (s *Snapshot) post(ix *indexing, c *compiled) {
	for _, en := range c.entries {
		h := hashText(s.seed, en.eventType)
		had, _ := at(s.indexes, h, en.eventType)
		t := ix.typeIndex(had)
		ix.post(ix.role(t, c.row.Role), en)
		ho := hashText(s.seed, c.row.Subscriber)
		own, _ := at(t.bySubscriber, ho, c.row.Subscriber)
		own = own.with(ix.edit, hashText(s.seed, c.row.ID), c.row.ID, c)
		t.bySubscriber = t.bySubscriber.with(ix.edit, ho, c.row.Subscriber, own)
		s.indexes = s.indexes.with(ix.edit, h, en.eventType, t)
	}
}

// unindex takes a subscription out of the index of each of its types.
func (s *Snapshot) unindex(ix *indexing, c *compiled) {
	for _, en := range c.entries {
		h := hashText(s.seed, en.eventType)
		had, _ := at(s.indexes, h, en.eventType)
		t := ix.typeIndex(had)
		r := ix.role(t, c.row.Role)
		ix.mention(r, en, -1)
		ix.unpost(r, en)
		ho := hashText(s.seed, c.row.Subscriber)
		own, _ := at(t.bySubscriber, ho, c.row.Subscriber)
		if own = own.without(ix.edit, hashText(s.seed, c.row.ID), c.row.ID); own.size == 0 {
			t.bySubscriber = t.bySubscriber.without(ix.edit, ho, c.row.Subscriber)
		} else {
			t.bySubscriber = t.bySubscriber.with(ix.edit, ho, c.row.Subscriber, own)
		}
		if t.bySubscriber.size == 0 {
			s.indexes = s.indexes.without(ix.edit, h, en.eventType)
		} else {
			s.indexes = s.indexes.with(ix.edit, h, en.eventType, t)
		}
	}
}

func compileType(row *codecs.EventType) *compiledType {
	if row == nil {
		return nil
	}
	t := &compiledType{row: row, rules: map[string][]int{}}
	for i := range row.Rules {
		t.rules[row.Rules[i].Recipient] = append(t.rules[row.Rules[i].Recipient], i)
	}
	t.plans.Store(&[]*plan{})
	return t
}

func compileOrg(row *codecs.Organisation) *compiledOrg {
	if row == nil {
		return nil
	}
	o := &compiledOrg{row: row, receives: map[string][]*codecs.Entitlement{}}
	for i := range row.Receives {
		e := &row.Receives[i]
		o.receives[e.EventType] = append(o.receives[e.EventType], e)
	}
	return o
}

func compileSubscription(row *codecs.Subscription) *compiled {
	if row == nil {
		return nil
	}
	c := &compiled{row: row, narrow: strings.Join(row.Fields, "\n")}
	filter, faults := parseFilter(row.Filter)
	if len(faults) > 0 { // it was accepted by another program; what cannot be read matches nothing
		return c
	}
	c.filter = filter
	for _, n := range filter.root.conjuncts(nil) {
		if n.op == opEqual && len(n.values) <= maxAccessValues {
			c.accesses = append(c.accesses, access{of: n, path: n.path, values: distinctConstants(n.values)})
		}
	}
	return c
}

// restWithout gives the filter without the parts that are proved otherwise; nil: there is no other.
func (c *compiled) restWithout(proved func(*node) bool) *node {
	var parts []*node
	for _, n := range c.filter.root.conjuncts(nil) {
		if !proved(n) {
			parts = append(parts, n)
		}
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	return &node{op: opAll, parts: parts}
}

// distinctConstants drops repeats, so that each posting is made and taken out once.
func distinctConstants(values []constant) []constant {
	var out []constant
	for i := range values {
		if !slices.ContainsFunc(out, func(have constant) bool { return have.sameAs(&values[i]) }) {
			out = append(out, values[i])
		}
	}
	return out
}

// EventType gives a catalog row; nil: there is none.
func (s *Snapshot) EventType(name string) *codecs.EventType {
	if t, ok := at(s.types, hashText(s.seed, name), name); ok {
		return t.row
	}
	return nil
}

// Organisation gives a trust row; nil: there is none.
func (s *Snapshot) Organisation(id string) *codecs.Organisation {
	if o, ok := at(s.orgs, hashText(s.seed, id), id); ok {
		return o.row
	}
	return nil
}

// Subscription gives a subscription row; nil: there is none.
func (s *Snapshot) Subscription(id string) *codecs.Subscription {
	if c, ok := at(s.subs, hashText(s.seed, id), id); ok {
		return c.row
	}
	return nil
}

// plan gives the field permissions of a type for one role and writer schema, made at first use.
func (t *compiledType) plan(s *codecs.Schema, role *codecs.Role) *plan {
	for _, p := range *t.plans.Load() {
		if p.schema == s && p.role == role.Name {
			return p
		}
	}
	made := newPlan(t.row, s, role)
	t.mu.Lock()
	defer t.mu.Unlock()
	had := *t.plans.Load()
	next := append([]*plan{made}, had[:min(len(had), maxPlans-1)]...)
	t.plans.Store(&next)
	return made
}

// roleNamed finds a role of a type; the empty name is the first role. nil: it has no such role.
func roleNamed(et *codecs.EventType, name string) *codecs.Role {
	for i := range et.Roles {
		if name == "" || et.Roles[i].Name == name {
			return &et.Roles[i]
		}
	}
	return nil
}
