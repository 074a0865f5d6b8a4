package catalog

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/internal/verdict"

	"github.com/danielgtaylor/huma/v2"
)

// Type is an event type in short.
type Type struct {
	Type           string `json:"type"`
	Title          string `json:"title"`
	Description    string `json:"description,omitempty"`
	Category       string `json:"category" doc:"state-change, domain, notification or command."`
	Owner          string `json:"owner" doc:"The organisation answerable for it."`
	Classification string `json:"classification" doc:"Of a field that names none: open, internal, confidential or sensitive."`
	Stream         string `json:"stream"`
	Retired        bool   `json:"retired" doc:"No new events are let in."`
	Version        int64  `json:"version" doc:"Of the catalog's entry."`
}

// Whole is an event type with everything about it.
type Whole struct {
	Type
	Roles           []Role  `json:"roles" nullable:"false" doc:"Whom an event is about; a subscription follows one role, by default the first."`
	Fields          []Field `json:"fields" nullable:"false" doc:"Empty while the registry has no schema."`
	Rules           []Rule  `json:"rules" nullable:"false" doc:"Legal bases other than consent."`
	RegistrySubject string  `json:"registrySubject"`
	SchemaID        int32   `json:"schemaId,omitempty" doc:"Of the newest schema in the registry."`
	Schema          JSON    `json:"schema,omitempty" doc:"That schema, Avro."`
	Sample          JSON    `json:"sample,omitempty" doc:"Data as JSON, made up."`
}

// Role is one role of a type's subjects.
type Role struct {
	Name     string `json:"name"`
	Path     string `json:"path"`
	Scheme   string `json:"scheme"`
	Many     bool   `json:"many"`
	Optional bool   `json:"optional"`
}

// Field is one field of a type's data.
type Field struct {
	Path           string   `json:"path"`
	Type           string   `json:"type" doc:"Avro type, without null."`
	Owner          string   `json:"owner,omitempty" doc:"The role whose subject must have granted it; absent: nobody's."`
	Scopes         []string `json:"scopes" nullable:"false" doc:"A grant with one of them covers the field; empty: never by consent."`
	Classification string   `json:"classification"`
}

// Rule is one legal rule.
type Rule struct {
	ID        string   `json:"id"`
	Recipient string   `json:"recipient"`
	Purpose   string   `json:"purpose"`
	Basis     string   `json:"basis"`
	Role      string   `json:"role,omitempty"`
	Fields    []string `json:"fields" nullable:"false"`
	ValidFrom string   `json:"validFrom" format:"date-time"`
	ValidTo   string   `json:"validTo,omitempty" format:"date-time"`
	Citation  string   `json:"citation"`
}

// Receiver is one subscription to a type. Its filter is the subscriber's own affair.
type Receiver struct {
	Subscription string   `json:"subscription"`
	Subscriber   string   `json:"subscriber"`
	Name         string   `json:"name,omitempty" doc:"Of the subscriber."`
	Status       string   `json:"status"`
	Role         string   `json:"role"`
	Purpose      string   `json:"purpose"`
	Basis        string   `json:"basis"`
	Scopes       []string `json:"scopes,omitempty" nullable:"false"`
	Fields       []string `json:"fields,omitempty" nullable:"false" doc:"Absent: all that the basis permits."`
}

// JSON is JSON as it was written.
type JSON json.RawMessage

// MarshalJSON gives it as it is.
func (j JSON) MarshalJSON() ([]byte, error) { return json.RawMessage(j).MarshalJSON() }

// Schema is what the documentation says of it.
func (JSON) Schema(huma.Registry) *huma.Schema { return &huma.Schema{} }

func typeOf(row *codecs.EventType) Type {
	return Type{row.Type, row.Title, row.Description, row.Category, row.Owner, row.Classification, row.Stream, row.Retired, row.Version}
}

func (s *server) whole(ctx context.Context, row *codecs.EventType) (*Whole, error) {
	w := &Whole{Type: typeOf(row), Roles: []Role{}, Fields: []Field{}, Rules: []Rule{}, RegistrySubject: row.RegistrySubject}
	for _, r := range row.Roles {
		w.Roles = append(w.Roles, Role(r))
	}
	for _, r := range row.Rules {
		rule := Rule{ID: r.ID, Recipient: r.Recipient, Purpose: r.Purpose, Basis: r.Basis, Role: r.Role, Fields: list(r.Fields), ValidFrom: moment(r.ValidFrom), Citation: r.Citation}
		if r.ValidTo != 0 {
			rule.ValidTo = moment(r.ValidTo)
		}
		w.Rules = append(w.Rules, rule)
	}
	schema, err := s.latest(ctx, row.RegistrySubject)
	if err != nil || schema == nil {
		return w, err
	}
	w.SchemaID, w.Schema = schema.ID(), JSON(schema.JSON())
	w.Fields = fields(row, schema)
	w.Sample = JSON(sample(row, schema))
	return w, nil
}

// fields lists what a schema has, each with the permissions that hold: the catalog's entry for the nearest path above it wins
// over the schema's own annotations, as in package verdict.
func fields(row *codecs.EventType, schema *codecs.Schema) []Field {
	out := []Field{}
	for _, path := range schema.Leaves() {
		info, err := schema.Lookup(path)
		if err != nil {
			continue
		}
		f := Field{Path: path, Type: info.Type, Owner: info.Owner, Scopes: list(info.Scopes), Classification: info.Classification}
		if info.Logical != "" {
			f.Type = info.Logical
		}
		var nearest *codecs.Field
		for i := range row.Fields {
			if c := &row.Fields[i]; covers(c.Path, path) && (nearest == nil || len(c.Path) > len(nearest.Path)) {
				nearest = c
			}
		}
		if nearest != nil {
			f.Owner, f.Scopes = nearest.Owner, list(nearest.Scopes)
			if nearest.Classification != "" {
				f.Classification = nearest.Classification
			}
		}
		if f.Classification == "" {
			f.Classification = row.Classification
		}
		out = append(out, f)
	}
	return out
}

func receivers(snap *verdict.Snapshot, row *codecs.EventType) []Receiver {
	out := []Receiver{}
	for _, sub := range snap.Subscriptions() {
		if sub.Status == verdict.StatusRevoked || !slices.Contains(sub.EventTypes, row.Type) {
			continue
		}
		r := Receiver{Subscription: sub.ID, Subscriber: sub.Subscriber, Status: sub.Status, Role: sub.Role, Purpose: sub.Purpose, Basis: sub.Basis, Scopes: sub.Scopes, Fields: sub.Fields}
		if r.Role == "" {
			r.Role = row.Roles[0].Name
		}
		if org := snap.Organisation(sub.Subscriber); org != nil {
			r.Name = org.Name
		}
		out = append(out, r)
	}
	return out
}

// list is never nil: an empty list in JSON.
func list(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}

func moment(millis int64) string { return time.UnixMilli(millis).UTC().Format(time.RFC3339) }
