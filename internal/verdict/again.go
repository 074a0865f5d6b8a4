package verdict

import (
	"slices"
	"time"

	"civicbus/codecs"
)

// Delivered is what one projected schema says of the deliveries under it, for deciding them again. It never changes and is
// safe for concurrent use.
type Delivered struct {
	schema  *codecs.Schema
	ends    []string // of the data, in the schema's order, without those of the profile
	profile string   // path of the profile's record; empty: the schema has none
	program *codecs.Program
	shown   []*codecs.Attribute // of the program's values
}

// NewDelivered reads a projected schema.
func NewDelivered(s *codecs.Schema) *Delivered {
	d := &Delivered{schema: s, profile: s.ProfilePath()}
	for _, path := range endsOf(s.Leaves()) {
		if d.profile == "" || !covers(d.profile, path) {
			d.ends = append(d.ends, path)
		}
	}
	if d.profile == "" {
		return d
	}
	var paths []string
	for _, a := range codecs.ProfileAttributes() {
		if path := d.profile + "." + a.Name; scalarAt(s, path) != codecs.Absent {
			paths, d.shown = append(paths, path), append(d.shown, a)
		}
	}
	if program, err := s.Compile(paths...); err == nil {
		d.program = program
	}
	return d
}

// Schema is the projected schema.
func (d *Delivered) Schema() *codecs.Schema { return d.schema }

// Stamp is the profile that a delivery carries; nil: none. The error is codecs.Malformed.
func (d *Delivered) Stamp(body []byte) (*codecs.Attributes, error) {
	if d.program == nil {
		return nil, nil
	}
	values := make([]codecs.Value, len(d.shown))
	if err := d.program.Walk(body, values); err != nil {
		return nil, err
	}
	var stamp *codecs.Attributes
	for i, a := range d.shown {
		if values[i].Kind == codecs.String {
			if stamp == nil {
				stamp = new(codecs.Attributes)
			}
			*a.Of(stamp) = string(values[i].Bytes)
		}
	}
	return stamp, nil
}

// Fields lists what a delivery holds, given what its header says is withheld. An attribute of the profile that the delivery
// does not have is null and counts as held: nothing can be told from it.
func (d *Delivered) Fields(withheld []string) []string {
	out := make([]string, 0, len(d.ends)+len(d.shown))
	for _, path := range d.ends {
		if !slices.Contains(withheld, path) {
			out = append(out, path)
		}
	}
	for _, a := range d.shown {
		out = append(out, profilePrefix+a.Name)
	}
	return out
}

// Hidden lists the paths of the projected schema that a verdict on a delivery does not permit. Where it permits nothing of a
// record, an array or a map, that itself is listed, since its presence, or its size, would tell something.
func (d *Delivered) Hidden(v *Verdict) []string {
	permitted := map[string]bool{}
	for _, path := range v.Fields {
		permitted[path] = true
	}
	visible := map[string]bool{} // every path with something permitted at or below it
	for _, path := range d.ends {
		if permitted[path] {
			for up := path; up != "" && !visible[up]; up = above(up) {
				visible[up] = true
			}
		}
	}
	var out []string
	for _, path := range d.ends {
		if permitted[path] {
			continue
		}
		for up := above(path); up != "data" && up != "" && !visible[up]; up = above(up) {
			path = up
		}
		out = append(out, path)
	}
	if d.profile != "" {
		shown := 0
		for _, a := range d.shown {
			if permitted[profilePrefix+a.Name] {
				shown++
			}
		}
		for _, a := range d.shown {
			if shown > 0 && !permitted[profilePrefix+a.Name] {
				out = append(out, d.profile+"."+a.Name)
			}
		}
		if shown == 0 {
			out = append(out, d.profile)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Withheld is a delivery's list of what is withheld, as it is after a verdict on it; was is the list that it came with. While
// nothing has changed it is the same list.
func (s *Snapshot) Withheld(d *Delivered, v *Verdict, eventType string, was []string) []string {
	var out, partly []string
	for _, path := range was {
		if slices.Contains(d.ends, path) {
			out = append(out, path)
		} else {
			partly = append(partly, path)
		}
	}
	if t, ok := s.Target(v.Sub.Subscriber, eventType, d.schema); ok {
		for _, path := range t.Paths {
			if slices.Contains(d.ends, path) && !slices.Contains(v.Fields, path) {
				out = append(out, path)
			}
		}
	}
	slices.Sort(out)
	return append(slices.Compact(out), partly...)
}

// againKey names what DecideAgain needs of a type and a projected schema; it is kept with the Snapshot.
type againKey struct {
	eventType string
	role      string
	schema    *codecs.Schema
}

type again struct {
	plan   *plan
	walker *walker
}

// again makes the plan and the walker for a projected schema. They are not kept with those of writer schemas, of which
// there are few.
func (s *Snapshot) again(t *compiledType, role *codecs.Role, index *typeIndex, schema *codecs.Schema) *again {
	key := againKey{t.row.Type, role.Name, schema}
	if a, ok := s.targets.Load(key); ok {
		return a.(*again)
	}
	a, _ := s.targets.LoadOrStore(key, &again{newPlan(t.row, schema, role), newWalker(index.slots, schema)})
	return a.(*again)
}

// DecideAgain decides on a delivery that was made once and is about to leave by another way, or later: the rule is Decide's,
// at this moment. ev is told from the delivery: Schema is of, Body what was delivered. The permit is cut to the fields that
// the delivery holds. ok is false as from DecideOne.
//
// The filter matched the whole event when the delivery was made, and that stays so. It is evaluated again on what the
// delivery holds: where that says no, the filter was changed since, and the delivery does not match it. Where it reads a
// field that is permitted and not in the delivery (the subscription leaves it out of its deliveries) its first answer
// stands. Where it reads one that is not permitted any more, and is not true without it, the arrival itself would tell. Where
// it reads one of each kind, and is not true without both, what its first answer turned on is lost, and the delivery does not leave:
// unknown means no.
// writers are the versions of the type's own schema, the newest first: they say what such a field that the
// projected schema does not have needs; without them it is not permitted.
func (s *Snapshot) DecideAgain(ev *Event, of *Delivered, subscription string, held []string, writers []*codecs.Schema, c *codecs.Consents, now time.Time) (v Verdict, ok bool) {
	ev.Malformed, ev.Schema = nil, of.schema
	sub, found := at(s.subs, hashText(s.seed, subscription), subscription)
	if !found {
		return Verdict{}, false
	}
	d := decision{snapshot: s, event: ev, consents: c, now: now.UnixMilli(), entry: &entry{sub: sub}}
	i := slices.IndexFunc(sub.entries, func(en *entry) bool { return en.eventType == ev.Type })
	t, role := s.typeAndRole(ev)
	if role == nil || i < 0 || roleNamed(t.row, sub.row.Role) != role {
		return d.deny(ReasonNotMatched), true
	}
	index, _ := at(s.indexes, hashText(s.seed, ev.Type), ev.Type) // it is there: the subscription is in it
	kept := s.again(t, role, index, of.schema)
	d.entry, d.paths, d.slots, d.eventType, d.plan = sub.entries[i], index.slots, sub.entries[i].slots, t, kept.plan
	var sc scratch
	all := sc.sized(len(index.slots))
	if err := kept.walker.read(ev, all); err != nil {
		ev.Malformed = err
		return Verdict{}, false
	}
	values := sc.gather(d.entry, all)
	if sub.filter.root.eval(ev.Schema, values) == False {
		return d.deny(ReasonNotMatched), true
	}
	v = d.decide()
	if v.Permit && !d.stillSeesFilter(values, writers) {
		v = d.deny(ReasonFilterUnknown)
	}
	return v.Cut(held), true
}

// stillSeesFilter says whether everything that the filter reads is permitted, or the filter true without what is not.
func (d *decision) stillSeesFilter(values []codecs.Value, writers []*codecs.Schema) bool {
	hidden := false
	for i, slot := range d.slots {
		if path := d.paths[slot]; !isAttribute(path) && !d.seen.has(path) && !d.permittedElsewhere(path, writers) {
			values[i], hidden = codecs.Value{}, true
		}
	}
	return !hidden || d.entry.sub.filter.root.eval(d.event.Schema, values) == True
}

// permittedElsewhere says whether a field that the projected schema does not have is permitted by the newest version of the
// type's own schema that has it.
func (d *decision) permittedElsewhere(path string, writers []*codecs.Schema) bool {
	has := func(p *plan) bool { return slices.ContainsFunc(p.ends, func(e end) bool { return e.path == path }) }
	if has(d.plan) {
		return false
	}
	role := roleNamed(d.eventType.row, d.event.Role)
	for _, w := range writers {
		other := *d
		if other.plan = d.eventType.plan(w, role); has(other.plan) {
			return other.decide().Permit && other.seen.has(path)
		}
	}
	return false
}

// Standing says why nothing of a subscription may leave now, whatever the event and its subject: the reason of the step
// active, or that of the step trust when it is so for each of its types. Empty: it stands.
func (s *Snapshot) Standing(subscription string, now time.Time) (reason string) {
	sub, found := at(s.subs, hashText(s.seed, subscription), subscription)
	if !found || sub.row.Status != StatusActive && sub.row.Status != StatusActivating {
		return ReasonSubscriptionNotActive
	}
	reason = ReasonNotEntitled
	for _, name := range sub.row.EventTypes {
		d := decision{snapshot: s, event: &Event{Type: name}, now: now.UnixMilli(), entry: &entry{sub: sub}}
		if reason = d.distrust(); reason == "" {
			return ""
		}
	}
	return reason
}

// FieldSets gives the field lists, by their numbers, that permits of a subscription to one event type and role can have had: by each
// rule that it claims, whatever its dates, and by each of a subject's grants, whatever has become of it. It is for telling
// what a number on record stands for; one of an older catalog or of a grant that is gone may be missing.
func (s *Snapshot) FieldSets(subscription, eventType, role string, writers []*codecs.Schema, c *codecs.Consents) map[int64][]string {
	out := map[int64][]string{}
	sub, found := at(s.subs, hashText(s.seed, subscription), subscription)
	t, r := s.typeAndRole(&Event{Type: eventType, Role: role})
	if !found || r == nil {
		return out
	}
	for _, w := range writers {
		p := t.plan(w, r)
		add := func(key setKey, rule *codecs.Rule) {
			key.narrow = sub.narrow
			set := p.set(key, rule, sub.row.Fields)
			out[set.hash] = set.fields
		}
		if sub.row.Basis != BasisConsent {
			for i := range t.row.Rules {
				if rule := &t.row.Rules[i]; claims(sub.row, rule, role) {
					add(setKey{rule: i + 1}, rule)
				}
			}
			continue
		}
		if c == nil {
			continue
		}
		for i := range c.Grants {
			g := &c.Grants[i]
			if g.Recipient != sub.row.Subscriber || g.Purpose != sub.row.Purpose {
				continue
			}
			for _, scopes := range [][]string{g.Scopes, slices.Concat(g.Scopes, g.WithdrawnScopes)} {
				key := setKey{}
				for _, scope := range scopes {
					if bit, ok := p.bits[scope]; ok {
						key.scopes.add(bit)
					}
				}
				add(key, nil)
			}
		}
	}
	return out
}
