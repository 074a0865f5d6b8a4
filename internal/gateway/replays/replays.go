// Package replays is the operators' way over HTTP to plan replays of deliveries, to ask for them, to approve and cancel them,
// and to see how far they have come. It carries none out.
package replays

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"civicbus/codecs"
	"civicbus/internal/gateway/commands"
	"civicbus/internal/gateway/web"
	"civicbus/internal/tables"
)

// Plan is what a replay would do, decided now.
type Plan struct {
	Subscriber             string
	Events, Sent, Verdicts int64
	Counts                 []codecs.ReasonCount
	Takes                  time.Duration // 0: not known
	Whole                  bool
}

// Progress is how far a replay has come.
type Progress struct {
	Total, Looked, Sent, Verdicts int64
	Counts                        []codecs.ReasonCount
	PerSecond                     float64
	Left                          time.Duration // 0: not known, or over
}

var (
	// ErrNoSubscription says that a replay names a subscription that its subscriber does not have.
	ErrNoSubscription = errors.New("the subscriber has no such subscription")
	// ErrNoReplay says that there is no such replay.
	ErrNoReplay = errors.New("no such replay")
)

// Replays is what replays are planned and asked for by. It is made outside, by whoever puts the process together. Safe for
// concurrent use.
type Replays interface {
	// Plan has no side effect; when the context's deadline comes first the plan is not whole.
	Plan(ctx context.Context, of tables.Current, row codecs.Replay) (Plan, error)
	// Scan fixes where a replay looks.
	Scan(ctx context.Context, row *codecs.Replay) ([]codecs.OffsetRange, error)
	// Send sends a command and waits until it is in effect or refused; its errors are those of commands.Sender.
	Send(ctx context.Context, cmd codecs.ReplayCommand) (commands.Outcome, error)
	// Named gives the replays of these ids; without any all, the newest first.
	Named(ctx context.Context, ids ...string) ([]codecs.Replay, error)
	Progress(ctx context.Context, row *codecs.Replay) (Progress, error)
}

const (
	heading    = "replays"
	planTime   = 50 * time.Second // of the minute that a request for a plan has
	planLimit  = 60 * time.Second
	listAtMost = 200
)

type server struct {
	replays Replays
	tables  tables.Current
}

type shownAnswer struct{ Body ReplayShown }

// IDParam is the id in a path.
type IDParam struct {
	ID string `path:"id" maxLength:"100" example:"after-the-outage" doc:"The replay's id."`
}

// Mount declares the routes.
func Mount(a *web.API, of Replays, current tables.Current) error {
	s := &server{of, current}
	web.Handle(a, web.Route{ID: "plan-replay", Method: http.MethodPost, Path: "/api/replay-plans", Tag: heading, Summary: "What a replay would send, and why not the rest",
		Description: "Every event of the range is decided now. Nothing is sent, and nothing is written.", For: web.Operators, Scope: web.ScopeSubscriptionsRead, Timeout: planLimit},
		func(ctx context.Context, in *struct{ Body ReplayWanted }) (*struct{ Body ReplayPlanned }, error) {
			return s.plan(ctx, &in.Body)
		})
	web.Handle(a, web.Route{ID: "start-replay", Method: http.MethodPost, Path: "/api/replays", Tag: heading, Summary: "Ask for a replay", Status: http.StatusCreated,
		Description: "It sends again what was permitted when it was first decided, as the record has it, and is permitted now, cut to the smaller of both field sets. Deliveries keep their ids and say that they are replayed. " +
			"It begins when another operator approves it.", For: web.Operators, Scope: web.ScopeSubscriptionsWrite, Problems: []int{http.StatusConflict}},
		func(ctx context.Context, in *struct{ Body ReplayWanted }) (*shownAnswer, error) {
			return s.start(ctx, &in.Body)
		})
	type list struct{ Body ReplayList }
	web.Handle(a, web.Route{ID: "list-replays", Method: http.MethodGet, Path: "/api/replays", Tag: heading, Summary: "The newest replays, at most 200", For: web.Operators, Scope: web.ScopeSubscriptionsRead},
		func(ctx context.Context, _ *struct{}) (*list, error) {
			rows, err := s.replays.Named(ctx)
			if err != nil {
				return nil, unavailable(err)
			}
			out := list{ReplayList{Replays: []ReplayShown{}}}
			for i := range rows[:min(len(rows), listAtMost)] {
				one, err := s.shown(ctx, &rows[i])
				if err != nil {
					return nil, err
				}
				out.Body.Replays = append(out.Body.Replays, *one)
			}
			return &out, nil
		})
	web.Handle(a, web.Route{ID: "get-replay", Method: http.MethodGet, Path: "/api/replays/{id}", Tag: heading, Summary: "How far a replay has come", For: web.Operators, Scope: web.ScopeSubscriptionsRead,
		Problems: []int{http.StatusNotFound}},
		func(ctx context.Context, in *IDParam) (*shownAnswer, error) { return s.get(ctx, in.ID) })
	for _, kind := range []struct{ name, summary, description, scope string }{
		{"approve", "Begin a replay", "By an operator who has not asked for it.", web.ScopeApprove},
		{"cancel", "End a replay", "Nothing more of it is sent once this is answered.", web.ScopeSubscriptionsWrite},
	} {
		web.Handle(a, web.Route{ID: kind.name + "-replay", Method: http.MethodPost, Path: "/api/replays/{id}/" + kind.name, Tag: heading, Summary: kind.summary, Description: kind.description,
			For: web.Operators, Scope: kind.scope, Problems: []int{http.StatusNotFound, http.StatusConflict}},
			func(ctx context.Context, in *IDParam) (*shownAnswer, error) {
				if _, err := s.get(ctx, in.ID); err != nil { // what is not there is not commanded
					return nil, err
				}
				if err := s.send(ctx, codecs.ReplayCommand{Kind: kind.name, Replay: codecs.Replay{ID: in.ID}}); err != nil {
					return nil, err
				}
				return s.get(ctx, in.ID)
			})
	}
	return nil
}

func unavailable(err error) error {
	return errors.Join(web.Unavailable("the replays cannot be read now"), err)
}

func (s *server) plan(ctx context.Context, wanted *ReplayWanted) (*struct{ Body ReplayPlanned }, error) {
	if err := oneOf(wanted); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, planTime)
	defer cancel()
	p, err := s.replays.Plan(limited, s.tables, wanted.row())
	switch {
	case errors.Is(err, ErrNoSubscription):
		return nil, web.Fail(http.StatusUnprocessableEntity, "subscription_unknown", err.Error(), web.Fault{Pointer: "/subscription", Code: "subscription_unknown", Detail: err.Error()})
	case err != nil:
		return nil, unavailable(err)
	}
	return &struct{ Body ReplayPlanned }{ReplayPlanned{p.Subscriber, p.Events, p.Sent, p.Verdicts, counts(p.Counts), p.Takes.Seconds(), p.Whole}}, nil
}

func oneOf(w *ReplayWanted) error {
	if (w.Subscription == "") == (w.Subscriber == "") {
		return web.Fail(http.StatusUnprocessableEntity, "subscription_unknown", "a replay is of one subscription or of one subscriber")
	}
	return nil
}

func (s *server) start(ctx context.Context, wanted *ReplayWanted) (*shownAnswer, error) {
	if err := oneOf(wanted); err != nil {
		return nil, err
	}
	row := wanted.row()
	if row.ID == "" {
		var random [8]byte
		_, _ = rand.Read(random[:]) // never fails, see crypto/rand
		row.ID = "replay-" + hex.EncodeToString(random[:])
	}
	var err error
	if row.Scan, err = s.replays.Scan(ctx, &row); err != nil {
		return nil, unavailable(err)
	}
	if err := s.send(ctx, codecs.ReplayCommand{Kind: "start", Replay: row}); err != nil {
		return nil, err
	}
	return s.get(ctx, row.ID)
}

func (s *server) send(ctx context.Context, cmd codecs.ReplayCommand) error {
	cmd.Meta.Actor = web.From(ctx).Actor
	outcome, err := s.replays.Send(ctx, cmd)
	if err == nil && !outcome.Accepted {
		err = outcome.Problem(pointer)
	}
	return err
}

func (s *server) get(ctx context.Context, id string) (*shownAnswer, error) {
	rows, err := s.replays.Named(ctx, id)
	switch {
	case errors.Is(err, ErrNoReplay):
		return nil, web.Fail(http.StatusNotFound, "replay_unknown", "there is no such replay")
	case err != nil:
		return nil, unavailable(err)
	}
	one, err := s.shown(ctx, &rows[0])
	if err != nil {
		return nil, err
	}
	return &shownAnswer{*one}, nil
}

func (s *server) shown(ctx context.Context, row *codecs.Replay) (*ReplayShown, error) {
	p, err := s.replays.Progress(ctx, row)
	if err != nil {
		return nil, unavailable(err)
	}
	out := shown(row, &p)
	return &out, nil
}
