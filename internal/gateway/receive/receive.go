// Package receive gives subscribers their deliveries over HTTP: by pulling with a cursor, as server-sent events, over a
// WebSocket, and one by one where a subscription asks for thin deliveries. What is given, and that it is decided
// and on record, is package feed's; here are the ways.
//
// Its rules:
//   - The same delivery is the same CloudEvent by every way: package feed writes its JSON once.
//   - A reader that comes back goes on where it was: with a cursor, with Last-Event-ID, or at its last acknowledgement.
//   - A decision is looked at again right before it is written to the connection; when it is too old, it is made anew.
//   - A reader that does not read is cut off with a code. It holds up nobody else, and holds one small page of memory.
//   - Streams end, with a code, with the token, with the subscription and with the gateway.
package receive

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"civicbus/internal/gateway/feed"
	"civicbus/internal/gateway/web"
	"civicbus/internal/tables"
	"civicbus/internal/verdict"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says what is served. A field without a default named is required.
type Config struct {
	Feed      *feed.Feed
	Tables    tables.Current
	Origins   []string              // of web pages that may open a WebSocket, beside the gateway's own: hosts, * for any part of a name
	Heartbeat time.Duration         // between signs of life on a stream; 15 s
	Slow      time.Duration         // how long a reader may let one delivery, or its acknowledgement, wait; 30 s
	Window    int                   // deliveries on a WebSocket that are not acknowledged yet, at most; 64
	Streams   int                   // open at once; 8192
	Metrics   prometheus.Registerer // nil: not registered
	Logger    *slog.Logger          // slog.Default()
}

// server is what the routes share.
type server struct {
	cfg  Config
	sent *prometheus.CounterVec // deliveries, by way
	ends *prometheus.CounterVec // streams, by way and code
	cuts cuts

	mu   sync.Mutex
	open int
}

// Ways, also labels of metrics.
const (
	wayPull      = "pull"
	waySSE       = "sse"
	wayWebSocket = "websocket"
	wayDataRef   = "dataref"
)

// Codes of ended streams, beside package feed's.
const (
	codeSlow     = "slow_reader"
	codeExpired  = "token_expired"
	codeStopping = "gateway_stopping"
	codeInternal = "internal"
)

// DataRef makes the address of a thin delivery's data below the gateway's public address, which may be empty.
func DataRef(public string) func(subscription, ref string) string {
	return func(subscription, ref string) string {
		return public + "/api/subscriptions/" + subscription + "/events/" + ref
	}
}

// Mount declares the routes.
func Mount(a *web.API, cfg Config) error {
	if cfg.Feed == nil || cfg.Tables == nil {
		return errors.New("mount the ways to receive: a feed and tables are required")
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 15 * time.Second
	}
	if cfg.Slow == 0 {
		cfg.Slow = 30 * time.Second
	}
	if cfg.Window == 0 {
		cfg.Window = 64
	}
	if cfg.Streams == 0 {
		cfg.Streams = 8192
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &server{cfg: cfg,
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_gateway_deliveries_total", Help: "Deliveries given out over HTTP."}, []string{"way"}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "civicbus_gateway_stream_ends_total", Help: "Streams that ended, by why."}, []string{"way", "code"})}
	if cfg.Metrics != nil {
		for _, c := range []prometheus.Collector{s.sent, s.ends} {
			if err := cfg.Metrics.Register(c); err != nil {
				return err
			}
		}
	}
	for _, c := range explained {
		a.Explain(c.code, c.text)
	}
	s.pullRoutes(a)
	s.sseRoute(a)
	s.webSocketRoute(a)
	return nil
}

// explained are the codes of problems and of ended streams, and the status of each where it is a problem.
var explained = []struct {
	code   string
	status int
	text   string
}{
	{feed.SubscriptionUnknown, http.StatusNotFound, "The caller's organisation has no such subscription."},
	{feed.SubscriptionPending, http.StatusConflict, "The subscription is not active yet: it waits for its approval or its activation."},
	{feed.SubscriptionPaused, http.StatusConflict, "The subscription is paused. When it is resumed, reading goes on where it was."},
	{feed.SubscriptionRevoked, http.StatusGone, "The subscription was revoked."},
	{feed.SubscriptionPushed, http.StatusConflict, "The subscription's deliveries go to its webhook."},
	{verdict.ReasonSubscriberNotTrusted, http.StatusForbidden, "The organisation is not active in the trust registry."},
	{verdict.ReasonNotEntitled, http.StatusForbidden, "The organisation may not receive any of the subscription's event types for its purpose."},
	{verdict.ReasonCertificationMissing, http.StatusForbidden, "The organisation lacks a certification that is valid now."},
	{feed.CursorInvalid, http.StatusBadRequest, "The cursor or reference was not given out for this subscription."},
	{feed.CursorExpired, http.StatusGone, "What stood at the cursor is not kept any more: deliveries may have been missed. Without a cursor reading begins at the oldest that are kept."},
	{feed.DeliveryGone, http.StatusGone, "The delivery is not kept any more."},
	{feed.NotCurrent, http.StatusServiceUnavailable, "What is decided on is not confirmed current, so nothing is decided. Ask again."},
	{"not_permitted", http.StatusForbidden, "The delivery is not permitted any more; errors says why."},
	{"too_many_streams", http.StatusTooManyRequests, "More streams are open than this gateway holds."},
	{"origin_refused", http.StatusForbidden, "A web page of this origin may not open a WebSocket here."},
	{"upgrade_required", http.StatusUpgradeRequired, "This address is for WebSockets."},
	{"subprotocol_missing", http.StatusBadRequest, "The WebSocket must offer the sub-protocol cloudevents.json."},
	{codeMessage, 0, "The end of a WebSocket: its client sent something else than acknowledgements of what it was sent."},
	{codeSlow, 0, "The end of a stream: its reader did not read, or did not acknowledge. It goes on where it was."},
	{codeExpired, 0, "The end of a stream: its token has expired. It goes on where it was, with a new one."},
	{codeStopping, 0, "The end of a stream: the gateway stops. Another goes on where it was."},
}

// problem is an error of package feed as a caller is told it.
func problem(ctx context.Context, err error) error {
	var e *feed.Ended
	if !errors.As(err, &e) {
		if ctx.Err() != nil {
			return web.Unavailable("the request took too long")
		}
		return err
	}
	if e.Code == feed.Unavailable || e.Code == feed.NotCurrent {
		return web.Unavailable(e.Detail)
	}
	for _, c := range explained {
		if c.code == e.Code {
			return web.Fail(c.status, e.Code, e.Detail)
		}
	}
	return web.Fail(http.StatusForbidden, "not_permitted", e.Detail, web.Fault{Code: e.Code}) // a denial's reason
}

// own says whether the caller may read a subscription: it is its organisation's. Of others' it is not said that they exist.
func (s *server) own(ctx context.Context, subscription string) error {
	sub := s.cfg.Tables.Snapshot().Subscription(subscription)
	if sub == nil { // it may be so new that the tables must be waited for
		if err := s.cfg.Feed.Check(ctx, subscription); err != nil {
			return problem(ctx, err)
		}
		sub = s.cfg.Tables.Snapshot().Subscription(subscription)
	}
	if sub == nil || sub.Subscriber != web.From(ctx).Organisation {
		return web.Fail(http.StatusNotFound, feed.SubscriptionUnknown, "the organisation has no such subscription")
	}
	return nil
}

// parameter is one of a query that a route knows.
type parameter struct {
	name, about string
	schema      *huma.Schema
}

func text(most int) *huma.Schema { return &huma.Schema{Type: huma.TypeString, MaxLength: &most} }

func whole(least, most float64, usual int) *huma.Schema {
	return &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Maximum: &most, Default: usual}
}

func oneOf(values ...any) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: values, Default: values[0]}
}

// document adds parameters and an answer to an operation.
func document(media string, answer *huma.Schema, parameters ...parameter) func(*huma.Operation) {
	return func(op *huma.Operation) {
		for _, p := range parameters {
			op.Parameters = append(op.Parameters, &huma.Param{Name: p.name, In: "query", Description: p.about, Schema: p.schema})
		}
		if media != "" {
			op.Responses["200"] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{media: {Schema: answer}}}
		}
	}
}

// query reads the parameters that a route knows, each at most once, and refuses others.
func query(r *http.Request, known ...parameter) (map[string]string, error) {
	values := map[string]string{}
	for name, all := range r.URL.Query() {
		i := slices.IndexFunc(known, func(p parameter) bool { return p.name == name })
		if i < 0 {
			return nil, invalid("", "unknown", "there is no such parameter")
		}
		v, p := all[0], known[i].schema
		switch {
		case len(all) > 1:
			return nil, invalid(name, "invalid", "is given more than once")
		case p.MaxLength != nil && len(v) > *p.MaxLength:
			return nil, invalid(name, "invalid", "is too long")
		case p.Type == huma.TypeInteger:
			n, err := strconv.Atoi(v)
			if err != nil || float64(n) < *p.Minimum || float64(n) > *p.Maximum {
				return nil, invalid(name, "invalid", "must be a whole number from "+strconv.Itoa(int(*p.Minimum))+" to "+strconv.Itoa(int(*p.Maximum)))
			}
		case len(p.Enum) > 0 && !slices.Contains(p.Enum, any(v)):
			return nil, invalid(name, "invalid", "is none of the values that it can have")
		}
		values[name] = v
	}
	return values, nil
}

func invalid(field, code, detail string) error {
	return web.Fail(http.StatusUnprocessableEntity, "invalid", "the request is not as documented", web.Fault{Field: field, Code: code, Detail: detail})
}

func number(values map[string]string, name string, usual int) int {
	if n, err := strconv.Atoi(values[name]); err == nil {
		return n
	}
	return usual
}

var (
	paramCursor = parameter{"cursor", "Where to begin: a cursor as it was given out. Without one, see from.", text(8 << 10)}
	paramFrom   = parameter{"from", "Where to begin without a cursor: at the oldest deliveries that are kept, or with what comes from now on.", oneOf("oldest", "now")}
)

// begin is where a reader begins.
func (s *server) begin(ctx context.Context, subscription, cursor, from string) (feed.Position, error) {
	switch {
	case cursor != "":
		return s.cfg.Feed.Position(subscription, cursor)
	case from == "now":
		return s.cfg.Feed.Newest(ctx, subscription)
	}
	return s.cfg.Feed.Oldest(ctx, subscription)
}

// enter counts a stream in, if there is room; leave counts it out.
func (s *server) enter() (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= s.cfg.Streams {
		return nil, web.Fail(http.StatusTooManyRequests, "too_many_streams", "the gateway holds no more streams")
	}
	s.open++
	return func() {
		s.mu.Lock()
		s.open--
		s.mu.Unlock()
	}, nil
}
