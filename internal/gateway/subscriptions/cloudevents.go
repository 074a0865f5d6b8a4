package subscriptions

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/gateway/web"
	"civicbus/internal/verdict"
	"civicbus/topology"

	"github.com/danielgtaylor/huma/v2"
)

// Protocols of CloudEvents' Subscriptions API, case-sensitive. The last two are civicbus's own: read from this gateway.
const (
	protocolHTTP      = "HTTP"
	protocolKafka     = "KAFKA"
	protocolWebSocket = "WEBSOCKET"
	protocolSSE       = "SSE"
)

// CloudEventsWanted is a subscription in the shape of CloudEvents' Subscriptions API (0.1-wip).
type CloudEventsWanted struct {
	ID             string            `json:"id,omitempty" pattern:"^[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?$" patternDescription:"1 to 100 of a-z, 0-9, dot and hyphen, a letter or digit at both ends" doc:"Absent: civicbus makes one."`
	Source         string            `json:"source,omitempty" maxLength:"1024" doc:"Only events of this source."`
	Types          []string          `json:"types" minItems:"1" maxItems:"64" nullable:"false"`
	Config         CloudEventsConfig `json:"config" doc:"What civicbus needs to know beside."`
	Filters        Filter            `json:"filters,omitempty" doc:"CloudEvents filters, all of which must be true: exact, prefix, suffix, all, any, not; an unknown dialect is refused. Further: {\"cel\": ...} and equality on paths."`
	Sink           string            `json:"sink,omitempty" maxLength:"2048" doc:"HTTP: an https URL. KAFKA: the subscriber's topic, or absent. WEBSOCKET and SSE: absent."`
	SinkCredential map[string]any    `json:"sinkcredential,omitempty" writeOnly:"true" doc:"Refused: deliveries to a webhook are signed instead."`
	Protocol       string            `json:"protocol" enum:"HTTP,KAFKA,WEBSOCKET,SSE"`
	Settings       *ProtocolSettings `json:"protocolsettings,omitempty"`
}

// ProtocolSettings are those of HTTP.
type ProtocolSettings struct {
	Mode string `json:"contentmode,omitempty" enum:"binary,structured" doc:"CloudEvents content mode."`
}

// CloudEventsConfig is what no part of CloudEvents' shape says.
type CloudEventsConfig struct {
	Subscriber string   `json:"subscriber,omitempty" maxLength:"128" doc:"Absent: the token's organisation."`
	Purpose    string   `json:"purpose" minLength:"1" maxLength:"200"`
	Basis      string   `json:"basis,omitempty" maxLength:"64" doc:"Absent: consent."`
	Scopes     []string `json:"scopes,omitempty" maxItems:"64" nullable:"false"`
	Role       string   `json:"role,omitempty" maxLength:"64"`
	Fields     []string `json:"fields,omitempty" maxItems:"256" nullable:"false"`
	Thin       bool     `json:"thin,omitempty"`
}

// CloudEventsShown is a subscription as it is, in that shape.
type CloudEventsShown struct {
	CloudEventsWanted
	Status string `json:"status" enum:"pending,activating,active,paused,revoked"`
}

type cloudEventsAnswer struct {
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     CloudEventsShown
}

func (s *server) cloudEventsRoutes() {
	const tag = "subscriptions, CloudEvents' shape"
	both := web.Organisations | web.Operators
	web.Handle(s.api, web.Route{ID: "ce-create-subscription", Method: http.MethodPost, Path: "/subscriptions", Tag: tag, Summary: "Subscribe", Status: http.StatusCreated,
		For: both, Scope: web.ScopeSubscriptionsWrite, Problems: []int{http.StatusConflict}},
		func(ctx context.Context, in *struct{ Body CloudEventsWanted }) (*cloudEventsAnswer, error) {
			row, err := s.fromCloudEvents(ctx, &in.Body)
			if err != nil {
				return nil, err
			}
			made, err := s.make(ctx, row, in.Body.ID, "", cloudEventsPointer)
			if err != nil {
				return nil, err
			}
			return answerCloudEvents(made), nil
		})
	web.Handle(s.api, web.Route{ID: "ce-list-subscriptions", Method: http.MethodGet, Path: "/subscriptions", Tag: tag, Summary: "List subscriptions",
		For: both, Scope: web.ScopeSubscriptionsRead, Problems: []int{http.StatusBadRequest}},
		func(ctx context.Context, in *pageParams) (*struct {
			Link string             `header:"Link"`
			Body []CloudEventsShown `nullable:"false"`
		}, error) {
			rows, link, err := s.page(ctx, in, "/subscriptions")
			if err != nil {
				return nil, err
			}
			list := []CloudEventsShown{}
			for _, row := range rows {
				list = append(list, showCloudEvents(row))
			}
			return &struct {
				Link string             `header:"Link"`
				Body []CloudEventsShown `nullable:"false"`
			}{link, list}, nil
		})
	web.Handle(s.api, web.Route{ID: "ce-get-subscription", Method: http.MethodGet, Path: "/subscriptions/{id}", Tag: tag, Summary: "See a subscription",
		For: both, Scope: web.ScopeSubscriptionsRead, Problems: []int{http.StatusNotFound}},
		func(ctx context.Context, in *IDParam) (*cloudEventsAnswer, error) {
			row, err := s.visible(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return answerCloudEvents(row), nil
		})
	web.Handle(s.api, web.Route{ID: "ce-update-subscription", Method: http.MethodPut, Path: "/subscriptions/{id}", Tag: tag, Summary: "Replace a subscription",
		Description: "With If-Match, only on that version.", For: both, Scope: web.ScopeSubscriptionsWrite, Problems: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed}},
		func(ctx context.Context, in *struct {
			StateParams
			Body CloudEventsWanted
		}) (*cloudEventsAnswer, error) {
			if in.Body.ID != "" && in.Body.ID != in.ID {
				return nil, web.Fail(http.StatusUnprocessableEntity, "invalid", "the id is the one in the address", web.Fault{Field: "id", Pointer: "/id", Code: "invalid"})
			}
			was, err := s.visible(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			on, err := version(in.IfMatch, false)
			if err != nil {
				return nil, err
			}
			if on == 0 {
				on = was.Version // a PUT never makes a row
			}
			row, err := s.fromCloudEvents(ctx, &in.Body)
			if err != nil {
				return nil, err
			}
			row.ID = in.ID
			next, err := s.send(ctx, codecs.SubscriptionCommand{Meta: codecs.Meta{IfVersion: on}, Kind: "put", Subscription: row}, cloudEventsPointer)
			if err != nil {
				return nil, err
			}
			return answerCloudEvents(next), nil
		})
	web.Handle(s.api, web.Route{ID: "ce-delete-subscription", Method: http.MethodDelete, Path: "/subscriptions/{id}", Tag: tag, Summary: "Revoke a subscription", Status: http.StatusNoContent,
		Description: "For good; it can still be seen.", For: both, Scope: web.ScopeSubscriptionsWrite, Problems: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed}},
		func(ctx context.Context, in *StateParams) (*struct{}, error) {
			_, err := s.turn(ctx, in, "revoke", "")
			return nil, err
		})
}

func answerCloudEvents(row *codecs.Subscription) *cloudEventsAnswer {
	return &cloudEventsAnswer{tag(row), "/subscriptions/" + row.ID, showCloudEvents(row)}
}

// fromCloudEvents is what is asked for as a row, without an id.
func (s *server) fromCloudEvents(ctx context.Context, w *CloudEventsWanted) (codecs.Subscription, error) {
	c := &w.Config
	if c.Subscriber == "" {
		c.Subscriber = web.From(ctx).Organisation
	}
	if c.Basis == "" {
		c.Basis = verdict.BasisConsent
	}
	r := codecs.Subscription{Subscriber: c.Subscriber, EventTypes: w.Types, Role: c.Role, Purpose: c.Purpose, Basis: c.Basis, Scopes: c.Scopes, Fields: c.Fields,
		Delivery: codecs.Delivery{Kind: "kafka", Thin: c.Thin}}
	if err := mayAsk(ctx, c.Subscriber); err != nil {
		return r, err
	}
	if w.SinkCredential != nil {
		return r, unsupported("sinkcredential", "no credentials are kept: deliveries to a webhook are signed")
	}
	switch topic := topology.SubscriberTopicName(c.Subscriber); {
	case w.Protocol == protocolHTTP:
		r.Delivery.Kind, r.Delivery.Sink = "webhook", w.Sink
		if w.Settings != nil {
			r.Delivery.Mode = w.Settings.Mode
		}
	case w.Settings != nil:
		return r, unsupported("protocolsettings", "only HTTP has settings")
	case w.Sink != "" && (w.Protocol != protocolKafka || w.Sink != topic):
		return r, unsupported("sink", "absent, or for KAFKA the subscriber's own topic: "+topic)
	}
	filter, err := joinSource(w.Source, w.Filters)
	if err != nil {
		return r, err
	}
	r.Filter = filter
	snap, err := s.snapshot(ctx)
	if err != nil {
		return r, err
	}
	r.Purpose, err = purpose(snap, &r, r.Purpose, "config.purpose")
	return r, err
}

func unsupported(field, detail string) error {
	return web.Fail(http.StatusUnprocessableEntity, "unsupported", detail, web.Fault{Field: field, Pointer: "/" + field, Code: "unsupported", Detail: detail})
}

// joinSource makes one filter of a source and filters: the source is an exact filter before the others.
func joinSource(source string, filters Filter) (string, error) {
	if source == "" {
		return string(filters), nil
	}
	first, err := json.Marshal(map[string]any{"exact": map[string]string{"source": source}})
	if err != nil {
		return "", err
	}
	rest := strings.TrimSuffix(strings.TrimPrefix(string(filters), "["), "]")
	switch {
	case filters == nil, strings.HasPrefix(string(filters), "[") && rest == "":
		return "[" + string(first) + "]", nil
	}
	return "[" + string(first) + "," + rest + "]", nil
}

// splitSource takes apart what joinSource joined.
func splitSource(filter string) (source string, filters Filter) {
	var list []json.RawMessage
	if filter == "" {
		return "", nil
	}
	if json.Unmarshal([]byte(filter), &list) != nil {
		return "", Filter("[" + filter + "]") // another shape's filter: as a list of one
	}
	var first struct{ Exact map[string]string }
	if len(list) == 0 || json.Unmarshal(list[0], &first) != nil || len(first.Exact) != 1 || first.Exact["source"] == "" {
		return "", Filter(filter)
	}
	if len(list) == 1 {
		return first.Exact["source"], nil
	}
	rest, err := json.Marshal(list[1:])
	if err != nil {
		return "", Filter(filter)
	}
	return first.Exact["source"], rest
}

func showCloudEvents(row *codecs.Subscription) CloudEventsShown {
	w := CloudEventsWanted{ID: row.ID, Types: row.EventTypes, Protocol: protocolKafka, Sink: topology.SubscriberTopicName(row.Subscriber),
		Config: CloudEventsConfig{row.Subscriber, row.Purpose, row.Basis, row.Scopes, row.Role, row.Fields, row.Delivery.Thin}}
	if row.Delivery.Kind == "webhook" {
		w.Protocol, w.Sink = protocolHTTP, row.Delivery.Sink
		if row.Delivery.Mode != "" {
			w.Settings = &ProtocolSettings{row.Delivery.Mode}
		}
	}
	w.Source, w.Filters = splitSource(row.Filter)
	return CloudEventsShown{w, row.Status}
}

// cloudEventsPointer points from a field of a row to where this shape has it.
func cloudEventsPointer(field string) string {
	head, rest, indexed := strings.Cut(field, "[")
	index := ""
	if n, _, ok := strings.Cut(rest, "]"); indexed && ok {
		index = "/" + n
	}
	switch head {
	case "id", "role":
		return map[string]string{"id": "/id", "role": "/config/role"}[head]
	case "subscriber", "purpose", "basis", "scopes", "fields":
		return "/config/" + head + index
	case "eventTypes":
		return "/types" + index
	case "filter":
		return "/filters"
	case "delivery.sink":
		return "/sink"
	case "delivery.mode":
		return "/protocolsettings/contentmode"
	}
	return "/filters" // what it reads, or a dialect
}

var _ huma.SchemaProvider = Filter{}
