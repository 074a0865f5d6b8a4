// Package refdata is the document form of civicbus's reference data: what a person writes in a YAML or JSON file and
// hands to `apply`, and what `get -o yaml` prints.
//
// Its rules:
//   - The keys are the json tags of the structs in package codecs; this package holds no second list of them.
//   - An unknown or repeated key is refused by name, never ignored: a misspelt `validTo` would otherwise be a rule without end.
//   - A point in time is RFC 3339 or YYYY-MM-DD (midnight UTC); the structs hold Unix milliseconds. An absent time is 0.
//   - A file may hold several YAML documents, or one sequence of them. JSON is read as the YAML that it is.
//   - What is read here has the right shape, no more. Whether a catalog entry or a subscription makes sense is for its group.
//   - A fault names the place and what would be right there, never the value that was found: consent documents hold national ids.
//
// Everything here is pure and safe for concurrent use.
package refdata

import (
	"civicbus/codecs"
)

// MaxDocumentBytes bounds one file, before anything is parsed. The largest example is under 20 kB.
const MaxDocumentBytes = 4 << 20

// Reasons of the faults that this package finds, a closed list.
const (
	ReasonMalformed    = "malformed_document" // not YAML, or not a mapping where a document is expected
	ReasonTooLarge     = "too_large"          // beyond MaxDocumentBytes
	ReasonUnknownKey   = "unknown_key"
	ReasonDuplicateKey = "duplicate_key"
	ReasonWrongType    = "wrong_type"
	ReasonBadTime      = "bad_time"
	ReasonMissing      = "missing"
	ReasonUnknownValue = "unknown_value" // outside a closed list
	ReasonBadSubject   = "bad_subject"   // not scheme:id
)

// ParseEventTypes reads catalog documents in their order. With any fault the rows are not to be used.
// At some fifty faults (codecs.MaxFaults) what follows is not looked at. A row's Version, where the document gives one, is the
// version that the edit was made on (Meta.IfVersion).
func ParseEventTypes(document []byte) ([]codecs.EventType, []codecs.Fault) {
	return parse(document, "type", func(e *codecs.EventType) string { return e.Type })
}

// ParseOrganisations reads trust documents in their order; otherwise as ParseEventTypes.
func ParseOrganisations(document []byte) ([]codecs.Organisation, []codecs.Fault) {
	return parse(document, "id", func(o *codecs.Organisation) string { return o.ID })
}

// ParseSubscriptions reads subscription documents in their order; otherwise as ParseEventTypes. The filter may be written as text
// (JSON in a string) or as the mapping or sequence itself, which becomes compact JSON.
func ParseSubscriptions(document []byte) ([]codecs.Subscription, []codecs.Fault) {
	return parse(document, "id", func(s *codecs.Subscription) string { return s.ID })
}

// parse reads every document into a T and asks for its key.
func parse[T any](document []byte, keyField string, key func(*T) string) ([]T, []codecs.Fault) {
	docs, faults := documents(document)
	var rows []T
	for _, doc := range docs {
		if len(faults) >= codecs.MaxFaults {
			break
		}
		var row T
		faults = append(faults, doc.decode(&row)...)
		if key(&row) == "" {
			faults = append(faults, doc.fault(doc.root, keyField, ReasonMissing, "it is the row's key"))
		}
		rows = append(rows, row)
	}
	return rows, faults
}
