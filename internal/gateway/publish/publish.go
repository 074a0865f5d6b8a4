// Package publish lets sources publish events over HTTP: CloudEvents' HTTP binding in binary, structured and batch mode, with
// data in JSON or as Avro. Whether an event is let in is internal/admission's alone; this package only reads it and tells the
// answer.
package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/admission"
	"civicbus/internal/gateway/web"

	"github.com/danielgtaylor/huma/v2"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Publisher is where events go; an *admission.Publisher.
type Publisher interface {
	Publish(ctx context.Context, organisation string, inputs []*admission.Input) []admission.Answer
}

// Bounds of one request.
const (
	MaxBatch     = 1000    // events
	maxBodyBytes = 8 << 20 // decompressed
)

// Reading JSON takes up to parsedPerByte times its bytes for a moment (an array of small numbers, measured), one event after the
// other of a request; parsing bounds what all requests take for it.
const (
	parsedPerByte = 48
	maxParsing    = 256 << 20
)

// Media types of CloudEvents' JSON format.
const (
	structuredType = "application/cloudevents+json"
	batchType      = "application/cloudevents-batch+json"
	anyCloudEvents = "application/cloudevents"
)

// bounded publishes what there is memory for.
type bounded struct {
	to      Publisher
	parsing web.Budget
}

func (b *bounded) publish(ctx context.Context, organisation string, inputs []*admission.Input) ([]admission.Answer, error) {
	largest := 0
	for _, in := range inputs {
		largest = max(largest, len(in.JSON))
	}
	release, err := b.parsing.Reserve(int64(largest) * parsedPerByte)
	if err != nil {
		return nil, err
	}
	defer release()
	return b.to.Publish(ctx, organisation, inputs), nil
}

// Result is what became of one event.
type Result struct {
	Status    string      `json:"status" enum:"accepted,held,refused,unavailable" doc:"accepted: Kafka has it. held: Kafka has it among the dead letters, because its subject could not be found; nothing is lost. refused: errors says why. unavailable: nobody knows; publish it again, that does no harm."`
	ID        string      `json:"id,omitempty" doc:"The event's id, as it was sent."`
	LifeEvent string      `json:"lifeEventId,omitempty" doc:"The id by which civicbus and its audit log know the event; a repeat has the same."`
	Subjects  int         `json:"subjects" doc:"How many people or companies the event is about."`
	Errors    []web.Fault `json:"errors,omitempty" doc:"What is wrong or missing."`
}

// Batch is the answer to a batch: a result for each event, in their order.
type Batch struct {
	Results []Result `json:"results"`
}

// Reasons of trust: the event may be right, the publisher may not send it.
var forbidden = []string{admission.UnknownOrganisation, admission.OrganisationNotActive, admission.SourceMismatch, admission.TypeNotAllowed, admission.CommandNotAllowed}

// Mount declares the route.
func Mount(a *web.API, to Publisher) error {
	if to == nil {
		return errors.New("mount publishing: a publisher is required")
	}
	a.Explain("event_refused", "The event is not let in; errors says why, by field.")
	a.Explain("not_allowed", "The organisation may not publish this: it is not its source, or not its type.")
	a.Explain("not_a_cloudevent", "The request is no CloudEvent in binary, structured or batch mode.")
	a.Explain("batch_refused", "Not every event of the batch was let in; results says what became of each. Those accepted stay so, and may be sent again.")
	within := &bounded{to: to, parsing: web.Budget{Bytes: maxParsing}}
	web.Serve(a, web.Route{ID: "publish-events", Method: http.MethodPost, Path: "/api/events", Tag: "publish", Summary: "Publish events",
		Description: "One CloudEvent 1.0 in binary mode (ce- headers; the body is the data, as JSON or as Avro in the registry's wire format) or in structured mode, or a batch of at most " +
			strconv.Itoa(MaxBatch) + ". Data in JSON is turned into the Avro of the type's newest schema. The answer comes once Kafka has the events. " +
			"The same source and id again is accepted and not published twice. Events of one request keep their order; of several requests, if each waits for the answer to the one before.",
		For: web.Organisations, Scope: web.ScopePublish, Status: http.StatusAccepted, MaxBody: maxBodyBytes, Document: document(a)},
		func(w http.ResponseWriter, r *http.Request) error { return serve(a, within, w, r) })
	return nil
}

func document(a *web.API) func(*huma.Operation) {
	return func(op *huma.Operation) {
		event := &huma.Schema{Type: huma.TypeObject, Description: "A CloudEvent in the JSON format.", Required: []string{"specversion", "id", "source", "type"}, AdditionalProperties: true,
			Properties: map[string]*huma.Schema{"specversion": {Type: huma.TypeString, Enum: []any{"1.0"}}, "id": {Type: huma.TypeString}, "source": {Type: huma.TypeString}, "type": {Type: huma.TypeString}}}
		op.RequestBody = &huma.RequestBody{Required: true, Description: "An event or a batch of events.", Content: map[string]*huma.MediaType{
			structuredType:             {Schema: event},
			batchType:                  {Schema: &huma.Schema{Type: huma.TypeArray, Items: event, MaxItems: ptr(MaxBatch)}},
			"application/json":         {Schema: &huma.Schema{Description: "Binary mode: the data."}},
			"application/avro":         {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary", Description: "Binary mode: the data in the registry's wire format."}},
			"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary", Description: "Binary mode, as application/avro."}},
		}}
		op.Responses["202"] = &huma.Response{Description: "Kafka has the events: the result of one, or of each in a batch.", Content: map[string]*huma.MediaType{
			"application/json": {Schema: &huma.Schema{AnyOf: []*huma.Schema{web.SchemaOf[Result](a), web.SchemaOf[Batch](a)}}}}}
	}
}

func ptr[T any](v T) *T { return &v }

func serve(a *web.API, to *bounded, w http.ResponseWriter, r *http.Request) error {
	body, err := web.Body(r)
	if err != nil {
		return err
	}
	organisation := web.From(r.Context()).Organisation
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		media = ""
	}
	switch {
	case media == batchType:
		return batch(r.Context(), to, organisation, body, r.Header.Get(codecs.HeaderTrace), w)
	case media != structuredType && strings.HasPrefix(media, anyCloudEvents):
		return web.Fail(http.StatusUnsupportedMediaType, "unsupported_media_type", "structured and batch mode are read in JSON alone: "+structuredType+", "+batchType)
	}
	rec, err := record(r.Header, body)
	if err != nil {
		return err
	}
	in := admission.FromRecord(rec, organisation)
	pointer := structuredPointer
	if media != structuredType {
		pointer = binaryPointer
	}
	id := in.Attributes["id"]
	answers, err := to.publish(r.Context(), organisation, []*admission.Input{in})
	if err != nil {
		return err
	}
	result := tell(id, answers[0], pointer)
	switch result.Status {
	case string(admission.Refused):
		return refusal(result.Errors)
	case string(admission.Unavailable):
		return web.Unavailable("it is not known whether the event was published: publish it again, that does no harm")
	}
	return web.JSON(w, http.StatusAccepted, result)
}

// refusal is the problem for one event.
func refusal(faults []web.Fault) error {
	if slices.ContainsFunc(faults, func(f web.Fault) bool { return slices.Contains(forbidden, f.Code) }) {
		return web.Fail(http.StatusForbidden, "not_allowed", "the organisation may not publish this", faults...)
	}
	if len(faults) == 1 && faults[0].Code == admission.NotACloudEvent {
		return web.Fail(http.StatusUnprocessableEntity, "not_a_cloudevent", faults[0].Detail, faults...)
	}
	return web.Fail(http.StatusUnprocessableEntity, "event_refused", "the event is not let in", faults...)
}

// record is the request as the record that admission reads from an inbox: HTTP's binding and Kafka's differ in the names of
// the headers, and HTTP's values are percent-encoded (CloudEvents HTTP binding 1.0.2, 3.1.3.2).
func record(headers http.Header, body []byte) (*kgo.Record, error) {
	rec := &kgo.Record{Value: body, Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte(headers.Get("Content-Type"))}}}
	for key, values := range headers {
		name, ok := strings.CutPrefix(strings.ToLower(key), "ce-")
		if !ok {
			continue
		}
		for _, value := range values {
			if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			text, err := url.PathUnescape(value)
			if err != nil {
				return nil, web.Fail(http.StatusUnprocessableEntity, "not_a_cloudevent", "a ce- header is not percent-encoded as it should be",
					web.Fault{Field: "attributes", Code: admission.InvalidAttribute, Detail: "a percent sign is written %25"})
			}
			rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: "ce_" + name, Value: []byte(text)})
		}
	}
	rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: codecs.HeaderTrace, Value: []byte(headers.Get(codecs.HeaderTrace))})
	slices.SortStableFunc(rec.Headers, func(x, y kgo.RecordHeader) int { return strings.Compare(x.Key, y.Key) })
	return rec, nil
}

// structuredPointer points into an event in the JSON format; some faults are of nothing in it.
func structuredPointer(field string) string {
	switch field {
	case "organisation", "event", "attributes", "(withheld)":
		return ""
	}
	return web.Pointer(field)
}

// binaryPointer points into a body that is the data itself; attributes stand in headers.
func binaryPointer(field string) string {
	rest, ok := strings.CutPrefix(field, "data")
	switch {
	case ok && rest == "", !ok:
		return ""
	case rest[0] == '.':
		return web.Pointer(rest[1:])
	}
	return ""
}

// tell turns admission's answer into a result.
func tell(id string, answer admission.Answer, pointer func(string) string) Result {
	r := Result{Status: string(answer.Status), LifeEvent: answer.LifeEvent, Subjects: answer.Subjects}
	if answer.LifeEvent != "" && answer.Status != admission.Refused {
		r.ID = id // admission has found that it may be shown
	}
	if len(answer.Faults) > 0 {
		r.Errors = web.Faults(answer.Faults, pointer)
	}
	return r
}

// batch publishes a batch: each event on its own.
func batch(ctx context.Context, to *bounded, organisation string, body []byte, trace string, w http.ResponseWriter) error {
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '[' || !json.Valid(body) {
		return web.Fail(http.StatusBadRequest, "malformed", "a batch is a JSON array of events")
	}
	var inputs []*admission.Input
	for in, err := range admission.ReadEvents(bytes.NewReader(body), organisation) {
		if err != nil {
			return web.Fail(http.StatusBadRequest, "malformed", "a batch is a JSON array of events, each of at most 4 MiB")
		}
		in.Trace = trace
		if inputs = append(inputs, in); len(inputs) > MaxBatch {
			return web.Fail(http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("a batch has at most %d events", MaxBatch))
		}
	}
	ids := make([]string, len(inputs))
	for i, in := range inputs {
		ids[i] = in.Attributes["id"]
	}
	answer := Batch{Results: []Result{}}
	refused, unavailable := false, false
	answers, err := to.publish(ctx, organisation, inputs)
	if err != nil {
		return err
	}
	for i, got := range answers {
		r := tell(ids[i], got, func(field string) string { return "/" + strconv.Itoa(i) + structuredPointer(field) })
		refused, unavailable = refused || got.Status == admission.Refused, unavailable || got.Status == admission.Unavailable
		answer.Results = append(answer.Results, r)
	}
	switch {
	case unavailable:
		return web.WithResults(web.Unavailable("it is not known whether each event was published: publish them again, that does no harm"), answer.Results)
	case refused:
		return web.WithResults(web.Fail(http.StatusUnprocessableEntity, "batch_refused", "not every event is let in"), answer.Results)
	}
	return web.JSON(w, http.StatusAccepted, answer)
}
