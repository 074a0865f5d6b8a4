// Package people is what a person sees and decides over HTTP, with a token of their own: who got what about them and why, what
// they have consented to, and everything of it as one document.
//
// Its rules:
//   - Whose data it is follows from the token alone. No address and no parameter names a person, so that there is none to be
//     changed into another's.
//   - A person's pseudonym inside the bus is never shown: where an answer must name them it is by the pseudonym under which
//     the organisation it is about knows them.
//   - State changes by commands, and an answer says since when a change is in effect (DESIGN.md 3.2).
//   - The history is the audit log's own: each entry is checked before it is shown.
package people

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/audit"
	"civicbus/internal/gateway/commands"
	"civicbus/internal/gateway/web"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/internal/tables"
	"civicbus/internal/verdict"
)

// Config says what is served. A field without a default named is required.
type Config struct {
	Connection kafka.Connection
	Registry   *codecs.Registry
	Records    *codecs.Records // bound
	Keys       *pseudonym.Keys
	AuditKey   []byte // nil: the history is not served (503)
	Partitions int32
	Tables     tables.Current
	Commands   commands.Sender
	Journeys   Journeys         // the zero value: journeys are not served
	PublicURL  string           // how clients reach the gateway; empty: addresses are given without a host
	Now        func() time.Time // time.Now
	Logger     *slog.Logger     // slog.Default()
}

// server is what the routes share.
type server struct {
	cfg  Config
	logs *logs
}

// Mount declares the routes. Call what it returns when the gateway has stopped.
func Mount(a *web.API, cfg Config) (closed func(), err error) {
	if cfg.Tables == nil || cfg.Commands == nil || cfg.Records == nil || cfg.Keys == nil || cfg.Registry == nil {
		return nil, errors.New("mount what people see: tables, commands, records, registry and keys are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &server{cfg: cfg, logs: &logs{cfg: cfg, free: make(chan *audit.Log, walks), room: make(chan struct{}, walks)}}
	if cfg.AuditKey != nil {
		if s.logs.keys, err = audit.NewKeys(cfg.AuditKey); err != nil {
			return nil, err
		}
	}
	for _, c := range explained {
		a.Explain(c[0], c[1])
	}
	s.grantRoutes(a)
	s.objectionRoutes(a)
	s.historyRoutes(a)
	s.journeyRoutes(a)
	s.exportRoute(a)
	return s.logs.close, nil
}

var explained = [][2]string{
	{"recipient_unknown", "There is no such organisation in the trust registry."},
	{"grant_unknown", "The person has no such grant."},
	{"subscription_unknown", "There is no such subscription."},
	{"cursor_invalid", "The cursor was not given out for this caller's history."},
	{"grant_invalid", "The consent lacks something, or a part of it is too long."},
	{"validity_empty", "The consent would never hold, or holds no more."},
	{"grant_exists", "There is a consent of that id."},
	{"too_many_grants", "More consents cannot be given; one must be withdrawn first."},
	{"too_many_objections", "More objections cannot be kept; one must be taken back first."},
	{"not_objected", "There is no such objection."},
	{"under_erasure", "What the bus keeps of the person is erased, for good."},
	{"deceased", "The person's consents have ended."},
	{"version_conflict", "The consents have changed since the version that If-Match names."},
}

// rowOf is the caller's consents, on tables that are confirmed current; nil: there are none.
func (s *server) rowOf(ctx context.Context) (*codecs.Consents, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, ok := s.cfg.Tables.Fresh(); ok {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, web.Unavailable("the tables are not confirmed current")
		}
	}
	row := s.cfg.Tables.Consents(web.From(ctx).Person)
	if row != nil && row.Restriction == verdict.RestrictionUnreadable {
		return nil, errors.New("a subject's consents cannot be decoded")
	}
	return row, nil
}

// command sends a command of the caller's and waits until it is in effect.
func (s *server) command(ctx context.Context, ifMatch string, cmd codecs.ConsentCommand) (*Change, error) {
	id := web.From(ctx)
	cmd.Meta.Actor = id.Actor
	if ifMatch != "" {
		version, err := strconv.ParseInt(strings.Trim(strings.TrimPrefix(ifMatch, "W/"), `"`), 10, 64)
		if err != nil || version < 1 {
			return nil, web.Fail(http.StatusPreconditionFailed, "version_conflict", "If-Match is not an ETag of this gateway")
		}
		cmd.Meta.IfVersion = version
	}
	o, err := s.cfg.Commands.Consent(ctx, id.Person, cmd)
	if err != nil {
		return nil, err
	}
	if !o.Accepted {
		return nil, o.Problem(pointer)
	}
	c := &Change{Version: o.Version, InEffect: o.InEffect}
	if o.InEffect {
		c.EffectiveAt = instant(o.At)
	}
	return c, nil
}

// pointer turns the field of a command's fault into a place in the body: the grant's parts stand at its top.
func pointer(field string) string { return web.Pointer(strings.TrimPrefix(field, "grant.")) }

// Change is a change of the caller's consents.
type Change struct {
	Version     int64  `json:"version" doc:"Of the caller's consents after it."`
	InEffect    bool   `json:"inEffect" doc:"No decision anywhere goes by the old state any more."`
	EffectiveAt string `json:"effectiveAt,omitempty" format:"date-time" doc:"Since when."`
}

// instant is a time as it is shown.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

func millis(at int64) string {
	if at == 0 {
		return ""
	}
	return instant(time.UnixMilli(at))
}

func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// nameOf is an organisation's name; its id where it has none.
func (s *server) nameOf(snap *verdict.Snapshot, organisation string) string {
	if o := snap.Organisation(organisation); o != nil && o.Name != "" {
		return o.Name
	}
	return organisation
}
