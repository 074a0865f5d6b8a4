package codecs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"unicode/utf8"
)

// JSON made of Avro and back is plain JSON, not Avro's own encoding of it: a union's value stands there as it is, without
// the name of its branch; bytes and fixed are base64; decimals are text with all their digits; dates, times and
// timestamps are RFC 3339 text, a local one without a zone, one beyond the years 0 to 9999 its number; a uuid of 16
// bytes is its text; NaN and the infinities are text.

// ToJSON appends a body as JSON to dst. The error is a Malformed for bad bytes, and then dst is returned as it was.
// Records keep the order of the schema, maps that of the body.
func (s *Schema) ToJSON(dst, body []byte) ([]byte, error) { return s.toJSON(dst, body, nil) }

func (s *Schema) toJSON(dst, body []byte, mask *want) ([]byte, error) {
	if len(body) > MaxBodyBytes {
		return dst, Malformed{What: "data", Err: errTooLong}
	}
	w := jsonWriter{reader: reader{body: body, emptyLeft: MaxEmptyItems}, dst: dst, mask: mask}
	pos, err := w.value(s.root, 0, 0)
	if err != nil {
		return dst, err.malformed()
	}
	if pos != len(body) {
		return dst, Malformed{What: "data", Err: errTrailing}
	}
	return w.dst, nil
}

type jsonWriter struct {
	reader
	dst  []byte
	mask *want // paths below where the writer stands that are written as null
}

func (w *jsonWriter) value(n *node, pos, depth int) (int, *badPath) {
	switch n.kind {
	case kindUnion:
		branch, pos, err := w.branch(n, pos, depth)
		if err != nil {
			return 0, err
		}
		return w.value(branch, pos, depth+1)
	case kindRecord:
		if depth > MaxDepth {
			return 0, bad(errTooDeep)
		}
		w.dst = append(w.dst, '{')
		outer := w.mask
		for i, f := range n.fields {
			if i > 0 {
				w.dst = append(w.dst, ',')
			}
			w.text(f.name)
			w.dst = append(w.dst, ':')
			begin := len(w.dst)
			w.mask = outer.at(segment(f.name))
			masked := w.mask != nil && w.mask.slot >= 0
			var err *badPath
			if pos, err = w.value(f.typ, pos, depth+1); err != nil {
				return 0, err.under(segment(f.name))
			}
			if masked {
				w.dst = append(w.dst[:begin], "null"...)
			}
		}
		w.mask = outer
		w.dst = append(w.dst, '}')
		return pos, nil
	case kindArray, kindMap:
		return w.items(n, pos, depth)
	}
	v, pos := n.readScalar(w.body, pos)
	if pos < 0 {
		return 0, bad(errScalar)
	}
	if n.kind == kindString && !utf8.Valid(v.Bytes) {
		return 0, bad(errUTF8)
	}
	w.scalar(n, v)
	return pos, nil
}

func (w *jsonWriter) items(n *node, pos, depth int) (int, *badPath) {
	open, end, step := byte('['), byte(']'), intoItems
	if n.kind == kindMap {
		open, end, step = '{', '}', intoValues
	}
	outer := w.mask
	w.mask = outer.at(step)
	defer func() { w.mask = outer }()
	w.dst = append(w.dst, open)
	it := items{reader: &w.reader, of: n, pos: pos, depth: depth}
	for first := true; it.next(); first = false {
		if !first {
			w.dst = append(w.dst, ',')
		}
		if n.kind == kindMap {
			w.text(string(it.key))
			w.dst = append(w.dst, ':')
		}
		var err *badPath
		if it.pos, err = w.value(n.items, it.pos, depth+1); err != nil {
			return 0, err.under(it.segment())
		}
		if len(w.dst) > 16*MaxBodyBytes {
			return 0, bad(errTooLong)
		}
	}
	w.dst = append(w.dst, end)
	return it.pos, it.bad
}

// text appends a JSON string. Text from Go never fails to marshal.
func (w *jsonWriter) text(s string) {
	quoted, err := json.Marshal(s)
	if err != nil {
		quoted = []byte(`""`)
	}
	w.dst = append(w.dst, quoted...)
}

func (w *jsonWriter) scalar(n *node, v Value) {
	if text, ok := n.logicalText(v); ok {
		w.text(text)
		return
	}
	switch v.Kind {
	case Bool:
		w.dst = strconv.AppendBool(w.dst, v.Int == 1)
	case Int:
		w.dst = strconv.AppendInt(w.dst, v.Int, 10)
	case Float:
		w.float(n, v.Float)
	case String:
		w.text(string(v.Bytes))
	case Bytes:
		w.dst = append(w.dst, '"')
		w.dst = base64.StdEncoding.AppendEncode(w.dst, v.Bytes)
		w.dst = append(w.dst, '"')
	default:
		w.dst = append(w.dst, "null"...)
	}
}

// float appends the shortest number that reads back as the same.
func (w *jsonWriter) float(n *node, f float64) {
	bits := 64
	if n.kind == kindFloat {
		bits = 32
	}
	switch {
	case math.IsNaN(f):
		w.text("NaN")
	case math.IsInf(f, 1):
		w.text("Infinity")
	case math.IsInf(f, -1):
		w.text("-Infinity")
	default:
		begin := len(w.dst)
		w.dst = strconv.AppendFloat(w.dst, f, 'g', -1, bits)
		if !bytes.ContainsAny(w.dst[begin:], ".e") {
			w.dst = append(w.dst, ".0"...) // so that a union's float does not read back as its int
		}
	}
}
