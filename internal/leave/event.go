package leave

import (
	"bytes"
	"encoding/json"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/topology"
)

var decisions = topology.Decisions.Name

// Event is one delivery as it leaves.
type Event struct {
	ID         string      // the delivery's
	Attributes []Attribute // of CloudEvents
	JSON       []byte      // a CloudEvent in JSON format: the attributes and the data
	Data       []byte      // the data in it, as JSON; nil in a thin one
}

// Attribute is a CloudEvents attribute.
type Attribute struct{ Name, Value string }

// Event writes what leaves of a delivery on a permit. dataref is where a thin delivery's data is, for a thin one alone: then the
// data is left out. The error is a codecs.Malformed body.
func (x *Exit) Event(snap *verdict.Snapshot, l *Delivery, v *verdict.Verdict, thin bool, dataref string) (Event, error) {
	r := l.Record
	var e Event
	e.ID, _ = Header(r, codecs.HeaderID)
	add := func(name, value string) {
		if value != "" {
			e.Attributes = append(e.Attributes, Attribute{name, value})
		}
	}
	copied := func(names ...string) {
		for _, name := range names {
			value, _ := Header(r, "ce_"+name)
			add(name, value)
		}
	}
	copied("specversion", "id", "source", "type", "time", "subject", "subjectrole", "dataschema", "correlationid", "lifeeventid")
	add("subscription", v.Sub.ID)
	add("purpose", v.Sub.Purpose)
	add("legalbasis", v.Basis)
	add("grantreference", v.Reference)
	copied("redriven")
	copied("replayed")
	if thin {
		add("dataref", dataref)
		e.JSON = append(members(e.Attributes), '}')
		return e, nil
	}
	schema, body, mask, withheld, err := l.data(snap, v)
	if err != nil {
		return e, err
	}
	add("withheld", strings.Join(withheld, ","))
	e.JSON = append(members(e.Attributes), `,"datacontenttype":"application/json","data":`...)
	begin := len(e.JSON)
	if e.JSON, err = schema.ToJSONMasked(e.JSON, body, mask); err != nil {
		return e, err
	}
	e.JSON = append(e.JSON, '}')
	e.Data = e.JSON[begin : len(e.JSON)-1 : len(e.JSON)-1]
	return e, nil
}

// data is what a permit gives of a delivery: a body under the projected schema, what of it is not shown, and which paths are withheld.
func (l *Delivery) data(snap *verdict.Snapshot, v *verdict.Verdict) (schema *codecs.Schema, body []byte, mask *codecs.Mask, withheld []string, err error) {
	if o := l.original; o != nil {
		body, withheld, err = snap.Project(nil, &l.event, v, o.projection)
		return o.projection.Schema(), body, nil, withheld, err
	}
	mask, err = l.shape.mask(v)
	return l.shape.Schema(), l.body, mask, snap.Withheld(l.shape.Delivered, v, l.event.Type, l.withheld), err
}

// members begins a JSON object with attributes.
func members(all []Attribute) []byte {
	out := []byte{'{'}
	for i, a := range all {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, quoted(a.Name)...), ':'), quoted(a.Value)...)
	}
	return out
}

func quoted(text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(strings.ToValidUTF8(text, "\uFFFD")) // a string always encodes
	return bytes.TrimRight(b.Bytes(), "\n")
}
