package subscriptions

import (
	"context"
	"net/http"
	"time"

	"civicbus/codecs"
	"civicbus/internal/gateway/web"
	"civicbus/internal/verdict"
)

// Webhooks is what the routes about webhooks stand on.
type Webhooks struct {
	// Secret is the text of the secret of a number.
	Secret func(subscription string, version int64) string
	// Attempts are the last attempts at a subscription's webhook, the oldest first.
	Attempts func(ctx context.Context, subscription string) ([]codecs.UsageAttempt, error)
	// Try sends a test event to a subscription's webhook.
	Try func(ctx context.Context, sub *codecs.Subscription) Tried
}

// Tried is what came of a test event.
type Tried struct {
	ID     string `json:"id" doc:"Its webhook-id."`
	Taken  bool   `json:"taken" doc:"The webhook answered with 2xx."`
	Cause  string `json:"cause,omitempty" doc:"Why it was not taken: address_forbidden, name_unknown, no_connection, tls_failed, not_allowed (the answer to OPTIONS gives no permission), timeout, no_answer, status or redirect."`
	Status int    `json:"status,omitempty" doc:"Of the webhook's answer."`
	Millis int64  `json:"millis" doc:"How long it took."`
}

// Attempt is one attempt to deliver.
type Attempt struct {
	DeliveryID string `json:"deliveryId" doc:"The delivery: its webhook-id and the event's id."`
	EventType  string `json:"eventType"`
	Attempt    int32  `json:"attempt" doc:"From 1; a delivery is attempted ten times within about three days."`
	At         string `json:"at" format:"date-time"`
	Outcome    string `json:"outcome" doc:"delivered; failed: it is attempted again; gone: answered with 410, which pauses the subscription; denied: not permitted any more; out_of_time, not_kept, malformed."`
	Cause      string `json:"cause,omitempty" doc:"Why it was not delivered."`
	Status     int32  `json:"status,omitempty" doc:"Of the webhook's answer."`
	Millis     int64  `json:"millis" doc:"How long it took."`
}

type secretAnswer struct {
	ETag string `header:"ETag"`
	Body struct {
		Secret        string `json:"secret" doc:"Sign-checking key of Standard Webhooks. It is shown now and never again."`
		PreviousUntil string `json:"previousUntil" format:"date-time" doc:"Until when deliveries are signed with the secret before it too."`
	}
}

func (s *server) webhookRoutes() {
	conflicts := []int{http.StatusNotFound, http.StatusConflict}
	web.Handle(s.api, web.Route{ID: "list-deliveries", Method: http.MethodGet, Path: "/api/subscriptions/{id}/deliveries", Tag: heading, Summary: "See the last attempts at a webhook",
		Description: "The last hundred attempts to deliver to the subscription's webhook, the newest first. They are counted a moment after they were made.",
		For:         web.Organisations | web.Operators, Scope: web.ScopeSubscriptionsRead, Problems: []int{http.StatusNotFound}},
		func(ctx context.Context, in *IDParam) (*struct {
			Body struct {
				Attempts []Attempt `json:"attempts" nullable:"false"`
			}
		}, error) {
			if _, err := s.visible(ctx, in.ID); err != nil {
				return nil, err
			}
			all, err := s.cfg.Webhooks.Attempts(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			out := &struct {
				Body struct {
					Attempts []Attempt `json:"attempts" nullable:"false"`
				}
			}{}
			out.Body.Attempts = []Attempt{}
			for i := len(all) - 1; i >= 0; i-- {
				a := &all[i]
				out.Body.Attempts = append(out.Body.Attempts, Attempt{a.DeliveryID, a.EventType, a.Attempt, time.UnixMilli(a.At).UTC().Format(time.RFC3339), a.Outcome, a.Cause, a.Status, a.Millis})
			}
			return out, nil
		})
	web.Handle(s.api, web.Route{ID: "test-webhook", Method: http.MethodPost, Path: "/api/subscriptions/{id}/test", Tag: heading, Summary: "Send a test event to a webhook",
		Description: "Asks the webhook for its permission and sends it one signed event of type civicbus.webhook.test, which says nothing of anybody. Nothing is repeated.",
		For:         web.Organisations | web.Operators, Scope: web.ScopeSubscriptionsWrite, Problems: conflicts},
		func(ctx context.Context, in *IDParam) (*struct{ Body Tried }, error) {
			row, err := s.hooked(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			if row.Status != verdict.StatusActive {
				return nil, web.Fail(http.StatusConflict, "not_active", "the subscription is "+row.Status)
			}
			return &struct{ Body Tried }{s.cfg.Webhooks.Try(ctx, row)}, nil
		})
	web.Handle(s.api, web.Route{ID: "rotate-secret", Method: http.MethodPost, Path: "/api/subscriptions/{id}/secret", Tag: heading, Summary: "Give a webhook's signatures a new secret",
		Description: "The answer has the secret, which is shown nowhere else. For a day deliveries have two signatures, with the new secret and with the one before it (Standard Webhooks 1.0.0).",
		For:         web.Organisations | web.Operators, Scope: web.ScopeSubscriptionsWrite, Problems: append([]int{http.StatusPreconditionFailed}, conflicts...)},
		func(ctx context.Context, in *StateParams) (*secretAnswer, error) {
			if _, err := s.hooked(ctx, in.ID); err != nil {
				return nil, err
			}
			on, err := version(in.IfMatch, false)
			if err != nil {
				return nil, err
			}
			row, err := s.send(ctx, codecs.SubscriptionCommand{Meta: codecs.Meta{IfVersion: on}, Kind: "rotate-secret", Subscription: codecs.Subscription{ID: in.ID}}, nil)
			if err != nil {
				return nil, err
			}
			out := &secretAnswer{ETag: tag(row)}
			out.Body.Secret = s.cfg.Webhooks.Secret(row.ID, row.SecretVersion)
			out.Body.PreviousUntil = time.UnixMilli(row.SecretOverlap).UTC().Format(time.RFC3339)
			return out, nil
		})
}

// hooked is a subscription that who asks may see, and that goes to a webhook.
func (s *server) hooked(ctx context.Context, id string) (*codecs.Subscription, error) {
	row, err := s.visible(ctx, id)
	if err == nil && row.Delivery.Kind != "webhook" {
		err = web.Fail(http.StatusConflict, "not_a_webhook", "the subscription's deliveries go to no webhook")
	}
	return row, err
}
