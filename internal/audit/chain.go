package audit

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"civicbus/codecs"
	"civicbus/topology"
)

// What can have happened to a chain.
const (
	Changed   = "changed"   // an entry is not what was written
	Removed   = "removed"   // entries are missing before others
	Inserted  = "inserted"  // something was added that was not written there
	Reordered = "reordered" // entries stand in another order
	CutOff    = "cut off"   // entries are missing at the end
	Unaudited = "unaudited" // a record of an input of the audit group has no entry
	Undecided = "undecided" // a record of an event stream has no decision
	Twice     = "twice"     // a record of an event stream has several decisions
)

// Finding is the first thing that is wrong with one chain, or with what the chains say together.
type Finding struct {
	Kind      string `json:"kind"`
	Partition int32  `json:"partition"` // of audit-log
	Number    int64  `json:"number"`    // of the first entry concerned, by its place in the chain; 0: the finding is about an event stream
	Offset    int64  `json:"offset"`    // where in the partition it was found; -1: at the end
	Detail    string `json:"detail"`
}

// String is the finding as one line.
func (f Finding) String() string {
	if f.Number == 0 {
		return fmt.Sprintf("%s: %s", f.Kind, f.Detail)
	}
	at := fmt.Sprintf("offset %d", f.Offset)
	if f.Offset < 0 {
		at = "the end"
	}
	return fmt.Sprintf("%s: partition %d, entry %d, found at %s: %s", f.Kind, f.Partition, f.Number, at, f.Detail)
}

// Chain walks one partition of audit-log. Feed it every record in order, then ask Finding. Without keys it checks hashes and
// numbers alone. It is not safe for concurrent use.
type Chain struct {
	Partition int32
	Number    int64  // of the last entry that was as it had to be; 0: none yet
	Hash      []byte // of that entry

	keys    *Keys // nil: nobody's
	decode  func(value []byte) (codecs.AuditEntry, error)
	heads   map[int64]*codecs.AuditHead // those to meet
	last    int64                       // the highest number that a head vouches for
	expired int64                       // numbers up to here may be gone: a head old enough vouches that they were older than the log is kept
	inputs  map[string]codecs.AuditEntry
	odd     *oddity
	jumps   []jump // over records of the inputs that have no entry
	gaps    []Gap  // on record for the audit group
}

// jump is a stretch of an input that the chain passes over. A gap that explains it is put on record afterwards.
type jump struct {
	finding Finding
	over    stretch
	input   string
}

// oddity is the first thing that was not as it had to be. What follows shows which kind it is.
type oddity struct {
	finding  Finding
	want     int64 // the number that had to come
	hash     []byte
	bad      bool  // no genuine entry stood there
	number   int64 // else the number that stood there
	value    []byte
	followed bool // a genuine entry has come since
	again    bool // the same number came again
	later    bool // the number that had to come came later
}

// NewChain begins a walk. decode reads an entry; its error means that the bytes are no entry. heads are verified heads of this
// partition. expired is the last number that may be gone at the beginning; 0: none.
func NewChain(partition int32, keys *Keys, decode func([]byte) (codecs.AuditEntry, error), heads []codecs.AuditHead, expired int64) *Chain {
	c := &Chain{Partition: partition, keys: keys, decode: decode, heads: map[int64]*codecs.AuditHead{}, expired: expired, inputs: map[string]codecs.AuditEntry{}}
	for i := range heads {
		if h := &heads[i]; h.Partition == partition && h.Number > 0 {
			c.heads[h.Number] = h
			c.last = max(c.last, h.Number)
		}
	}
	return c
}

// Add takes the next record. The entry is returned when it is as it had to be, else nil.
func (c *Chain) Add(offset int64, value []byte) *codecs.AuditEntry {
	e, err := c.decode(value)
	genuine := err == nil && e.Number > 0 && (c.keys == nil || c.keys.genuine(c.Partition, value))
	if c.odd != nil {
		c.odd.watch(&e, genuine)
		return nil
	}
	want := c.Number + 1
	if c.Number == 0 && genuine && e.Number > 1 && e.Number-1 <= c.expired {
		want, c.Hash = e.Number, e.Previous
	}
	if !genuine || e.Number != want || !bytes.Equal(e.Previous, c.Hash) {
		c.odd = &oddity{finding: Finding{Partition: c.Partition, Number: want, Offset: offset}, want: want, hash: c.Hash, bad: !genuine, number: e.Number, value: value}
		if genuine && e.Number == want {
			c.odd.finding.Number = max(c.Number, 1)
			c.fix(Changed, fmt.Sprintf("entry %d does not follow from it", want))
		}
		return nil
	}
	hash := sha256.Sum256(value)
	if h := c.heads[e.Number]; h != nil && !bytes.Equal(h.Hash, hash[:]) {
		c.odd = &oddity{finding: Finding{Partition: c.Partition, Number: want, Offset: offset}, want: want}
		c.fix(Changed, "it is not the entry that the signed head vouches for")
		return nil
	}
	if g, ok := gapOf(&e); ok && g.Group == topology.Audit.Name {
		c.gaps = append(c.gaps, g)
	}
	if detail := c.missingPart(&e, offset); detail != "" {
		c.odd = &oddity{finding: Finding{Partition: c.Partition, Number: want, Offset: offset}, want: want}
		c.fix(Unaudited, detail)
		return nil
	}
	c.Number, c.Hash = e.Number, hash[:]
	return &e
}

// missingPart checks that no part of a record was passed over, and notes where a record of the group's own inputs was.
func (c *Chain) missingPart(e *codecs.AuditEntry, offset int64) string {
	before, ok := c.inputs[e.Input]
	c.inputs[e.Input] = codecs.AuditEntry{InputOffset: e.InputOffset, Part: e.Part, Parts: e.Parts}
	switch {
	case !ok, e.InputFollows < 0:
		return ""
	case e.Part > 0:
		if before.InputOffset != e.InputOffset || before.Part+1 != e.Part {
			return fmt.Sprintf("part %d of %s/%d at %d does not follow the part before it", e.Part, e.Input, c.Partition, e.InputOffset)
		}
	case before.Part+1 < before.Parts:
		return fmt.Sprintf("parts of %s/%d at %d are missing", e.Input, c.Partition, before.InputOffset)
	case e.InputFollows != before.InputOffset+1:
		c.jumps = append(c.jumps, jump{Finding{Kind: Unaudited, Partition: c.Partition, Number: e.Number, Offset: offset,
			Detail: fmt.Sprintf("%s/%d: what stands between offsets %d and %d has no entry", e.Input, c.Partition, before.InputOffset, e.InputFollows)},
			stretch{before.InputOffset + 1, e.InputFollows}, e.Input})
	}
	return ""
}

func (c *Chain) fix(kind, detail string) {
	c.odd.finding.Kind, c.odd.finding.Detail = kind, detail
	c.odd.value = nil
}

// watch learns from what follows an oddity which kind it is.
func (o *oddity) watch(e *codecs.AuditEntry, genuine bool) {
	if o.finding.Kind != "" || !genuine {
		return
	}
	if o.bad {
		if !o.followed {
			o.followed = true
			o.number = e.Number
			if e.Number == o.want && bytes.Equal(e.Previous, o.hash) {
				o.again = true // the place was taken by something else
			}
		}
		return
	}
	o.again = o.again || e.Number == o.number
	o.later = o.later || e.Number == o.want
}

// Finding is what was wrong first, once every record was fed; nil: the chain is whole, as far as the heads tell.
func (c *Chain) Finding() *Finding {
	o := c.odd
	if o == nil {
		if c.Number < c.last {
			return &Finding{Kind: CutOff, Partition: c.Partition, Number: c.Number + 1, Offset: -1,
				Detail: fmt.Sprintf("a signed head says that the chain had come to entry %d", c.last)}
		}
		return c.unexplained()
	}
	f := &o.finding
	switch {
	case f.Kind != "":
	case o.bad && o.again, o.bad && !o.followed && c.last > 0 && o.want > c.last:
		f.Kind, f.Detail = Inserted, "it was not written by the audit group"
	case o.bad:
		f.Kind, f.Detail = Changed, "it is not what the audit group wrote"
	case o.number < o.want:
		f.Kind, f.Detail = Inserted, fmt.Sprintf("entry %d stands there once more", o.number)
	case o.again:
		f.Kind, f.Detail = Inserted, fmt.Sprintf("entry %d stands there and at its own place", o.number)
	case o.later:
		f.Kind, f.Detail = Reordered, fmt.Sprintf("entry %d stands there, and entry %d comes later", o.number, o.want)
	default:
		f.Kind, f.Detail = Removed, fmt.Sprintf("after entry %d comes entry %d", o.want-1, o.number)
	}
	return f
}

// unexplained is the first jump that no gap on record explains. nil: there is none.
func (c *Chain) unexplained() *Finding {
	for i := range c.jumps {
		j := &c.jumps[i]
		if !slices.ContainsFunc(c.gaps, func(g Gap) bool {
			return g.Topic == j.input && g.Partition == c.Partition && g.From == j.over.from && (g.Reason != codecs.GapExpired || g.To == j.over.to)
		}) {
			return &j.finding
		}
	}
	return nil
}
