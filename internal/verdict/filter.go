package verdict

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"

	"civicbus/codecs"
)

// Bounds of a filter, so that neither its acceptance nor its evaluation can be made expensive.
const (
	MaxFilterBytes = 8 << 10 // of the specification's text
	MaxFilterDepth = 16      // nested all, any, not
	MaxFilterNodes = 256     // predicates and combinations
)

// Filter is one compiled filter: all dialects become the same tree. It never changes and is safe for concurrent use.
type Filter struct {
	root  *node
	paths []string // what it reads, each once, in order of first use; nodes name them by position
}

// operation is what a node of a filter does.
type operation uint8

const (
	opEqual  operation = iota // the value at path is one of values
	opPrefix                  // the text at path begins with values[0]
	opSuffix                  // the text at path ends with values[0]
	opAll                     // of parts; of none: true
	opAny                     // of parts
	opNot                     // of parts[0]
	opCEL                     // a CEL expression that has no simpler form
)

// node is one part of a filter's tree.
type node struct {
	op     operation
	path   int // position in Filter.paths
	values []constant
	parts  []*node
	cel    *celLeaf
	reads  []int // of cel: the positions in Filter.paths of cel.paths
}

// constant is a literal of a filter: text, a number or a truth value.
type constant struct {
	kind  codecs.Kind // String, Int, Float or Bool
	text  string
	int   int64
	float float64
}

// Paths lists what the filter reads: data paths, profile attributes, and CloudEvents attributes as ce.name.
func (f *Filter) Paths() []string { return append([]string(nil), f.paths...) }

// Matches evaluates the filter on a whole event, as a dry run does. What the event does not have is unknown.
// The error is codecs.Malformed: the body is not of the event's schema.
func (f *Filter) Matches(ev *Event) (Truth, error) {
	w := newWalker(f.paths, ev.Schema)
	values := make([]codecs.Value, len(f.paths))
	if err := w.read(ev, values); err != nil {
		return Unknown, err
	}
	return f.root.eval(ev.Schema, values), nil
}

// eval evaluates the tree on the values at Filter.paths; a value of kind Absent is unknown.
func (n *node) eval(s *codecs.Schema, values []codecs.Value) Truth {
	switch n.op {
	case opAll:
		t := True
		for _, part := range n.parts {
			if t = min(t, part.eval(s, values)); t == False {
				return False
			}
		}
		return t
	case opAny:
		t := False
		for _, part := range n.parts {
			if t = max(t, part.eval(s, values)); t == True {
				return True
			}
		}
		return t
	case opNot:
		return -n.parts[0].eval(s, values)
	case opCEL:
		return n.cel.eval(n.reads, s, values)
	}
	v := &values[n.path]
	if v.Kind == codecs.Absent {
		return Unknown
	}
	switch n.op {
	case opPrefix, opSuffix:
		if v.Kind != codecs.String {
			return Unknown
		}
		if n.op == opPrefix {
			return truthOf(len(v.Bytes) >= len(n.values[0].text) && string(v.Bytes[:len(n.values[0].text)]) == n.values[0].text)
		}
		return truthOf(len(v.Bytes) >= len(n.values[0].text) && string(v.Bytes[len(v.Bytes)-len(n.values[0].text):]) == n.values[0].text)
	default:
		t := False
		for i := range n.values {
			if t = max(t, n.values[i].equals(v)); t == True {
				return True
			}
		}
		return t
	}
}

// equals compares a literal with a value; of different kinds it is unknown. Ints and floats are one kind here.
func (c *constant) equals(v *codecs.Value) Truth {
	switch c.kind {
	case codecs.String:
		if v.Kind == codecs.String {
			return truthOf(string(v.Bytes) == c.text)
		}
	case codecs.Bool:
		if v.Kind == codecs.Bool {
			return truthOf(v.Int == c.int)
		}
	case codecs.Int, codecs.Float:
		switch {
		case c.kind == codecs.Int && v.Kind == codecs.Int:
			return truthOf(c.int == v.Int)
		case c.kind == codecs.Float && v.Kind == codecs.Float:
			return truthOf(c.float == v.Float)
		case c.kind == codecs.Int && v.Kind == codecs.Float:
			return truthOf(sameNumber(c.int, v.Float))
		case c.kind == codecs.Float && v.Kind == codecs.Int:
			return truthOf(sameNumber(v.Int, c.float))
		}
	}
	return Unknown
}

// sameNumber compares exactly, also above 2^53, where converting the int would round.
func sameNumber(i int64, f float64) bool {
	const limit = 1 << 63
	return f == math.Trunc(f) && f >= -limit && f < limit && int64(f) == i
}

// appendKey appends a form that is equal for values that are equal, for the index. It mirrors equals: numbers that
// compare equal have one key, whether int or float. ok is false for a value that equals nothing.
func appendKey(dst []byte, kind codecs.Kind, i int64, f float64, text []byte) (key []byte, ok bool) {
	switch kind {
	case codecs.String:
		return append(append(dst, 's'), text...), true
	case codecs.Bool:
		return append(dst, 'b', byte(i)), true
	case codecs.Float:
		if f != math.Trunc(f) || f < -(1<<63) || f >= 1<<63 {
			return binary.BigEndian.AppendUint64(append(dst, 'f'), math.Float64bits(f)), true
		}
		i = int64(f)
		fallthrough
	case codecs.Int:
		return binary.BigEndian.AppendUint64(append(dst, 'i'), uint64(i)), true
	}
	return dst, false
}

func (c *constant) appendKey(dst []byte) []byte {
	key, _ := appendKey(dst, c.kind, c.int, c.float, []byte(c.text))
	return key
}

// sameAs tells whether two literals are written alike, for dropping repeats.
func (c *constant) sameAs(o *constant) bool {
	return bytes.Equal(c.appendKey(nil), o.appendKey(nil))
}

// conjuncts lists the parts that must all be true, through nested all.
func (n *node) conjuncts(dst []*node) []*node {
	if n.op != opAll {
		return append(dst, n)
	}
	for _, part := range n.parts {
		dst = part.conjuncts(dst)
	}
	return dst
}

// attributePrefix begins the path of every CloudEvents attribute that a filter may name.
const attributePrefix = "ce."

// filterAttributes are the CloudEvents attributes that a delivery carries as they came, and so those that a filter may
// name. Not subject, id and correlationid, which inside the bus are what no subscriber may know or join on; not
// dataschema, which a delivery replaces.
var filterAttributes = [...]string{"specversion", "type", "source", "time", "datacontenttype", "subjectrole"}

func isAttribute(path string) bool { return strings.HasPrefix(path, attributePrefix) }
