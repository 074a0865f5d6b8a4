package receive

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"civicbus/internal/gateway/feed"
	"civicbus/internal/gateway/web"

	"github.com/coder/websocket"
	"github.com/danielgtaylor/huma/v2"
)

// SubProtocol is the CloudEvents WebSocket binding's: each message is one event in JSON format.
const SubProtocol = "cloudevents.json"

// AckType is the type of the events by which a client acknowledges: everything up to the delivery that their attribute
// subject names by its id.
const AckType = "fi.civicbus.ack"

// maxMessage bounds a client's message: an acknowledgement is a few hundred bytes.
const maxMessage = 4 << 10

var webSocketParameters = []parameter{paramCursor,
	{"from", "Where to begin without a cursor: behind the last acknowledgement, or at the oldest deliveries that are kept if there is none; at the oldest; or with what comes from now on.", oneOf("acknowledged", "oldest", "now")},
	{"ack", "Who acknowledges: the client, by events of type " + AckType + "; or the gateway, as soon as the connection has taken a delivery.", oneOf("client", "auto")}}

func (s *server) webSocketRoute(a *web.API) {
	web.Serve(a, web.Route{ID: "stream-websocket", Method: http.MethodGet, Path: "/api/subscriptions/{id}/websocket", Tag: "receive", Summary: "Deliveries over a WebSocket",
		Description: "With the sub-protocol " + SubProtocol + ": each message is a CloudEvent in JSON format. A client acknowledges by sending a CloudEvent of type " + AckType +
			" whose subject is a delivery's id; that counts for everything sent before it on this connection too. Only a few deliveries go out before one is acknowledged. " +
			"A client that comes back goes on behind its last acknowledgement. The reason of the closing frame is a code.",
		For: web.Organisations, Scope: web.ScopeReceive, Stream: true, Status: http.StatusSwitchingProtocols,
		Problems: []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusUpgradeRequired},
		Document: func(op *huma.Operation) { document("", nil, webSocketParameters...)(op) }}, s.webSocket)
}

func (s *server) webSocket(w http.ResponseWriter, r *http.Request) error {
	ctx, id := r.Context(), r.PathValue("id")
	q, err := query(r, webSocketParameters...)
	if err != nil {
		return err
	}
	if err := s.own(ctx, id); err != nil {
		return err
	}
	if err := s.handshake(r); err != nil {
		return err
	}
	at, err := s.beginAcked(ctx, id, q)
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
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{SubProtocol}, InsecureSkipVerify: true, // handshake has looked at the origin
		CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil // it has answered
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(maxMessage)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	reading, stopReading := context.WithCancel(context.WithoutCancel(ctx)) // a reading that is cancelled closes the connection, and no code could be said
	defer stopReading()
	to := &webSocketSink{s: s, conn: conn, auto: q["ack"] == "auto", acked: make(chan struct{}, 1), ack: func(at feed.Position) { s.cfg.Feed.Ack(id, at) }}
	go func() { cancel(to.read(reading)) }()
	err = s.stream(ctx, id, at, to)
	e := end(ctx, err)
	if cause := context.Cause(ctx); e == nil && errors.As(cause, &e) { // what the client sent was wrong
		err = cause
	}
	if e != nil {
		_ = conn.Close(closeStatus(e.Code), e.Code)
	}
	s.ended(wayWebSocket, e, err)
	return nil
}

// closeStatus is the status of a closing frame (RFC 6455 7.4.1); its reason is the code itself.
func closeStatus(code string) websocket.StatusCode {
	switch code {
	case codeStopping:
		return websocket.StatusGoingAway
	case codeInternal:
		return websocket.StatusInternalError
	case codeMessage:
		return websocket.StatusUnsupportedData
	case feed.SubscriptionPaused, feed.SubscriptionPending:
		return websocket.StatusTryAgainLater
	}
	return websocket.StatusPolicyViolation
}

// beginAcked is begin, with what was acknowledged.
func (s *server) beginAcked(ctx context.Context, id string, q map[string]string) (feed.Position, error) {
	if q["cursor"] == "" && (q["from"] == "" || q["from"] == "acknowledged") {
		if at, err := s.cfg.Feed.Acked(ctx, id); at != nil || err != nil {
			return at, err
		}
	}
	return s.begin(ctx, id, q["cursor"], q["from"])
}

// handshake refuses what is no WebSocket of ours, before anything is opened.
func (s *server) handshake(r *http.Request) error {
	if !token(r.Header, "Connection", "upgrade") || !token(r.Header, "Upgrade", "websocket") {
		return web.Fail(http.StatusUpgradeRequired, "upgrade_required", "ask for a WebSocket: Connection: Upgrade, Upgrade: websocket")
	}
	if origin := r.Header.Get("Origin"); origin != "" && !s.mayOpen(origin, r.Host) {
		return web.Fail(http.StatusForbidden, "origin_refused", "web pages of this origin may not open a WebSocket")
	}
	if !token(r.Header, "Sec-WebSocket-Protocol", SubProtocol) {
		return web.Fail(http.StatusBadRequest, "subprotocol_missing", "offer the sub-protocol "+SubProtocol)
	}
	return nil
}

// token says whether a header lists a token, in any case.
func token(h http.Header, name, want string) bool {
	return slices.ContainsFunc(h.Values(name), func(v string) bool {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), want) {
				return true
			}
		}
		return false
	})
}

// mayOpen says whether a page of an origin may open a WebSocket: a browser sends its user's pages' origins, and nothing else
// keeps a foreign page from using what the browser holds.
func (s *server) mayOpen(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	if strings.EqualFold(u.Host, host) {
		return true
	}
	return slices.ContainsFunc(s.cfg.Origins, func(pattern string) bool {
		ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(u.Host))
		return ok && err == nil
	})
}

// webSocketSink sends events and takes acknowledgements.
type webSocketSink struct {
	s     *server
	conn  *websocket.Conn
	auto  bool
	acked chan struct{}       // has room for one: something was acknowledged
	ack   func(feed.Position) // is told up to where

	mu   sync.Mutex
	sent []sent // not acknowledged yet, the oldest first
}

type sent struct {
	id    string
	after feed.Position
}

// room waits for acknowledgements while as much is sent as may be.
func (o *webSocketSink) room(ctx context.Context) (int, error) {
	patience := time.NewTimer(o.s.cfg.Slow)
	defer patience.Stop()
	for {
		o.mu.Lock()
		room := o.s.cfg.Window - len(o.sent)
		o.mu.Unlock()
		if room > 0 {
			return room, ctx.Err()
		}
		select {
		case <-o.acked:
		case <-patience.C:
			return 0, errSlow
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (o *webSocketSink) write(ctx context.Context, e *feed.Event) error {
	if !o.auto { // before it is written: its acknowledgement may be here before the write returns
		o.mu.Lock()
		o.sent = append(o.sent, sent{e.ID, e.After})
		o.mu.Unlock()
	}
	if err := o.send(ctx, func(ctx context.Context) error { return o.conn.Write(ctx, websocket.MessageText, e.JSON) }); err != nil {
		return err
	}
	if o.auto {
		o.ack(e.After)
	}
	o.s.sent.WithLabelValues(wayWebSocket).Inc()
	return nil
}

// idle asks for a sign of life.
func (o *webSocketSink) idle(ctx context.Context) error { return o.send(ctx, o.conn.Ping) }

// send does something within twice Slow; one that took longer than Slow is the last. When the stream ends it gets a moment to
// finish.
func (o *webSocketSink) send(ctx context.Context, do func(context.Context) error) error {
	began := time.Now()
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*o.s.cfg.Slow)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(endWithin, cancel) })()
	if err := do(within); err != nil {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case within.Err() != nil:
			return errSlow
		}
		return errGone
	}
	if time.Since(began) > o.s.cfg.Slow {
		return errSlow
	}
	return nil
}

// codeMessage ends a connection whose client sends something else than acknowledgements.
const codeMessage = "message_refused"

var errMessage = &feed.Ended{Code: codeMessage, Detail: "only acknowledgements are taken: CloudEvents in JSON of type " + AckType + ", each of a delivery that was sent on this connection"}

// read takes acknowledgements until the connection ends.
func (o *webSocketSink) read(ctx context.Context) error {
	for {
		kind, message, err := o.conn.Read(ctx)
		if err != nil {
			return err
		}
		id, ok := acknowledged(message)
		if kind != websocket.MessageText || !ok || !o.take(id) {
			return errMessage
		}
	}
}

// acknowledged reads an acknowledgement: the id of the delivery that it is of.
func acknowledged(message []byte) (id string, ok bool) {
	var ack struct {
		SpecVersion string `json:"specversion"`
		Type        string `json:"type"`
		Subject     string `json:"subject"`
	}
	if err := json.Unmarshal(message, &ack); err != nil || ack.SpecVersion != "1.0" || ack.Type != AckType {
		return "", false
	}
	return ack.Subject, true
}

// take acknowledges everything up to a delivery. One that is acknowledged again changes nothing; one that was never sent here
// is refused.
func (o *webSocketSink) take(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.auto {
		return true
	}
	for i := range slices.Backward(o.sent) {
		if o.sent[i].id == id {
			o.ack(o.sent[i].after)
			o.sent = append([]sent(nil), o.sent[i+1:]...)
			select {
			case o.acked <- struct{}{}:
			default:
			}
			return true
		}
	}
	return len(id) == deliveryID // acknowledged before, as far as can be told
}

// deliveryID is how long a delivery's id is.
const deliveryID = 32
