package journeys

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admission"
	"civicbus/internal/pseudonym"
	"civicbus/internal/verdict"
)

// Organisation is civicbus itself in the trust registry: who publishes its own events, and to whom wallets send confirmations.
const Organisation = "civicbus"

// Source is the ce_source of civicbus's own events, unless its row in the trust registry has another.
const Source = "urn:civicbus"

// Types of civicbus's own events. An operator puts them into the catalog as they are, or with rules for those who receive
// them; what they are about stands in the envelope alone.
const (
	UpdatedType   = "fi.civicbus.journey.updated"   // tells a subject how a journey stands
	ConfirmType   = "fi.civicbus.journey.confirm"   // a command to civicbus: the subject confirms to a service
	ConfirmedType = "fi.civicbus.journey.confirmed" // a command to that service
)

// Scope is that of what UpdatedType tells.
const Scope = "journey"

// OwnOrganisation is civicbus's row as it is to be put; source is its ce_source.
func OwnOrganisation(source string) codecs.Organisation {
	return codecs.Organisation{ID: Organisation, Name: "civicbus", DID: "did:web:" + Organisation, Status: verdict.StatusActive, Source: source,
		Publishes: []string{UpdatedType, ConfirmType, ConfirmedType}, Commands: []string{ConfirmType, ConfirmedType}}
}

// OwnEventTypes are the rows of civicbus's own types as they are to be put.
func OwnEventTypes() []codecs.EventType {
	of := func(name, stream, category, title, about string) codecs.EventType {
		return codecs.EventType{Type: name, Stream: stream, RegistrySubject: name + "-value", Category: category, Owner: Organisation, Title: title, Description: about,
			Classification: "confidential", Roles: []codecs.Role{{Name: "subject", Path: "data.subject", Scheme: pseudonym.Hetu}}}
	}
	return []codecs.EventType{
		of(UpdatedType, "notifications", "notification", "How your services stand", "What the services that received an event about the subject have done about it, and what waits for the subject."),
		of(ConfirmType, "commands", verdict.CategoryCommand, "Confirm to a service", "The subject confirms what one service asked for after an event. Sent to civicbus by the subject's wallet."),
		of(ConfirmedType, "commands", verdict.CategoryCommand, "Confirmed", "The subject has confirmed what the service asked for after an event."),
	}
}

// SourceOf is the ce_source of civicbus's own events, given its row in the trust registry; nil: it has none (yet).
func SourceOf(own *codecs.Organisation) string {
	if own == nil || own.Source == "" {
		return Source
	}
	return own.Source
}

// ID is the id of an event that follows from a row: the same whenever it is made.
func ID(parts ...string) string {
	h := sha256.New()
	for _, p := range append([]string{"civicbus journey 1"}, parts...) {
		fmt.Fprintf(h, "%d:%s,", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// ConfirmID is the id of a subject's confirmation to a service by way of the gateway.
func ConfirmID(lifeEvent, subject, service, report string) string {
	return ID("confirm", lifeEvent, subject, service, report)
}

// Event is an event of civicbus's own about a subject, caused by a life event, for admission. recipient is a command's. value is
// in wire format under schema.
func Event(source, eventType, id, lifeEvent, subject, recipient string, at time.Time, value []byte, schema *codecs.Schema) *admission.Input {
	attributes := map[string]string{"specversion": "1.0", "id": id, "source": source, "type": eventType, "subject": subject, "correlationid": lifeEvent,
		"time": at.UTC().Format(time.RFC3339Nano)}
	if recipient != "" {
		attributes["recipient"] = recipient
	}
	return &admission.Input{Organisation: Organisation, Internal: true, Attributes: attributes, Value: value, Schema: schema}
}

// audience is whom the names of journeys are made for; it is no organisation's id.
const audience = "people/journeys"

// Name is a life event as people are shown it, and Open gives the life event back, or an error for what is no such name.
func Name(keys *pseudonym.Keys, lifeEvent string) string { return keys.For(audience).SealID(lifeEvent) }

// Open is the reverse of Name.
func Open(keys *pseudonym.Keys, name string) (lifeEvent string, err error) {
	return keys.For(audience).OpenID(name)
}
