package codecs

import (
	"errors"
	"strconv"
	"strings"
)

// Headers of event streams and subscribers' topics: CloudEvents 1.0 in Kafka's binary content mode, and civicbus's own.
const (
	HeaderSpecVersion    = "ce_specversion"
	HeaderID             = "ce_id"
	HeaderSource         = "ce_source"
	HeaderType           = "ce_type"
	HeaderTime           = "ce_time"
	HeaderSubject        = "ce_subject"
	HeaderSubjectRole    = "ce_subjectrole"
	HeaderSubjectIndex   = "ce_subjectindex" // of a role with many: which element of its array
	HeaderDataSchema     = "ce_dataschema"
	HeaderContentType    = "content-type"
	HeaderRecipient      = "ce_recipient"             // of a command
	HeaderAuthorized     = "ce_authorizedsubscribers" // the in-event list, comma separated
	HeaderCorrelation    = "ce_correlationid"
	HeaderRecordedTime   = "ce_recordedtime"
	HeaderRedriven       = "ce_redriven"
	HeaderSubscription   = "ce_subscription"
	HeaderPurpose        = "ce_purpose"
	HeaderLegalBasis     = "ce_legalbasis"
	HeaderReference      = "ce_grantreference"
	HeaderWithheld       = "ce_withheld" // comma separated paths
	HeaderProfile        = "civicbus_profile"
	HeaderProfileVersion = "civicbus_profileversion"
	HeaderOrganisation   = "civicbus_organisation" // whom admission authenticated
	HeaderOnly           = "civicbus_only"         // of a redriven record: the one subscription to decide for

	ContentTypeAvro = "application/avro"
)

// Envelope is an event record without its data: what its headers say. Strings alias nothing.
type Envelope struct {
	ID, Source, Type, Time, Subject, Role string
	Recipient, DataSchema, Only           string
	Organisation                          string // whom admission authenticated
	Index                                 int    // -1: not of a role with many
	HasList                               bool
	Authorized                            []string
	Redriven                              bool
	ProfileVersion                        int64
	Profile                               []byte // wire format of Attributes; nil: not stamped
}

// ParseEnvelope reads an event record's headers through look, which gives a header's value or nil. The error is Malformed
// and names the header.
func ParseEnvelope(look func(header string) []byte) (Envelope, error) {
	text := func(h string) string { return string(look(h)) }
	e := Envelope{ID: text(HeaderID), Source: text(HeaderSource), Type: text(HeaderType), Time: text(HeaderTime), Subject: text(HeaderSubject),
		Role: text(HeaderSubjectRole), Recipient: text(HeaderRecipient), DataSchema: text(HeaderDataSchema), Only: text(HeaderOnly),
		Organisation: text(HeaderOrganisation), Index: -1}
	if v := text(HeaderSpecVersion); v != "1.0" {
		return e, Malformed{What: HeaderSpecVersion, Err: errors.New("is not 1.0")}
	}
	for _, r := range []struct{ name, value string }{{HeaderID, e.ID}, {HeaderSource, e.Source}, {HeaderType, e.Type}, {HeaderSubject, e.Subject}, {HeaderSubjectRole, e.Role}} {
		if r.value == "" {
			return e, Malformed{What: r.name, Err: errors.New("is missing")}
		}
	}
	if v := look(HeaderAuthorized); v != nil {
		e.HasList = true
		if len(v) > 0 {
			e.Authorized = strings.Split(string(v), ",")
		}
	}
	if v := look(HeaderSubjectIndex); v != nil {
		n, err := strconv.ParseUint(string(v), 10, 31)
		if err != nil {
			return e, Malformed{What: HeaderSubjectIndex, Err: errors.New("is no index")}
		}
		e.Index = int(n)
	}
	if v := look(HeaderProfileVersion); v != nil {
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil || n < 0 {
			return e, Malformed{What: HeaderProfileVersion, Err: errors.New("is no version")}
		}
		e.ProfileVersion = n
	}
	e.Redriven = look(HeaderRedriven) != nil
	e.Profile = look(HeaderProfile)
	return e, nil
}
