package people

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"civicbus/codecs"
	"civicbus/internal/audit"
	"civicbus/internal/gateway/web"
	"civicbus/internal/verdict"
)

// Entry is one thing that happened about the caller.
type Entry struct {
	At        string   `json:"at" format:"date-time"`
	What      string   `json:"what" doc:"delivery: something was delivered, or denied. access: a delivery was read over HTTP, or its reading denied. confirmation: an organisation confirmed to a service for the caller, or was denied. change: of the caller's consents. event: an event that led to no verdict."`
	EventType string   `json:"eventType,omitempty"`
	Title     string   `json:"title,omitempty" doc:"Of the event type."`
	Source    string   `json:"source,omitempty" doc:"Who published the event."`
	Role      string   `json:"role,omitempty" doc:"What the caller is in it."`
	Outcome   string   `json:"outcome" doc:"permitted, denied; of a change accepted or refused; of an event why there was no verdict."`
	Change    string   `json:"change,omitempty" doc:"What was asked for: grant, withdraw, object, ..."`
	Recipient string   `json:"recipient,omitempty" doc:"The organisation that got it, or did not."`
	Name      string   `json:"recipientName,omitempty"`
	Purpose   string   `json:"purpose,omitempty"`
	Sub       string   `json:"subscription,omitempty" doc:"By which it was asked for; one can object to it."`
	Reason    string   `json:"reason,omitempty" doc:"Why: of the documented list of verdicts' reasons."`
	Basis     string   `json:"legalBasis,omitempty"`
	Rule      string   `json:"rule,omitempty" doc:"The legal rule that permitted it."`
	Citation  string   `json:"citation,omitempty" doc:"The law behind that rule, as the catalog has it now."`
	Grant     string   `json:"grant,omitempty" doc:"The caller's consent that permitted it, or whose end denied it."`
	Fields    []string `json:"fields,omitempty" doc:"What was permitted of the event's data; absent where that cannot be told any more."`
	Delivery  string   `json:"delivery,omitempty" doc:"The delivery's id, which the recipient has too."`
	Number    int64    `json:"number" doc:"Of the entry in its chain of the audit log."`
}

// History is a part of it, the newest first.
type History struct {
	Entries []Entry `json:"entries"`
	Next    string  `json:"next,omitempty" doc:"Where the page with what was before is; absent: there is nothing."`
}

const (
	historyLimit = 50
	maxHistory   = 200
	walks        = 4 // at once; each reads a part of a table, and then entry by entry
)

// logs lends readers of the audit log, each to one walk at a time.
type logs struct {
	cfg  Config
	keys *audit.Keys // nil: there is no audit key
	free chan *audit.Log
	room chan struct{}
}

func (l *logs) close() {
	for {
		select {
		case log := <-l.free:
			log.Close()
		default:
			return
		}
	}
}

// walk gives the caller's entries from a number on, the newest first.
func (l *logs) walk(ctx context.Context, from int64, each func(*codecs.AuditEntry) (more bool)) error {
	if l.keys == nil {
		return web.Unavailable("this gateway has no audit key, so it cannot show the history")
	}
	select {
	case l.room <- struct{}{}:
		defer func() { <-l.room }()
	case <-ctx.Done():
		return web.Unavailable("too many histories are read at once")
	}
	var log *audit.Log
	select {
	case log = <-l.free:
	default:
		var err error
		if log, err = audit.Open(l.cfg.Connection, l.cfg.Records); err != nil {
			return err
		}
	}
	err := log.WalkFrom(ctx, l.keys, web.From(ctx).Person, from, each)
	if err != nil {
		log.Close()
	} else {
		l.free <- log // it has room for every walk
	}
	switch {
	case ctx.Err() != nil:
		return web.Unavailable("the history could not be read in time")
	case from > 0 && (errors.Is(err, audit.ErrForeign) || errors.Is(err, audit.ErrNoEntry)):
		return web.Fail(http.StatusBadRequest, "cursor_invalid", "the cursor was not given out for this caller")
	}
	return err
}

func (s *server) historyRoutes(a *web.API) {
	type page struct {
		Link string `header:"Link"`
		Body History
	}
	web.Handle(a, web.Route{ID: "list-my-history", Method: http.MethodGet, Path: "/api/me/history", Tag: tag, Summary: "Who got what about me, when and why, and what was denied",
		Description: "From the audit log, the newest first. What happened less than a second ago may be missing still. Link with rel=\"next\" leads to what was before.",
		For:         web.People, Scope: web.ScopePersonRead, Problems: []int{http.StatusBadRequest}},
		func(ctx context.Context, in *struct {
			Cursor string `query:"cursor" maxLength:"64"`
			Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
		}) (*page, error) {
			from, err := readCursor(in.Cursor)
			if err != nil {
				return nil, err
			}
			out := &page{Body: History{Entries: []Entry{}}}
			t := s.teller(ctx)
			next := int64(0)
			err = s.logs.walk(ctx, from, func(e *codecs.AuditEntry) bool {
				if next = e.Number; len(out.Body.Entries) >= in.Limit {
					return false
				}
				out.Body.Entries = append(out.Body.Entries, t.tell(ctx, e)...)
				next = 0
				return true
			})
			if err != nil {
				return nil, err
			}
			if next > 0 {
				out.Body.Next = "/api/me/history?" + url.Values{"cursor": {cursorOf(next)}, "limit": {strconv.Itoa(in.Limit)}}.Encode()
				out.Link = "<" + out.Body.Next + `>; rel="next"`
			}
			return out, nil
		})
}

// cursorOf names the entry that a page begins with. It is the caller's own, or the walk refuses it.
func cursorOf(number int64) string {
	return base64.RawURLEncoding.EncodeToString(binary.AppendUvarint(nil, uint64(number)))
}

func readCursor(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	n, size := binary.Uvarint(b)
	if err != nil || size != len(b) || n == 0 || n > 1<<62 {
		return 0, web.Fail(http.StatusBadRequest, "cursor_invalid", "the cursor was not given out for this caller")
	}
	return int64(n), nil
}

// teller tells entries in the words of the tables as they are now.
type teller struct {
	s        *server
	snap     *verdict.Snapshot
	consents *codecs.Consents
	writers  map[string][]*codecs.Schema
	sets     map[[3]string]map[int64][]string // by subscription, type and role
}

func (s *server) teller(ctx context.Context) *teller {
	return &teller{s: s, snap: s.cfg.Tables.Snapshot(), consents: s.cfg.Tables.Consents(web.From(ctx).Person),
		writers: map[string][]*codecs.Schema{}, sets: map[[3]string]map[int64][]string{}}
}

// tell makes one line of each verdict, or one of an entry without any. That an event was stamped and handed on is no line.
func (t *teller) tell(ctx context.Context, e *codecs.AuditEntry) (lines []Entry) {
	line := Entry{At: instant(time.UnixMilli(e.At)), What: "delivery", EventType: e.EventType, Source: e.Source, Role: e.Role, Outcome: e.Outcome, Number: e.Number}
	et := t.snap.EventType(e.EventType)
	if et != nil {
		line.Title = et.Title
	}
	switch e.Kind {
	case "gateway":
		line.What = "access"
	case "journey":
		line.What = "confirmation"
	case "command":
		line.What, line.Change, line.Reason = "change", e.CommandKind, e.Reason
	}
	for i := range e.Verdicts {
		v := &e.Verdicts[i]
		l := line
		l.Outcome, l.Recipient, l.Name, l.Purpose, l.Sub, l.Reason, l.Basis, l.Delivery = "denied", v.Subscriber, t.s.nameOf(t.snap, v.Subscriber), v.Purpose, v.Subscription, v.Reason, v.Basis, v.DeliveryID
		if v.Permit {
			l.Outcome = "permitted"
			l.Fields = t.fields(ctx, e, v)
		}
		if v.Basis == verdict.BasisConsent {
			l.Grant = v.Reference
		} else if l.Rule = v.Reference; et != nil {
			for _, r := range et.Rules {
				if r.ID == v.Reference {
					l.Citation = r.Citation
				}
			}
		}
		lines = append(lines, l)
	}
	if len(e.Verdicts) == 0 && (line.What == "change" || e.Outcome != "decided") {
		if line.What == "delivery" {
			line.What = "event"
		}
		lines = append(lines, line)
	}
	return lines
}

// fields lists what a permit's field set held, if it can be told.
func (t *teller) fields(ctx context.Context, e *codecs.AuditEntry, v *codecs.VerdictItem) []string {
	key := [3]string{v.Subscription, e.EventType, e.Role}
	sets, known := t.sets[key]
	if !known {
		if et := t.snap.EventType(e.EventType); et != nil {
			writers, asked := t.writers[et.RegistrySubject]
			if !asked {
				writers, _ = t.s.cfg.Registry.Versions(ctx, et.RegistrySubject) // without it the fields cannot be told
				t.writers[et.RegistrySubject] = writers
			}
			sets = t.snap.FieldSets(v.Subscription, e.EventType, e.Role, writers, t.consents)
		}
		t.sets[key] = sets
	}
	return sets[v.FieldSet]
}
