package codecs

import (
	"sync/atomic"
)

// Cut is one choice of what a Projection delivers, worked out once for many bodies. It says the same as a Selection with an
// index and a stamp still to come, and makes the same bytes as Append; but where Append asks at each field, a Cut is a list of
// fixed bytes and of ranges of an Original's image. It never changes to its user and is safe for concurrent use.
//
// What is fixed ahead are fields outside arrays and maps, and those arrays and maps that are taken whole. Others (an array
// cut to the subject's element or to some of its fields, a recursive record) go through Append's own code, field by field;
// so does, as a whole, a body that is malformed anywhere where somebody's Cut looks.
type Cut struct {
	projection *Projection
	permit     []bool
	own        []bool
	shown      []*Attribute
	used       atomic.Bool
	program    atomic.Pointer[cutProgram]
}

// Cut makes the choice of the paths that permit names, and own, as Selection has them, and of those attributes of the stamp that
// are shown. The slices are kept and must not change.
func (p *Projection) Cut(permit, own []bool, shown []*Attribute) *Cut {
	return &Cut{projection: p, permit: permit, own: own, shown: shown}
}

// cutProgram is a Cut for one layout. A layout grows with the Cuts that are in use; programs for the former one are made again.
type cutProgram struct {
	layout *layout // nil: beyond the bounds of a layout
	ops    []cutOp
}

type cutCode uint8

const (
	cutFixed  cutCode = iota // the fixed bytes alone
	cutLong                  // more fixed bytes than an op has room for: more.fixed
	cutRange                 // of the image: from the begin of spot from to the end of spot to
	cutSwitch                // go on at more.targets[the branch that was read at spot from]
	cutGo                    // go on at to
	cutField                 // the field at spot from by the cutter
	cutStamp                 // begins the record of the stamp; without a stamp it is null, and goes on at to
	cutShown                 // of the stamp's image: from attribute from to attribute to
)

// cutOp appends size fixed bytes, and then what its code says.
type cutOp struct {
	code     cutCode
	size     uint8
	from, to int32
	fixed    [fixedBytes]byte
	more     *cutMore
}

// fixedBytes is what a processor stores in one go.
const fixedBytes = 8

type cutMore struct {
	fixed   []byte
	targets []int32
	field   *plannedField
}

// Append appends the Avro body of the original under the projected schema, without the wire header, to dst, as Projection.Append does
// for the selection, with the same errors. It allocates nothing but room in dst.
func (c *Cut) Append(dst []byte, o *Original) ([]byte, error) {
	program := c.program.Load()
	if program == nil {
		// The first time pays for no compiling: a choice that is made for one event, such as a replay's, has no second.
		if c.used.CompareAndSwap(false, true) {
			return c.plain(dst, o)
		}
		program = c.compile()
	}
	if program.layout == nil {
		return c.plain(dst, o)
	}
	if program.layout != o.layout {
		if program = c.newest(); program.layout == nil {
			return c.plain(dst, o)
		}
		if program.layout != o.layout {
			o.read(program.layout)
		}
	}
	if !o.readable {
		return c.plain(dst, o)
	}
	if out, ok := o.cut(program, c, dst); ok {
		return out, nil
	}
	return c.plain(dst, o)
}

// plain does it without a program.
func (c *Cut) plain(dst []byte, o *Original) ([]byte, error) {
	sel := &o.selection
	*sel = Selection{Permit: c.permit, Own: c.own, Index: o.index}
	if len(c.shown) > 0 && o.stamp != nil {
		o.shown = Attributes{}
		for _, a := range c.shown {
			*a.of(&o.shown) = *a.of(o.stamp)
		}
		sel.Profile = &o.shown
	}
	return c.projection.Append(dst, o.body, sel)
}

// newest gives the program for the newest layout of the writer's schema.
func (c *Cut) newest() *cutProgram {
	program := c.program.Load()
	if program.layout == c.projection.writer.layouts.newest.Load() {
		return program
	}
	return c.compile()
}

// compile makes the program, and puts what it takes into the layout.
func (c *Cut) compile() *cutProgram {
	p := c.projection
	made := &cutProgram{}
	if planned, ok := p.plan(c.permit, c.own); ok {
		if made.layout = p.writer.layouts.with(p.writer.root, planned); made.layout != nil {
			g := cutGenerator{}
			g.fields(planned, made.layout.fields)
			g.stamp(c.shown)
			made.ops = g.end()
		}
	}
	c.program.Store(made)
	return made
}

// cut runs a program over the image; false: a field's bytes are bad, or too many. Where there is room behind dst, an op's fixed
// bytes are stored without asking how many they are; what is behind the end may be overwritten.
func (o *Original) cut(program *cutProgram, c *Cut, dst []byte) ([]byte, bool) {
	begin := len(dst)
	out, n := dst[:cap(dst)], begin
	o.cutter.emptyLeft = o.emptyLeft
	ops := program.ops
	for i := 0; i < len(ops); i++ {
		op := &ops[i]
		if len(out)-n >= fixedBytes {
			*(*[fixedBytes]byte)(out[n:]) = op.fixed
			n += int(op.size)
		} else {
			out, n = put(out[:n], op.fixed[:op.size])
		}
		var piece []byte
		switch op.code {
		case cutRange:
			piece = o.image[o.spots[op.from].begin:o.spots[op.to].end]
		case cutLong:
			piece = op.more.fixed
		case cutShown:
			piece = o.stampImage[o.attributes[op.from]:o.attributes[op.to+1]]
		case cutSwitch:
			i = int(op.more.targets[o.spots[op.from].branch]) - 1
			continue
		case cutGo:
			i = int(op.to) - 1
			continue
		case cutStamp:
			if o.stamp == nil {
				piece, i = oneNull, int(op.to)-1
				break
			}
			o.readStamp()
			piece = oneBranch
		case cutField:
			dst, ok := o.field(op, c, out[:n], begin)
			if !ok {
				return dst, false
			}
			out, n = dst[:cap(dst)], len(dst)
			continue
		}
		if len(piece) <= len(out)-n {
			n += copy(out[n:], piece)
		} else {
			out, n = put(out[:n], piece)
		}
	}
	return out[:n], true
}

// put appends, and gives all of the room and how much of it is taken.
func put(dst, piece []byte) (out []byte, n int) {
	dst = append(dst, piece...)
	return dst[:cap(dst)], len(dst)
}

// The number of the branch of a nullable record: null, and the record.
var oneNull, oneBranch = []byte{0}, []byte{2}

// field cuts one field from the body itself. What the whole body may hold of items without bytes is counted over the image
// and the fields, so that it is never more than Append would let pass.
func (o *Original) field(op *cutOp, c *Cut, dst []byte, begin int) ([]byte, bool) {
	f, k := op.more.field, &o.cutter
	o.selection = Selection{Permit: c.permit, Own: c.own, Index: o.index}
	k.sel, k.ends, k.dst, k.begin = &o.selection, c.projection.ends, dst, begin
	k.split, k.foreign = false, false
	_, err := k.nullable(f.shape, f.at, f.all, int(o.spots[op.from].source), f.depth)
	dst = k.dst
	k.dst, k.sel, k.ends = nil, nil, nil
	return dst, err == nil
}
