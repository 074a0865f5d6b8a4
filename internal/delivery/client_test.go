package delivery

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/leave"
	"civicbus/internal/pseudonym"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func newTestClient(t *testing.T) (*Client, *pseudonym.Keys) {
	t.Helper()
	keys, err := pseudonym.NewKeys([]byte("a bus key of tests, of 32 bytes or more"))
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(Settings{Origin: "bus.example", Development: true}, keys)
	t.Cleanup(c.Close)
	return c, keys
}

// sample has texts that a header cannot hold as they are.
func sample() *leave.Event {
	const data = `{"name":"Venla Mäkinen"}`
	return &leave.Event{ID: "0123456789abcdef0123456789abcdef", Data: []byte(data),
		Attributes: []leave.Attribute{{Name: "specversion", Value: "1.0"}, {Name: "id", Value: "0123456789abcdef0123456789abcdef"}, {Name: "source", Value: "https://dvv.fi"}, {Name: "type", Value: "t.moved"},
			{Name: "time", Value: "2026-08-01T08:00:00Z"}, {Name: "subject", Value: "p1.abc"}, {Name: "subscription", Value: "sub-1"}, {Name: "grantreference", Value: `Mäkinen "100 %" €`}},
		JSON: []byte(`{"specversion":"1.0","id":"0123456789abcdef0123456789abcdef","source":"https://dvv.fi","type":"t.moved","time":"2026-08-01T08:00:00Z","subject":"p1.abc","subscription":"sub-1",` +
			`"grantreference":"Mäkinen \"100 %\" €","datacontenttype":"application/json","data":` + data + `}`)}
}

// received is what a receiver made of a request with the CloudEvents SDK, after it has checked the signature with the official
// package of Standard Webhooks.
func received(t *testing.T, sub *codecs.Subscription, now time.Time, secrets ...[]byte) *cloudevents.Event {
	t.Helper()
	c, _ := newTestClient(t)
	var got *cloudevents.Event
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		for _, secret := range secrets {
			hook, err := standardwebhooks.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString(secret))
			if err != nil {
				t.Error(err)
				continue
			}
			if err := hook.Verify(body, r.Header); err != nil {
				t.Errorf("verify: %v", err)
			}
			if err := hook.Verify(append(body, ' '), r.Header); err == nil {
				t.Error("another body is verified too")
			}
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		if got, err = cehttp.NewEventFromHTTPRequest(r); err != nil {
			t.Errorf("receive: %v", err)
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	u, err := parseSink(server.URL+"/hook?token=1", true)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.request(t.Context(), u, sub, sample(), now)
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.send(t.Context(), u, r, nil)
	if err != nil || a.status != http.StatusAccepted {
		t.Fatalf("%d %v", a.status, err)
	}
	return got
}

func TestTheCloudEventsSDKReceivesAndTheOfficialPackageVerifies(t *testing.T) {
	_, keys := newTestClient(t)
	for _, mode := range []string{"", "binary", "structured"} {
		sub := &codecs.Subscription{ID: "sub-1", Delivery: codecs.Delivery{Mode: mode}}
		e := received(t, sub, time.Now(), keys.WebhookSecret("sub-1", 0))
		if e == nil || e.Validate() != nil || e.ID() != sample().ID || e.Type() != "t.moved" || e.Subject() != "p1.abc" || e.Extensions()["subscription"] != "sub-1" ||
			decoded(t, e.Extensions()["grantreference"], mode) != `Mäkinen "100 %" €` || string(e.Data()) != `{"name":"Venla Mäkinen"}` || e.DataContentType() != "application/json" {
			t.Errorf("%s: %v", mode, e)
		}
	}
}

// decoded is an extension attribute's text: of binary mode the SDK leaves the decoding to its caller.
func decoded(t *testing.T, value any, mode string) string {
	t.Helper()
	text, _ := value.(string)
	if mode == "structured" {
		return text
	}
	text, err := url.PathUnescape(text)
	if err != nil {
		t.Error(err)
	}
	return text
}

// While both secrets are good a receiver may have either; afterwards only the new one is good.
func TestSecretsAreRotated(t *testing.T) {
	c, keys := newTestClient(t)
	now := time.Now()
	sub := &codecs.Subscription{ID: "sub-1", SecretVersion: 2, SecretOverlap: now.Add(time.Hour).UnixMilli()}
	received(t, sub, now, keys.WebhookSecret("sub-1", 2), keys.WebhookSecret("sub-1", 1))
	both, err := c.sign(sub, "id", now, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	sub.SecretOverlap = now.UnixMilli()
	one, err := c.sign(sub, "id", now, []byte("x"))
	if err != nil || !strings.HasPrefix(both, one+" ") || strings.Contains(one, " ") {
		t.Errorf("%q, then %q, %v", both, one, err)
	}
	seen := map[string]bool{}
	for _, id := range []string{"sub-1", "sub-2"} {
		for version := range int64(3) {
			secret := keys.WebhookSecret(id, version)
			if len(secret) != 32 || seen[string(secret)] {
				t.Error("a secret comes twice")
			}
			seen[string(secret)] = true
		}
	}
}

func TestHandshake(t *testing.T) {
	for _, c := range []struct {
		status        int
		origin, rate  string
		allowed       bool
		wantPerMinute int
	}{
		{200, "bus.example", "120", true, 120}, {204, "*", "*", true, 0}, {200, "BUS.EXAMPLE", "", true, 0}, {200, "other.example", "120", false, 0},
		{200, "", "120", false, 0}, {405, "*", "", false, 0}, {302, "*", "", false, 0}, {500, "*", "", false, 0},
	} {
		client, _ := newTestClient(t)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodOptions || r.Header.Get("WebHook-Request-Origin") != "bus.example" {
				t.Errorf("%s from %q", r.Method, r.Header.Get("WebHook-Request-Origin"))
			}
			for name, value := range map[string]string{"WebHook-Allowed-Origin": c.origin, "WebHook-Allowed-Rate": c.rate} {
				if value != "" {
					w.Header().Set(name, value)
				}
			}
			w.WriteHeader(c.status)
		}))
		u, err := parseSink(server.URL, true)
		if err != nil {
			t.Fatal(err)
		}
		rate, err := client.handshake(t.Context(), u)
		if (err == nil) != c.allowed || rate != c.wantPerMinute || err != nil && causeOf(err) != CauseHandshake {
			t.Errorf("%+v: %d, %v", c, rate, err)
		}
		server.Close()
	}
}

// Neither a redirect is followed nor a proxy of the environment used, and an endless answer ends.
func TestAnswersAreNotTrusted(t *testing.T) {
	client, _ := newTestClient(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
	defer elsewhere.Close()
	t.Setenv("HTTP_PROXY", elsewhere.URL)
	t.Setenv("http_proxy", elsewhere.URL)
	endless := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !endless {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		block := make([]byte, 32<<10)
		for {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	u, err := parseSink(server.URL, true)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.String(), strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		a, err := client.send(t.Context(), u, r, nil)
		want := http.StatusTemporaryRedirect
		if endless {
			want = http.StatusOK
		}
		if err != nil || a.status != want {
			t.Errorf("%d, %v", a.status, err)
		}
		endless = true
	}
	if len(client.transport.idle) > 0 {
		for _, all := range client.transport.idle {
			for _, c := range all {
				if c.in.Buffered() > 0 {
					t.Error("a connection with half an answer is kept")
				}
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{"": 0, "120": 2 * time.Minute, " 5 ": 5 * time.Second, "-5": 0, "soon": 0, "99999999999999": 0,
		now.Add(time.Hour).Format(http.TimeFormat): time.Hour, now.Add(-time.Hour).Format(http.TimeFormat): 0} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestBreaker(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	e := &endpoint{window: windowMost}
	for range breakAfter - 1 {
		if e.wait(now, 0) != 0 {
			t.Fatal("open too early")
		}
		e.failed(now)
	}
	if e.state(now) != BreakerClosed || e.wait(now, windowMost) == 0 || e.wait(now, windowMost-1) != 0 {
		t.Error("closed, and up to its window")
	}
	e.failed(now)
	for i, want := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 5 * time.Minute, 5 * time.Minute} {
		if e.state(now) != BreakerOpen || e.wait(now, 0) != want {
			t.Fatalf("%d: %s for %s, want %s", i, e.state(now), e.wait(now, 0), want)
		}
		now = now.Add(want)
		if e.state(now) != BreakerHalfOpen || e.wait(now, 1) == 0 || e.wait(now, 0) != 0 || e.wait(now, 0) == 0 {
			t.Fatal("half open, one attempt may see")
		}
		e.failed(now)
	}
	now = now.Add(time.Hour)
	if e.wait(now, 0) != 0 {
		t.Fatal("not half open")
	}
	if e.answered(); e.state(now) != BreakerClosed || e.wait(now, 0) != 0 || e.wait(now, 1) != 0 {
		t.Error("it answered, and is not closed")
	}
}

func TestSlowingDown(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	e := &endpoint{window: windowMost}
	e.slow(now, 30*time.Second)
	if e.wait(now, 0) != 30*time.Second || e.window != 2 {
		t.Errorf("waits %s, %d at once", e.wait(now, 0), e.window)
	}
	e.slow(now, 100*time.Hour)
	if e.wait(now, 0) != quietMost || e.window != 1 {
		t.Errorf("waits %s, %d at once", e.wait(now, 0), e.window)
	}
	now = now.Add(quietMost)
	e.permitted(now, 60)
	if e.wait(now, 0) != 0 || e.wait(now, 0) != time.Second || e.wait(now.Add(time.Second), 0) != 0 {
		t.Error("60 a minute are one a second")
	}
}
