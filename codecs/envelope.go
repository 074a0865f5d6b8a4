package codecs

import (
	"errors"
	"strconv"
	"strings"
	"time"
	"unsafe"
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
	HeaderLifeEvent      = "ce_lifeeventid" // of a delivery of a follow-up, whose correlation is the event that caused it: its own life event
	HeaderRedriven       = "ce_redriven"
	HeaderReplayed       = "ce_replayed" // of a delivery that a replay sent again
	HeaderSubscription   = "ce_subscription"
	HeaderPurpose        = "ce_purpose"
	HeaderLegalBasis     = "ce_legalbasis"
	HeaderReference      = "ce_grantreference"
	HeaderWithheld       = "ce_withheld" // comma separated paths
	HeaderDataRef        = "ce_dataref"  // of a thin delivery: where its data is
	HeaderProfile        = "civicbus_profile"
	HeaderProfileVersion = "civicbus_profileversion"
	HeaderOrganisation   = "civicbus_organisation" // whom admission authenticated
	HeaderSubjects       = "civicbus_subjects"     // how many records the event became; absent: one
	HeaderOnly           = "civicbus_only"         // of a redriven record: the one subscription to decide for
	HeaderRedrivenLetter = "civicbus_redriven"     // on dead-letters, of a record without a value: the offset of the letter before it in its partition that was redriven
	HeaderTrace          = "traceparent"           // W3C Trace Context; inside the bus alone

	ContentTypeAvro = "application/avro"
)

// Envelope is an event record without its data: what its headers say.
type Envelope struct {
	ID, Source, Type, Time, Subject, Role string
	Recipient, DataSchema, Only           string
	Recorded                              string // when admission let it in
	Trace                                 string // traceparent; empty: it is not traced
	Organisation                          string // whom admission authenticated
	Correlation                           string // the life event that caused this one, or its own; read it with Cause
	Subjects                              int    // how many records the event became, each with a decision of its own
	Index                                 int    // -1: not of a role with many
	HasList                               bool
	Authorized                            []string
	Redriven                              bool
	ProfileVersion                        int64
	Profile                               []byte // wire format of Attributes; nil: not stamped
}

// ParseEnvelope reads an event record's n headers, each given by header; of those with one name the last counts. The texts and
// Profile share memory with the headers' values, which must not change while the envelope is used. The error is Malformed
// and names the header.
func ParseEnvelope(n int, header func(i int) (name string, value []byte)) (Envelope, error) {
	e := Envelope{Index: -1, Subjects: 1}
	var spec, index, version, subjects, list []byte
	for i := range n {
		switch name, v := header(i); name {
		case HeaderSpecVersion:
			spec = v
		case HeaderID:
			e.ID = shared(v)
		case HeaderSource:
			e.Source = shared(v)
		case HeaderType:
			e.Type = shared(v)
		case HeaderTime:
			e.Time = shared(v)
		case HeaderSubject:
			e.Subject = shared(v)
		case HeaderSubjectRole:
			e.Role = shared(v)
		case HeaderSubjectIndex:
			index = v
		case HeaderDataSchema:
			e.DataSchema = shared(v)
		case HeaderRecipient:
			e.Recipient = shared(v)
		case HeaderAuthorized:
			list, e.HasList = v, v != nil
		case HeaderRedriven:
			e.Redriven = v != nil
		case HeaderOnly:
			e.Only = shared(v)
		case HeaderRecordedTime:
			e.Recorded = shared(v)
		case HeaderTrace:
			e.Trace = shared(v)
		case HeaderOrganisation:
			e.Organisation = shared(v)
		case HeaderCorrelation:
			e.Correlation = shared(v)
		case HeaderSubjects:
			subjects = v
		case HeaderProfile:
			e.Profile = v
		case HeaderProfileVersion:
			version = v
		}
	}
	if string(spec) != "1.0" {
		return e, Malformed{What: HeaderSpecVersion, Err: errors.New("is not 1.0")}
	}
	for _, r := range [...]struct{ name, value string }{{HeaderID, e.ID}, {HeaderSource, e.Source}, {HeaderType, e.Type}, {HeaderSubject, e.Subject}, {HeaderSubjectRole, e.Role}} {
		if r.value == "" {
			return e, Malformed{What: r.name, Err: errors.New("is missing")}
		}
	}
	if len(list) > 0 {
		e.Authorized = strings.Split(string(list), ",")
	}
	if index != nil {
		n, err := strconv.ParseUint(string(index), 10, 31)
		if err != nil {
			return e, Malformed{What: HeaderSubjectIndex, Err: errors.New("is no index")}
		}
		e.Index = int(n)
	}
	if version != nil {
		n, err := strconv.ParseInt(string(version), 10, 64)
		if err != nil || n < 0 {
			return e, Malformed{What: HeaderProfileVersion, Err: errors.New("is no version")}
		}
		e.ProfileVersion = n
	}
	if subjects != nil {
		n, err := strconv.ParseUint(string(subjects), 10, 16)
		if err != nil || n == 0 {
			return e, Malformed{What: HeaderSubjects, Err: errors.New("is no number of subjects")}
		}
		e.Subjects = int(n)
	}
	return e, nil
}

// RecordedAt is when admission let an event in, by the n headers of a record about it; false when they do not say, and of what came
// again since: by a redrive or a replay.
func RecordedAt(n int, header func(i int) (name string, value []byte)) (at time.Time, ok bool) {
	for i := range n {
		switch name, v := header(i); name {
		case HeaderRecordedTime:
			t, err := time.Parse(time.RFC3339Nano, shared(v))
			at, ok = t, err == nil
		case HeaderRedriven, HeaderReplayed:
			return time.Time{}, false
		}
	}
	return at, ok
}

// Cause is the life event that caused the event, whose own is given; the own one where nothing did.
func (e *Envelope) Cause(own string) string {
	if len(e.Correlation) != len(own) || strings.Trim(e.Correlation, "0123456789abcdef") != "" {
		return own
	}
	return e.Correlation
}

// shared is a text over the same memory.
func shared(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
