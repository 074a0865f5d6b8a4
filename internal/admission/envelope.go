package admission

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"civicbus/internal/pseudonym"
)

// reserved are extensions that say what civicbus did: an event that already carries them is a copy of a delivery, or
// would pass for one.
var reserved = map[string]bool{
	"redriven": true, "subjectindex": true, "subscription": true, "purpose": true,
	"legalbasis": true, "grantreference": true, "withheld": true, "lifeeventid": true,
}

// own are attributes that Admit reads or writes itself; every other one is passed on as it is (CloudEvents 1.0.2
// "Size Limits": intermediaries forward what they do not know). recordedtime and correlationid are civicbus's from here on:
// the source's own would let two subscribers join on it.
var own = map[string]bool{
	"specversion": true, "id": true, "source": true, "type": true, "time": true, "subject": true, "subjectrole": true,
	"dataschema": true, "datacontenttype": true, "recipient": true, listName: true,
	"correlationid": true, "recordedtime": true,
}

// envelope asks whether the attributes are a CloudEvent's, and holds no national id but in subject.
func (j *judgement) envelope() bool {
	in := j.in
	if id, source := in.Attributes["id"], in.Attributes["source"]; id != "" && source != "" {
		j.lifeEvent = j.door.Keys.LifeEvent(source, id)
	}
	j.faults = append(j.faults, in.Faults...)
	if len(in.Faults) > 0 {
		return false
	}
	total := 0
	for _, name := range sortedNames(in.Attributes) {
		total += len(name) + len(in.Attributes[name])
		j.attribute(name, in.Attributes[name])
	}
	if len(in.Attributes) > MaxAttributes || total > MaxAttributesBytes {
		j.fault("attributes", TooManyAttributes, "at most 48 attributes, of 16 KiB together")
	}
	switch in.Attributes["specversion"] {
	case "1.0":
	case "":
		j.fault("specversion", Missing, "specversion must be 1.0")
	default:
		j.fault("specversion", WrongSpecVersion, "specversion must be 1.0")
	}
	for _, name := range []string{"id", "source", "type"} {
		if in.Attributes[name] == "" {
			j.fault(name, Missing, name+" is required")
		}
	}
	j.parseTime()
	j.list()
	return len(j.faults) == 0
}

func (j *judgement) attribute(name, value string) {
	if !attributeName(name) {
		j.fault(printable(name), InvalidName, "attribute names are 1 to 20 characters of a-z and 0-9")
		return
	}
	switch {
	case reserved[name]:
		j.fault(name, ReservedAttribute, "civicbus alone writes this attribute")
	case len(value) > MaxAttributeBytes:
		j.fault(name, TooManyAttributes, "an attribute is at most 1 KiB of text")
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		j.fault(name, InvalidAttribute, "an attribute is UTF-8 text without control characters")
	case pseudonym.HoldsHetu(name) || name != "subject" && pseudonym.HoldsHetu(value):
		j.fault(name, PersonalIdentifier, "a national id may stand in subject and in the data, nowhere else")
	}
}

// parseTime brings time to UTC, so that readers can compare text.
func (j *judgement) parseTime() {
	text, given := j.in.Attributes["time"]
	if !given {
		return
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err == nil {
		t = t.UTC()
	}
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		j.fault("time", InvalidTime, "time must be a timestamp of RFC 3339, such as 2026-01-31T12:00:00Z")
		return
	}
	j.time = t.Format(time.RFC3339Nano)
}

func (j *judgement) list() {
	if len(j.in.Authorized) > MaxAuthorized {
		j.fault("consent.authorizedSubscribers", InvalidList, "at most 256 organisations")
		return
	}
	for _, id := range j.in.Authorized {
		if !organisationID(id) || pseudonym.HoldsHetu(id) {
			j.fault("consent.authorizedSubscribers", InvalidList, "each must be an organisation's id")
			return
		}
	}
}

// listName is civicbus's own extension for the in-event list. It has 21 characters, one more than CloudEvents recommends.
const listName = "authorizedsubscribers"

// attributeName is CloudEvents 1.0.2's rule, with its recommended length made a bound for every other name.
func attributeName(name string) bool {
	if len(name) == 0 || len(name) > 20 && name != listName {
		return false
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// organisationID has the form of an organisation's id; whether there is one is the table's answer.
func organisationID(id string) bool {
	if len(id) == 0 || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// printable gives a name back where it can be shown, and "attributes" where it could be anything.
func printable(name string) string {
	if len(name) == 0 || len(name) > 40 {
		return "attributes"
	}
	for i := range len(name) {
		if c := name[i] | 0x20; (c < 'a' || c > 'z') && (name[i] < '0' || name[i] > '9') && name[i] != '_' && name[i] != '-' {
			return "attributes"
		}
	}
	return name
}
