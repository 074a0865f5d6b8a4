package admission

import (
	"mime"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"civicbus/codecs"
)

// FromRecord reads a record of an inbox: CloudEvents' Kafka binding in binary or in structured mode. The organisation is
// the inbox's: only it can write there. The value may be Avro in the registry's wire format, or JSON where the content type
// says so. The record's key is the source's own affair and is dropped: it may be a national id.
func FromRecord(rec *kgo.Record, organisation string) *Input {
	var in *Input
	mediaType := ""
	trace := ""
	for _, h := range rec.Headers {
		if strings.EqualFold(h.Key, contentType) {
			mediaType = string(h.Value)
		}
		if h.Key == codecs.HeaderTrace {
			trace = string(h.Value)
		}
	}
	base, _, err := mime.ParseMediaType(mediaType)
	switch {
	case err == nil && base == structuredType:
		in = structured(rec, organisation)
	case err == nil && strings.HasPrefix(base, "application/cloudevents"):
		in = &Input{Organisation: organisation, Attributes: map[string]string{}}
		in.fault(contentType, NotACloudEvent, "structured mode is read in JSON alone")
	default:
		in = binary(rec, organisation)
		if isJSON(mediaType) {
			in.JSON, in.Value = in.Value, nil
		}
	}
	in.raw, in.rawType = rec.Value, "application/octet-stream"
	if err == nil {
		in.rawType = base
	}
	in.Trace = trace
	in.Origin = Origin{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset}
	return in
}

func structured(rec *kgo.Record, organisation string) *Input {
	if len(rec.Value) > MaxEventJSONBytes {
		in := &Input{Organisation: organisation, Attributes: map[string]string{}}
		in.fault("data", TooLarge, "the event is larger than 4 MiB")
		return in
	}
	return fromJSON(rec.Value, organisation)
}

func binary(rec *kgo.Record, organisation string) *Input {
	in := &Input{Organisation: organisation, Attributes: map[string]string{}, Value: rec.Value}
	seen, count := map[string]bool{}, 0
	for _, h := range rec.Headers {
		name, ok := strings.CutPrefix(h.Key, "ce_")
		if !ok {
			continue // not the event's: tracing and the like
		}
		if count++; count > maxMembers {
			in.fault("attributes", TooManyAttributes, "at most 48 attributes, of 16 KiB together")
			return in
		}
		switch {
		case seen[name]:
			in.fault(printable(name), DuplicateAttribute, "a header of the event stands twice")
		case !attributeName(name):
			in.fault(printable(name), InvalidName, "attribute names are 1 to 20 characters of a-z and 0-9")
		default:
			in.extension(name, string(h.Value))
		}
		seen[name] = true
	}
	if len(seen) == 0 {
		in.fault("event", NotACloudEvent, "the record has no ce_ headers and is not in structured mode")
	}
	return in
}

// organisationOf names the organisation of an inbox topic.
func organisationOf(topic string) string { return strings.TrimPrefix(topic, InboxPrefix) }
