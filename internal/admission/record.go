package admission

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
)

// header names of civicbus's own records; ce_ headers are CloudEvents' Kafka binding.
const (
	contentType = "content-type"
	avroType    = "application/avro"
)

// sharedHeaders are those that every record of the event carries.
func (j *judgement) sharedHeaders(subjects int) []codecs.Header {
	in := j.in
	hs := make([]codecs.Header, 0, len(in.Attributes)+11)
	add := func(name, value string) { hs = append(hs, codecs.Header{Key: name, Value: []byte(value)}) }
	add("ce_specversion", "1.0")
	add("ce_id", in.Attributes["id"])
	add("ce_source", in.Attributes["source"])
	add("ce_type", in.Attributes["type"])
	if j.time != "" {
		add("ce_time", j.time)
	}
	add(headerOrganisation, in.Organisation) // so that nobody can pass off an event as a repeat of another's
	add("ce_dataschema", strings.TrimRight(j.door.RegistryURL, "/")+"/schemas/ids/"+strconv.Itoa(int(in.Schema.ID())))
	add(contentType, avroType)
	if to := in.Attributes["recipient"]; to != "" {
		add("ce_recipient", to)
	}
	if in.HasList {
		add(headerAuthorized, strings.Join(in.Authorized, ","))
	}
	add("ce_correlationid", j.correlation)
	if subjects > 1 {
		add(codecs.HeaderSubjects, strconv.Itoa(subjects))
	}
	add("ce_recordedtime", j.now.UTC().Format(time.RFC3339Nano))
	if in.Redriven {
		add("ce_redriven", "true")
	}
	for _, name := range sortedNames(in.Attributes) {
		if !own[name] {
			add("ce_"+name, in.Attributes[name])
		}
	}
	return hs
}

// cause finds the life event that caused this one. civicbus itself names it as it is; an organisation by the correlationid of
// a delivery, which is its own name of it (pseudonym.Pairwise.SealID) and tells nothing to anybody else. Any other
// correlationid is the source's own and is dropped: two subscribers could join on it.
func (j *judgement) cause() {
	given := j.in.Attributes["correlationid"]
	switch {
	case strings.HasPrefix(given, pseudonym.CorrelationPrefix):
		opened, err := j.door.Keys.For(j.organisation.ID).OpenID(given)
		if err != nil {
			j.fault("correlationid", UnknownCorrelation, "not the correlationid of a delivery to this organisation")
			return
		}
		j.correlation = opened
	case j.in.Internal && lifeEventID(given):
		j.correlation = given
	default:
		j.correlation = j.lifeEvent
	}
}

func (j *judgement) record(s *subject, shared []codecs.Header) Record {
	hs := append(make([]codecs.Header, 0, len(shared)+3), shared...)
	hs = append(hs, codecs.Header{Key: "ce_subject", Value: []byte(s.text)},
		codecs.Header{Key: "ce_subjectrole", Value: []byte(j.eventType.Roles[s.role].Name)})
	if s.index >= 0 {
		hs = append(hs, codecs.Header{Key: "ce_subjectindex", Value: strconv.AppendInt(nil, int64(s.index), 10)})
	}
	return Record{Key: []byte(s.text), Value: j.in.Value, Headers: hs}
}

func lifeEventID(text string) bool {
	if len(text) != 32 {
		return false
	}
	return strings.Trim(text, "0123456789abcdef") == ""
}

func sortedNames(attributes map[string]string) []string {
	names := make([]string, 0, len(attributes))
	for name := range attributes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
