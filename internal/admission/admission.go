// Package admission is the one door: whatever becomes an event on civicbus passes Admit, by whichever way it came
// (command line, HTTP, Kafka inbox, a group of civicbus's own).
//
// Rules:
//   - Admit is pure: it knows the event, the trust registry, the catalog and the keys, and no network, and reads no clock.
//   - What it refuses is named by field, with a reason of the closed list in reasons.go.
//   - An event whose subject cannot be found is held, not refused: nothing is lost, and a redrive gives the subject.
//   - No national id leaves it but inside the event's data: not in a key, a header, a fault, an error or a log line.
//   - One event becomes one record for each distinct subject, keyed by that subject's pseudonym.
//
// Relay and Publisher are the two ways to Kafka: the first moves inboxes, exactly once; the second serves callers who
// wait for their answer.
package admission

import (
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
)

// Topics that admission reads and writes, as on the map.
const (
	AdmittedTopic    = "admitted"
	DeadLettersTopic = "dead-letters"
	InboxPrefix      = "inbox." // followed by the organisation whose events they all are
)

// Bounds of one event. The value is bounded so that every record made of it, headers and dead letter included, stays
// below Kafka's default of 1 MiB (max.message.bytes 1,048,588; a franz-go batch 1,000,012).
const (
	MaxValueBytes      = 900 << 10
	MaxAttributes      = 48
	MaxAttributeBytes  = 1 << 10 // of one attribute's text
	MaxAttributesBytes = 16 << 10
	MaxSubjects        = 256     // distinct subjects of one event
	MaxFanoutBytes     = 8 << 20 // value bytes times subjects: all of it goes into one transaction
	MaxAuthorized      = 256     // organisations in an in-event list
)

// Tables is what admission looks up. Both give nil for what is not there. A *verdict.Snapshot is one; so that one event
// is judged on one state, it must not change under Admit.
type Tables interface {
	EventType(eventType string) *codecs.EventType
	Organisation(id string) *codecs.Organisation
}

// Input is one event on its way in.
type Input struct {
	Organisation string            // who is authenticated: an organisation's id
	Internal     bool              // civicbus itself asks: it may name a subject by bus pseudonym, and the life event that caused this
	Redriven     bool              // comes back from the dead letters: its records say so
	Attributes   map[string]string // CloudEvents attributes and extensions, without ce_, values as canonical text
	HasList      bool              // the event carries a list of authorised subscribers, perhaps an empty one
	Authorized   []string          // that list: organisation ids; it can only narrow
	Given        []Given           // subjects given beside the data, at a redrive; the attribute `subject` is one more
	JSON         []byte            // data as JSON; Resolver turns it into Value
	Value        []byte            // data in the registry's wire format
	Schema       *codecs.Schema    // the schema that Value names; nil: not known
	Faults       []codecs.Fault    // what was found wrong before Admit; with any the event is refused
	Trace        string            // traceparent of the record or request that it came by; empty: that of the event itself, if it has one
	Origin       Origin            // the inbox record it came from; zero: none

	resolved string // the registry subject that the schema was held against; empty: there was no need to
	unasked  bool   // it was to be refused without its data when the registry could have been asked
	raw      []byte // the value as it came, for the dead letter of an event that could not be read
	rawType  string // its content type
}

// Given names a subject beside the data.
type Given struct {
	Role    string // of the event type; empty: the first role that lacks a subject
	Subject string // scheme:id, the organisation's own pairwise pseudonym, or a bus pseudonym where that is allowed

	held bool // written into a dead letter by admission itself: always a bus pseudonym
}

// Origin is where a record stood.
type Origin struct {
	Topic     string
	Partition int32
	Offset    int64
}

// Status says what became of an event.
type Status string

// The statuses.
const (
	Accepted    Status = "accepted"    // its records are made (Admit), or on Kafka (Publisher)
	Held        Status = "held"        // its subject could not be found: a dead letter no_subject keeps it
	Refused     Status = "refused"     // Faults says why
	Unavailable Status = "unavailable" // Publisher alone: nobody knows yet whether it is on Kafka; publishing it again does no harm
)

// Result is Admit's answer.
type Result struct {
	Status    Status
	LifeEvent string             // the life event id; empty when id or source are missing
	Records   []Record           // Accepted: for AdmittedTopic, in the order of the type's roles
	Letter    *codecs.DeadLetter // Held and Refused: what keeps the event; a caller who can answer drops that of a refusal
	Faults    []codecs.Fault     // Held and Refused: at least one
}

// Record is one record for AdmittedTopic. Value is the Input's own slice.
type Record struct {
	Key     []byte // the subject
	Value   []byte
	Headers []codecs.Header
}

// Door is what Admit needs besides the tables. It is read only; safe for concurrent use.
type Door struct {
	Keys *pseudonym.Keys
	// Belongs reports whether a schema id was registered under a registry subject. It must not use the network.
	Belongs func(registrySubject string, id int32) bool
	// RegistryURL begins ce_dataschema, so that any reader can resolve it: {RegistryURL}/schemas/ids/{id}.
	RegistryURL string
}

// Admit judges one event as of now: every fault of the envelope, then of trust, then of the value, then of the subjects;
// a stage with faults ends it.
func (d *Door) Admit(in *Input, tables Tables, now time.Time) Result {
	j := judgement{door: d, in: in, tables: tables, now: now}
	if !j.envelope() || !j.trust() || !j.value() {
		return j.refuse()
	}
	subjects, missing := j.subjects()
	switch {
	case len(j.faults) > 0:
		return j.refuse()
	case len(missing) > 0:
		j.faults = missing
		return j.finish(Held)
	}
	res := Result{Status: Accepted, LifeEvent: j.lifeEvent, Records: make([]Record, 0, len(subjects))}
	shared := j.sharedHeaders(len(subjects))
	for i := range subjects {
		res.Records = append(res.Records, j.record(&subjects[i], shared))
	}
	return res
}

// judgement is one run of Admit.
type judgement struct {
	door   *Door
	in     *Input
	tables Tables
	now    time.Time

	eventType    *codecs.EventType
	organisation *codecs.Organisation
	time         string // ce_time in UTC; empty: not given
	lifeEvent    string
	correlation  string // the life event that caused it, or its own
	body         []byte
	faults       []codecs.Fault
}

func (j *judgement) fault(field, reason, text string) {
	j.faults = append(j.faults, codecs.Fault{Field: field, Reason: reason, Text: text})
}

func (j *judgement) refuse() Result { return j.finish(Refused) }

func (j *judgement) finish(s Status) Result {
	faults := scrub(j.faults)
	return Result{Status: s, LifeEvent: j.lifeEvent, Faults: faults, Letter: j.letter(s, faults)}
}

// trust asks whether this organisation may publish this event at all.
func (j *judgement) trust() bool {
	eventType := j.in.Attributes["type"]
	j.eventType = j.tables.EventType(eventType)
	j.organisation = j.tables.Organisation(j.in.Organisation)
	if j.organisation == nil {
		j.fault("organisation", UnknownOrganisation, "the authenticated organisation is not in the trust registry")
		return false
	}
	j.cause()
	if j.organisation.Status != "active" {
		j.fault("organisation", OrganisationNotActive, "the authenticated organisation is not active")
	}
	if j.organisation.Source == "" || j.in.Attributes["source"] != j.organisation.Source {
		j.fault("source", SourceMismatch, "source must be the one that the trust registry has for the authenticated organisation")
	}
	switch et := j.eventType; {
	case et == nil:
		j.fault("type", UnknownType, "the catalog has no such type")
	case !slices.Contains(j.organisation.Publishes, eventType):
		j.fault("type", TypeNotAllowed, "the organisation may not publish this type")
	case et.Retired:
		j.fault("type", RetiredType, "the type is retired")
	case et.Category == "command":
		j.command(eventType)
	case j.in.Attributes["recipient"] != "":
		j.fault("recipient", RecipientNotAllowed, "only an event of category command names a recipient")
	}
	return len(j.faults) == 0
}

func (j *judgement) command(eventType string) {
	if !slices.Contains(j.organisation.Commands, eventType) {
		j.fault("type", CommandNotAllowed, "the organisation may not send this command")
	}
	recipient := j.in.Attributes["recipient"]
	if recipient == "" {
		j.fault("recipient", RecipientMissing, "a command names the one organisation that it is for")
		return
	}
	switch to := j.tables.Organisation(recipient); {
	case to == nil:
		j.fault("recipient", UnknownRecipient, "the recipient is not in the trust registry")
	case to.Status != "active":
		j.fault("recipient", RecipientNotActive, "the recipient is not active")
	}
}

// value asks whether the data is what the type says.
func (j *judgement) value() bool {
	in := j.in
	switch {
	case len(in.Value) == 0:
		j.fault("data", NoData, "an event needs data")
		return false
	case len(in.Value) > MaxValueBytes:
		j.fault("data", TooLarge, "the data is larger than 900 KiB")
		return false
	}
	id, body, err := codecs.WireID(in.Value)
	if err != nil {
		j.fault("data", Malformed, err.Error())
		return false
	}
	switch {
	case in.Schema == nil || in.Schema.ID() != id:
		j.fault("data", UnknownSchema, "the registry does not know the schema id")
	case !j.door.Belongs(j.eventType.RegistrySubject, id):
		j.fault("data", SchemaNotOfType, "the schema is not registered under "+j.eventType.RegistrySubject)
	default:
		if err := in.Schema.Validate(body); err != nil {
			j.fault("data", InvalidValue, err.Error())
		}
	}
	j.body = body
	return len(j.faults) == 0
}
