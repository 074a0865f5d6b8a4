package trust

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/nuts-foundation/go-did/did"

	"civicbus/codecs"
	"civicbus/processors/command"
)

// Reasons of faults in an organisation's entry.
const (
	IDInvalid            = "id_invalid"            // it names topics: [a-z0-9.-]
	NameMissing          = "name_missing"          // people need one
	DIDInvalid           = "did_invalid"           // no DID by W3C DID Core 1.0 section 3.1
	SourceInvalid        = "source_invalid"        // no URI reference, or missing while it publishes
	EventTypeInvalid     = "event_type_invalid"    // empty, too long or given twice
	PurposeInvalid       = "purpose_invalid"       // missing, empty, too long or given twice
	BasisUnknown         = "basis_unknown"         // none of Bases
	CertificationInvalid = "certification_invalid" // without name, or over before it begins
	TooMany              = "too_many"              // a list is longer than MaxList
)

// Bases are the legal bases that an entitlement may name: GDPR Art. 6(1)(a) to (f).
var Bases = []string{"consent", "contract", "legal_obligation", "vital_interests", "public_task", "legitimate_interests"}

// Bounds of an entry, so that the row stays far below one record.
const (
	MaxList     = 512 // of every list
	maxText     = 256 // bytes of a name, a DID or a source
	maxTypeText = 255 // bytes of an event type; verdict.ValidateEventType takes no longer one either
	maxWord     = 64  // bytes of a purpose or a certification's name
)

// validate finds all that is wrong with an entry by itself. Whether the event types exist is not asked: organisations
// are entered before the types that they own, and what does not exist entitles to nothing.
func validate(o *codecs.Organisation) []codecs.Fault {
	v := &faults{}
	v.check(command.Name(o.ID), "id", IDInvalid, "1 to 128 of a-z, 0-9, dot and hyphen, beginning and ending with a letter or digit")
	v.check(o.Name != "" && command.Plain(o.Name, maxText), "name", NameMissing, "1 to 256 bytes of plain text")
	_, err := did.ParseDID(o.DID)
	v.check(err == nil && o.DID != "" && len(o.DID) <= maxText, "did", DIDInvalid, "a DID such as did:web:kela.fi, without path, query or fragment")
	v.source(o)
	v.types("publishes", o.Publishes)
	v.types("commands", o.Commands)
	v.words("preApproved", PurposeInvalid, o.PreApproved)
	v.list("receives", len(o.Receives))
	for i, e := range o.Receives {
		v.entitlement(fmt.Sprintf("receives[%d]", i), e)
	}
	v.list("certifications", len(o.Certifications))
	for i, c := range o.Certifications {
		at := fmt.Sprintf("certifications[%d]", i)
		v.check(command.Token(c.Name, maxWord), at+".name", CertificationInvalid, "a name such as ISO27001")
		v.check(c.ValidTo == 0 || c.ValidTo > c.ValidFrom, at+".validTo", CertificationInvalid, "after validFrom, or 0 for no end")
	}
	return *v
}

type faults []codecs.Fault

func (v *faults) check(right bool, field, reason, text string) {
	if !right {
		*v = append(*v, codecs.Fault{Field: field, Reason: reason, Text: text})
	}
}

func (v *faults) list(field string, length int) {
	v.check(length <= MaxList, field, TooMany, fmt.Sprintf("at most %d", MaxList))
}

// source is a CloudEvents source: a URI reference that is not empty. Whoever publishes has one.
func (v *faults) source(o *codecs.Organisation) {
	needed := len(o.Publishes) > 0 || len(o.Commands) > 0 || o.Inbox
	if o.Source == "" {
		v.check(!needed, "source", SourceInvalid, "who publishes has a source, such as https://dvv.fi")
		return
	}
	_, err := url.Parse(o.Source)
	v.check(err == nil && command.Token(o.Source, maxText), "source", SourceInvalid, "a URI reference, such as https://dvv.fi")
}

func (v *faults) types(field string, list []string) {
	v.list(field, len(list))
	for i, text := range list {
		v.check(command.Token(text, maxTypeText), fmt.Sprintf("%s[%d]", field, i), EventTypeInvalid, "an event type such as fi.dvv.person.birth")
	}
	v.check(command.Distinct(list), field, EventTypeInvalid, "each stands once")
}

func (v *faults) words(field, reason string, list []string) {
	v.list(field, len(list))
	for i, text := range list {
		v.check(command.Token(text, maxWord), fmt.Sprintf("%s[%d]", field, i), reason, "1 to 64 bytes without spaces")
	}
	v.check(command.Distinct(list), field, reason, "each stands once")
}

func (v *faults) entitlement(at string, e codecs.Entitlement) {
	v.check(command.Token(e.EventType, maxTypeText), at+".eventType", EventTypeInvalid, "an event type such as fi.dvv.person.birth")
	v.check(len(e.Purposes) > 0, at+".purposes", PurposeInvalid, "at least one")
	v.words(at+".purposes", PurposeInvalid, e.Purposes)
	v.check(len(e.Bases) > 0, at+".bases", BasisUnknown, "at least one of "+strings.Join(Bases, ", "))
	for i, basis := range e.Bases {
		v.check(slices.Contains(Bases, basis), fmt.Sprintf("%s.bases[%d]", at, i), BasisUnknown, "one of "+strings.Join(Bases, ", "))
	}
	v.check(e.Certification == "" || command.Token(e.Certification, maxWord), at+".certification", CertificationInvalid, "1 to 64 bytes without spaces")
}
