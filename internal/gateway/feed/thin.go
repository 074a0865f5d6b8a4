package feed

import (
	"context"

	"civicbus/codecs"
	"civicbus/internal/leave"
	"civicbus/internal/verdict"
)

// originals reads what thin records refer to, beside each record; nil where one holds its data. Where it is large only that of
// the first n records is read.
func (f *Feed) originals(ctx context.Context, subscription string, found []*record) (of []*leave.Original, n int, err error) {
	refs := make([]string, len(found))
	thin := false
	for i, r := range found {
		refs[i] = leave.DataRef(r.Record)
		thin = thin || refs[i] != ""
	}
	if !thin {
		return make([]*leave.Original, len(found)), len(found), nil
	}
	if of, n, err = f.exit.Originals(ctx, subscription, refs...); err != nil {
		return nil, 0, unavailable(ctx, "Kafka", err)
	}
	return of, n, nil
}

// prepare does what a record needs of the registry. A record that refers to another is decided on that one, whether it still can be
// read or not: it holds nothing itself.
func (f *Feed) prepare(ctx context.Context, snap *verdict.Snapshot, sub *codecs.Subscription, r *record, of *leave.Original, whole bool) (l *leave.Delivery, err error) {
	if of != nil || leave.DataRef(r.Record) != "" {
		l, err = f.exit.PrepareOriginal(ctx, snap, sub, r.Record, of, whole)
	} else {
		l, err = f.exit.Prepare(ctx, snap, sub, r.Record)
	}
	if err != nil {
		return nil, unavailable(ctx, "the schema registry", err)
	}
	return l, nil
}

// refer finds the event record that a reference in a thin delivery names.
func (f *Feed) refer(ctx context.Context, subscription, ref string) (*record, *leave.Original, error) {
	of, _, err := f.exit.Originals(ctx, subscription, ref)
	switch {
	case err != nil:
		return nil, nil, unavailable(ctx, "Kafka", err)
	case of[0] == nil:
		return nil, nil, ended(CursorInvalid, "the reference was not given out for this subscription")
	}
	if _, err := f.standing(f.cfg.Tables.Snapshot(), subscription, true); err != nil {
		return nil, nil, err
	}
	if !of[0].Kept() {
		return nil, nil, ended(DeliveryGone, "the event is not kept any more")
	}
	return &record{Record: of[0].Place(), subscription: subscription}, of[0], nil
}
