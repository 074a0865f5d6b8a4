package bench

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"

	"github.com/linkedin/goavro/v2"
)

// recipients of one event, each with fields of its own.
const recipients = 20

// projectVsGoavro cuts one event to what each of 20 recipients may get. Ours is what the router does for an event and its permits: a
// Cutting begun, and Project under each recipient's projected schema. Theirs is what a user of goavro would do: the event decoded
// once, and for each recipient the native map cut by cutting.go to the permitted fields and encoded under the same projected
// schema. Each side does all of its work for each event, since each event brings other values; what depends on the schemas
// and the permits alone is worked out before, on both sides.
//
// Both sides' bytes are compared before anything is timed; cutting.go shares nothing with ours.
func projectVsGoavro(_ context.Context, c Config) (Result, error) {
	w, err := newRecipients()
	if err != nil {
		return Result{}, err
	}
	return c.compare("project_vs_goavro", "us CPU/event", w.ours, w.theirs)
}

type projecting struct {
	*local
	writer      *goavro.Codec
	verdicts    []verdict.Verdict
	projections []*codecs.Projection
	codecs      []*goavro.Codec
	cuttings    []*cutting
	cut         verdict.Cutting
}

func newRecipients() (*projecting, error) {
	fields := []string{"data.person.name", "data.person.birthDate", "data.municipality", "data.oldAddress.street", "data.oldAddress.postalCode", "data.oldAddress.city",
		"data.oldAddress.country", "data.newAddress.street", "data.newAddress.postalCode", "data.newAddress.city", "data.newAddress.country", "data.languages"}
	var subs []*codecs.Subscription
	var grants []codecs.Grant
	for i := range recipients {
		id := subscriber(i)
		sub := &codecs.Subscription{ID: fmt.Sprintf("sub-%02d", i), Version: 1, Subscriber: id, EventTypes: []string{eventType(0)}, Purpose: purpose, Basis: "consent",
			Scopes: []string{"address"}, Status: "active", Fields: []string{"data.municipality"}}
		for f, path := range fields {
			if (i*37+11)>>(f%8)&1 == 1 || (i+f)%5 == 0 {
				sub.Fields = append(sub.Fields, path)
			}
		}
		scopes := []string{"address", "identity"}[:1+i%2] // every other recipient's grant withholds some of its schema's fields
		grants = append(grants, codecs.Grant{ID: fmt.Sprint("g", i), Version: 1, State: verdict.GrantGiven, Recipient: id, Purpose: purpose, Scopes: scopes})
		subs = append(subs, sub)
	}
	base, err := newLocal(subs, grants)
	if err != nil {
		return nil, err
	}
	w := &projecting{local: base}
	if w.writer, err = goavro.NewCodec(schema); err != nil {
		return nil, err
	}
	native, _, err := w.writer.NativeFromBinary(w.event.Body)
	if err != nil {
		return nil, err
	}
	w.verdicts = w.snap.Decide(nil, &w.event, w.consents, time.Now())
	if len(w.verdicts) != recipients {
		return nil, fmt.Errorf("%d verdicts, want %d", len(w.verdicts), recipients)
	}
	for i := range w.verdicts {
		v := &w.verdicts[i]
		target, ok := w.snap.Target(v.Sub.Subscriber, eventType(0), w.schema)
		if !v.Permit || !ok {
			return nil, fmt.Errorf("%s is denied (%s) or has no schema", v.Sub.ID, v.Reason)
		}
		p, err := w.schema.Projection(target.Paths)
		if err != nil {
			return nil, err
		}
		codec, err := goavro.NewCodec(p.JSON())
		if err != nil {
			return nil, err
		}
		cut, err := newCutting(p.JSON(), schema, v.Fields)
		if err != nil {
			return nil, err
		}
		w.projections, w.codecs, w.cuttings = append(w.projections, p), append(w.codecs, codec), append(w.cuttings, cut)
		theirs, err := codec.BinaryFromNative(nil, cut.apply(native))
		if err != nil {
			return nil, err
		}
		for range 3 { // the first is made without the compiled cut
			w.cut.Begin(&w.event)
			ours, _, err := w.cut.Project(nil, v, p)
			if err != nil {
				return nil, err
			}
			if !bytes.Equal(ours, theirs) {
				return nil, fmt.Errorf("for recipient %d the two sides differ: %x and %x", i, ours, theirs)
			}
		}
	}
	return w, nil
}

func (w *projecting) ours(n int) (float64, error) {
	runtime.GC()
	room := make([]byte, 0, 1024)
	began := processorTime()
	for range n {
		w.cut.Begin(&w.event)
		for i := range w.verdicts {
			if _, _, err := w.cut.Project(room, &w.verdicts[i], w.projections[i]); err != nil {
				return 0, err
			}
		}
	}
	return float64((processorTime() - began).Nanoseconds()) / 1e3 / float64(n), nil
}

func (w *projecting) theirs(n int) (float64, error) {
	runtime.GC()
	room := make([]byte, 0, 1024)
	began := processorTime()
	for range n {
		native, _, err := w.writer.NativeFromBinary(w.event.Body)
		if err != nil {
			return 0, err
		}
		for i, codec := range w.codecs {
			if _, err := codec.BinaryFromNative(room, w.cuttings[i].apply(native)); err != nil {
				return 0, err
			}
		}
	}
	return float64((processorTime() - began).Nanoseconds()) / 1e3 / float64(n), nil
}
