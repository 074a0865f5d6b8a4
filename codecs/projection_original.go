package codecs

// Original is one event while it is cut for several recipients: its body, read once, and its stamp. It is reused from event
// to event, by one goroutine at a time, and then allocates nothing. The zero Original has an empty body.
//
// Its image holds the fields that any Cut of the writer's schema takes, in their order, each encoded as in every projected
// schema: a number's shortest form, the branch of a union with null first before it. What a Cut takes side by side stands
// side by side in the image, and is one copy.
type Original struct {
	body  []byte
	index int
	stamp *Attributes

	layout   *layout // that the image was made by; nil: there is none
	readable bool    // the image is whole
	image    []byte
	spots    []spotAt

	stampRead  bool
	stampImage []byte
	attributes [len(profileAttributes) + 1]int32 // where each begins in stampImage

	cutter    cutter // for what is not in the image; its count of items without bytes goes on from the image's
	emptyLeft int    // that the image left
	selection Selection
	shown     Attributes
}

// spotAt is where a spot's field stands.
type spotAt struct {
	begin, end int32 // in the image
	source     int32 // in the body, of a spot that is left to the cutter
	branch     int32 // of a union
}

// maxImage bounds the bodies and the images of the fast way, so that no bound of Append is ever in reach of it.
const maxImage = MaxBodyBytes / 4

// Reset begins the next event: its body without wire header, the index of the subject's element (Selection.Index) and its stamp,
// nil for none. They are kept until the next Reset, and must not change until then.
func (o *Original) Reset(body []byte, index int, stamp *Attributes) {
	o.body, o.index, o.stamp = body, index, stamp
	o.layout, o.readable, o.stampRead = nil, false, false
}

// read makes the image by a layout; false: the body is not one, or too large.
func (o *Original) read(l *layout) bool {
	if o.layout, o.readable = l, false; l == nil || len(o.body) > maxImage {
		return false
	}
	if cap(o.spots) < l.spots {
		o.spots = make([]spotAt, l.spots)
	}
	o.spots = o.spots[:l.spots]
	o.cutter = cutter{reader: reader{body: o.body, emptyLeft: MaxEmptyItems}, skips: walker{body: o.body}, dst: o.image[:0]}
	pos := o.run(l.ops, 0)
	o.image, o.emptyLeft = o.cutter.dst, o.cutter.emptyLeft
	o.cutter.dst = nil
	o.readable = pos == len(o.body) && len(o.image) <= maxImage
	return o.readable
}

// run goes through a layout from pos; the position after it is negative on bad bytes.
func (o *Original) run(ops []layoutOp, pos int) int {
	c := &o.cutter
	b := c.body
	for i := range ops {
		op := &ops[i]
		var at *spotAt
		if op.spot < len(o.spots) {
			at = &o.spots[op.spot]
		}
		switch op.code {
		case laySkip:
			if pos = c.skips.run(op.skip, pos, op.depth); pos < 0 {
				return -1
			}
		case laySource:
			at.source = int32(pos)
		case layTexts:
			if pos = o.texts(op, pos); pos < 0 {
				return -1
			}
		case layScalar:
			at.begin = int32(len(c.dst))
			c.dst = append(c.dst, 2)
			var bad *badPath
			if pos, bad = c.scalar(op.shape.of, pos); bad != nil {
				return -1
			}
			at.end = int32(len(c.dst))
		case layValue:
			at.begin = int32(len(c.dst))
			var bad *badPath
			if pos, bad = c.nullable(op.shape, nil, true, pos, op.depth); bad != nil {
				return -1
			}
			at.end = int32(len(c.dst))
		case layBegin:
			at.begin = int32(len(c.dst))
			c.dst = append(c.dst, 2)
		case layEnd:
			at.end = int32(len(c.dst))
		case layUnion:
			branch, next := readVarint(b, pos)
			if next < 0 || branch < 0 || branch >= int64(len(op.branches)) {
				return -1
			}
			at.branch, at.begin = int32(branch), int32(len(c.dst))
			c.dst = appendVarint(c.dst, int64(op.shape.out[branch]))
			if pos = o.run(op.branches[branch], next); pos < 0 {
				return -1
			}
			at.end = int32(len(c.dst))
		case layStrict, layPass:
			end, bad := c.pass(op.shape.of, pos, op.depth)
			if bad != nil {
				return -1
			}
			if op.code == layPass {
				pos = end
			}
		case layBranch:
			var bad *badPath
			if pos, bad = c.value(op.shape, nil, true, pos, op.depth); bad != nil {
				return -1
			}
		}
	}
	return pos
}

// texts reads a run of texts, each a field.
func (o *Original) texts(op *layoutOp, pos int) int {
	c := &o.cutter
	b, dst := c.body, c.dst
	spots := o.spots[op.spot : op.spot+op.count]
	for i := range spots {
		spots[i].begin = int32(len(dst))
		if pos < len(b) && b[pos] < 0x80 && b[pos]&1 == 0 { // below 64 bytes: the usual
			end := pos + 1 + int(b[pos]>>1)
			if end > len(b) {
				return -1
			}
			dst = append(append(dst, 2), b[pos:end]...)
			pos = end
		} else {
			begin, end := readLength(b, pos)
			if begin < 0 {
				return -1
			}
			dst = append(appendVarint(append(dst, 2), int64(end-begin)), b[begin:end]...)
			pos = end
		}
		spots[i].end = int32(len(dst))
	}
	c.dst = dst
	return pos
}

// readStamp makes the stamp's image: every attribute as in the projected schema.
func (o *Original) readStamp() {
	if o.stampRead {
		return
	}
	o.stampRead = true
	dst := o.stampImage[:0]
	for i := range profileAttributes {
		o.attributes[i] = int32(len(dst))
		text := *profileAttributes[i].of(o.stamp)
		if text == "" {
			dst = append(dst, 0)
			continue
		}
		dst = append(appendVarint(append(dst, 2), int64(len(text))), text...)
	}
	o.attributes[len(profileAttributes)] = int32(len(dst))
	o.stampImage = dst
}
