package codecs

import (
	"encoding/binary"
	"math"
)

// Kind tells what a Value holds.
type Kind uint8

// Absent is the zero Kind: the body has no value at the path, because something above it is null, another branch of a
// union, or a missing element.
const (
	Absent Kind = iota
	Null
	Bool      // Int is 0 or 1
	Int       // Int: int, long and the logical types on them
	Float     // Float: float and double
	String    // Bytes: string, and the symbol of an enum
	Bytes     // Bytes: bytes and fixed, decimals as they are on the wire
	Composite // Bytes: the Avro encoding of a record, array or map
)

// Value is one value read out of a body. Bytes aliases the body, or for an enum the schema; both must not be written to.
type Value struct {
	Kind  Kind
	Int   int64
	Float float64
	Bytes []byte
}

// Text gives a String's text; empty for every other kind. It allocates.
func (v Value) Text() string {
	if v.Kind != String {
		return ""
	}
	return string(v.Bytes)
}

// readVarint reads a zig-zag varint at pos: the value and the position after it, which is negative when the bytes end
// or the number has more than 64 bits.
func readVarint(b []byte, pos int) (int64, int) {
	var u uint64
	for shift := uint(0); pos < len(b) && shift < 70; shift += 7 {
		c := b[pos]
		pos++
		if shift == 63 && c > 1 {
			return 0, -1
		}
		u |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return int64(u>>1) ^ -int64(u&1), pos
		}
	}
	return 0, -1
}

// readLength reads the length of a string or bytes at pos: where they begin and end, negative when they do not fit.
func readLength(b []byte, pos int) (begin, end int) {
	n, begin := readVarint(b, pos)
	if begin < 0 || n < 0 || n > int64(len(b)-begin) {
		return -1, -1
	}
	return begin, begin + int(n)
}

// appendVarint appends a number as the shortest zig-zag varint.
func appendVarint(dst []byte, n int64) []byte {
	return binary.AppendUvarint(dst, uint64(n<<1)^uint64(n>>63))
}

// readScalar reads the value of a type that is neither union nor composite at pos. The position after it is negative on
// bad bytes.
func (n *node) readScalar(b []byte, pos int) (v Value, after int) {
	switch n.kind {
	case kindNull:
		return Value{Kind: Null}, pos
	case kindBoolean:
		if pos >= len(b) || b[pos] > 1 {
			return v, -1
		}
		return Value{Kind: Bool, Int: int64(b[pos])}, pos + 1
	case kindInt, kindLong:
		i, after := readVarint(b, pos)
		if n.kind == kindInt && i != int64(int32(i)) {
			return v, -1
		}
		return Value{Kind: Int, Int: i}, after
	case kindFloat:
		if len(b)-pos < 4 {
			return v, -1
		}
		return Value{Kind: Float, Float: float64(math.Float32frombits(binary.LittleEndian.Uint32(b[pos:])))}, pos + 4
	case kindDouble:
		if len(b)-pos < 8 {
			return v, -1
		}
		return Value{Kind: Float, Float: math.Float64frombits(binary.LittleEndian.Uint64(b[pos:]))}, pos + 8
	case kindBytes, kindString:
		begin, end := readLength(b, pos)
		if begin < 0 {
			return v, -1
		}
		k := Bytes
		if n.kind == kindString {
			k = String
		}
		return Value{Kind: k, Bytes: b[begin:end:end]}, end
	case kindFixed:
		if len(b)-pos < n.size {
			return v, -1
		}
		return Value{Kind: Bytes, Bytes: b[pos : pos+n.size : pos+n.size]}, pos + n.size
	case kindEnum:
		i, after := readVarint(b, pos)
		if after < 0 || i < 0 || i >= int64(len(n.symbols)) {
			return v, -1
		}
		return Value{Kind: String, Bytes: n.symbols[i]}, after
	}
	return v, -1
}
