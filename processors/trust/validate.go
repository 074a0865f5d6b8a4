package trust

import (
	"github.com/nuts-foundation/go-did/did"

	"civicbus/codecs"
	"civicbus/internal/verdict"
	"civicbus/processors/command"
)

// Reasons of faults in an organisation's entry, beside those of verdict.ValidateOrganisation.
const (
	NameInvalid   = "bad_name" // people need one, and it has to fit
	DIDInvalid    = verdict.FaultBadDID
	SourceMissing = verdict.FaultBadSource
	QuotaInvalid  = "bad_quota" // a negative number of bytes
)

// maxName is the bytes of an organisation's name, and of a DID.
const maxName = 256

// validate finds all that is wrong with an entry by itself. A DID is what go-did parses as one without path, query or
// fragment (W3C DID Core 1.0, section 3.1). The key's own form is a little narrower than the one that names topics.
func validate(o *codecs.Organisation) []codecs.Fault {
	found := verdict.ValidateOrganisation(o)
	check := func(right bool, field, reason, text string) {
		for _, f := range found {
			right = right || f.Field == field // one fault a field is enough
		}
		if !right {
			found = append(found, codecs.Fault{Field: field, Reason: reason, Text: text})
		}
	}
	_, err := did.ParseDID(o.DID)
	check(command.Name(o.ID), "id", verdict.FaultBadID, "1 to 100 of a-z 0-9 . -, a letter or digit first and last")
	check(o.Name != "" && command.Plain(o.Name, maxName), "name", NameInvalid, "1 to 256 bytes of plain text")
	check(err == nil && o.DID != "" && len(o.DID) <= maxName, "did", DIDInvalid, "a DID such as did:web:kela.fi, without path, query or fragment")
	check(o.Source != "" || !o.Inbox, "source", SourceMissing, "whoever has an inbox publishes, and has a source, such as https://dvv.fi")
	check(o.ReadBytes >= 0, "readBytesPerSecond", QuotaInvalid, "0 or more")
	check(o.WriteBytes >= 0, "writeBytesPerSecond", QuotaInvalid, "0 or more")
	return found
}
