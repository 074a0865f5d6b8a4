package subscriptions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"civicbus/codecs"
	"civicbus/internal/gateway/web"
	"civicbus/internal/verdict"

	"github.com/danielgtaylor/huma/v2"
)

// Sample is an event to test a filter on. It is thrown away.
type Sample struct {
	Type       string            `json:"type,omitempty" maxLength:"256" doc:"One of eventTypes; absent: the first."`
	Data       Data              `json:"data" doc:"The data as JSON, whole, as the type's newest schema has it."`
	Attributes map[string]string `json:"attributes,omitempty" doc:"CloudEvents attributes, by name."`
	Profile    map[string]string `json:"profile,omitempty" doc:"What is known of the subject, by attribute, such as municipality."`
}

// Data is JSON as it was written.
type Data json.RawMessage

// UnmarshalJSON keeps the text.
func (d *Data) UnmarshalJSON(text []byte) error { *d = append((*d)[:0], text...); return nil }

// MarshalJSON gives it back.
func (d Data) MarshalJSON() ([]byte, error) { return json.RawMessage(d).MarshalJSON() }

// Schema is what the documentation says of it.
func (Data) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

// Tested is the answer to a test.
type Tested struct {
	Matches bool        `json:"matches" doc:"The event would be considered for the subscription. Whether it is delivered depends on the subject's consent, or on the rule, at that moment."`
	Truth   string      `json:"truth" enum:"true,false,unknown" doc:"unknown: the event lacks what the filter reads, so it does not match, nor does the opposite of the filter."`
	Errors  []web.Fault `json:"errors" nullable:"false" doc:"Why the subscription would not be accepted."`
}

func (s *server) dryRunRoute() {
	web.Handle(s.api, web.Route{ID: "test-subscription", Method: http.MethodPost, Path: "/api/filters/test", Tag: heading, Summary: "Test a filter on a sample",
		Description: "Says whether a subscription would be accepted, and whether its filter matches a sample. Nothing is kept.",
		For:         web.Organisations | web.Operators, Scope: web.ScopeSubscriptionsRead},
		func(ctx context.Context, in *struct {
			Body struct {
				Subscription Wanted `json:"subscription"`
				Sample       Sample `json:"sample"`
			}
		}) (*struct{ Body Tested }, error) {
			tested, err := s.test(ctx, &in.Body.Subscription, &in.Body.Sample)
			if err != nil {
				return nil, err
			}
			return &struct{ Body Tested }{*tested}, nil
		})
}

func (s *server) test(ctx context.Context, wanted *Wanted, sample *Sample) (*Tested, error) {
	if err := mayAsk(ctx, wanted.SubscriberID); err != nil {
		return nil, err
	}
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	row, err := wanted.row(snap)
	if err != nil {
		return nil, err
	}
	row.ID = freeID(snap, &row)
	within := func(field string) string { return "/subscription" + wanted.pointer(field) }
	schemas := map[string]*codecs.Schema{}
	for _, name := range row.EventTypes {
		et := snap.EventType(name)
		if et == nil {
			continue
		}
		latest, err := s.cfg.Schemas.Latest(ctx, et.RegistrySubject)
		if err != nil && !errors.Is(err, codecs.ErrUnknownSubject) {
			return nil, web.Unavailable("the schema registry cannot be reached")
		}
		schemas[et.RegistrySubject] = latest
	}
	out := &Tested{Truth: verdict.Unknown.String(), Errors: web.Faults(verdict.ValidateSubscription(&row, snap, func(subject string) *codecs.Schema { return schemas[subject] }, s.cfg.Now()), within)}
	if sample.Type == "" {
		sample.Type = row.EventTypes[0]
	}
	et := snap.EventType(sample.Type)
	if et == nil || schemas[et.RegistrySubject] == nil {
		return out, nil // errors says that already
	}
	if len(out.Errors) > 0 {
		return out, nil
	}
	return out, s.match(out, &row, et, schemas[et.RegistrySubject], sample)
}

// match evaluates a filter that was found to be allowed.
func (s *server) match(out *Tested, row *codecs.Subscription, et *codecs.EventType, schema *codecs.Schema, sample *Sample) error {
	body, faults := schema.FromJSON(sample.Data)
	if len(faults) > 0 {
		return web.Fail(http.StatusUnprocessableEntity, "invalid", "the sample is no event of this type", web.Faults(faults, func(field string) string { return "/sample" + web.Pointer(field) })...)
	}
	stamp, err := attributes(sample.Profile)
	if err != nil {
		return err
	}
	role := row.Role
	if role == "" {
		role = et.Roles[0].Name
	}
	event := &verdict.Event{Type: et.Type, Role: role, Schema: schema, Body: body, Stamp: stamp,
		Attr: func(name string) (string, bool) { v, ok := sample.Attributes[name]; return v, ok }}
	filter, faults := verdict.CompileFilter(row.Filter, et, schema, []string{"data", "profile"})
	if len(faults) > 0 {
		return fmt.Errorf("compile a filter that was accepted: %v", faults[0].Reason)
	}
	truth, err := filter.Matches(event)
	if err != nil {
		return fmt.Errorf("evaluate a filter on a sample: %w", err)
	}
	out.Truth, out.Matches = truth.String(), truth == verdict.True
	return nil
}

// attributes reads a profile.
func attributes(profile map[string]string) (*codecs.Attributes, error) {
	stamp := &codecs.Attributes{}
	for name, value := range profile {
		a := codecs.ProfileAttribute(name)
		if a == nil {
			return nil, web.Fail(http.StatusUnprocessableEntity, "invalid", "there is no such attribute of a profile", web.Fault{Field: "sample.profile", Pointer: "/sample/profile", Code: "unknown"})
		}
		*a.Of(stamp) = value
	}
	return stamp, nil
}
