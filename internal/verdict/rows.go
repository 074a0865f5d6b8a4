package verdict

import (
	"cmp"
	"slices"

	"civicbus/codecs"
)

// EventTypes gives every catalog row, by type. It costs in proportion to them, as the next two do: they are for people who look,
// not for deciding.
func (s *Snapshot) EventTypes() []*codecs.EventType {
	return rows(s.types, func(t *compiledType) *codecs.EventType { return t.row }, func(r *codecs.EventType) string { return r.Type })
}

// Organisations gives every trust row, by id.
func (s *Snapshot) Organisations() []*codecs.Organisation {
	return rows(s.orgs, func(o *compiledOrg) *codecs.Organisation { return o.row }, func(r *codecs.Organisation) string { return r.ID })
}

// Subscriptions gives every subscription row, by id.
func (s *Snapshot) Subscriptions() []*codecs.Subscription {
	return rows(s.subs, func(c *compiled) *codecs.Subscription { return c.row }, func(r *codecs.Subscription) string { return r.ID })
}

func rows[V, R any](t tree[V], row func(V) *R, key func(*R) string) []*R {
	values := t.appendTo(make([]V, 0, t.size))
	out := make([]*R, len(values))
	for i, v := range values {
		out[i] = row(v)
	}
	slices.SortFunc(out, func(a, b *R) int { return cmp.Compare(key(a), key(b)) })
	return out
}
