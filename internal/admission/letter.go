package admission

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
)

// Headers of an admission dead letter beside the event's own. A letter has no Topic: it re-enters at admission.
const (
	headerOrganisation = codecs.HeaderOrganisation // who was authenticated
	headerInternal     = "civicbus_internal"       // true: civicbus itself
	headerGiven        = "civicbus_given"          // role=bus pseudonym, one header for each subject that was given beside the data
	headerOrigin       = "civicbus_origin"         // topic/partition/offset of the inbox record
	headerAuthorized   = "ce_" + listName
)

// Bounds of a dead letter, so that all of it is no larger than a topic takes (see MaxValueBytes).
const (
	maxListBytes   = 32 << 10
	maxDetailBytes = 4 << 10
)

// ErrNotAdmissions says that a dead letter did not come from admission, or no longer has what admission needs.
var ErrNotAdmissions = errors.New("dead letter cannot pass admission again")

// letter keeps an event whole, but for what must not stand in a header: a national id in an attribute is left out, and
// the one in subject becomes a pseudonym.
func (j *judgement) letter(s Status, faults []codecs.Fault) *codecs.DeadLetter {
	in := j.in
	l := &codecs.DeadLetter{Cause: cause(s, faults), Detail: detail(faults), Group: "admission", At: codecs.Millis(j.now)}
	add := func(name, value string) {
		if !pseudonym.HoldsHetu(name) && !pseudonym.HoldsHetu(value) {
			l.Headers = append(l.Headers, codecs.Header{Key: name, Value: []byte(value)})
		}
	}
	var type_ string
	switch {
	case len(in.Value) > 0:
		l.Value, type_ = in.Value, avroType
	case in.JSON != nil:
		l.Value, type_ = in.JSON, jsonType
	default:
		l.Value, type_ = in.raw, in.rawType
	}
	if len(l.Value) > MaxValueBytes {
		l.Value = nil
		l.Detail += "; the value is too large to be kept"
	}
	add(contentType, type_)
	add(headerOrganisation, in.Organisation)
	if in.Internal {
		add(headerInternal, "true")
	}
	if in.Origin.Topic != "" {
		add(headerOrigin, in.Origin.Topic+"/"+strconv.Itoa(int(in.Origin.Partition))+"/"+strconv.FormatInt(in.Origin.Offset, 10))
	}
	kept := 0
	for _, name := range sortedNames(in.Attributes) {
		value := in.Attributes[name]
		// More than this is refused anyway, and would make the letter too large.
		if kept += len(name) + len(value); kept > MaxAttributesBytes {
			break
		}
		if name != "subject" && name != "subjectrole" && name != "datacontenttype" && attributeName(name) {
			add("ce_"+name, value)
		}
	}
	if authorized := strings.Join(in.Authorized, ","); in.HasList && len(authorized) <= maxListBytes {
		add(headerAuthorized, authorized)
	}
	given := j.given()
	for _, g := range given[:min(len(given), MaxSubjects)] {
		if text := j.quietly(g); text != "" {
			add(headerGiven, g.Role+"="+text)
		}
	}
	return l
}

// quietly opens a given subject without a fault: the event has been judged already.
func (j *judgement) quietly(g Given) string {
	if pseudonym.IsSubject(g.Subject) && (j.in.Internal || g.held) {
		return g.Subject
	}
	if j.eventType == nil || j.organisation == nil {
		return ""
	}
	kept := j.faults
	text, _ := j.open(g)
	j.faults = kept
	return text
}

// cause is the reason where the dead letters' closed list has it, else refused.
func cause(s Status, faults []codecs.Fault) string {
	if s == Held {
		return NoSubject
	}
	if len(faults) > 0 && slices.Contains([]string{Malformed, UnknownSchema, UnknownType}, faults[0].Reason) {
		return faults[0].Reason
	}
	return "refused"
}

// detail writes the faults for people, at most ten of them and 4 KiB.
func detail(faults []codecs.Fault) string {
	var b strings.Builder
	for i, f := range faults {
		if i == 10 {
			fmt.Fprintf(&b, "; and %d more", len(faults)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s at %s: %s", f.Reason, f.Field, f.Text)
	}
	text := strings.ToValidUTF8(b.String(), "")
	if len(text) > maxDetailBytes {
		text = strings.ToValidUTF8(text[:maxDetailBytes], "")
	}
	return text
}

// FromDeadLetter makes the event of an admission dead letter ready to be admitted again; given adds the subjects that it
// lacked. The error is ErrNotAdmissions.
func FromDeadLetter(l *codecs.DeadLetter, given ...Given) (*Input, error) {
	if l.Topic != "" || l.Group != "admission" {
		return nil, fmt.Errorf("read dead letter of %s: %w", l.Group, ErrNotAdmissions)
	}
	in := &Input{Redriven: true, Attributes: map[string]string{}}
	var type_ string
	for _, h := range l.Headers {
		value := string(h.Value)
		switch h.Key {
		case contentType:
			type_ = value
		case headerOrganisation:
			in.Organisation = value
		case headerInternal:
			in.Internal = value == "true"
		case headerOrigin:
			in.Origin = origin(value)
		case headerAuthorized:
			in.HasList, in.Authorized = true, list(value)
		case headerGiven:
			if role, text, ok := strings.Cut(value, "="); ok {
				in.Given = append(in.Given, Given{Role: role, Subject: text, held: true})
			}
		default:
			if name, ok := strings.CutPrefix(h.Key, "ce_"); ok {
				in.Attributes[name] = value
			}
		}
	}
	in.Given = append(in.Given, given...)
	switch {
	case in.Organisation == "" || len(l.Value) == 0:
		return nil, fmt.Errorf("read dead letter without organisation or value: %w", ErrNotAdmissions)
	case type_ == avroType:
		in.Value = l.Value
	case type_ == jsonType && json.Valid(l.Value):
		in.JSON = l.Value
	default:
		return nil, fmt.Errorf("read dead letter of another content type: %w", ErrNotAdmissions)
	}
	return in, nil
}

func origin(text string) Origin {
	parts := strings.Split(text, "/")
	if len(parts) != 3 {
		return Origin{}
	}
	partition, err := strconv.ParseInt(parts[1], 10, 32)
	if err != nil {
		return Origin{}
	}
	offset, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return Origin{}
	}
	return Origin{Topic: parts[0], Partition: int32(partition), Offset: offset}
}
