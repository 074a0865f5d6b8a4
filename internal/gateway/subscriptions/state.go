package subscriptions

import (
	"context"
	"net/http"
	"slices"

	"civicbus/codecs"
	"civicbus/internal/gateway/web"
)

// operatorsAlone are the reasons of a pause that the subscriber itself cannot end.
var operatorsAlone = []string{"security", "misuse", "entitlement_withdrawn"}

// StateParams are those of a change of status.
type StateParams struct {
	IDParam
	IfMatch string `header:"If-Match" maxLength:"64" doc:"The ETag that this was decided on; absent: whatever there is."`
}

func (s *server) stateRoutes() {
	conflicts := []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed}
	for _, kind := range []struct{ name, summary, description string }{
		{"pause", "Pause a subscription", "No delivery of it leaves civicbus by any way once this is answered. What comes meanwhile is denied."},
		{"revoke", "Revoke a subscription", "For good. No delivery of it leaves civicbus by any way once this is answered."},
	} {
		web.Handle(s.api, web.Route{ID: kind.name + "-subscription", Method: http.MethodPost, Path: "/api/subscriptions/{id}/" + kind.name, Tag: heading,
			Summary: kind.summary, Description: kind.description, For: web.Organisations | web.Operators, Scope: web.ScopeSubscriptionsWrite, Problems: conflicts},
			func(ctx context.Context, in *struct {
				StateParams
				Body *struct {
					Reason string `json:"reason,omitempty" enum:"requested,maintenance,security,misuse,entitlement_withdrawn,superseded,ended" doc:"Absent: requested."`
				}
			}) (*shownAnswer, error) {
				reason := ""
				if in.Body != nil {
					reason = in.Body.Reason
				}
				return s.turn(ctx, &in.StateParams, kind.name, reason)
			})
	}
	web.Handle(s.api, web.Route{ID: "resume-subscription", Method: http.MethodPost, Path: "/api/subscriptions/{id}/resume", Tag: heading, Summary: "Resume a paused subscription",
		Description: "What was paused for a suspicion, a misuse or a lost right is resumed by operators alone.",
		For:         web.Organisations | web.Operators, Scope: web.ScopeSubscriptionsWrite, Problems: conflicts},
		func(ctx context.Context, in *StateParams) (*shownAnswer, error) { return s.turn(ctx, in, "resume", "") })
	web.Handle(s.api, web.Route{ID: "approve-subscription", Method: http.MethodPost, Path: "/api/subscriptions/{id}/approve", Tag: heading, Summary: "Approve a pending subscription",
		Description: "By an operator who has not asked for it.", For: web.Operators, Scope: web.ScopeApprove, Problems: conflicts},
		func(ctx context.Context, in *StateParams) (*shownAnswer, error) {
			return s.turn(ctx, in, "approve", "")
		})
}

// turn changes the status of a subscription.
func (s *server) turn(ctx context.Context, in *StateParams, kind, reason string) (*shownAnswer, error) {
	row, err := s.visible(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	on, err := version(in.IfMatch, false)
	if err != nil {
		return nil, err
	}
	if kind == "resume" && web.From(ctx).Operator == "" {
		if slices.Contains(operatorsAlone, row.StatusReason) {
			return nil, web.Fail(http.StatusConflict, "paused_by_operator", "it was paused for "+row.StatusReason)
		}
		if on == 0 {
			on = row.Version // the reason that was looked at is the one that holds
		}
	}
	next, err := s.send(ctx, codecs.SubscriptionCommand{Meta: codecs.Meta{IfVersion: on}, Kind: kind, Reason: reason, Subscription: codecs.Subscription{ID: in.ID}}, nil)
	if err != nil {
		return nil, err
	}
	return s.shown(ctx, next)
}
