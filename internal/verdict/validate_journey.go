package verdict

import (
	"fmt"
	"slices"
	"strings"

	"civicbus/codecs"
)

// OutcomeStreams are those of the event streams that a type which reports an outcome can lie on: the journey group reads them.
var OutcomeStreams = []string{"services", "notifications"}

// maxJourneyHours bounds how long outcomes are waited for: half of what the event streams keep.
const maxJourneyHours = 45 * 24

// maxOutcomes bounds each list of an outcome.
const maxOutcomes = 100

// checkJourney checks how long outcomes of the type are waited for, and what it reports of other types.
func (c *typeCheck) checkJourney(out *faults) {
	if c.et.JourneyHours < 0 || c.et.JourneyHours > maxJourneyHours {
		out.add("journeyHours", FaultBadInterval, "1 to %d, or 0 if nobody waits for outcomes", maxJourneyHours)
	}
	o := &c.et.Outcome
	lists := []struct {
		name   string
		values []string
	}{{"of", o.Of}, {"done", o.Done}, {"failed", o.Failed}, {"needsConfirmation", o.NeedsConfirmation}}
	if o.Path == "" {
		for _, l := range lists {
			if len(l.values) > 0 {
				out.add("outcome.path", FaultBadPath, "the path of the text or enum that says the outcome")
				return
			}
		}
		return
	}
	if !slices.Contains(OutcomeStreams, c.et.Stream) {
		out.add("stream", FaultUnknownStream, "a type that reports an outcome lies on one of %s", strings.Join(OutcomeStreams, ", "))
	}
	if len(o.Of) == 0 {
		out.add("outcome.of", FaultBadType, "the event types that it may be the outcome of")
	}
	seen := map[string]bool{}
	for _, l := range lists {
		if len(l.values) > maxOutcomes {
			out.add("outcome."+l.name, FaultTooMany, "at most %d", maxOutcomes)
			return
		}
		for i, v := range l.values {
			field := fmt.Sprintf("outcome.%s[%d]", l.name, i)
			switch {
			case l.name == "of" && !typeForm.MatchString(v):
				out.add(field, FaultBadName, "an event type")
			case v == "":
				out.add(field, FaultBadName, "a value of the field")
			case seen[v]:
				out.add(field, FaultDuplicate, "each value once")
			}
			seen[v] = true
		}
	}
	if len(o.Done)+len(o.Failed)+len(o.NeedsConfirmation) == 0 {
		out.add("outcome.done", FaultBadType, "the values that mean that it is done")
	}
	if crosses(o.Path) {
		out.add("outcome.path", FaultBadPath, "a path that crosses no array and no map")
	} else if c.schema != nil {
		switch info, err := c.schema.Lookup(o.Path); {
		case err != nil || o.Path == "data":
			out.add("outcome.path", FaultUnknownField, "a field of the schema")
		case info.Type != "string" && info.Type != "enum":
			out.add("outcome.path", FaultBadType, "text or an enum, not %s", info.Type)
		}
	}
}

// OutcomeOf tells what a value at the path of an outcome means: done, failed or needs_confirmation; empty: nothing.
func OutcomeOf(o *codecs.Outcome, value string) string {
	switch {
	case slices.Contains(o.Done, value):
		return OutcomeDone
	case slices.Contains(o.Failed, value):
		return OutcomeFailed
	case slices.Contains(o.NeedsConfirmation, value):
		return OutcomeNeedsConfirmation
	}
	return ""
}

// What an outcome can be.
const (
	OutcomeDone              = "done"
	OutcomeFailed            = "failed"
	OutcomeNeedsConfirmation = "needs_confirmation"
)
