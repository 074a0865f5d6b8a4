// Package catalog tells what there is to publish and to receive: the event types with their fields and who receives them, and
// AsyncAPI for programs. Everything comes from the catalog table, the trust registry, the topology and the schema registry, as
// they are when they are asked for; nothing is written down a second time.
package catalog

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/gateway/web"
	"civicbus/internal/tables"
	"civicbus/internal/verdict"
)

// Schemas is what is asked of the schema registry.
type Schemas interface {
	Latest(ctx context.Context, registrySubject string) (*codecs.Schema, error)
}

// Config says what the routes stand on. All are required but PublicURL.
type Config struct {
	Tables      tables.Source
	Schemas     Schemas
	Brokers     []string
	RegistryURL string
	PublicURL   string // of the gateway; empty: not named
	Partitions  int32
}

type server struct {
	cfg Config

	mu    sync.Mutex
	known map[string]newest
}

// newest is the newest schema of a registry subject, as last asked.
type newest struct {
	schema *codecs.Schema
	until  time.Time
}

const (
	heading   = "catalog"
	newestFor = 5 * time.Second // as admission takes a schema for the newest
)

// anybody is everyone with a token.
const anybody = web.Organisations | web.People | web.Operators

// Mount declares the routes.
func Mount(a *web.API, cfg Config) error {
	if cfg.Tables == nil || cfg.Schemas == nil {
		return errors.New("mount the catalog: tables and schemas are required")
	}
	s := &server{cfg: cfg, known: map[string]newest{}}
	web.Handle(a, web.Route{ID: "list-event-types", Method: http.MethodGet, Path: "/api/event-types", Tag: heading, Summary: "List event types", For: anybody},
		func(ctx context.Context, _ *struct{}) (*listAnswer, error) {
			snap, err := s.snapshot(ctx)
			if err != nil {
				return nil, err
			}
			out := &listAnswer{}
			out.Body.EventTypes = []Type{}
			for _, row := range snap.EventTypes() {
				out.Body.EventTypes = append(out.Body.EventTypes, typeOf(row))
			}
			return out, nil
		})
	web.Handle(a, web.Route{ID: "get-event-type", Method: http.MethodGet, Path: "/api/event-types/{type}", Tag: heading, Summary: "See an event type",
		Description: "With its fields: who owns each, which scopes of a grant cover it, how it is classified; the legal rules; and a sample with made-up data.",
		For:         anybody, Problems: []int{http.StatusNotFound}},
		func(ctx context.Context, in *typeParam) (*struct{ Body Whole }, error) {
			row, _, err := s.row(ctx, in.Type)
			if err != nil {
				return nil, err
			}
			whole, err := s.whole(ctx, row)
			if err != nil {
				return nil, err
			}
			return &struct{ Body Whole }{*whole}, nil
		})
	web.Handle(a, web.Route{ID: "list-receivers", Method: http.MethodGet, Path: "/api/event-types/{type}/receivers", Tag: heading, Summary: "Who receives an event type",
		Description: "Every subscription to it that is not revoked. What each really gets of an event is decided for that event.",
		For:         anybody, Problems: []int{http.StatusNotFound}},
		func(ctx context.Context, in *typeParam) (*receiversAnswer, error) {
			row, snap, err := s.row(ctx, in.Type)
			if err != nil {
				return nil, err
			}
			out := &receiversAnswer{}
			out.Body.Receivers = receivers(snap, row)
			return out, nil
		})
	s.asyncAPIRoutes(a)
	return nil
}

type typeParam struct {
	Type string `path:"type" maxLength:"256" example:"fi.dvv.person.birth" doc:"The CloudEvents type."`
}

type listAnswer struct {
	Body struct {
		EventTypes []Type `json:"eventTypes" nullable:"false"`
	}
}

type receiversAnswer struct {
	Body struct {
		Receivers []Receiver `json:"receivers" nullable:"false"`
	}
}

func (s *server) snapshot(ctx context.Context) (*verdict.Snapshot, error) {
	snap, err := tables.Snapshot(ctx, s.cfg.Tables)
	if err != nil {
		return nil, web.Unavailable(err.Error())
	}
	return snap, nil
}

func (s *server) row(ctx context.Context, name string) (*codecs.EventType, *verdict.Snapshot, error) {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, nil, err
	}
	row := snap.EventType(name)
	if row == nil {
		return nil, nil, web.Fail(http.StatusNotFound, "not_found", "the catalog has no such type")
	}
	return row, snap, nil
}

// latest is the newest schema of a registry subject; nil: there is none.
func (s *server) latest(ctx context.Context, subject string) (*codecs.Schema, error) {
	s.mu.Lock()
	have, ok := s.known[subject]
	s.mu.Unlock()
	if ok && time.Now().Before(have.until) {
		return have.schema, nil
	}
	schema, err := s.cfg.Schemas.Latest(ctx, subject)
	if err != nil && !errors.Is(err, codecs.ErrUnknownSubject) {
		return nil, web.Unavailable("the schema registry cannot be reached")
	}
	s.mu.Lock()
	s.known[subject] = newest{schema, time.Now().Add(newestFor)}
	s.mu.Unlock()
	return schema, nil
}

// covers says whether a path of the catalog stands for another: itself, and all below it.
func covers(path, below string) bool {
	rest, ok := strings.CutPrefix(below, path)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[' || rest[0] == '{')
}
