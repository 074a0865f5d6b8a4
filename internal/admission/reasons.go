package admission

import (
	"civicbus/codecs"
	"civicbus/internal/pseudonym"
)

// Reasons of a fault, a closed list: they are also the values of a metric's label. JSON data that does not fit its schema
// has the reasons of codecs.Schema.FromJSON instead, which are a closed list too.
const (
	// Of the envelope.
	NotACloudEvent     = "not_a_cloudevent"    // neither binary nor structured mode, or JSON that is no object
	WrongSpecVersion   = "wrong_specversion"   // not 1.0
	Missing            = "missing"             // a required attribute is absent or empty
	InvalidTime        = "invalid_time"        // not RFC 3339
	InvalidName        = "invalid_name"        // an attribute's name is not [a-z0-9]{1,20}
	InvalidAttribute   = "invalid_attribute"   // an attribute's value has a type or a character that CloudEvents does not allow
	DuplicateAttribute = "duplicate_attribute" // a header stands twice
	ReservedAttribute  = "reserved_attribute"  // civicbus alone writes it
	TooManyAttributes  = "too_many_attributes" // or too long ones
	PersonalIdentifier = "personal_identifier" // a national id where none may stand
	UnknownCorrelation = "unknown_correlation" // a correlationid in the form of a delivery's that was not made for this organisation
	InvalidList        = "invalid_list"        // the list of authorised subscribers is not one of organisation ids

	// Of trust.
	UnknownOrganisation   = "unknown_organisation"
	OrganisationNotActive = "organisation_not_active"
	SourceMismatch        = "source_mismatch"
	UnknownType           = "unknown_type"
	RetiredType           = "retired_type"
	TypeNotAllowed        = "type_not_allowed"
	CommandNotAllowed     = "command_not_allowed"
	RecipientMissing      = "recipient_missing"
	RecipientNotAllowed   = "recipient_not_allowed"
	UnknownRecipient      = "unknown_recipient"
	RecipientNotActive    = "recipient_not_active"

	// Of the value.
	NoData          = "no_data"
	TooLarge        = "too_large"
	Malformed       = "malformed"          // not the registry's wire format
	UnknownSchema   = "unknown_schema"     // the registry does not know the id
	SchemaNotOfType = "schema_not_of_type" // the id belongs to another registry subject
	NoSchema        = "no_schema"          // JSON data, and the type's registry subject has no schema
	InvalidValue    = "invalid_value"      // bytes that the schema does not describe

	// Of the subjects.
	NoSubject        = "no_subject"         // held, not refused
	InvalidSubject   = "invalid_subject"    // an id is not valid under its scheme, or no text
	UnknownSubject   = "unknown_subject"    // no pairwise pseudonym of this organisation
	SubjectForm      = "subject_form"       // `subject` is neither scheme:id nor a pseudonym that this caller may use
	SubjectMismatch  = "subject_mismatch"   // the given subject is not the one in the data
	UnknownRole      = "unknown_role"       // `subjectrole` is no role of the type
	TooManySubjects  = "too_many_subjects"  // more than MaxSubjects
	RolePathMismatch = "role_path_mismatch" // the catalog's path for a role leads to no ids in this schema
)

// scrub is the last guard of every fault's text: whatever stage or library wrote it, a national id does not pass.
func scrub(faults []codecs.Fault) []codecs.Fault {
	for i := range faults {
		if pseudonym.HoldsHetu(faults[i].Field) {
			faults[i].Field = "(withheld)"
		}
		if pseudonym.HoldsHetu(faults[i].Text) {
			faults[i].Text = "(withheld)"
		}
	}
	return faults
}
