package verdict

import (
	"slices"
	"strings"
	"time"

	"civicbus/codecs"
)

// DecideTold decides whether an organisation may be told at this moment what ev, of which only the type, the role, the subject and
// the schema are looked at, tells of its subject. It is for what an organisation does because it was told, such as passing on
// what the subject answered. Each of its subscriptions to that type and role goes through the precedence, whatever its
// filter: that is about what it wants. The verdict is the first permit by subscription id, else the first denial; ok is
// false where it has no such subscription, or the catalog no such type or role. c is as for Decide.
func (s *Snapshot) DecideTold(ev *Event, organisation string, c *codecs.Consents, now time.Time) (v Verdict, ok bool) {
	t, role := s.typeAndRole(ev)
	index, found := at(s.indexes, hashText(s.seed, ev.Type), ev.Type)
	if role == nil || !found {
		return Verdict{}, false
	}
	own, _ := at(index.bySubscriber, hashText(s.seed, organisation), organisation)
	subs := own.appendTo(nil)
	slices.SortFunc(subs, func(a, b *compiled) int { return strings.Compare(a.row.ID, b.row.ID) })
	d := decision{snapshot: s, event: ev, consents: c, now: now.UnixMilli(), eventType: t, plan: t.plan(ev.Schema, role)}
	for _, sub := range subs {
		if roleNamed(t.row, sub.row.Role) != role {
			continue
		}
		d.entry, d.trust, d.seen = &entry{sub: sub}, 0, nil
		if one := d.decide(); !ok || one.Permit {
			v, ok = one, true
		}
		if v.Permit {
			break
		}
	}
	return v, ok
}
