package admission

import (
	"cmp"
	"context"
	"time"

	"civicbus/codecs"
	"civicbus/internal/tracing"
)

// traced is Admit with its span, and the context in which to produce what follows from it. A request's or a record's own trace is
// continued before the one that the event names: that is of its first sender (CloudEvents' distributed tracing extension).
func (d *Door) traced(ctx context.Context, t *tracing.Tracer, in *Input, tables Tables, now time.Time) (context.Context, Result) {
	if t == nil {
		return ctx, d.Admit(in, tables, now)
	}
	ctx, end := t.Admitting(ctx, cmp.Or(in.Trace, in.Attributes[codecs.HeaderTrace]), in.Organisation)
	result := d.Admit(in, tables, now)
	reason, eventType := "", ""
	if len(result.Faults) > 0 {
		reason = result.Faults[0].Reason
	}
	if result.Status == Accepted {
		eventType = in.Attributes["type"]
	}
	end(string(result.Status), reason, eventType)
	return ctx, result
}
