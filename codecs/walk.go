package codecs

import (
	"errors"
	"fmt"
)

var errWalk = errors.New("bytes do not follow the schema")

// Walk reads one body; values must have a place for every path and is overwritten. The error is a Malformed, and then
// the values say nothing. It does not allocate.
func (p *Program) Walk(body []byte, values []Value) error {
	if len(values) < p.paths {
		return fmt.Errorf("walk: %d places for %d paths", len(values), p.paths)
	}
	if len(body) > MaxBodyBytes {
		return malformedWalk
	}
	clear(values)
	w := walker{body: body, values: values}
	if w.run(p.steps, 0, 0) < 0 {
		return malformedWalk
	}
	for _, c := range p.copies {
		values[c[1]] = values[c[0]]
	}
	return nil
}

// malformedWalk is made once, so that bad bytes cost the hot path nothing either.
var malformedWalk error = Malformed{What: "avro body", Err: errWalk}

type walker struct {
	body   []byte
	values []Value
}

// run goes through steps from pos; the position after them is negative on bad bytes.
func (w *walker) run(steps []step, pos, depth int) int {
	b := w.body
	if depth > MaxDepth+1 { // Validate ends one sooner
		return -1
	}
	for i := range steps {
		s := &steps[i]
		switch s.op {
		case opVarints:
			for range s.n {
				if pos = skipVarint(b, pos); pos < 0 {
					return -1
				}
			}
		case opBytes:
			for range s.n {
				if pos < len(b) && b[pos] < 0x80 && b[pos]&1 == 0 { // below 64 bytes: the usual
					pos += 1 + int(b[pos]>>1)
					if pos > len(b) {
						return -1
					}
					continue
				}
				if _, pos = readLength(b, pos); pos < 0 {
					return -1
				}
			}
		case opFixed:
			if s.n > len(b)-pos {
				return -1
			}
			pos += s.n
		case opUnion:
			branch, next := readVarint(b, pos)
			if next < 0 || branch < 0 || branch >= int64(len(s.subs)) {
				return -1
			}
			pos = next
			if sub := s.subs[branch]; len(sub) > 0 {
				if pos = w.run(sub, pos, depth+1); pos < 0 {
					return -1
				}
			}
		case opArray, opMap:
			if pos = w.items(s, pos, depth); pos < 0 {
				return -1
			}
		case opCall:
			if pos = w.run(s.call.steps, pos, depth+1); pos < 0 {
				return -1
			}
		case opScalar:
			var v Value
			if v, pos = s.of.readScalar(b, pos); pos < 0 {
				return -1
			}
			w.values[s.n] = v
		case opBegin:
			w.values[s.n] = Value{Kind: Composite, Int: int64(pos)}
		case opEnd:
			v := &w.values[s.n]
			v.Bytes, v.Int = b[v.Int:pos:pos], 0
		}
	}
	return pos
}

// items passes an array or a map. A block that says its size is passed at once; an item without bytes needs no pass.
func (w *walker) items(s *step, pos, depth int) int {
	b := w.body
	for {
		count, next := readVarint(b, pos)
		if next < 0 {
			return -1
		}
		pos = next
		if count == 0 {
			return pos
		}
		if count < 0 {
			if _, pos = readLength(b, pos); pos < 0 {
				return -1
			}
			continue
		}
		sub := s.subs[0]
		if s.op == opArray && len(sub) == 0 {
			continue // null and the like: however many, no bytes
		}
		if count > int64(len(b)-pos) {
			return -1
		}
		for ; count > 0; count-- {
			if s.op == opMap {
				if _, pos = readLength(b, pos); pos < 0 {
					return -1
				}
			}
			if pos = w.run(sub, pos, depth+1); pos < 0 {
				return -1
			}
		}
	}
}

// skipVarint passes a number of at most 10 bytes.
func skipVarint(b []byte, pos int) int {
	for end := min(len(b), pos+10); pos < end; {
		pos++
		if b[pos-1] < 0x80 {
			return pos
		}
	}
	return -1
}
