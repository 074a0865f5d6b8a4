package admission

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"strconv"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"civicbus/codecs"
)

const (
	jsonType       = "application/json"
	structuredType = "application/cloudevents+json"
)

// MaxEventJSONBytes bounds one event's JSON: JSON says the same in several times the bytes of Avro.
const MaxEventJSONBytes = 4 << 20

// ErrNotJSON says that what is read is no JSON from some point on, or holds an event larger than MaxEventJSONBytes.
var ErrNotJSON = errors.New("not JSON")

// ReadEvents reads CloudEvents in the JSON format: one event, an array of them (the batch format), or one after the other
// (a line each). Each event comes as an Input of the organisation, its faults in it; a national id in `subject` is kept
// for Admit, which turns it into a pseudonym. An error is the last thing that comes: what follows it was not read. Its text
// holds nothing of what was read.
func ReadEvents(r io.Reader, organisation string) iter.Seq2[*Input, error] {
	return func(yield func(*Input, error) bool) {
		bounded := &boundedReader{r: r, left: MaxEventJSONBytes}
		buffered := bufio.NewReader(bounded)
		array, err := startsArray(buffered)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				yield(nil, fmt.Errorf("read events: %w", err))
			}
			return
		}
		dec := json.NewDecoder(buffered)
		if array {
			if _, err := dec.Token(); err != nil {
				yield(nil, notJSON(dec, bounded))
				return
			}
		}
		for {
			if array && !dec.More() {
				if _, err := dec.Token(); err != nil {
					yield(nil, notJSON(dec, bounded))
				}
				return
			}
			var raw json.RawMessage
			if err := dec.Decode(&raw); err != nil {
				if array || err != io.EOF {
					yield(nil, notJSON(dec, bounded))
				}
				return
			}
			bounded.left = MaxEventJSONBytes
			if !yield(fromJSON(raw, organisation), nil) {
				return
			}
		}
	}
}

// startsArray looks at the first byte that is no white space.
func startsArray(r *bufio.Reader) (bool, error) {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return false, err
		}
		if strings.IndexByte(" \t\r\n", b) >= 0 {
			continue
		}
		return b == '[', r.UnreadByte()
	}
}

func notJSON(dec *json.Decoder, r *boundedReader) error {
	switch {
	case r.err != nil:
		return fmt.Errorf("read events: %w", r.err)
	case r.left <= 0:
		return fmt.Errorf("read events: event after byte %d is larger than 4 MiB: %w", dec.InputOffset(), ErrNotJSON)
	}
	return fmt.Errorf("read events: at byte %d: %w", dec.InputOffset(), ErrNotJSON)
}

// boundedReader ends after left bytes, which its user renews with each event; so an endless event does not fill the memory.
type boundedReader struct {
	r    io.Reader
	left int
	err  error // of r, but for its end
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// fromJSON reads one event. The CloudEvents SDK judges and canonicalises the attributes; data and consent never reach it:
// it refuses an object-valued attribute, and panics on a data_base64 of one character.
func fromJSON(raw []byte, organisation string) *Input {
	in := &Input{Organisation: organisation, Attributes: map[string]string{}, raw: raw, rawType: structuredType}
	members, twice, err := readMembers(raw)
	switch {
	case errors.Is(err, errTooMany):
		in.fault("attributes", TooManyAttributes, "at most 48 attributes, of 16 KiB together")
		return in
	case errors.Is(err, errTwice):
		in.fault(printable(twice), DuplicateAttribute, "a member of the event stands twice")
		return in
	case err != nil:
		in.fault("event", NotACloudEvent, "an event is a JSON object")
		return in
	}
	in.consent(members["consent"])
	in.data(members)
	delete(members, "consent")
	delete(members, "data")
	delete(members, "data_base64")
	in.attributes(members)
	return in
}

// maxMembers bounds what is read of a JSON object whose members are looked at one by one: above it, it is refused.
const maxMembers = 2 * MaxAttributes

var (
	errNoObject = errors.New("no JSON object")
	errTwice    = errors.New("a member stands twice")
	errTooMany  = errors.New("too many members")
)

// readMembers reads one JSON object. A member that stands twice, whose name is returned, is an error: one of the two would be
// passed over, and with it perhaps what narrows who gets the event.
func readMembers(raw []byte) (members map[string]json.RawMessage, twice string, err error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, "", errNoObject
	}
	members = map[string]json.RawMessage{}
	for dec.More() {
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, "", errNoObject
		}
		if _, ok := members[name]; ok {
			return nil, name, errTwice
		}
		if len(members) == maxMembers {
			return nil, "", errTooMany
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, "", errNoObject
		}
		members[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, "", errNoObject
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, "", errNoObject
	}
	return members, "", nil
}

// fault notes what is wrong, up to codecs.MaxFaults: more would help nobody.
func (in *Input) fault(field, reason, text string) {
	if len(in.Faults) < codecs.MaxFaults {
		in.Faults = append(in.Faults, codecs.Fault{Field: field, Reason: reason, Text: text})
	}
}

// consent takes the list of authorised subscribers out of the object that a well-known public example carries as an
// attribute. Everything else in it is the source's own view of the consent, which decides nothing. What cannot be read is
// refused: to pass over it would widen who gets the event.
func (in *Input) consent(raw json.RawMessage) {
	if raw == nil || string(raw) == "null" {
		return
	}
	members, _, err := readMembers(raw)
	if err != nil {
		in.fault("consent", InvalidList, "consent must be an object of at most 96 members, each of which stands once")
		return
	}
	listed, ok := members["authorizedSubscribers"]
	if !ok {
		return
	}
	var ids []string
	if err := json.Unmarshal(listed, &ids); err != nil || ids == nil {
		in.fault("consent.authorizedSubscribers", InvalidList, "must be a list of organisation ids")
		return
	}
	in.HasList, in.Authorized = true, ids
}

func (in *Input) data(members map[string]json.RawMessage) {
	data, encoded := members["data"], members["data_base64"]
	switch {
	case data != nil && encoded != nil:
		in.fault("data", InvalidAttribute, "an event has data or data_base64, not both")
	case encoded != nil:
		var text string
		if json.Unmarshal(encoded, &text) != nil {
			in.fault("data_base64", InvalidAttribute, "must be text")
			return
		}
		value, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			in.fault("data_base64", InvalidAttribute, "must be base64 of Avro in the registry's wire format")
			return
		}
		in.Value = value
	case data != nil && string(data) != "null":
		in.JSON = data
	}
}

// attributes takes every member that is left. Values become CloudEvents' canonical text.
func (in *Input) attributes(members map[string]json.RawMessage) {
	clean := make(map[string]json.RawMessage, len(members))
	for name, value := range members {
		first := byte(0)
		if len(value) > 0 {
			first = value[0]
		}
		switch {
		case !attributeName(name): // the SDK would lower its case and let it pass
			in.fault(printable(name), InvalidName, "attribute names are 1 to 20 characters of a-z and 0-9")
		case first == '{' || first == '[':
			in.fault(name, InvalidAttribute, "an attribute is text, a number or a boolean; only consent may be an object")
		case first == 'n': // null: absent (CloudEvents JSON format 2.2)
		case textual[name] && first != '"':
			in.fault(name, InvalidAttribute, "must be text")
		case first == '-' || first >= '0' && first <= '9':
			if _, err := strconv.ParseInt(string(value), 10, 32); err != nil { // the SDK would cut a fraction off
				in.fault(name, InvalidAttribute, "a number must be a whole one of 32 bits")
				continue
			}
			clean[name] = value
		default:
			clean[name] = value
		}
	}
	if len(in.Faults) > 0 {
		return
	}
	var version string
	if v, ok := clean["specversion"]; !ok || json.Unmarshal(v, &version) != nil || version != "1.0" {
		// The SDK would take 0.3 too, with other attributes.
		in.fault("specversion", WrongSpecVersion, "specversion must be 1.0")
		return
	}
	checked, err := json.Marshal(clean)
	if err != nil {
		in.fault("event", NotACloudEvent, "its attributes cannot be read")
		return
	}
	var e event.Event
	if err := e.UnmarshalJSON(checked); err != nil {
		in.blame(clean)
		return
	}
	in.take(&e, clean)
}

// textual are the attributes whose type is text whatever they hold.
var textual = map[string]bool{
	"specversion": true, "id": true, "source": true, "type": true, "time": true, "subject": true, "dataschema": true,
	"datacontenttype": true, "subjectrole": true, "recipient": true, listName: true,
}

// blame finds the attribute that the SDK refused by handing it each alone: the SDK's own text could hold its value.
func (in *Input) blame(attributes map[string]json.RawMessage) {
	for name, value := range attributes {
		if name == "specversion" {
			continue
		}
		alone, err := json.Marshal(map[string]json.RawMessage{"specversion": json.RawMessage(`"1.0"`), name: value})
		var e event.Event
		if err == nil && e.UnmarshalJSON(alone) == nil {
			continue
		}
		if name == "time" {
			in.fault(name, InvalidTime, "time must be a timestamp of RFC 3339, such as 2026-01-31T12:00:00Z")
		} else {
			in.fault(name, InvalidAttribute, "is not of the type that CloudEvents gives it")
		}
	}
	if len(in.Faults) == 0 {
		in.fault("event", NotACloudEvent, "its attributes cannot be read")
	}
}

// take keeps what the SDK accepted. Text stays as it was given: the SDK would write some URIs in another spelling than the
// trust registry's.
func (in *Input) take(e *event.Event, attributes map[string]json.RawMessage) {
	for name, raw := range attributes {
		var text string
		if textual[name] && json.Unmarshal(raw, &text) == nil && text != "" {
			in.extension(name, text)
		}
	}
	if mediaType := e.DataContentType(); mediaType != "" && in.JSON != nil && !isJSON(mediaType) {
		in.fault("datacontenttype", InvalidAttribute, "data in JSON has a JSON media type; Avro goes into data_base64")
	}
	for name, value := range e.Extensions() {
		if textual[name] {
			continue
		}
		text, err := types.Format(value)
		if err != nil {
			in.fault(name, InvalidAttribute, "is of no type that CloudEvents knows")
			continue
		}
		in.extension(name, text)
	}
}

// extension keeps an extension's text; the list of authorised subscribers may stand in one, separated by commas.
func (in *Input) extension(name, text string) {
	if name != listName {
		in.Attributes[name] = text
		return
	}
	if in.HasList {
		in.fault(name, InvalidList, "the list stands twice")
		return
	}
	in.HasList, in.Authorized = true, list(text)
}

// list splits a comma list; the empty text is the empty list: nobody. Of one that is too long it gives enough to see that.
func list(text string) []string {
	ids := []string{}
	for id := range strings.SplitSeq(text, ",") {
		if id = strings.TrimSpace(id); id != "" {
			ids = append(ids, id)
		}
		if len(ids) > MaxAuthorized {
			break
		}
	}
	return ids
}

func isJSON(mediaType string) bool {
	t, _, err := mime.ParseMediaType(mediaType)
	return err == nil && (t == jsonType || t == "text/json" || strings.HasSuffix(t, "+json"))
}
