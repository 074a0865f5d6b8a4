package verdict

import (
	"math"
	"slices"
	"unsafe"

	"civicbus/codecs"
)

// walker reads the values at a list of paths from events of one writer schema: data by one pass over the body, the rest
// from the stamp and the CloudEvents attributes. It never changes and is safe for concurrent use.
type walker struct {
	schema  *codecs.Schema
	program *codecs.Program // nil: no path of data
	slots   []int           // of each value of the program: its position in the list
	others  []otherSlot
}

type otherSlot struct {
	slot      int
	attribute *codecs.Attribute // of the stamp; nil: CloudEvents
	name      string            // of a CloudEvents attribute
}

// newWalker compiles the paths that the schema has; the values of others stay absent.
func newWalker(paths []string, s *codecs.Schema) *walker {
	w := &walker{schema: s}
	var data []string
	for i, path := range paths {
		switch {
		case scalarAt(s, path) == codecs.Absent:
		case isAttribute(path):
			w.others = append(w.others, otherSlot{slot: i, name: path[len(attributePrefix):]})
		case isProfile(path):
			w.others = append(w.others, otherSlot{slot: i, attribute: attributeAt(path)})
		default:
			data = append(data, path)
			w.slots = append(w.slots, i)
		}
	}
	if len(data) == 0 {
		return w
	}
	program, err := s.Compile(data...)
	if err != nil { // a schema beyond the program's bounds: nothing in it is known
		w.slots = nil
		return w
	}
	w.program = program
	return w
}

// read fills values, one for each path of the list. All that a filter cannot compare becomes Absent: nulls, composites
// and not-a-number. The values alias the event. The error is codecs.Malformed.
func (w *walker) read(ev *Event, values []codecs.Value) error {
	clear(values)
	if w.program != nil {
		// The program's values come first in the buffer and are then spread to their slots from the back: slots
		// ascend, and a slot is never below its value's position, so that none is overwritten before it has moved.
		n := len(w.slots)
		if err := w.program.Walk(ev.Body, values[:n]); err != nil {
			clear(values)
			return err
		}
		for i := n - 1; i >= 0; i-- {
			v := values[i]
			values[i] = codecs.Value{}
			if v.Kind == codecs.Null || v.Kind == codecs.Composite || v.Kind == codecs.Float && math.IsNaN(v.Float) {
				v = codecs.Value{}
			}
			values[w.slots[i]] = v
		}
	}
	for i := range w.others {
		o := &w.others[i]
		if text, ok := o.read(ev); ok {
			values[o.slot] = codecs.Value{Kind: codecs.String, Bytes: aliasText(text)}
		}
	}
	return nil
}

func (o *otherSlot) read(ev *Event) (string, bool) {
	if o.attribute != nil {
		if ev.Stamp == nil {
			return "", false
		}
		text := *o.attribute.Of(ev.Stamp)
		return text, text != ""
	}
	switch o.name {
	case "type":
		return ev.Type, ev.Type != ""
	case "source":
		return ev.Source, ev.Source != ""
	case "subjectrole":
		return ev.Role, ev.Role != ""
	}
	if ev.Attr == nil {
		return "", false
	}
	return ev.Attr(o.name)
}

// aliasText gives the bytes of a text without copying them. Nothing in this package writes to a value's bytes.
func aliasText(s string) []byte {
	if s == "" {
		return nil
	}
	return slices.Clip(unsafe.Slice(unsafe.StringData(s), len(s)))
}
