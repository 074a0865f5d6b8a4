package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// answer is what came before a body.
type answer struct {
	StatusCode int
	Header     http.Header
}

// tokens authenticates by a list.
type tokens map[string]Identity

func (t tokens) Authenticate(_ context.Context, token string) (*Identity, error) {
	if token == "down" {
		return nil, ErrUnavailable
	}
	id, ok := t[token]
	if !ok {
		return nil, errors.New("unknown")
	}
	return &id, nil
}

var later = time.Now().Add(time.Hour)

var callers = tokens{
	"kela":    {Client: "kela", Organisation: "kela.fi", Scopes: []string{"a"}, Expires: later},
	"poor":    {Client: "poor", Organisation: "kela.fi", Expires: later},
	"person":  {Client: "app", Person: "k1.x", Scopes: []string{"a"}, Expires: later},
	"expired": {Client: "old", Organisation: "kela.fi", Scopes: []string{"a"}, Expires: time.Now().Add(-time.Second)},
}

type thing struct {
	Name string         `json:"name" minLength:"2"`
	Many []int          `json:"many,omitempty"`
	Any  map[string]any `json:"any,omitempty"`
}

func newAPI(t *testing.T, change func(*Config)) (*API, *httptest.Server) {
	cfg := Config{Authenticator: callers, Logger: slog.New(slog.DiscardHandler), MaxBody: 10_000}
	if change != nil {
		change(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	Handle(a, Route{ID: "put-thing", Method: "PUT", Path: "/things/{id}", Tag: "things", For: Organisations, Scope: "a"}, func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"5"`
		Body thing
	}) (*struct{ Body thing }, error) {
		switch in.Body.Name {
		case "panic":
			panic("010594Y9032")
		case "fail":
			return nil, errors.New("broken: 010594Y9032")
		case "none":
			return nil, Fail(http.StatusNotFound, "not_found", "no such thing", Fault{Field: "name", Code: "unknown"})
		case "who":
			in.Body.Name = From(ctx).Organisation
		}
		return &struct{ Body thing }{in.Body}, nil
	})
	Serve(a, Route{ID: "stream", Method: "GET", Path: "/stream", Tag: "things", For: Organisations | People, Stream: true}, func(w http.ResponseWriter, r *http.Request) error {
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		_, err := io.WriteString(w, " "+context.Cause(r.Context()).Error())
		return err
	})
	s := httptest.NewServer(a.Handler())
	t.Cleanup(s.Close)
	return a, s
}

func ask(t *testing.T, s *httptest.Server, method, path, token, body string, headers ...string) (answer, string) {
	t.Helper()
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header}, string(text)
}

func zip(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}

func TestRequests(t *testing.T) {
	_, s := newAPI(t, nil)
	deep := `{"name": "xx", "any": {"a": ` + strings.Repeat("[", 4000) + strings.Repeat("]", 4000) + `}}`
	for _, c := range []struct {
		name, method, path, token, body string
		headers                         []string
		status                          int
		want                            string // in the answer
		header, value                   string
	}{
		{"good", "PUT", "/things/1", "kela", `{"name": "xx"}`, nil, 200, `{"name": "xx"}`, "RateLimit-Policy", `"client";q=6000;w=60`},
		{"spaces", "PUT", "/things/1", "kela", `{"name":"a:b,\"c,","many":[1,2]}`, nil, 200, `{"name": "a:b,\"c,", "many": [1, 2]}`, "", ""},
		{"identity", "PUT", "/things/1", "kela", `{"name": "who"}`, nil, 200, `"kela.fi"`, "", ""},
		{"compressed", "PUT", "/things/1", "kela", zip(`{"name": "xx"}`), []string{"Content-Encoding", "gzip"}, 200, `{"name": "xx"}`, "", ""},
		{"no token", "PUT", "/things/1", "", `{"name": "xx"}`, nil, 401, `"token_missing"`, "WWW-Authenticate", `Bearer realm="civicbus"`},
		{"unknown token", "PUT", "/things/1", "nobody", `{"name": "xx"}`, nil, 401, `"token_invalid"`, "WWW-Authenticate", `Bearer realm="civicbus", error="invalid_token"`},
		{"expired", "PUT", "/things/1", "expired", `{"name": "xx"}`, nil, 401, `"token_invalid"`, "", ""},
		{"two words", "PUT", "/things/1", "kela x", `{"name": "xx"}`, nil, 401, `"token_invalid"`, "", ""},
		{"basic", "PUT", "/things/1", "", `{"name": "xx"}`, []string{"Authorization", "Basic a2VsYQ=="}, 401, `"token_invalid"`, "", ""},
		{"issuer down", "PUT", "/things/1", "down", `{"name": "xx"}`, nil, 503, `"unavailable"`, "Retry-After", "1"},
		{"person", "PUT", "/things/1", "person", `{"name": "xx"}`, nil, 403, `"wrong_caller"`, "", ""},
		{"no scope", "PUT", "/things/1", "poor", `{"name": "xx"}`, nil, 403, `"scope_missing"`, "WWW-Authenticate", `Bearer realm="civicbus", error="insufficient_scope", scope="a"`},
		{"too short", "PUT", "/things/1", "kela", `{"name": "x"}`, nil, 422, `"pointer": "/name"`, "Content-Type", "application/problem+json"},
		{"missing", "PUT", "/things/1", "kela", `{}`, nil, 422, `"code": "missing"`, "", ""},
		{"unknown member", "PUT", "/things/1", "kela", `{"name": "xx", "colour": 1}`, nil, 422, `"pointer": "/colour"`, "", ""},
		{"wrong element", "PUT", "/things/1", "kela", `{"name": "xx", "many": [1, "x"]}`, nil, 422, `"pointer": "/many/1"`, "", ""},
		{"parameter", "PUT", "/things/123456", "kela", `{"name": "xx"}`, nil, 422, `"field": "id"`, "", ""},
		{"unknown parameter", "PUT", "/things/1?x=1", "kela", `{"name": "xx"}`, nil, 422, `"unknown"`, "", ""},
		{"no JSON", "PUT", "/things/1", "kela", `{"name": `, nil, 400, `"malformed"`, "", ""},
		{"no body", "PUT", "/things/1", "kela", ``, nil, 400, `"a body is needed"`, "", ""},
		{"other media", "PUT", "/things/1", "kela", `name`, []string{"Content-Type", "text/plain"}, 415, `"unsupported_media_type"`, "", ""},
		{"other encoding", "PUT", "/things/1", "kela", `x`, []string{"Content-Encoding", "br"}, 415, `"unsupported_encoding"`, "Accept-Encoding", "gzip"},
		{"no gzip", "PUT", "/things/1", "kela", `x`, []string{"Content-Encoding", "gzip"}, 400, `"malformed"`, "", ""},
		{"large", "PUT", "/things/1", "kela", `{"name": "` + strings.Repeat("x", 10_000) + `"}`, nil, 413, `"too_large"`, "", ""},
		{"bomb", "PUT", "/things/1", "kela", zip(`{"name": "` + strings.Repeat("x", 5_000_000) + `"}`), []string{"Content-Encoding", "gzip"}, 413, `"too_large"`, "", ""},
		{"deep", "PUT", "/things/1", "kela", deep, nil, 200, `"any"`, "", ""},
		{"huge number", "PUT", "/things/1", "kela", `{"name": "xx", "many": [1e999999999]}`, nil, 400, `"malformed"`, "", ""},
		{"panic", "PUT", "/things/1", "kela", `{"name": "panic"}`, nil, 500, `"internal"`, "", ""},
		{"error", "PUT", "/things/1", "kela", `{"name": "fail"}`, nil, 500, `"internal"`, "", ""},
		{"problem", "PUT", "/things/1", "kela", `{"name": "none"}`, nil, 404, `"type": "/docs#not_found"`, "", ""},
		{"no such path", "GET", "/nothing", "", "", nil, 404, `"not_found"`, "Content-Type", "application/problem+json"},
		{"path not clean", "PUT", "/things/../things/1", "kela", `{"name": "xx"}`, nil, 404, `"not_found"`, "", ""},
		{"other method", "DELETE", "/things/1", "kela", "", nil, 405, `"method_not_allowed"`, "Allow", "PUT"},
		{"documentation", "GET", "/openapi.json", "", "", nil, 200, `"put-thing"`, "Content-Type", "application/json; charset=utf-8"},
		{"page", "GET", "/docs", "", "", nil, 200, `id="op-put-thing"`, "RateLimit-Policy", `"address";q=600;w=60`},
	} {
		res, text := ask(t, s, c.method, c.path, c.token, c.body, c.headers...)
		if res.StatusCode != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s, want %d with %s", c.name, res.StatusCode, text[:min(len(text), 500)], c.status, c.want)
		}
		if c.header != "" && res.Header.Get(c.header) != c.value {
			t.Errorf("%s: %s is %q, want %q", c.name, c.header, res.Header.Get(c.header), c.value)
		}
		if res.Header.Get("X-Request-Id") == "" || strings.Contains(text, "010594Y9032") {
			t.Errorf("%s: %v %s", c.name, res.Header, text)
		}
		if res.StatusCode >= 400 {
			var p Problem
			if err := json.Unmarshal([]byte(text), &p); err != nil || p.Status != res.StatusCode || p.Code == "" || p.Instance == "" || p.Title == "" {
				t.Errorf("%s: no whole problem: %s (%v)", c.name, text, err)
			}
		}
	}
}

// What was sent is never quoted: a member's name, a value, a parameter.
func TestProblemsQuoteNothing(t *testing.T) {
	_, s := newAPI(t, nil)
	for _, body := range []string{`{"name": "xx", "010594Y9032": 1}`, `{"name": "xx", "many": "010594Y9032"}`, `{"name": ["010594Y9032"]}`, `{"010594Y9032`, `"010594Y9032"`} {
		res, text := ask(t, s, "PUT", "/things/1", "kela", body)
		if res.StatusCode < 400 || strings.Contains(text, "010594Y9032") {
			t.Errorf("%s: %d %s", body, res.StatusCode, text)
		}
	}
	for _, path := range []string{"/things/010594Y9032", "/things/1?q=010594Y9032", "/things/1?010594Y9032=1", "/010594Y9032"} {
		res, text := ask(t, s, "PUT", path, "kela", `{"name": "xx"}`)
		if res.StatusCode < 400 || strings.Contains(text, "010594Y9032") {
			t.Errorf("%s: %d %s", path, res.StatusCode, text)
		}
	}
}

func TestLimit(t *testing.T) {
	now := time.Now()
	_, s := newAPI(t, func(c *Config) {
		c.Limit = Limit{Requests: 3, Window: 30 * time.Second}
		c.Now = func() time.Time { return now }
	})
	for i := range 3 {
		if res, text := ask(t, s, "PUT", "/things/1", "kela", `{"name": "xx"}`); res.StatusCode != http.StatusOK || res.Header.Get("RateLimit") != []string{`"client";r=2;t=10`, `"client";r=1;t=20`, `"client";r=0;t=30`}[i] {
			t.Fatalf("%d: %d %s %v", i, res.StatusCode, text, res.Header)
		}
	}
	res, text := ask(t, s, "PUT", "/things/1", "kela", `{"name": "xx"}`)
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") != "10" || !strings.Contains(text, "too_many_requests") {
		t.Fatalf("%d %s %v", res.StatusCode, text, res.Header)
	}
	if res, _ := ask(t, s, "PUT", "/things/1", "poor", `{"name": "xx"}`); res.StatusCode != http.StatusForbidden {
		t.Fatalf("another client: %d", res.StatusCode)
	}
	now = now.Add(10 * time.Second)
	if res, _ := ask(t, s, "PUT", "/things/1", "kela", `{"name": "xx"}`); res.StatusCode != http.StatusOK {
		t.Fatalf("later: %d", res.StatusCode)
	}
}

func TestLimiterForgets(t *testing.T) {
	now := time.Now()
	l := newLimiter("x", Limit{Requests: 10, Window: time.Second}, func() time.Time { return now })
	for i := range maxBuckets + 1 {
		if err := l.take(string(rune(i))+"x"+time.Duration(i).String(), http.Header{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.full) > maxBuckets {
		t.Fatalf("%d callers are remembered", len(l.full))
	}
}

// A body that comes too slowly ends with its time, whatever else is sent.
func TestSlowBody(t *testing.T) {
	_, s := newAPI(t, func(c *Config) { c.BodyTimeout = 100 * time.Millisecond })
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "PUT /things/1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer kela\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") || !strings.Contains(string(answer), "body_timeout") {
		t.Fatalf("%s %v", answer, err)
	}
}

// Bodies share a bound of memory.
func TestBodiesAreBounded(t *testing.T) {
	a, s := newAPI(t, nil)
	release, err := a.bodies.Reserve(maxBodies - 5)
	if err != nil {
		t.Fatal(err)
	}
	if res, text := ask(t, s, "PUT", "/things/1", "kela", `{"name": "xx"}`); res.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("%d %s", res.StatusCode, text)
	}
	release()
	if res, text := ask(t, s, "PUT", "/things/1", "kela", `{"name": "xx"}`); res.StatusCode != http.StatusOK || a.bodies.reserved.Load() != 0 {
		t.Fatalf("%d %s, %d reserved", res.StatusCode, text, a.bodies.reserved.Load())
	}
}

// expiring finds that token short has just a little left, whenever it comes.
type expiring struct{}

func (expiring) Authenticate(_ context.Context, token string) (*Identity, error) {
	id := callers["kela"]
	if token == "short" {
		id.Expires = time.Now().Add(100 * time.Millisecond)
	}
	return &id, nil
}

func TestStreamsEnd(t *testing.T) {
	a, s := newAPI(t, func(c *Config) {
		c.Authenticator = expiring{}
	})
	if _, text := ask(t, s, "GET", "/stream", "short", ""); text != "begun "+ErrTokenExpired.Error() {
		t.Errorf("the token's end: %q", text)
	}
	req, _ := http.NewRequest(http.MethodGet, s.URL+"/stream", nil)
	req.Header.Set("Authorization", "Bearer long")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(res.Body); string(text) != "begun "+ErrStopping.Error() {
		t.Errorf("the gateway's end: %q %v", text, err)
	}
}

// Every problem that this package can write is explained.
func TestCodesAreExplained(t *testing.T) {
	a, s := newAPI(t, nil)
	_, page := ask(t, s, "GET", "/docs", "", "")
	for _, c := range ownCodes {
		if !strings.Contains(page, `id="`+c[0]+`"`) || a.codes.label(c[0]) != c[0] {
			t.Errorf("%s is not explained", c[0])
		}
	}
	if a.codes.label("something") != "other" {
		t.Error("a code that nobody explained has a label of its own")
	}
}

func TestDocument(t *testing.T) {
	a, _ := newAPI(t, nil)
	op := a.OpenAPI().Paths["/things/{id}"].Put
	var statuses []string
	for s := range op.Responses {
		statuses = append(statuses, s)
	}
	slices.Sort(statuses)
	if got := strings.Join(statuses, " "); got != "200 400 401 403 408 413 415 422 429 500 503" {
		t.Errorf("answers: %s", got)
	}
	if _, ok := a.OpenAPI().Components.Schemas.Map()["ErrorModel"]; ok {
		t.Error("an error that nobody is told is documented")
	}
}
