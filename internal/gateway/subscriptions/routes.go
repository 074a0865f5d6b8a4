package subscriptions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/gateway/web"
	"civicbus/internal/pseudonym"
)

const heading = "subscriptions"

// IDParam is the id in a path.
type IDParam struct {
	ID string `path:"id" maxLength:"128" example:"sub-kela-birth-001" doc:"The subscription's id."`
}

type shownAnswer struct {
	ETag string `header:"ETag"`
	Body Shown
}

func (s *server) ownRoutes() {
	web.Handle(s.api, web.Route{ID: "create-subscription", Method: http.MethodPost, Path: "/api/subscriptions", Tag: heading, Summary: "Subscribe", Status: http.StatusCreated,
		Description: "The answer comes once the subscription is in effect. Its status is active where the organisation's subscriptions of this purpose are approved beforehand, else pending, until a second person approves it. " +
			"With Idempotency-Key (draft-ietf-httpapi-idempotency-key-header) the same request again is answered as the first was.",
		For: web.Organisations | web.Operators, Scope: web.ScopeSubscriptionsWrite, Problems: []int{http.StatusConflict}},
		func(ctx context.Context, in *struct {
			Key  string `header:"Idempotency-Key" maxLength:"255" doc:"Any text of the client's, once for each subscription."`
			Body Wanted
		}) (*createdAnswer, error) {
			row, err := s.create(ctx, &in.Body, in.Key)
			if err != nil {
				return nil, err
			}
			delivered, err := s.cfg.Delivered(ctx, row.ID)
			if err != nil {
				return nil, err
			}
			return &createdAnswer{tag(row), "/api/subscriptions/" + row.ID, created(row, delivered)}, nil
		})
	web.Handle(s.api, web.Route{ID: "list-subscriptions", Method: http.MethodGet, Path: "/api/subscriptions", Tag: heading, Summary: "List subscriptions",
		Description: "An organisation's own; an operator sees all. By id; Link has the next page (RFC 8288).",
		For:         web.Organisations | web.Operators, Scope: web.ScopeSubscriptionsRead, Problems: []int{http.StatusBadRequest}},
		func(ctx context.Context, in *pageParams) (*struct {
			Link string `header:"Link"`
			Body struct {
				Subscriptions []Shown `json:"subscriptions" nullable:"false"`
			}
		}, error) {
			rows, link, err := s.page(ctx, in, "/api/subscriptions")
			if err != nil {
				return nil, err
			}
			out := &struct {
				Link string `header:"Link"`
				Body struct {
					Subscriptions []Shown `json:"subscriptions" nullable:"false"`
				}
			}{Link: link}
			out.Body.Subscriptions = []Shown{}
			for _, row := range rows {
				delivered, err := s.cfg.Delivered(ctx, row.ID)
				if err != nil {
					return nil, err
				}
				out.Body.Subscriptions = append(out.Body.Subscriptions, show(row, delivered))
			}
			return out, nil
		})
	web.Handle(s.api, web.Route{ID: "get-subscription", Method: http.MethodGet, Path: "/api/subscriptions/{id}", Tag: heading, Summary: "See a subscription",
		For: web.Organisations | web.Operators, Scope: web.ScopeSubscriptionsRead, Problems: []int{http.StatusNotFound}},
		func(ctx context.Context, in *IDParam) (*shownAnswer, error) {
			row, err := s.visible(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return s.shown(ctx, row)
		})
	web.Handle(s.api, web.Route{ID: "edit-subscription", Method: http.MethodPut, Path: "/api/subscriptions/{id}", Tag: heading, Summary: "Edit a subscription",
		Description: "The whole subscription, as it shall be. What changes what is delivered, why or to whom returns it to pending, unless the organisation's subscriptions of this purpose are approved beforehand.",
		For:         web.Organisations | web.Operators, Scope: web.ScopeSubscriptionsWrite,
		Problems: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed, http.StatusPreconditionRequired}},
		func(ctx context.Context, in *struct {
			IDParam
			IfMatch string `header:"If-Match" maxLength:"64" doc:"The ETag that the edit was made on. Required."`
			Body    Wanted
		}) (*shownAnswer, error) {
			row, err := s.edit(ctx, in.ID, in.IfMatch, &in.Body)
			if err != nil {
				return nil, err
			}
			return s.shown(ctx, row)
		})
}

type createdAnswer struct {
	ETag     string `header:"ETag"`
	Location string `header:"Location"`
	Body     Created
}

func (s *server) shown(ctx context.Context, row *codecs.Subscription) (*shownAnswer, error) {
	delivered, err := s.cfg.Delivered(ctx, row.ID)
	if err != nil {
		return nil, err
	}
	return &shownAnswer{tag(row), show(row, delivered)}, nil
}

// mayAsk says whether who asks may ask for an organisation.
func mayAsk(ctx context.Context, subscriber string) error {
	if who := web.From(ctx); who.Operator == "" && who.Organisation != subscriber {
		return web.Fail(http.StatusForbidden, "wrong_subscriber", "subscriberId must be the organisation that the token stands for", web.Fault{Field: "subscriberId", Pointer: "/subscriberId", Code: "wrong_subscriber"})
	}
	return nil
}

func (s *server) create(ctx context.Context, wanted *Wanted, key string) (*codecs.Subscription, error) {
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
	return s.make(ctx, row, "", key, wanted.pointer)
}

// make makes a subscription, under an id that was wanted or under a free one. key is an Idempotency-Key; empty: none.
func (s *server) make(ctx context.Context, row codecs.Subscription, id, key string, pointer func(string) string) (*codecs.Subscription, error) {
	if pseudonym.HoldsHetu(id) { // it becomes a key
		return nil, web.Fail(http.StatusUnprocessableEntity, "invalid", "the id holds a personal identity code", web.Fault{Field: "id", Pointer: "/id", Code: "invalid"})
	}
	command, err := commandID(ctx, key, &row)
	if err != nil {
		return nil, err
	}
	if command != "" {
		if done, err := s.repeated(&row, command); done != nil || err != nil {
			return done, err
		}
	}
	for range generateTries {
		row.ID = id
		if id == "" {
			row.ID = freeID(s.cfg.Tables.Snapshot(), &row)
		}
		made, err := s.send(ctx, codecs.SubscriptionCommand{Meta: codecs.Meta{ID: command, IfVersion: codecs.IfAbsent}, Kind: "put", Subscription: row}, pointer)
		var p *web.Problem
		if !errors.As(err, &p) || p.Code != "version_conflict" {
			return made, err
		}
		if id != "" {
			return nil, web.Fail(http.StatusConflict, "subscription_exists", "there is a subscription with this id")
		}
		if _, err := s.settled(ctx, row.ID, 1); err != nil { // another was faster; so that its id is not tried again
			return nil, err
		}
	}
	return nil, web.Unavailable("too many subscriptions are being made at once")
}

// commandID is the id of the command that a request with an Idempotency-Key becomes: of who asks and the key, and of what is
// asked for. Empty: none was given, and the command gets a random one.
func commandID(ctx context.Context, key string, row *codecs.Subscription) (string, error) {
	if key == "" {
		return "", nil
	}
	content, err := json.Marshal(row)
	if err != nil {
		return "", err
	}
	who := sha256.Sum256([]byte(web.From(ctx).Client + "\x00" + key))
	what := sha256.Sum256(content)
	return "key-" + hex.EncodeToString(who[:16]) + "-" + hex.EncodeToString(what[:16]), nil
}

// repeated finds what an earlier request with the same key made.
func (s *server) repeated(row *codecs.Subscription, command string) (*codecs.Subscription, error) {
	stem := command[:strings.LastIndexByte(command, '-')+1]
	for _, have := range s.cfg.Tables.Snapshot().Subscriptions() {
		if have.Subscriber != row.Subscriber {
			continue
		}
		if slices.Contains(have.AppliedIDs, command) {
			return have, nil
		}
		if slices.ContainsFunc(have.AppliedIDs, func(id string) bool { return strings.HasPrefix(id, stem) }) {
			return nil, web.Fail(http.StatusUnprocessableEntity, "idempotency_key_reused", "this Idempotency-Key came before with another request")
		}
	}
	return nil, nil
}

// edit replaces a subscription.
func (s *server) edit(ctx context.Context, id, ifMatch string, wanted *Wanted) (*codecs.Subscription, error) {
	was, err := s.visible(ctx, id)
	if err != nil {
		return nil, err
	}
	on, err := version(ifMatch, true)
	if err != nil {
		return nil, err
	}
	if err := mayAsk(ctx, wanted.SubscriberID); err != nil {
		return nil, err
	}
	row, err := wanted.row(s.cfg.Tables.Snapshot())
	if err != nil {
		return nil, err
	}
	if on == 0 {
		on = was.Version
	}
	row.ID = id
	return s.send(ctx, codecs.SubscriptionCommand{Meta: codecs.Meta{IfVersion: on}, Kind: "put", Subscription: row}, wanted.pointer)
}
