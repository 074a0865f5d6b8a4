package subscriptions

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/gateway/web"
	"civicbus/internal/verdict"

	"github.com/danielgtaylor/huma/v2"
)

// Wanted is a subscription as it is asked for.
type Wanted struct {
	SubscriberID string   `json:"subscriberId" minLength:"1" maxLength:"128" example:"kela.fi" doc:"The organisation that receives: the token's own."`
	EventTypes   []string `json:"eventTypes" minItems:"1" maxItems:"64" nullable:"false" example:"[\"fi.dvv.person.birth\"]" doc:"CloudEvents types."`
	Role         string   `json:"role,omitempty" maxLength:"64" doc:"Which subject of an event is followed; absent: each type's first role."`
	Filter       Filter   `json:"filter,omitempty" doc:"Paths with the values that they must have, {\"cel\": ...}, or a CloudEvents filter or list of filters; absent: every event."`
	Webhook      string   `json:"webhook,omitempty" maxLength:"2048" doc:"https URL that deliveries are sent to; absent: they are read, from Kafka or from this gateway."`
	Consent      *Consent `json:"consent,omitempty" doc:"Deliver on the consent of the subject."`
	Purpose      string   `json:"purpose,omitempty" maxLength:"200" doc:"Without consent: the registered purpose."`
	Basis        string   `json:"basis,omitempty" maxLength:"64" doc:"Without consent: the legal basis, such as legal_obligation."`
	Fields       []string `json:"fields,omitempty" maxItems:"256" nullable:"false" doc:"Deliver only these paths; absent: all that is permitted."`
	Thin         bool     `json:"thin,omitempty" doc:"Deliver the envelope and a dataref; the data is fetched from there, and decided again then."`
	Mode         string   `json:"mode,omitempty" enum:"binary,structured" doc:"CloudEvents content mode of a webhook."`
}

// Consent is what the subject's grant must cover.
type Consent struct {
	RequiredScopes []string `json:"requiredScopes,omitempty" maxItems:"64" nullable:"false" example:"[\"birth-notification\", \"benefit-eligibility\"]" doc:"A grant must cover all of them."`
	Purpose        string   `json:"purpose" minLength:"1" maxLength:"200" example:"Automatic child benefit processing" doc:"A registered purpose, or words that name one."`
}

// Filter is a filter as it was written: numbers keep their digits, and a key that stands twice is found.
type Filter json.RawMessage

// MarshalJSON gives it back as it was.
func (f Filter) MarshalJSON() ([]byte, error) { return json.RawMessage(f).MarshalJSON() }

// UnmarshalJSON keeps the text without white space; null is none.
func (f *Filter) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return err
	}
	*f = b.Bytes()
	return nil
}

// Schema is what the documentation says of it.
func (Filter) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{{Type: huma.TypeObject, AdditionalProperties: true}, {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}}}}
}

// Created answers the making of a subscription.
type Created struct {
	SubscriptionID  string `json:"subscriptionId"`
	Status          string `json:"status" enum:"pending,activating,active,paused,revoked"`
	EventsDelivered int64  `json:"eventsDelivered" doc:"Unique deliveries so far."`
	CreatedAt       string `json:"createdAt" format:"date-time"`
}

// Shown is a subscription as it is.
type Shown struct {
	Created
	Wanted
	StatusReason string `json:"statusReason,omitempty" doc:"Why it is paused or revoked."`
	RequestedBy  string `json:"requestedBy,omitempty"`
	ApprovedBy   string `json:"approvedBy,omitempty"`
	Version      int64  `json:"version"`
}

// row is what is asked for as a row, without an id.
func (w *Wanted) row(snap *verdict.Snapshot) (codecs.Subscription, error) {
	r := codecs.Subscription{Subscriber: w.SubscriberID, EventTypes: w.EventTypes, Role: w.Role, Purpose: w.Purpose, Basis: w.Basis, Fields: w.Fields,
		Delivery: codecs.Delivery{Kind: "kafka", Mode: w.Mode, Thin: w.Thin}}
	if w.Webhook != "" {
		r.Delivery.Kind, r.Delivery.Sink = "webhook", w.Webhook
	}
	r.Filter = string(w.Filter)
	where := "purpose"
	if w.Consent != nil {
		where = "consent.purpose"
		if w.Purpose != "" || w.Basis != "" && w.Basis != verdict.BasisConsent {
			return r, web.Fail(http.StatusUnprocessableEntity, "invalid", "consent and purpose or another basis exclude each other", web.Fault{Field: "consent", Pointer: "/consent", Code: "invalid"})
		}
		r.Basis, r.Purpose, r.Scopes = verdict.BasisConsent, w.Consent.Purpose, w.Consent.RequiredScopes
	} else if w.Purpose == "" || w.Basis == "" {
		return r, web.Fail(http.StatusUnprocessableEntity, "invalid", "give consent, or purpose and basis", web.Fault{Field: "consent", Pointer: "/consent", Code: "missing", Detail: "consent with a purpose; or purpose and basis"})
	}
	var err error
	r.Purpose, err = purpose(snap, &r, r.Purpose, where)
	return r, err
}

// purpose is the registered purpose that a text names: the purpose itself, or words that hold all of one purpose's words and
// of no other's. What is registered is what the organisation is entitled to for every one of the types.
func purpose(snap *verdict.Snapshot, r *codecs.Subscription, given, where string) (string, error) {
	known := purposes(snap, r)
	if slices.Contains(known, given) {
		return given, nil
	}
	words := split(given)
	var meant []string
	for _, p := range known {
		if !slices.ContainsFunc(split(p), func(w string) bool { return !slices.Contains(words, w) }) {
			meant = append(meant, p)
		}
	}
	if len(meant) == 1 {
		return meant[0], nil
	}
	detail := "the organisation is entitled to no purpose for these types"
	if len(known) > 0 {
		detail = "one of " + strings.Join(known, ", ")
	}
	return "", web.Fail(http.StatusUnprocessableEntity, "unknown_purpose", "the purpose is not registered for this organisation and these types",
		web.Fault{Field: where, Pointer: web.Pointer(where), Code: "unknown_purpose", Detail: detail})
}

// purposes lists what the organisation is entitled to for every type of a subscription, in order.
func purposes(snap *verdict.Snapshot, r *codecs.Subscription) []string {
	org := snap.Organisation(r.Subscriber)
	if org == nil {
		return nil
	}
	var all []string
	for i, name := range r.EventTypes {
		var here []string
		for _, e := range org.Receives {
			if e.EventType == name {
				here = append(here, e.Purposes...)
			}
		}
		if i == 0 {
			all = here
			continue
		}
		all = slices.DeleteFunc(all, func(p string) bool { return !slices.Contains(here, p) })
	}
	all = slices.Clone(all)
	slices.Sort(all)
	return slices.Compact(all)
}

// split gives the words of a text in lower case.
func split(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return r < '0' || r > '9' && r < 'a' || r > 'z' && r < 0x80 })
}

// show is a row as it is given out.
func show(row *codecs.Subscription, delivered int64) Shown {
	w := Wanted{SubscriberID: row.Subscriber, EventTypes: row.EventTypes, Role: row.Role, Fields: row.Fields, Thin: row.Delivery.Thin, Mode: row.Delivery.Mode, Webhook: row.Delivery.Sink}
	if row.Basis == verdict.BasisConsent {
		w.Consent = &Consent{row.Scopes, row.Purpose}
	} else {
		w.Purpose, w.Basis = row.Purpose, row.Basis
	}
	if row.Filter != "" {
		w.Filter = Filter(row.Filter)
	}
	return Shown{Created: created(row, delivered), Wanted: w, StatusReason: row.StatusReason, RequestedBy: row.RequestedBy, ApprovedBy: row.ApprovedBy, Version: row.Version}
}

func created(row *codecs.Subscription, delivered int64) Created {
	return Created{row.ID, row.Status, delivered, createdAt(row)}
}

// pointer points from a field of a row to where Wanted has it.
func (w *Wanted) pointer(field string) string {
	head, rest, _ := strings.Cut(field, "[")
	index := ""
	if n, _, ok := strings.Cut(rest, "]"); ok {
		index = "/" + n
	}
	switch head {
	case "subscriber":
		return "/subscriberId"
	case "purpose":
		if w.Consent != nil {
			return "/consent/purpose"
		}
	case "scopes":
		return "/consent/requiredScopes" + index
	case "basis":
		if w.Consent != nil {
			return "/consent"
		}
	case "delivery.sink":
		return "/webhook"
	case "delivery.mode":
		return "/mode"
	case "eventTypes", "fields":
		return "/" + head + index
	case "filter":
		return "/filter"
	case "role":
	default:
		if w.Filter != nil { // what it reads, or a dialect
			return "/filter"
		}
		return ""
	}
	return "/" + head
}
