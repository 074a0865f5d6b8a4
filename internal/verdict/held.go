package verdict

import (
	"encoding/binary"

	"civicbus/codecs"
)

// Bare is a permit without any field: what a thin delivery holds. A denial stays as it is.
func (v *Verdict) Bare() Verdict {
	out := *v
	if !v.Permit || v.set == nil {
		return out
	}
	if out.set = v.set.bare.Load(); out.set == nil {
		v.set.bare.CompareAndSwap(nil, newFieldSet(nil, v.set.items))
		out.set = v.set.bare.Load()
	}
	out.Fields, out.FieldSet = out.set.fields, out.set.hash
	return out
}

// Deliverable lists every path that a permit of an event under a writer schema can have, in the order of Verdict.Fields: the ends
// of the data, which are the schema's for ever, then the attributes of the profile, to which others may be added behind.
func Deliverable(s *codecs.Schema) []string {
	out := endsOf(s.Leaves())
	for _, a := range codecs.ProfileAttributes() {
		out = append(out, profilePrefix+a.Name)
	}
	return out
}

// AppendHeld appends which of the deliverable paths a permit has: how many there are, and a bit for each.
func AppendHeld(dst []byte, deliverable, fields []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(deliverable)))
	from := len(dst)
	dst = append(dst, make([]byte, (len(deliverable)+7)/8)...)
	for i, path := range deliverable {
		if len(fields) == 0 {
			break
		}
		if path == fields[0] {
			dst[from+i/8] |= 1 << (i % 8)
			fields = fields[1:]
		}
	}
	return dst
}

// Held reads what AppendHeld wrote, perhaps when there were fewer attributes. ok is false for what it did not write of this
// schema.
func Held(bits []byte, deliverable []string) (fields []string, ok bool) {
	n, size := binary.Uvarint(bits)
	if size <= 0 || n > uint64(len(deliverable)) || uint64(len(bits)-size) != (n+7)/8 {
		return nil, false
	}
	for i, path := range deliverable[:n] {
		if bits[size+i/8]&(1<<(i%8)) != 0 {
			fields = append(fields, path)
		}
	}
	return fields, true
}
