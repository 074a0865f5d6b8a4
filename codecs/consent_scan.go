package codecs

import "unsafe"

// ConsentScan reads what decisions turn on out of rows of consents of one schema, in one pass over the body and without
// allocating: whoever holds a million subjects' rows reads them all at each start, and decodes few of them. It never
// changes and is safe for concurrent use.
type ConsentScan struct {
	ID                    int32 // of the schema
	row, grant, objection consentSteps
}

// consentSteps are a record's fields in order; passed fields of one shape that follow each other are one step.
type consentSteps []consentRun

type consentRun struct {
	step consentStep
	n    int
}

// consentStep is one field of a record, in the schema's order: passed, or read into its place.
type consentStep uint8

const (
	skipLong consentStep = iota
	skipText
	skipLongs
	skipTexts
	skipRecords // never passed: an array of records is read or refused
	rowVersion
	rowGrants
	rowObjections
	rowRestriction
	rowEnded
	grantID
	grantVersion
	grantState
	grantRecipient
	grantPurpose
	grantScopes
	grantFrom
	grantTo
	grantGiven
	objectionSubscription
)

// wanted is a field that is read, and what its type must be.
type wanted struct{ step, shape consentStep }

var (
	wantedOfRow = map[string]wanted{"version": {rowVersion, skipLong}, "grants": {rowGrants, skipRecords}, "objections": {rowObjections, skipRecords},
		"restriction": {rowRestriction, skipText}, "ended_at": {rowEnded, skipLong}}
	wantedOfGrant = map[string]wanted{"id": {grantID, skipText}, "version": {grantVersion, skipLong}, "state": {grantState, skipText},
		"recipient": {grantRecipient, skipText}, "purpose": {grantPurpose, skipText}, "scopes": {grantScopes, skipTexts},
		"valid_from": {grantFrom, skipLong}, "valid_to": {grantTo, skipLong}, "given_at": {grantGiven, skipLong}}
	wantedOfObjection = map[string]wanted{"subscription": {objectionSubscription, skipText}}
)

// ConsentScan makes the scan of a record's newest schema; nil when the schema is not of the shape that it reads, and before
// Bind. It is for records of Consents.
func (r *Record[T]) ConsentScan() *ConsentScan {
	r.mu.RLock()
	id, registry := r.id, r.registry
	r.mu.RUnlock()
	if registry == nil {
		return nil
	}
	schema, ok := registry.Cached(id)
	if !ok {
		return nil
	}
	scan := &ConsentScan{ID: id}
	if !scan.row.compile(schema.root, wantedOfRow) || !scan.grant.compile(schema.root.field("grants").typ.items, wantedOfGrant) ||
		!scan.objection.compile(schema.root.field("objections").typ.items, wantedOfObjection) {
		return nil
	}
	return scan
}

// compile lists a record's fields; false when one that is wanted is missing, or one has a type that is not passed here.
func (s *consentSteps) compile(n *node, want map[string]wanted) bool {
	found := 0
	for _, f := range n.fields {
		shape, ok := consentShape(f.typ)
		w, is := want[f.name]
		switch {
		case !ok, is && w.shape != shape, !is && shape == skipRecords:
			return false
		case is:
			shape = w.step
			found++
		}
		if last := len(*s) - 1; !is && last >= 0 && (*s)[last].step == shape {
			(*s)[last].n++
			continue
		}
		*s = append(*s, consentRun{shape, 1})
	}
	return found == len(want)
}

func consentShape(n *node) (step consentStep, ok bool) {
	switch {
	case n.kind == kindLong:
		return skipLong, true
	case n.kind == kindString:
		return skipText, true
	case n.kind != kindArray:
		return 0, false
	case n.items.kind == kindLong:
		return skipLongs, true
	case n.items.kind == kindString:
		return skipTexts, true
	}
	return skipRecords, n.items.kind == kindRecord
}

// Scan reads a body into c, whose slices it uses again: version, restriction and end, of each grant its id, version, state,
// recipient, purpose, scopes and times, of each objection its subscription. Texts are the body's own bytes. c is for Scan
// alone, from one call to the next. What Scan reads, Decode reads and finds the same in it; false says that it is for
// Decode to tell, and c means nothing then.
func (s *ConsentScan) Scan(body []byte, c *Consents) bool {
	r := scanner{body: body}
	for _, run := range s.row {
		switch run.step {
		case rowVersion:
			c.Version = r.long()
		case rowRestriction:
			c.Restriction = r.text()
		case rowEnded:
			c.EndedAt = r.long()
		case rowGrants:
			c.Grants = c.Grants[:0]
			for n := r.block(); n > 0; n = r.block() {
				for ; n > 0 && !r.bad; n-- {
					if len(c.Grants) == cap(c.Grants) {
						c.Grants = append(c.Grants, Grant{})
					} else {
						c.Grants = c.Grants[:len(c.Grants)+1] // with the slice that its scopes had
					}
					s.scanGrant(&r, &c.Grants[len(c.Grants)-1])
				}
			}
		case rowObjections:
			c.Objections = c.Objections[:0]
			for n := r.block(); n > 0; n = r.block() {
				for ; n > 0 && !r.bad; n-- {
					c.Objections = append(c.Objections, Objection{})
					s.scanObjection(&r, &c.Objections[len(c.Objections)-1])
				}
			}
		default:
			r.skip(run)
		}
	}
	return !r.bad && r.pos == len(body)
}

func (s *ConsentScan) scanGrant(r *scanner, g *Grant) {
	for _, run := range s.grant {
		switch run.step {
		case grantID:
			g.ID = r.text()
		case grantVersion:
			g.Version = r.long()
		case grantState:
			g.State = r.text()
		case grantRecipient:
			g.Recipient = r.text()
		case grantPurpose:
			g.Purpose = r.text()
		case grantScopes:
			g.Scopes = g.Scopes[:0]
			for n := r.block(); n > 0; n = r.block() {
				for ; n > 0 && !r.bad; n-- {
					g.Scopes = append(g.Scopes, r.text())
				}
			}
		case grantFrom:
			g.ValidFrom = r.long()
		case grantTo:
			g.ValidTo = r.long()
		case grantGiven:
			g.GivenAt = r.long()
		default:
			r.skip(run)
		}
	}
}

func (s *ConsentScan) scanObjection(r *scanner, o *Objection) {
	for _, run := range s.objection {
		if run.step == objectionSubscription {
			o.Subscription = r.text()
		} else {
			r.skip(run)
		}
	}
}

// scanner reads what any writer of ours makes: shortest varints, blocks without a size. Whatever else Avro allows is bad.
type scanner struct {
	body []byte
	pos  int // at the end once something was bad
	bad  bool
}

// fail ends the reading: whatever is asked for next is bad too.
func (r *scanner) fail() { r.bad, r.pos = true, len(r.body) }

func (r *scanner) long() int64 {
	if r.pos < len(r.body) && r.body[r.pos] < 0x80 {
		v := r.body[r.pos]
		r.pos++
		return int64(v>>1) ^ -int64(v&1)
	}
	return r.longer()
}

func (r *scanner) longer() int64 {
	var v uint64
	for i, b := range r.body[r.pos:] {
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b == 0 {
				break // not the shortest
			}
			r.pos += i + 1
			return int64(v>>1) ^ -int64(v&1)
		}
		if i == 8 { // 63 bits
			break
		}
	}
	r.fail()
	return 0
}

// length is a number of bytes that are there.
func (r *scanner) length() int {
	if n := r.long(); n >= 0 && n <= int64(len(r.body)-r.pos) {
		return int(n)
	}
	r.fail()
	return 0
}

// block is the number of items that follow, each of a byte at least; 0 ends an array.
func (r *scanner) block() int { return r.length() }

func (r *scanner) text() string {
	n := r.length()
	b := r.body[r.pos : r.pos+n]
	r.pos += n
	return unsafe.String(unsafe.SliceData(b), n) // the body's bytes, as Scan says
}

// skip passes fields of one shape.
func (r *scanner) skip(run consentRun) {
	for range run.n {
		switch run.step {
		case skipLong:
			r.long()
		case skipText:
			r.pass()
		default:
			for items := r.block(); items > 0; items = r.block() {
				for ; items > 0 && !r.bad; items-- {
					if run.step == skipLongs {
						r.long()
					} else {
						r.pass()
					}
				}
			}
		}
	}
}

// pass goes past a text.
func (r *scanner) pass() {
	if r.pos < len(r.body) {
		if b := r.body[r.pos]; b < 0x80 && b&1 == 0 && int(b>>1) < len(r.body)-r.pos { // below 64 bytes: the usual
			r.pos += 1 + int(b>>1)
			return
		}
	}
	r.pos += r.length()
}
