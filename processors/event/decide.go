package event

import (
	"slices"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Decide writes the decision. One with more verdicts than fit into a record becomes several: the first has the permits and whatever
// else must be seen together with them, the others, which only add verdicts to it, have Follows -1. The order of the verdicts is
// another one then.
func (r *Record) Decide(d *codecs.Decision) {
	if !r.write(d) {
		slices.SortStableFunc(d.Verdicts, func(a, b codecs.VerdictItem) int { return place(&a) - place(&b) })
		r.parts(*d)
	}
	if r.Env.Seen != nil {
		r.Env.Seen(r.Kind, d.Outcome)
	}
}

// place is where a verdict stands in a decision of several records. Group journey reads the first of them: to whom it tells whose event
// it was turns on the permits, and on whether anybody may know of the subject.
func place(v *codecs.VerdictItem) int {
	switch {
	case v.Permit:
		return 0
	case v.Reason == verdict.ReasonRestricted, v.Reason == verdict.ReasonConsentsUnreadable:
		return 1
	}
	return 2
}

// parts writes a decision in halves, until each fits.
func (r *Record) parts(d codecs.Decision) {
	half := len(d.Verdicts) / 2
	first, rest := d, d
	first.Verdicts, rest.Verdicts, rest.Follows = d.Verdicts[:half], d.Verdicts[half:], -1
	for _, part := range []codecs.Decision{first, rest} {
		if !r.write(&part) {
			r.parts(part)
		}
	}
}

// write writes a decision, unless it is too large and can be made smaller.
func (r *Record) write(d *codecs.Decision) bool {
	var err error
	if r.room, err = r.Env.Records.Decision.Append(r.room[:0], d); err != nil {
		r.Ctx.Fail(err) // a struct of ours that does not fit our own schema is a bug
	}
	if len(r.room) > maxBytes && len(d.Verdicts) > 1 {
		return false
	}
	r.Env.Emit(r.Ctx, &kgo.Record{Topic: topology.Decisions.Name, Key: r.key(), Value: r.room})
	return true
}
