package codecs

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Reasons of the faults that FromJSON finds.
const (
	reasonJSON      = "not_json"
	reasonLimit     = "too_large"
	reasonMissing   = "missing_field"
	reasonUnknown   = "unknown_field"
	reasonDuplicate = "duplicate_field"
	reasonType      = "wrong_type"
	reasonRange     = "out_of_range"
	reasonFormat    = "bad_format"
	reasonSymbol    = "unknown_symbol"
	reasonAmbiguous = "too_ambiguous"
)

// MaxFaults bounds what FromJSON reports of one body.
const MaxFaults = 50

// FromJSON makes a body of plain JSON, as ToJSON writes it, and is lenient where nothing is lost: decimals may be
// numbers, times numbers of their unit, a field with a default or one that may be null may be missing. The value of a
// union goes to the first branch that takes it, text sooner to string than to bytes or fixed. Numbers beyond their type
// are refused, never rounded, but for float and double. Faults name the path (with the index in an array), the reason
// and what would be right, all at once up to MaxFaults, and hold no value; with any fault body is nil.
func (s *Schema) FromJSON(data []byte) (body []byte, faults []Fault) {
	switch {
	case len(data) > MaxBodyBytes:
		return nil, []Fault{{Field: "data", Reason: reasonLimit, Text: fmt.Sprintf("at most %d bytes", MaxBodyBytes)}}
	case !utf8.Valid(data):
		return nil, []Fault{{Field: "data", Reason: reasonJSON, Text: "text in UTF-8"}}
	case jsonDepth(string(data)) > MaxDepth:
		return nil, []Fault{{Field: "data", Reason: reasonLimit, Text: fmt.Sprintf("at most %d levels", MaxDepth)}}
	}
	v, err := parseJSON(data)
	if err != nil {
		return nil, []Fault{{Field: "data", Reason: reasonJSON, Text: "one whole JSON value"}}
	}
	r := jsonReader{steps: 1<<20 + 4*len(data)}
	r.value(s.root, v, nil, 0)
	if r.steps < 0 {
		return nil, []Fault{{Field: "data", Reason: reasonAmbiguous, Text: "fewer unions within unions, absent fields and digits: it takes too many steps"}}
	}
	if len(r.faults) > 0 {
		return nil, r.faults
	}
	if err := s.Validate(r.dst); err != nil { // a limit that only the whole has
		return nil, []Fault{{Field: "data", Reason: reasonLimit, Text: err.Error()}}
	}
	return r.dst, nil
}

// jsonPlace is where a value stands. Its text is made for a fault alone: to make it for every value would take the square of the
// bytes of data that nests.
type jsonPlace struct {
	above *jsonPlace // nil: the whole
	name  string     // of a field; empty: an item
	index int        // of an array's item; -1: a map's
}

func (p *jsonPlace) String() string {
	switch {
	case p == nil:
		return "data"
	case p.name != "":
		return p.above.String() + "." + p.name
	case p.index < 0:
		return p.above.String() + string(intoValues)
	}
	return p.above.String() + "[" + strconv.Itoa(p.index) + "]"
}

// jsonReader encodes a JSON value; what it finds wrong it notes and goes on, until it has MaxFaults.
type jsonReader struct {
	dst    []byte
	faults []Fault
	steps  int  // left: unions of records in unions of records would else take time without end, absent fields and exponents much
	strict bool // in a union that has another branch for such a value: refuse what this one would only nearly hold
}

// full says that enough is wrong: what follows is not looked at.
func (r *jsonReader) full() bool { return len(r.faults) >= MaxFaults }

func (r *jsonReader) fault(at *jsonPlace, reason, text string) {
	if !r.full() {
		r.faults = append(r.faults, Fault{Field: bounded(at.String()), Reason: reason, Text: text})
	}
}

func (r *jsonReader) value(n *node, v any, path *jsonPlace, depth int) {
	switch r.steps--; {
	case r.steps < 0, r.full(): // the first is said once, at the end
		return
	case depth > MaxDepth, len(r.dst) > MaxBodyBytes:
		r.fault(path, reasonLimit, fmt.Sprintf("at most %d levels and %d bytes", MaxDepth, MaxBodyBytes))
		return
	}
	switch n.kind {
	case kindUnion:
		r.union(n, v, path, depth)
	case kindRecord:
		if o, ok := v.(*jsonObject); ok {
			r.record(n, o, path, depth)
			return
		}
		r.fault(path, reasonType, "an object with the fields of "+n.name)
	case kindMap:
		o, ok := v.(*jsonObject)
		if !ok {
			r.fault(path, reasonType, "an object")
			return
		}
		r.dst = appendCount(r.dst, len(o.keys))
		var keys keySet
		for i, key := range o.keys {
			if !keys.add([]byte(key)) { // see Validate
				r.fault(path, reasonDuplicate, "each key once")
				return
			}
			r.dst = append(appendVarint(r.dst, int64(len(key))), key...)
			r.value(n.items, o.values[i], &jsonPlace{above: path, index: -1}, depth+1)
			if r.full() {
				return
			}
		}
		r.end()
	case kindArray:
		list, ok := v.([]any)
		if !ok {
			r.fault(path, reasonType, "an array")
			return
		}
		r.dst = appendCount(r.dst, len(list))
		for i, item := range list {
			r.value(n.items, item, &jsonPlace{above: path, index: i}, depth+1)
			if r.full() {
				return
			}
		}
		r.end()
	default:
		r.scalar(n, v, path)
	}
}

// appendCount begins the one block of an array or map that has items.
func appendCount(dst []byte, count int) []byte {
	if count == 0 {
		return dst
	}
	return appendVarint(dst, int64(count))
}

func (r *jsonReader) end() { r.dst = append(r.dst, 0) }

func (r *jsonReader) record(n *node, o *jsonObject, path *jsonPlace, depth int) {
	r.steps -= len(n.fields) // which takes time even where the JSON has none of them
	given := make(map[string]int, min(len(o.keys), len(n.fields)))
	for i, key := range o.keys {
		if r.full() {
			return
		}
		if n.field(key) == nil {
			r.fault(path, reasonUnknown, unknownText(n, key))
		} else if _, twice := given[key]; twice {
			r.fault(&jsonPlace{above: path, name: key}, reasonDuplicate, "the field once")
		} else {
			given[key] = i
		}
	}
	for _, f := range n.fields {
		if r.steps < 0 || r.full() {
			return
		}
		if i, ok := given[f.name]; ok {
			r.value(f.typ, o.values[i], &jsonPlace{above: path, name: f.name}, depth+1)
			continue
		}
		null := f.typ.nullBranch()
		def, ok := f.props["default"]
		if ok && (def != nil || null < 0) {
			out, err := appendDefault(r.dst, f.typ, def, depth+1)
			if err != nil {
				r.fault(&jsonPlace{above: path, name: f.name}, reasonMissing, f.typ.wanted())
				continue
			}
			r.dst = out
			continue
		}
		if null >= 0 {
			r.dst = appendVarint(r.dst, int64(null))
			continue
		}
		if f.typ.kind != kindNull {
			r.fault(&jsonPlace{above: path, name: f.name}, reasonMissing, f.typ.wanted())
		}
	}
}

// unknownText names an unknown field where its name looks like one, and those that there are. Any other name may be a
// value that stands in the wrong place.
func unknownText(n *node, key string) string {
	names := make([]string, 0, len(n.fields))
	for _, f := range n.fields {
		if len(names) == 20 {
			names = append(names, "...")
			break
		}
		names = append(names, f.name)
	}
	have := "no field that it has; it has " + strings.Join(names, ", ")
	if len(key) > 64 || key == "" || strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
		return have
	}
	return fmt.Sprintf("%q is %s", key, have)
}

// union tries the branches that such JSON can be, and keeps the first that takes it. When none does, the faults are
// those of the branch that came closest.
func (r *jsonReader) union(n *node, v any, path *jsonPlace, depth int) {
	var closest []Fault
	tried, was, strict, begin := false, r.faults, r.strict, len(r.dst)
	candidates := n.candidates(v)
	for _, i := range candidates {
		b := n.branches[i]
		r.faults, r.strict = nil, len(candidates) > 1 && b.kind != kindRecord && b.kind != kindArray && b.kind != kindMap
		r.dst = appendVarint(r.dst[:begin], int64(i))
		r.value(b, v, path, depth+1)
		found := r.faults
		r.faults, r.strict = was, strict
		if len(found) == 0 {
			return
		}
		if !tried || len(found) < len(closest) {
			closest, tried = found, true
		}
	}
	r.dst = r.dst[:begin]
	if !tried {
		r.fault(path, reasonType, n.wanted())
		return
	}
	r.faults = append(r.faults, closest[:min(len(closest), MaxFaults-len(r.faults))]...)
}

// candidates lists the branches that a value's JSON type allows: whole numbers before floats, which take them too, and
// last those that take nearly every text.
func (n *node) candidates(v any) []int {
	var ranked [4][]int
	for i, b := range n.branches {
		if !b.takes(v) {
			continue
		}
		rank := 1
		switch b.kind {
		case kindInt, kindLong:
			rank = 0
		case kindFloat, kindDouble:
			rank = 2
		case kindBytes, kindFixed:
			if b.logical == "" || b.logical == "duration" {
				rank = 3
			}
		}
		ranked[rank] = append(ranked[rank], i)
	}
	return slices.Concat(ranked[:]...)
}

// takes tells whether JSON of a value's type can be a value of n at all.
func (n *node) takes(v any) bool {
	switch v.(type) {
	case nil:
		return n.kind == kindNull
	case bool:
		return n.kind == kindBoolean
	case json.Number:
		return n.kind == kindInt || n.kind == kindLong || n.kind == kindFloat || n.kind == kindDouble || n.logical == "decimal"
	case string:
		switch n.kind {
		case kindString, kindBytes, kindFixed, kindEnum:
			return true
		case kindFloat, kindDouble:
			return v == "NaN" || v == "Infinity" || v == "-Infinity"
		case kindInt, kindLong:
			return n.logical != ""
		}
		return false
	case []any:
		return n.kind == kindArray
	}
	return n.kind == kindRecord || n.kind == kindMap
}

// wanted says what JSON a type takes, for people.
func (n *node) wanted() string {
	_, layout, isTime := n.unit()
	switch {
	case n.kind == kindUnion:
		var list []string
		for _, b := range n.branches {
			list = append(list, b.wanted())
		}
		if len(list) > 10 {
			list = append(list[:10], "...")
		}
		return strings.Join(list, " or ")
	case n.logical == "date":
		return "a date such as 2026-01-31"
	case layout == layoutTime:
		return "a time such as 13:45:00"
	case layout == layoutLocal:
		return "a local time such as 2026-01-31T13:45:00"
	case isTime:
		return "a time such as 2026-01-31T13:45:00Z"
	case n.logical == "decimal":
		return fmt.Sprintf("a decimal number of at most %d digits, %d of them decimals", n.precision, n.scale)
	case n.logical == "uuid":
		return "a uuid"
	}
	switch n.kind {
	case kindNull:
		return "null"
	case kindBoolean:
		return "true or false"
	case kindInt:
		return "a whole number of 32 bits"
	case kindLong:
		return "a whole number of 64 bits"
	case kindFloat, kindDouble:
		return "a number"
	case kindString:
		return "a string"
	case kindBytes:
		return "a string of base64"
	case kindFixed:
		return fmt.Sprintf("a string of base64 of %d bytes", n.size)
	case kindArray:
		return "an array"
	case kindMap:
		return "an object"
	case kindEnum:
		symbols := make([]string, 0, len(n.symbols))
		for _, s := range n.symbols {
			if len(symbols) == 20 {
				symbols = append(symbols, "...")
				break
			}
			symbols = append(symbols, string(s))
		}
		return "one of " + strings.Join(symbols, ", ")
	}
	return "an object with the fields of " + n.name
}

// scalar encodes what is neither composite nor a union.
func (r *jsonReader) scalar(n *node, v any, path *jsonPlace) {
	if !n.takes(v) {
		r.fault(path, reasonType, n.wanted())
		return
	}
	if reason := r.append(n, v); reason != "" {
		r.fault(path, reason, n.wanted())
	}
}

// append encodes a scalar of a JSON type that fits; reason tells why it does not all the same.
func (r *jsonReader) append(n *node, v any) (reason string) {
	switch n.kind {
	case kindBoolean:
		if v == true {
			r.dst = append(r.dst, 1)
		} else {
			r.dst = append(r.dst, 0)
		}
	case kindInt, kindLong:
		return r.whole(n, v)
	case kindFloat, kindDouble:
		return r.float(n, v)
	case kindEnum:
		for i, symbol := range n.symbols {
			if string(symbol) == v {
				r.dst = appendVarint(r.dst, int64(i))
				return ""
			}
		}
		return reasonSymbol
	case kindString:
		text, _ := v.(string)
		if n.logical == "uuid" {
			if _, ok := parseUUID(text); !ok && r.strict {
				return reasonFormat // in a union another branch may take it
			}
		}
		r.dst = append(appendVarint(r.dst, int64(len(text))), text...)
	case kindBytes, kindFixed:
		return r.bytes(n, v)
	}
	return ""
}

func (r *jsonReader) whole(n *node, v any) (reason string) {
	if text, ok := v.(string); ok {
		i, ok := n.parseTime(text)
		if !ok {
			return reasonFormat
		}
		if n.kind == kindInt && i != int64(int32(i)) {
			return reasonRange
		}
		r.dst = appendVarint(r.dst, i)
		return ""
	}
	number, _ := v.(json.Number)
	i, err := number.Int64()
	if err != nil && r.strict && strings.ContainsAny(number.String(), ".eE") {
		return reasonType // a float or a decimal takes it
	}
	if err != nil {
		f, err := number.Float64() // 1.0 and 1e3 are whole too
		if err != nil || math.Abs(f) > 1<<53 {
			return reasonRange
		}
		if f != math.Trunc(f) {
			return reasonType
		}
		i = int64(f)
	}
	if n.kind == kindInt && i != int64(int32(i)) {
		return reasonRange
	}
	r.dst = appendVarint(r.dst, i)
	return ""
}

func (r *jsonReader) float(n *node, v any) (reason string) {
	var f float64
	switch x := v.(type) {
	case string:
		switch x {
		case "NaN":
			f = math.NaN()
		case "Infinity":
			f = math.Inf(1)
		default:
			f = math.Inf(-1)
		}
	case json.Number:
		var err error
		if f, err = x.Float64(); err != nil {
			return reasonRange
		}
	}
	if n.kind == kindDouble {
		r.dst = binary.LittleEndian.AppendUint64(r.dst, math.Float64bits(f))
		return ""
	}
	short := float32(f)
	if math.IsInf(float64(short), 0) && !math.IsInf(f, 0) {
		return reasonRange
	}
	if number, ok := v.(json.Number); ok && r.strict { // in a union double may take what float would round
		again, err := strconv.ParseFloat(strconv.FormatFloat(float64(short), 'g', -1, 32), 64)
		if exact, errNumber := number.Float64(); err != nil || errNumber != nil || again != exact {
			return reasonRange
		}
	}
	r.dst = binary.LittleEndian.AppendUint32(r.dst, math.Float32bits(short))
	return ""
}

func (r *jsonReader) bytes(n *node, v any) (reason string) {
	var b []byte
	number, isNumber := v.(json.Number)
	text, _ := v.(string)
	switch {
	case n.logical == "decimal":
		if isNumber {
			text = number.String()
		}
		if b, reason = n.parseDecimal(text); reason != "" {
			return reason
		}
		r.steps -= 4 * min(len(b), maxDecimalBytes) // an exponent of three digits makes thousands of bytes
	case n.logical == "uuid":
		var ok bool
		if b, ok = parseUUID(text); !ok {
			return reasonFormat
		}
	default:
		var err error
		if b, err = base64.StdEncoding.Strict().DecodeString(text); err != nil {
			return reasonFormat
		}
	}
	if n.kind == kindFixed {
		if len(b) != n.size {
			return reasonRange
		}
	} else {
		r.dst = appendVarint(r.dst, int64(len(b)))
	}
	r.dst = append(r.dst, b...)
	return ""
}
