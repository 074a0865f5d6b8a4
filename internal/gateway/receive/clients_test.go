package receive_test

import (
	"bufio"
	"civicbus/internal/tables"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"civicbus/internal/gateway/feed"
	"civicbus/internal/gateway/gatewaytest"
	"civicbus/internal/gateway/receive"
	"civicbus/internal/gateway/web"

	"github.com/coder/websocket"
)

// house is a bus with its gateway.
type house struct {
	*gatewaytest.Bus
	t   *testing.T
	url string
}

var later = time.Now().Add(24 * time.Hour)

func start(t *testing.T, subscribers int, change ...func(*receive.Config)) *house {
	t.Helper()
	return open(t, gatewaytest.Start(t, subscribers), change...)
}

func open(t *testing.T, b *gatewaytest.Bus, change ...func(*receive.Config)) *house {
	t.Helper()
	_, s := serve(b, b.World, b.Feed, change...)
	return &house{b, t, s.URL}
}

func serve(b *gatewaytest.Bus, tables tables.Current, f *feed.Feed, change ...func(*receive.Config)) (*web.API, *httptest.Server) {
	cfg := receive.Config{Feed: f, Tables: tables, Heartbeat: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&cfg)
	}
	return b.Serve(func(a *web.API) error { return receive.Mount(a, cfg) })
}

// event is what a test looks at.
type event struct {
	ID      string
	Subject string
	DataRef string
	Data    struct{ Street, City string }
	text    string
}

func parse(t testing.TB, text string) event {
	t.Helper()
	e := event{text: text}
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return e
}

// reader is one way to receive, from a place that it remembers over cuts.
type reader interface {
	// next gives at least one delivery, or the code that the reading ended with; neither when the context ended first.
	next(ctx context.Context) (events []event, code string)
	// safe says that what next gave is safe.
	safe()
	// cut breaks the connection; the next call of next makes another.
	cut()
}

var ways = []string{"pull", "sse", "websocket"}

func (h *house) reader(way, subscription, token string) reader {
	base := h.url + "/api/subscriptions/" + subscription
	switch way {
	case "pull":
		return &puller{h: h, token: token, at: base + "/events?limit=7&wait=5"}
	case "sse":
		return &sseReader{h: h, token: token, url: base + "/sse"}
	default:
		return &wsReader{h: h, token: token, url: base + "/websocket"}
	}
}

func own(subscriber string) string { return gatewaytest.Token(subscriber, later) }

// ask makes a request; the caller closes the body.
func (h *house) ask(ctx context.Context, method, address, token string, headers ...string) *http.Response {
	h.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	h.Must(err)
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			h.t.Error(err)
		}
		return &http.Response{Body: io.NopCloser(strings.NewReader("")), StatusCode: 0, Header: http.Header{}}
	}
	return res
}

func (h *house) get(address, token string, headers ...string) (*http.Response, string) {
	h.t.Helper()
	res := h.ask(h.t.Context(), http.MethodGet, address, token, headers...)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	h.Must(err)
	return res, string(text)
}

// problem is the code of a refusal.
func problem(text string) string {
	var p struct{ Code string }
	_ = json.Unmarshal([]byte(text), &p)
	return p.Code
}

// puller follows the links.
type puller struct {
	h        *house
	token    string
	at, then string
	broken   bool
}

var linkNext = regexp.MustCompile(`<([^>]+)>; rel="next"`)

func (p *puller) next(ctx context.Context) ([]event, string) {
	address := p.at
	for ctx.Err() == nil {
		res := p.h.ask(ctx, http.MethodGet, address, p.token)
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode == 0 {
			continue
		}
		if res.StatusCode != http.StatusOK {
			return nil, problem(string(text))
		}
		var raw []json.RawMessage
		p.h.Must(json.Unmarshal(text, &raw))
		link := linkNext.FindStringSubmatch(res.Header.Get("Link"))
		if link == nil {
			p.h.t.Fatalf("no link: %v", res.Header)
		}
		p.then = p.h.url + link[1]
		if len(raw) == 0 {
			p.at, address = p.then, p.then
			continue
		}
		var events []event
		for _, r := range raw {
			events = append(events, parse(p.h.t, string(r)))
		}
		if p.broken { // the answer was lost on its way
			p.broken = false
			continue
		}
		return events, ""
	}
	return nil, ""
}

func (p *puller) safe() { p.at = p.then }
func (p *puller) cut()  { p.broken = true }

// sseReader reads as a browser does.
type sseReader struct {
	h          *house
	token, url string
	last, then string
	notices    []string // of streams before
	body       io.ReadCloser
	lines      *bufio.Reader
	cancel     context.CancelFunc
}

func (s *sseReader) next(ctx context.Context) ([]event, string) {
	for ctx.Err() == nil {
		if s.body == nil {
			var headers []string
			if s.last != "" {
				headers = []string{"Last-Event-ID", s.last}
			}
			var streaming context.Context
			streaming, s.cancel = context.WithCancel(s.h.t.Context())
			res := s.h.ask(streaming, http.MethodGet, s.url, s.token, headers...)
			if res.StatusCode != http.StatusOK {
				text, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				s.cancel()
				return nil, problem(string(text))
			}
			s.body, s.lines = res.Body, bufio.NewReader(res.Body)
		}
		stop := context.AfterFunc(ctx, s.cancel)
		kind, id, data, ok := s.one()
		stop()
		switch {
		case !ok:
			s.cut()
		case kind == "cut":
			s.notices = append(s.notices, problem(data))
		case kind == "end":
			s.cut()
			return nil, problem(data)
		default:
			s.then = id
			return []event{parse(s.h.t, data)}, ""
		}
	}
	return nil, ""
}

func (s *sseReader) one() (kind, id, data string, ok bool) {
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return "", "", "", false
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			kind = value
		case "id":
			id = value
		case "data":
			data = value
		case "":
			if line == "\n" && data != "" {
				return kind, id, data, true
			}
		}
	}
}

func (s *sseReader) safe() { s.last = s.then }
func (s *sseReader) cut() {
	if s.body != nil {
		s.cancel()
		_ = s.body.Close()
		s.body = nil
	}
}

// wsReader acknowledges what is safe, and knows which acknowledgements have arrived: those before an answered ping.
type wsReader struct {
	h          *house
	token, url string
	conn       *websocket.Conn
	then       string
}

func (h *house) dial(ctx context.Context, address, token string, headers ...string) (*websocket.Conn, *http.Response, error) {
	header := http.Header{"Authorization": {"Bearer " + token}}
	for i := 0; i+1 < len(headers); i += 2 {
		header.Set(headers[i], headers[i+1])
	}
	return websocket.Dial(ctx, strings.Replace(address, "http", "ws", 1), &websocket.DialOptions{Subprotocols: []string{receive.SubProtocol}, HTTPHeader: header})
}

func (s *wsReader) next(ctx context.Context) ([]event, string) {
	for ctx.Err() == nil {
		if s.conn == nil {
			conn, res, err := s.h.dial(ctx, s.url, s.token) //nolint:bodyclose // the library closes it
			if err != nil {
				if res != nil {
					text, _ := io.ReadAll(res.Body)
					return nil, problem(string(text))
				}
				continue
			}
			conn.SetReadLimit(1 << 20)
			s.conn = conn
		}
		_, text, err := s.conn.Read(ctx)
		var end websocket.CloseError
		switch {
		case err == nil:
			e := parse(s.h.t, string(text))
			s.then = e.ID
			return []event{e}, ""
		case errors.As(err, &end):
			s.conn = nil
			return nil, end.Reason
		default:
			s.conn = nil
		}
	}
	return nil, ""
}

func ackOf(id string) []byte {
	text, _ := json.Marshal(map[string]string{"specversion": "1.0", "id": "ack-" + id, "source": "https://receiver.test", "type": receive.AckType, "subject": id})
	return text
}

func (s *wsReader) safe() {
	if s.conn != nil {
		_ = s.conn.Write(s.h.t.Context(), websocket.MessageText, ackOf(s.then))
	}
}

func (s *wsReader) cut() {
	if s.conn != nil {
		_ = s.conn.CloseNow()
		s.conn = nil
	}
}

// confirm returns when every acknowledgement has arrived: a ping behind them is answered. What comes meanwhile is thrown
// away, unacknowledged, and so is the connection.
func (s *wsReader) confirm(ctx context.Context) {
	reading, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, _, err := s.conn.Read(reading); err != nil {
				return
			}
		}
	}()
	s.h.Must(s.conn.Ping(ctx))
	stop()
	<-ended
	s.cut()
}

// gather reads until so many deliveries have come, by id.
func gather(t *testing.T, r reader, n int) map[string]event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	all := map[string]event{}
	for len(all) < n {
		events, code := r.next(ctx)
		if code != "" || ctx.Err() != nil {
			t.Fatalf("%d of %d deliveries, then %q", len(all), n, code)
		}
		for _, e := range events {
			all[e.ID] = e
		}
		r.safe()
	}
	r.cut()
	return all
}

func subscriptionURL(h *house, subscription string) string {
	return h.url + "/api/subscriptions/" + url.PathEscape(subscription)
}

func moves(prefix string, person, n int) (all [][]byte) {
	for i := range n {
		id := fmt.Sprint(prefix, "-", i)
		all = append(all, gatewaytest.Moved(id, person, id))
	}
	return all
}
