package codecs

import "time"

// EventType is a row of catalog-table: what civicbus knows of one CloudEvents type. Its key is Type.
// A type is data: adding one needs a schema in the registry and this entry, no code.
type EventType struct {
	Type            string   `avro:"type" json:"type"`                            // CloudEvents type, e.g. fi.dvv.person.birth
	Version         int64    `avro:"version" json:"version,omitempty"`            // set by the catalog group; 1 is the first
	Stream          string   `avro:"stream" json:"stream"`                        // one of the event streams on the map, e.g. life.birth
	RegistrySubject string   `avro:"registry_subject" json:"registrySubject"`     // Schema Registry subject of the source's own schema
	Category        string   `avro:"category" json:"category"`                    // state-change, domain, notification or command
	Owner           string   `avro:"owner" json:"owner"`                          // organisation answerable for the type
	Title           string   `avro:"title" json:"title"`                          // for people
	Description     string   `avro:"description" json:"description,omitempty"`    // for people
	Classification  string   `avro:"classification" json:"classification"`        // open, internal, confidential or sensitive; of a field that names none
	Roles           []Role   `avro:"roles" json:"roles"`                          // at least one; the first is the default of a subscription
	Fields          []Field  `avro:"fields" json:"fields,omitempty"`              // permissions where the schema itself carries none; they win over the schema's
	Profile         []Stamp  `avro:"profile" json:"profile,omitempty"`            // what an event tells about its subjects; empty: nothing
	Rules           []Rule   `avro:"rules" json:"rules,omitempty"`                // legal bases that are not consent
	EndsConsents    bool     `avro:"ends_consents" json:"endsConsents,omitempty"` // a death: ends the subject's grants
	JourneyHours    int64    `avro:"journey_hours" json:"journeyHours,omitempty"` // hours within which those who received it are to report what came of it; 0: nobody waits for them
	Outcome         Outcome  `avro:"outcome" json:"outcome,omitzero"`             // what it reports of other events; zero: nothing
	Retired         bool     `avro:"retired" json:"retired,omitempty"`            // no new events are admitted
	Commands        []string `avro:"commands" json:"-"`                           // ids of the last 16 commands applied: a repeat changes nothing
	AppliedVersions []int64  `avro:"versions_applied" json:"-"`                   // the versions they were answered with, in the same order
	UpdatedAt       int64    `avro:"updated_at" json:"-"`                         // Unix milliseconds
}

// Role says where in the data the subjects of one role stand.
type Role struct {
	Name     string `avro:"name" json:"name"`                   // child, mother, company, founder
	Path     string `avro:"path" json:"path"`                   // data.mother.id; data.founders[].id where Many
	Scheme   string `avro:"scheme" json:"scheme"`               // of the ids there: fi-hetu, fi-ytunnus, ...
	Many     bool   `avro:"many" json:"many,omitempty"`         // the path crosses one array
	Optional bool   `avro:"optional" json:"optional,omitempty"` // absent or null is no fault
}

// Outcome says how an event reports what came of another one.
type Outcome struct {
	Path              string   `avro:"path" json:"path"`                                      // of a text or an enum
	Of                []string `avro:"of" json:"of"`                                          // event types that it may be the outcome of
	Done              []string `avro:"done" json:"done,omitempty"`                            // values that mean it is done
	Failed            []string `avro:"failed" json:"failed,omitempty"`                        // values that mean it will not be done
	NeedsConfirmation []string `avro:"needs_confirmation" json:"needsConfirmation,omitempty"` // values that mean the person must confirm first
}

// Field is the permission data of one field of the event's data.
type Field struct {
	Path           string   `avro:"path" json:"path"`                     // data.child.name; a record's path covers all below it
	Owner          string   `avro:"owner" json:"owner,omitempty"`         // role whose subject owns it; empty: nobody
	Scopes         []string `avro:"scopes" json:"scopes,omitempty"`       // a grant that covers one of them covers the field; empty: envelope only
	Classification string   `avro:"classification" json:"classification"` // as EventType.Classification; empty: the type's
}

// Stamp maps one field of an event onto an attribute of its subject's profile.
type Stamp struct {
	Role      string `avro:"role" json:"role"`
	Attribute string `avro:"attribute" json:"attribute"` // one of ProfileAttributes, by name
	Path      string `avro:"path" json:"path"`           // data.newAddress.municipality
}

// Rule is one legal basis other than consent: it entitles one recipient to listed fields for one purpose.
type Rule struct {
	ID        string   `avro:"id" json:"id"`
	Recipient string   `avro:"recipient" json:"recipient"`  // organisation
	Purpose   string   `avro:"purpose" json:"purpose"`      // registered purpose, e.g. child-benefit
	Basis     string   `avro:"basis" json:"basis"`          // legal_obligation, public_task, vital_interests, contract, legitimate_interests (GDPR Art. 6(1))
	Role      string   `avro:"role" json:"role,omitempty"`  // the role it covers; empty: every role
	Fields    []string `avro:"fields" json:"fields"`        // data paths; "data" is all of it; also profile.municipality etc.
	ValidFrom int64    `avro:"valid_from" json:"validFrom"` // Unix milliseconds, half-open [from, to)
	ValidTo   int64    `avro:"valid_to" json:"validTo"`     // 0: no end
	Citation  string   `avro:"citation" json:"citation"`    // the law, for people
}

// CatalogCommand asks to change one catalog row. Key: the event type.
type CatalogCommand struct {
	Meta      Meta      `avro:"meta"`
	Kind      string    `avro:"kind"` // put or retire
	EventType EventType `avro:"event_type"`
}

// Meta is what every command carries.
type Meta struct {
	ID        string `avro:"id"`         // unique; a repeat is answered as the first was, and changes nothing
	Actor     string `avro:"actor"`      // the person or client who asks, e.g. operator:anna; never a national id
	IssuedAt  int64  `avro:"issued_at"`  // Unix milliseconds, for people; decides nothing
	IfVersion int64  `avro:"if_version"` // the row's version that the change was made on; 0: any; IfAbsent: there must be no row
}

// IfAbsent is the Meta.IfVersion of a command that only makes a row.
const IfAbsent = -1

// CommandResult answers one command on command-results. Key: the command's key, so that it stays in order with the row. One of kind
// KindGap has no key and answers no command: an operator put it on record, by the command line.
type CommandResult struct {
	CommandID string  `avro:"command_id" json:"commandId"`
	Stream    string  `avro:"stream" json:"stream"`   // the command stream; of a gap: the group
	Kind      string  `avro:"kind" json:"kind"`       // the command's kind
	Actor     string  `avro:"actor" json:"actor"`     // as commanded
	Status    string  `avro:"status" json:"status"`   // accepted or refused
	Version   int64   `avro:"version" json:"version"` // of the row after the command; of the row that refused it
	Reason    string  `avro:"reason" json:"reason"`   // closed snake_case list per group; empty when accepted
	Faults    []Fault `avro:"faults" json:"faults"`   // what, where, and what would be right
	At        int64   `avro:"at" json:"at"`           // Unix milliseconds
	Topic     string  `avro:"topic" json:"topic"`     // where the command stood
	Partition int32   `avro:"partition" json:"partition"`
	Offset    int64   `avro:"offset" json:"offset"`
	Follows   int64   `avro:"follows" json:"follows"` // offset after the record handled before it in that partition
}

// KindGap is the kind of a CommandResult, and of its entry in the audit log, that puts a gap on record: what a group had not read of an
// input is not in its log any more. It is about the offsets from Follows up to and with Offset; none, where Offset is the one before
// Follows. Reason says why: one of the reasons below.
const KindGap = "gap"

// Why there is a gap.
const (
	GapExpired   = "expired"   // the records were deleted, by retention or by hand
	GapRecreated = "recreated" // the topic is another one of the same name: the group goes on at its first record
	GapCut       = "cut"       // the topic has lost its end, by an unclean election: the group goes on at what is its end now
)

// Fault names one thing that is wrong with a command or an event: the field, the reason, and what would be right.
// Text never holds personal data.
type Fault struct {
	Field  string `avro:"field" json:"field"`
	Reason string `avro:"reason" json:"reason"`
	Text   string `avro:"text" json:"text"`
}

// Millis turns a time into the Unix milliseconds that the records hold; the zero time is 0.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
