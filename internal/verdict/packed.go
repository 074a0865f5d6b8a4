package verdict

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"unsafe"

	"civicbus/codecs"
)

// PackedConsents keeps rows of consents in the form in which a router holds a million of them: what decisions turn on, and
// nothing else, in some twenty bytes and the grant's id where the whole row has two hundred. Decide over an unpacked row is
// Decide over the row; versions are those of the row, so that a decision names what it was made on.
//
// What repeats over all subjects (the terms of grants: who may have what for which purpose; texts) stands once, in
// dictionaries that every packed row of one PackedConsents refers to: rows are unpacked by the one that packed them, and live
// no longer than the process. The dictionaries are bounded; what finds no room in them stands in its row.
//
// Safe for concurrent use.
type PackedConsents struct {
	record *codecs.Record[codecs.Consents]
	scan   atomic.Pointer[codecs.ConsentScan] // of the record's newest schema; nil until it is bound
	spare  sync.Pool                          // of *codecs.Consents, for scans alone
	terms  *dictionary[terms]
	texts  *dictionary[string]
}

// terms are the part of a grant that many subjects have in common.
type terms struct {
	state, recipient, purpose string
	scopes                    []string
}

// NewPackedConsents packs rows that record decodes, which stays bound to the registry that it is bound to when the first row
// is packed.
func NewPackedConsents(record *codecs.Record[codecs.Consents]) *PackedConsents {
	return &PackedConsents{record: record, spare: sync.Pool{New: func() any { return new(codecs.Consents) }},
		terms: newDictionary[terms](maxTerms), texts: newDictionary[string](maxTexts)}
}

// The first byte of a packed row. Zero is the wire format's own first byte: a whole row is its own packed form.
const (
	markWhole      = 0
	markPacked     = 1
	markUnreadable = 2
	markMask       = 0x8f

	hasRestriction = 0x10
	hasEnded       = 0x20
	hasObjections  = 0x40
)

// A grant's first byte: whether its terms are in the dictionary, and which ends its validity has.
const (
	inFull   = 0x01
	hasFrom  = 0x02
	hasTo    = 0x04
	grantAll = inFull | hasFrom | hasTo
)

// packedEpoch is what times are written from, in Unix milliseconds (2020-01-01): six bytes each instead of up to nine.
const packedEpoch = 1_577_836_800_000

// least is the number of bytes that the smallest packed grant takes.
const least = 5

// Pack appends the packed form of a row in wire format to dst. A row that can never be decoded becomes a mark that denies
// everything; one whose schema is merely not loaded yet stays whole. A tombstone (nil) is not a row.
func (p *PackedConsents) Pack(dst, row []byte) []byte {
	if packed, ok := p.scanned(dst, row); ok {
		return packed
	}
	c, err := p.record.Decode(row)
	switch {
	case err == nil:
		return p.append(dst, &c)
	case errors.Is(err, codecs.ErrNotLoaded), errors.Is(err, codecs.ErrNotBound):
		return append(dst, row...)
	}
	return append(dst, markUnreadable)
}

// scanned packs the usual row, of the newest schema, without decoding it.
func (p *PackedConsents) scanned(dst, row []byte) (packed []byte, ok bool) {
	id, body, err := codecs.WireID(row)
	if err != nil {
		return dst, false
	}
	scan := p.scan.Load()
	if scan == nil {
		if scan = p.record.ConsentScan(); scan == nil {
			return dst, false
		}
		p.scan.Store(scan)
	}
	if id != scan.ID {
		return dst, false
	}
	c := p.spare.Get().(*codecs.Consents)
	defer p.spare.Put(c)
	if !scan.Scan(body, c) {
		return dst, false
	}
	return p.append(dst, c), true
}

func (p *PackedConsents) append(dst []byte, c *codecs.Consents) []byte {
	mark := byte(markPacked)
	if c.Restriction != "" {
		mark |= hasRestriction
	}
	if c.EndedAt != 0 {
		mark |= hasEnded
	}
	if len(c.Objections) > 0 {
		mark |= hasObjections
	}
	dst = binary.AppendVarint(append(dst, mark), c.Version)
	if c.Restriction != "" {
		dst = p.appendText(dst, c.Restriction)
	}
	if c.EndedAt != 0 {
		dst = binary.AppendVarint(dst, c.EndedAt-packedEpoch)
	}
	if len(c.Objections) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(c.Objections)))
		for i := range c.Objections {
			dst = p.appendText(dst, c.Objections[i].Subscription)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Grants)))
	for i := range c.Grants {
		dst = p.appendGrant(dst, &c.Grants[i])
	}
	return dst
}

func (p *PackedConsents) appendGrant(dst []byte, g *codecs.Grant) []byte {
	first := byte(0)
	if g.ValidFrom != 0 {
		first |= hasFrom
	}
	if g.ValidTo != 0 {
		first |= hasTo
	}
	if n := p.numberOfTerms(g); n > 0 {
		dst = binary.AppendUvarint(append(dst, first), uint64(n))
	} else {
		dst = append(dst, first|inFull)
		dst = p.appendText(dst, g.State)
		dst = p.appendText(dst, g.Recipient)
		dst = p.appendText(dst, g.Purpose)
		dst = binary.AppendUvarint(dst, uint64(len(g.Scopes)))
		for _, scope := range g.Scopes {
			dst = p.appendText(dst, scope)
		}
	}
	dst = appendBytes(dst, g.ID)
	dst = binary.AppendVarint(dst, g.Version)
	dst = binary.AppendVarint(dst, g.GivenAt-packedEpoch)
	if g.ValidFrom != 0 {
		dst = binary.AppendVarint(dst, g.ValidFrom-g.GivenAt)
	}
	if g.ValidTo != 0 {
		dst = binary.AppendVarint(dst, g.ValidTo-g.GivenAt)
	}
	return dst
}

// numberOfTerms gives the number of a grant's terms in the dictionary, from 1; 0: they are not there.
func (p *PackedConsents) numberOfTerms(g *codecs.Grant) uint32 {
	size := len(g.State) + len(g.Recipient) + len(g.Purpose)
	for _, scope := range g.Scopes {
		size += len(scope) + 1
	}
	var room [maxTerm + 16]byte // the lengths take little more
	if size > maxTerm {
		return 0
	}
	key := appendBytes(room[:0], g.State)
	key = appendBytes(key, g.Recipient)
	key = appendBytes(key, g.Purpose)
	for _, scope := range g.Scopes {
		key = appendBytes(key, scope)
	}
	// The dictionary reads the key while it looks, and keeps a copy.
	return p.terms.number(unsafe.String(unsafe.SliceData(key), len(key)), readTerms)
}

// readTerms reads a key of the dictionary; its texts are parts of the key.
func readTerms(key string) terms {
	u := unpacking{rest: unsafe.Slice(unsafe.StringData(key), len(key))} // it reads, and a string never changes
	t := terms{state: u.bytes(), recipient: u.bytes(), purpose: u.bytes()}
	for len(u.rest) > 0 {
		t.scopes = append(t.scopes, u.bytes())
	}
	return t
}

func appendBytes(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// appendText writes the text's number in the dictionary, from 1, or 0 and the text.
func (p *PackedConsents) appendText(dst []byte, s string) []byte {
	if len(s) <= maxText {
		if n := p.texts.number(s, itself); n > 0 {
			return binary.AppendUvarint(dst, uint64(n))
		}
	}
	return appendBytes(append(dst, 0), s)
}

func itself(text string) string { return text }

// Unpack reads a packed row into c, whose slices it uses again, and answers c; or, if the bytes are none that Pack made,
// Unreadable(). Of c only what decisions turn on has a meaning afterwards: of a Grant its ID, Version, State, Recipient,
// Purpose, Scopes and times, of an Objection its Subscription. Texts are shared with the dictionaries or are the bytes of
// packed, which must never change again; the slices of scopes may be shared and must not be written to.
func (p *PackedConsents) Unpack(packed []byte, c *codecs.Consents) *codecs.Consents {
	if len(packed) == 0 {
		return Unreadable()
	}
	switch packed[0] & markMask {
	case markWhole:
		row, err := p.record.Decode(packed)
		if err != nil {
			return Unreadable()
		}
		*c = row
		return c
	case markPacked:
		u := unpacking{p: p, rest: packed[1:]}
		u.consents(packed[0], c)
		if !u.bad && len(u.rest) == 0 {
			return c
		}
	}
	return Unreadable()
}

// unpacking is one packed row on its way into a Consents; bad says that it is none.
type unpacking struct {
	p    *PackedConsents
	rest []byte
	bad  bool
}

func (u *unpacking) consents(mark byte, c *codecs.Consents) {
	c.Version, c.Restriction, c.EndedAt = u.varint(), "", 0
	c.Objections = c.Objections[:0]
	if mark&hasRestriction != 0 {
		c.Restriction = u.text()
	}
	if mark&hasEnded != 0 {
		c.EndedAt = packedEpoch + u.varint()
	}
	if mark&hasObjections != 0 {
		for range u.count(1) {
			c.Objections = append(c.Objections, codecs.Objection{Subscription: u.text()})
		}
	}
	n := u.count(least)
	if cap(c.Grants) < n {
		c.Grants = make([]codecs.Grant, n)
	}
	c.Grants = c.Grants[:n]
	for i := range c.Grants {
		u.grant(&c.Grants[i])
	}
}

func (u *unpacking) grant(g *codecs.Grant) {
	first := u.byte()
	if first&inFull == 0 {
		t, ok := u.p.terms.value(u.uvarint())
		if !ok || first&^grantAll != 0 {
			u.fail()
		}
		g.State, g.Recipient, g.Purpose, g.Scopes = t.state, t.recipient, t.purpose, t.scopes
	} else {
		g.State, g.Recipient, g.Purpose, g.Scopes = u.text(), u.text(), u.text(), u.scopes()
	}
	g.ID = u.bytes()
	g.Version = u.varint()
	g.GivenAt = packedEpoch + u.varint()
	g.ValidFrom, g.ValidTo = 0, 0
	if first&hasFrom != 0 {
		g.ValidFrom = g.GivenAt + u.varint()
	}
	if first&hasTo != 0 {
		g.ValidTo = g.GivenAt + u.varint()
	}
}

func (u *unpacking) byte() byte {
	if len(u.rest) == 0 {
		u.bad = true
		return 0
	}
	b := u.rest[0]
	u.rest = u.rest[1:]
	return b
}

func (u *unpacking) uvarint() uint64 {
	if len(u.rest) > 0 && u.rest[0] < 0x80 {
		v := u.rest[0]
		u.rest = u.rest[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(u.rest)
	if n <= 0 {
		u.fail()
		return 0
	}
	u.rest = u.rest[n:]
	return v
}

// fail ends the reading: whatever is asked for next is empty.
func (u *unpacking) fail() { u.bad, u.rest = true, nil }

func (u *unpacking) varint() int64 {
	v := u.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// count is a number of things that take at least so many bytes each: more than there is room for is none.
func (u *unpacking) count(bytes int) int {
	n := u.uvarint()
	if n > uint64(len(u.rest)/bytes) {
		u.fail()
		return 0
	}
	return int(n)
}

func (u *unpacking) bytes() string {
	n := u.count(1)
	b := u.rest[:n]
	u.rest = u.rest[n:]
	return unsafe.String(unsafe.SliceData(b), n) // packed bytes are never written again: Unpack asks for it
}

func (u *unpacking) text() string {
	n := u.uvarint()
	if n == 0 {
		return u.bytes()
	}
	s, ok := u.p.texts.value(n)
	if !ok {
		u.fail()
	}
	return s
}

// scopes makes a slice: only where the dictionary was full.
func (u *unpacking) scopes() []string {
	n := u.count(1)
	if n == 0 {
		return nil
	}
	scopes := make([]string, n)
	for i := range scopes {
		scopes[i] = u.text()
	}
	return scopes
}
