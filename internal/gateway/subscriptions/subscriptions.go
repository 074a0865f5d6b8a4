// Package subscriptions lets subscribers' systems make and change their subscriptions over HTTP, and operators approve them.
//
// Its rules:
//   - A change is a command on the group's stream, as everyone's; the answer comes once it is in effect, or with the group's
//     reason for refusing it. Nothing is decided here but who may ask.
//   - An organisation sees and changes its own subscriptions alone; another's are not there for it.
//   - Two shapes of the same rows: civicbus's own (/api/subscriptions), and that of CloudEvents' Subscriptions API
//     (/subscriptions). A secret in either is never given back: none is kept.
package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/gateway/commands"
	"civicbus/internal/gateway/web"
	"civicbus/internal/tables"
	"civicbus/internal/verdict"
)

// Schemas is what a dry run needs of the schema registry.
type Schemas interface {
	Latest(ctx context.Context, registrySubject string) (*codecs.Schema, error)
}

// Config says what the routes stand on. All but Now is required.
type Config struct {
	Tables    tables.Source
	Commands  commands.Sender
	Schemas   Schemas
	Delivered func(ctx context.Context, subscription string) (int64, error) // unique deliveries so far
	CursorKey []byte                                                        // 32 bytes, the same in every instance
	Webhooks  Webhooks
	Now       func() time.Time
}

type server struct {
	cfg Config
	api *web.API
}

const (
	settleWithin  = 10 * time.Second
	settleEvery   = 10 * time.Millisecond
	maxPerPage    = 200
	defaultPage   = 50
	generateTries = 5
)

// Mount declares the routes.
func Mount(a *web.API, cfg Config) error {
	if cfg.Tables == nil || cfg.Commands == nil || cfg.Schemas == nil || cfg.Delivered == nil || len(cfg.CursorKey) < 32 || cfg.Webhooks.Secret == nil || cfg.Webhooks.Attempts == nil || cfg.Webhooks.Try == nil {
		return errors.New("mount subscriptions: tables, commands, schemas, the count of deliveries, a cursor key and webhooks are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &server{cfg: cfg, api: a}
	for code, meaning := range codes {
		a.Explain(code, meaning)
	}
	s.ownRoutes()
	s.stateRoutes()
	s.dryRunRoute()
	s.webhookRoutes()
	s.cloudEventsRoutes()
	return nil
}

// codes are the problem codes of this package, and those of the group's refusals that it passes on.
var codes = map[string]string{
	"wrong_subscriber":       "subscriberId is another organisation than the token's.",
	"unknown_purpose":        "The purpose is none that the organisation is entitled to, nor can it be told which one is meant; errors lists them.",
	"subscription_refused":   "The subscription is not accepted; errors says why, by field.",
	"subscription_exists":    "There is a subscription with this id.",
	"version_required":       "An edit says in If-Match which version it was made on; ETag has it.",
	"version_conflict":       "The subscription has changed since; read it again.",
	"cursor_invalid":         "The cursor is not one that this list gave.",
	"paused_by_operator":     "Only an operator resumes what was paused for this reason.",
	"idempotency_key_reused": "This Idempotency-Key came before with another request.",
	"not_pending":            "There is nothing to approve.",
	"not_active":             "Only what is active can be paused.",
	"not_paused":             "Only what is paused can be resumed.",
	"subscription_revoked":   "A revocation is final.",
	"second_person_required": "Who asked for the subscription cannot approve it.",
	"reason_unknown":         "The reason is none of the list.",
	"not_a_webhook":          "The subscription's deliveries go to no webhook.",
	"overlap_too_long":       "The secret before is good for a week at most.",
	"unsupported":            "The request asks for something that this gateway does not have.",
}

// snapshot is the tables as they are now.
func (s *server) snapshot(ctx context.Context) (*verdict.Snapshot, error) {
	snap, err := tables.Snapshot(ctx, s.cfg.Tables)
	if err != nil {
		return nil, web.Unavailable(err.Error())
	}
	return snap, nil
}

// visible is a subscription that who asks may see; every other is not there.
func (s *server) visible(ctx context.Context, id string) (*codecs.Subscription, error) {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	row, who := snap.Subscription(id), web.From(ctx)
	if row == nil || who.Operator == "" && (who.Organisation == "" || row.Subscriber != who.Organisation) {
		return nil, web.Fail(http.StatusNotFound, "not_found", "there is no such subscription")
	}
	return row, nil
}

// send sends a command and gives the row once it is in effect; a refusal is an error. An activation that follows by itself is
// waited for too.
func (s *server) send(ctx context.Context, cmd codecs.SubscriptionCommand, pointer func(string) string) (*codecs.Subscription, error) {
	cmd.Meta.Actor = web.From(ctx).Actor
	outcome, err := s.cfg.Commands.Subscription(ctx, cmd)
	if err != nil {
		return nil, err
	}
	if !outcome.Accepted {
		return nil, refused(&outcome, pointer)
	}
	return s.settled(ctx, cmd.Subscription.ID, outcome.Version)
}

// settled waits until this instance has read the row at a version, and until it is no longer activating, unless that takes
// long: then the row says so.
func (s *server) settled(ctx context.Context, id string, version int64) (*codecs.Subscription, error) {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	limit := time.NewTimer(settleWithin)
	defer limit.Stop()
	for {
		row := s.cfg.Tables.Snapshot().Subscription(id)
		if row != nil && row.Version >= version && row.Status != verdict.StatusActivating {
			return row, nil
		}
		select {
		case <-tick.C:
		case <-limit.C:
			if row == nil || row.Version < version {
				return nil, web.Unavailable("the command is in effect, and this instance has not read it yet")
			}
			return row, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// refused tells a refusal. Faults of a row are of the request as a whole: 422, with one code.
func refused(o *commands.Outcome, pointer func(string) string) error {
	if _, own := codes[o.Reason]; own || o.Reason == "not_found" {
		return o.Problem(pointer)
	}
	faults := web.Faults(o.Faults, pointer)
	if len(faults) == 0 {
		faults = []web.Fault{{Code: o.Reason}}
	}
	return web.Fail(http.StatusUnprocessableEntity, "subscription_refused", "the subscription is not accepted", faults...)
}

// tag is a row's ETag.
func tag(row *codecs.Subscription) string { return `"` + strconv.FormatInt(row.Version, 10) + `"` }

// version is what If-Match demands; 0: any.
func version(ifMatch string, required bool) (int64, error) {
	switch {
	case ifMatch == "" && required:
		return 0, web.Fail(http.StatusPreconditionRequired, "version_required", "If-Match must hold the ETag that the edit was made on")
	case ifMatch == "" || ifMatch == "*":
		return 0, nil
	}
	text, ok := strings.CutPrefix(ifMatch, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	n, err := strconv.ParseInt(text, 10, 64)
	if !ok || !closed || err != nil || n < 1 {
		return 0, web.Fail(http.StatusPreconditionFailed, "version_conflict", "If-Match is no ETag of this subscription")
	}
	return n, nil
}

// createdAt is a row's time of making, in whole seconds.
func createdAt(row *codecs.Subscription) string {
	return time.UnixMilli(row.CreatedAt).UTC().Format(time.RFC3339)
}

// freeID is an id for a new subscription: the organisation's first label, the last one of its first event type, and a number.
func freeID(snap *verdict.Snapshot, row *codecs.Subscription) string {
	label, _, _ := strings.Cut(row.Subscriber, ".")
	last := row.EventTypes[0][strings.LastIndexByte(row.EventTypes[0], '.')+1:]
	stem := "sub-" + plain(label) + "-" + plain(last) + "-"
	for n := 1; ; n++ {
		if id := fmt.Sprintf("%s%03d", stem, n); snap.Subscription(id) == nil {
			return id
		}
	}
}

// plain keeps what an id may hold.
func plain(text string) string {
	kept := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(text))
	if kept == "" {
		return "x"
	}
	return kept[:min(len(kept), 30)]
}
