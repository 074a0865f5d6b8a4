package codecs

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

var (
	errTooDeep    = fmt.Errorf("values nest deeper than %d", MaxDepth)
	errTooMany    = fmt.Errorf("an array or a map has more than %d items", MaxBlockItems)
	errTooEmpty   = fmt.Errorf("more than %d items take no byte", MaxEmptyItems)
	errTooLong    = fmt.Errorf("body is longer than %d bytes", MaxBodyBytes)
	errUTF8       = errors.New("text is not UTF-8")
	errScalar     = errors.New("not a value of its type, or cut short")
	errBranch     = errors.New("union has no such branch")
	errCount      = errors.New("count is larger than the bytes that follow")
	errBlockSize  = errors.New("block does not have the size that it says")
	errBlocks     = errors.New("an array or a map is cut into too many blocks")
	errKeyTwice   = errors.New("a map has a key twice")
	errNotReached = errors.New("no path permits a value that cannot be null")
)

// Validate tells whether a body is one whole value of the schema, within the limits: no bytes left over, numbers within
// their type, enums and unions within their list, text in UTF-8, blocks as long as they say, each key of a map once. What it
// accepts, Walk, Texts, Append, ToJSON and goavro read. The error is a Malformed that names the path; it holds no value.
//
// The Avro specification says nothing of a key that comes twice in a map. Its Java library keeps the last of the values,
// goavro refuses the body: such an event would tell some subscribers one thing, some another, and stop some. So it is not
// let in. Walk and Append, which read what was let in, do not look for it again.
func (s *Schema) Validate(body []byte) error { return s.validate(body, 0) }

// validate is Validate, and refuses an array or a map of more blocks than most.
func (s *Schema) validate(body []byte, most int) error {
	if len(body) > MaxBodyBytes {
		return Malformed{What: "data", Err: errTooLong}
	}
	r := reader{body: body, emptyLeft: MaxEmptyItems, blocks: most}
	pos, bad := r.pass(s.root, 0, 0)
	if bad != nil {
		return bad.malformed()
	}
	if pos != len(body) {
		return Malformed{What: "data", Err: errTrailing}
	}
	return nil
}

// reader passes values strictly, one node after the other.
type reader struct {
	body      []byte
	emptyLeft int // items without bytes that may still come: without it five bytes would ask for 2^31 of them
	blocks    int // that one array or map may have; 0: any number
}

// badPath is an error with the path at which it stands, gathered from its end on the way out.
type badPath struct {
	err  error
	path []segment
}

func bad(err error) *badPath { return &badPath{err: err} }

// under adds the step above.
func (b *badPath) under(s segment) *badPath {
	if len(b.path) < MaxPathSteps {
		b.path = append(b.path, s)
	}
	return b
}

func (b *badPath) malformed() Malformed {
	up := make([]segment, 0, len(b.path))
	for i := len(b.path) - 1; i >= 0; i-- {
		up = append(up, b.path[i])
	}
	return Malformed{What: joinPath(up), Err: b.err}
}

// pass checks the value of type n at pos and gives the position after it.
func (r *reader) pass(n *node, pos, depth int) (int, *badPath) {
	switch n.kind {
	case kindUnion:
		branch, pos, err := r.branch(n, pos, depth)
		if err != nil {
			return 0, err
		}
		return r.pass(branch, pos, depth+1)
	case kindRecord:
		if depth > MaxDepth {
			return 0, bad(errTooDeep)
		}
		var err *badPath
		for _, f := range n.fields {
			if pos, err = r.pass(f.typ, pos, depth+1); err != nil {
				return 0, err.under(segment(f.name))
			}
		}
		return pos, nil
	case kindArray, kindMap:
		items := items{reader: r, of: n, pos: pos, depth: depth}
		for items.next() {
			var err *badPath
			if items.pos, err = r.pass(n.items, items.pos, depth+1); err != nil {
				return 0, err.under(items.segment())
			}
		}
		return items.pos, items.bad
	}
	v, pos := n.readScalar(r.body, pos)
	if pos < 0 {
		return 0, bad(errScalar)
	}
	if n.kind == kindString && !utf8.Valid(v.Bytes) {
		return 0, bad(errUTF8)
	}
	return pos, nil
}

// branch reads which branch of a union follows.
func (r *reader) branch(n *node, pos, depth int) (*node, int, *badPath) {
	i, pos := readVarint(r.body, pos)
	if pos < 0 || i < 0 || i >= int64(len(n.branches)) {
		return nil, 0, bad(errBranch)
	}
	if depth > MaxDepth {
		return nil, 0, bad(errTooDeep)
	}
	return n.branches[i], pos, nil
}

// items goes over the items of an array or a map, whatever their blocks. next stands at an item with pos at its value;
// the caller moves pos past it. After the last item pos stands behind the array.
type items struct {
	*reader
	of    *node
	pos   int
	depth int
	key   []byte   // of a map's item
	keys  keySet   // of the items before it
	bad   *badPath // why next gave up

	left  int64 // items left in the block
	begun int   // blocks
	total int64
	end   int // where the block says that it ends; 0: it does not say
}

func (it *items) next() bool {
	if it.left == 0 && !it.block() {
		return false
	}
	it.left--
	if it.of.kind == kindMap {
		begin, end := readLength(it.body, it.pos)
		if begin < 0 {
			return it.fail(errScalar)
		}
		it.key, it.pos = it.body[begin:end:end], end
		if !utf8.Valid(it.key) {
			return it.fail(errUTF8)
		}
		if !it.keys.add(it.key) {
			return it.fail(errKeyTwice)
		}
	}
	return true
}

// keySet holds the keys of one map: in a list while they are few, which is the usual, and beyond that in a table. Its size
// grows with the bytes that the keys take in the body.
type keySet struct {
	few  [][]byte
	many map[string]struct{}
}

// add says false when the key is there already. It keeps the key, which must not change.
func (s *keySet) add(key []byte) bool {
	if s.many != nil {
		had := len(s.many)
		s.many[string(key)] = struct{}{}
		return len(s.many) > had
	}
	for _, k := range s.few {
		if string(k) == string(key) {
			return false
		}
	}
	if s.few = append(s.few, key); len(s.few) > 16 {
		s.many = make(map[string]struct{}, 2*len(s.few))
		for _, k := range s.few {
			s.many[string(k)] = struct{}{}
		}
		s.few = nil
	}
	return true
}

// block begins the next block; false at the end and on bad bytes.
func (it *items) block() bool {
	if it.depth > MaxDepth {
		return it.fail(errTooDeep)
	}
	if it.end > 0 && it.pos != it.end {
		return it.fail(errBlockSize)
	}
	count, pos := readVarint(it.body, it.pos)
	it.pos, it.end = pos, 0
	switch {
	case pos < 0 || count == -1<<63:
		return it.fail(errScalar)
	case count == 0:
		return false
	case count < 0:
		begin, end := readLength(it.body, pos)
		if begin < 0 {
			return it.fail(errScalar)
		}
		count, it.pos, it.end = -count, begin, end
	}
	if it.of.kind == kindArray && it.of.items.empty {
		if count > int64(it.emptyLeft) {
			return it.fail(errTooEmpty)
		}
		it.emptyLeft -= int(count)
	} else if count > int64(len(it.body)-it.pos) {
		return it.fail(errCount)
	}
	if it.total += count; it.total > MaxBlockItems {
		return it.fail(errTooMany)
	}
	if it.begun++; it.begun > it.blocks && it.blocks > 0 {
		return it.fail(errBlocks)
	}
	it.left = count
	return true
}

func (it *items) fail(err error) bool {
	it.bad, it.pos = bad(err), 0
	return false
}

func (it *items) segment() segment {
	if it.of.kind == kindMap {
		return intoValues
	}
	return intoItems
}
