package delivery

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/leave"
	"civicbus/internal/pseudonym"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Client speaks to webhooks: it asks for permission, signs, and sends. Safe for concurrent use.
type Client struct {
	settings  Settings
	keys      *pseudonym.Keys
	transport transport
}

// NewClient makes one. Close it.
func NewClient(s Settings, keys *pseudonym.Keys) *Client {
	c := &Client{settings: s, keys: keys}
	c.transport = transport{dial: dialer(&s).DialContext, tls: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.Roots, NextProtos: []string{"http/1.1"}}, idle: map[string][]*conn{}}
	return c
}

// Close lets go of connections that are not used.
func (c *Client) Close() { c.transport.close() }

func (c *Client) sweep() { c.transport.sweep() }

// Causes of an attempt that did not deliver. Closed list.
const (
	CauseAddress   = "address_forbidden" // it leads where civicbus does not connect to
	CauseName      = "name_unknown"      // its host's name does not resolve
	CauseConnect   = "no_connection"
	CauseTLS       = "tls_failed"  // there is no encrypted connection, or its certificate is not trusted
	CauseHandshake = "not_allowed" // it has not given its permission (CloudEvents' HTTP 1.1 Web Hooks, section 4)
	CauseTimeout   = "timeout"
	CauseNoAnswer  = "no_answer" // the connection ended before an answer
	CauseStatus    = "status"    // it answered, and not with 2xx
	CauseRedirect  = "redirect"  // it answered with 3xx, which is not followed
)

// causeOf classes an error of an attempt.
func causeOf(err error) string {
	var name *net.DNSError
	var operation *net.OpError
	var timeout net.Error
	switch {
	case errors.Is(err, ErrAddress):
		return CauseAddress
	case errors.As(err, &name):
		return CauseName
	case errors.Is(err, errTLS):
		return CauseTLS
	case errors.Is(err, errNotAllowed):
		return CauseHandshake
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return CauseTimeout
	case errors.As(err, &operation) && operation.Op == "dial":
		return CauseConnect
	}
	return CauseNoAnswer
}

// errNotAllowed says that a receiver has not given its permission.
var errNotAllowed = errors.New("the receiver does not allow deliveries of this origin")

// handshake asks a receiver for its permission and how many deliveries a minute it takes; 0: as many as there are.
func (c *Client) handshake(ctx context.Context, u *url.URL) (perMinute int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodOptions, u.String(), http.NoBody)
	if err != nil {
		return 0, ErrAddress
	}
	r.Header.Set("User-Agent", userAgent)
	r.Header.Set("WebHook-Request-Origin", c.settings.Origin)
	a, err := c.send(ctx, u, r, nil)
	if err != nil {
		return 0, err
	}
	allowed := strings.TrimSpace(a.header.Get("WebHook-Allowed-Origin"))
	if a.status < 200 || a.status > 299 || allowed != "*" && !strings.EqualFold(allowed, c.settings.Origin) {
		return 0, errNotAllowed
	}
	if rate, err := strconv.Atoi(strings.TrimSpace(a.header.Get("WebHook-Allowed-Rate"))); err == nil && rate > 0 {
		perMinute = rate
	}
	return perMinute, nil
}

// send makes one exchange, a second time on a new connection where the first had been closed.
func (c *Client) send(ctx context.Context, u *url.URL, r *http.Request, on *conn) (answer, error) {
	var err error
	for range 2 {
		if on == nil {
			if on, err = c.transport.connect(ctx, u, errors.Is(err, errStale)); err != nil {
				return answer{}, err
			}
		}
		var a answer
		if a, err = c.transport.exchange(ctx, on, again(r), nil); !errors.Is(err, errStale) {
			return a, err
		}
		on = nil
	}
	return answer{}, err
}

// again gives a request whose body can be read from its beginning.
func again(r *http.Request) *http.Request {
	if r.GetBody != nil {
		if body, err := r.GetBody(); err == nil {
			r.Body = body
		}
	}
	return r
}

const userAgent = "civicbus"

// request makes the request that delivers an event: CloudEvents' HTTP binding, in the mode that the subscription asks for, with
// the headers of Standard Webhooks.
func (c *Client) request(ctx context.Context, u *url.URL, sub *codecs.Subscription, e *leave.Event, now time.Time) (*http.Request, error) {
	body, contentType := e.JSON, "application/cloudevents+json; charset=utf-8"
	header := http.Header{}
	if sub.Delivery.Mode != "structured" {
		body, contentType = e.Data, "application/json"
		if body == nil { // a thin one
			contentType = ""
		}
		for _, a := range e.Attributes {
			header["ce-"+a.Name] = []string{percent(a.Value)}
		}
	}
	signatures, err := c.sign(sub, e.ID, now, body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, ErrAddress
	}
	r.Header = header
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	header.Set("User-Agent", userAgent)
	header.Set(standardwebhooks.HeaderWebhookID, e.ID)
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, signatures)
	return r, nil
}

// sign gives the signatures with the subscription's secret, and with the one before it while that is good too.
func (c *Client) sign(sub *codecs.Subscription, id string, now time.Time, body []byte) (string, error) {
	versions := []int64{sub.SecretVersion}
	if sub.SecretVersion > 0 && now.UnixMilli() < sub.SecretOverlap {
		versions = append(versions, sub.SecretVersion-1)
	}
	var all []string
	for _, v := range versions {
		hook, err := standardwebhooks.NewWebhookRaw(c.keys.WebhookSecret(sub.ID, v))
		if err != nil {
			return "", fmt.Errorf("sign a delivery: %w", err)
		}
		signature, err := hook.Sign(id, now, body)
		if err != nil {
			return "", fmt.Errorf("sign a delivery: %w", err)
		}
		all = append(all, signature)
	}
	return strings.Join(all, " "), nil
}

// percent encodes a value of an attribute for a header (CloudEvents' HTTP binding 1.0.2, section 3.1.3.2).
func percent(value string) string {
	var out strings.Builder
	for i := range len(value) {
		if b := value[i]; b <= ' ' || b == '"' || b == '%' || b >= 0x7f {
			fmt.Fprintf(&out, "%%%02X", b)
		} else {
			out.WriteByte(b)
		}
	}
	return out.String()
}

// retryAfter is how long an answer asks to be left alone (RFC 9110, section 10.2.3).
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
