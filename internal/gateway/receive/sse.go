package receive

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"civicbus/internal/gateway/feed"
	"civicbus/internal/gateway/web"

	"github.com/danielgtaylor/huma/v2"
)

var sseParameters = []parameter{paramCursor, paramFrom}

func (s *server) sseRoute(a *web.API) {
	web.Serve(a, web.Route{ID: "stream-sse", Method: http.MethodGet, Path: "/api/subscriptions/{id}/sse", Tag: "receive", Summary: "Deliveries as server-sent events",
		Description: "Each event's data is a CloudEvent in JSON format; its id is the delivery's id, a colon and a cursor. A client that comes back with Last-Event-ID goes on behind that event. " +
			"Comments are signs of life. An event of type `end` says with a code why the stream ends. A connection that takes nothing any more has no room for one: " +
			"the client's next stream then begins with an event of type `cut` that says it.",
		For: web.Organisations, Scope: web.ScopeReceive, Stream: true, Problems: []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusGone},
		Document: func(op *huma.Operation) {
			document("text/event-stream", &huma.Schema{Type: huma.TypeString}, sseParameters...)(op)
			op.Parameters = append(op.Parameters, &huma.Param{Name: "Last-Event-ID", In: "header", Description: "The id of the last event that was received; goes before cursor.", Schema: text(9 << 10)})
		}}, s.sse)
}

func (s *server) sse(w http.ResponseWriter, r *http.Request) error {
	ctx, id := r.Context(), r.PathValue("id")
	q, err := query(r, sseParameters...)
	if err != nil {
		return err
	}
	if err := s.own(ctx, id); err != nil {
		return err
	}
	cursor := q["cursor"]
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		_, cursor, _ = strings.Cut(last, ":")
		if cursor == "" {
			return problem(ctx, &feed.Ended{Code: feed.CursorInvalid, Detail: "Last-Event-ID is not the id of an event of this stream"})
		}
	}
	at, err := s.begin(ctx, id, cursor, q["from"])
	if err == nil {
		err = s.cfg.Feed.Check(ctx, id)
	}
	if err != nil {
		return problem(ctx, err)
	}
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	to := &sseSink{s: s, w: w, control: http.NewResponseController(w), cursor: func(at feed.Position) string { return s.cfg.Feed.Cursor(id, at) }}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep it
	defer context.AfterFunc(ctx, to.hurry)()
	first := "retry: 1000\n\n"
	if s.cuts.take(id, web.From(ctx).Client, time.Now()) {
		first += sseCode("cut", errSlow)
	}
	if err := to.send(first); err != nil {
		return nil
	}
	err = s.stream(ctx, id, at, to)
	e := end(ctx, err)
	switch {
	case e != nil && !to.broken:
		_ = to.send(sseCode("end", e))
	case errors.Is(err, errSlow):
		s.cuts.note(id, web.From(ctx).Client, time.Now())
	}
	s.ended(waySSE, e, err)
	return nil
}

// sseCode is an event that says why a stream ends, or did.
func sseCode(kind string, e *feed.Ended) string {
	text, _ := json.Marshal(map[string]string{"code": e.Code, "detail": e.Detail}) // texts always marshal
	return "event: " + kind + "\ndata: " + string(text) + "\n\n"
}

// sseSink writes events as the HTML standard has them. Nothing acknowledges them, so that a slow reader is known by how long
// the connection takes to take what is written.
type sseSink struct {
	s       *server
	w       http.ResponseWriter
	control *http.ResponseController
	cursor  func(feed.Position) string
	buffer  []byte
	broken  bool // what was written last may have gone out in part
	mu      sync.Mutex
	ending  bool
}

// hurry lets the connection no more than a moment to take what is being written: the stream ends.
func (o *sseSink) hurry() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ending = true
	_ = o.control.SetWriteDeadline(time.Now().Add(endWithin))
}

// deadline is for the next write.
func (o *sseSink) deadline(began time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ending {
		_ = o.control.SetWriteDeadline(began.Add(2 * o.s.cfg.Slow))
	}
}

func (o *sseSink) room(ctx context.Context) (int, error) { return streamPage, ctx.Err() }

func (o *sseSink) write(_ context.Context, e *feed.Event) error {
	o.buffer = append(append(append(append(append(append(o.buffer[:0], "id: "...), e.ID...), ':'), o.cursor(e.After)...), "\ndata: "...), e.JSON...)
	err := o.send(string(append(o.buffer, "\n\n"...)))
	if cap(o.buffer) > streamBytes { // a large one is not kept for the life of the stream
		o.buffer = nil
	}
	if !o.broken {
		o.s.sent.WithLabelValues(waySSE).Inc()
	}
	return err
}

func (o *sseSink) idle(context.Context) error { return o.send(": alive\n\n") }

// send writes and flushes. A reader that takes longer than Slow is told so if it takes it at all; after twice that it is cut
// off where it is.
func (o *sseSink) send(text string) error {
	began := time.Now()
	o.deadline(began)
	_, err := o.w.Write([]byte(text))
	if err == nil {
		err = o.control.Flush()
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		o.broken = true
		return errSlow
	case err != nil:
		o.broken = true
		return errGone
	case time.Since(began) > o.s.cfg.Slow:
		return errSlow
	}
	return nil
}
