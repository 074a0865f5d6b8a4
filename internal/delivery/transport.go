package delivery

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// transport speaks HTTP/1.1 over connections of its own. net/http's client does not say when a request begins to leave, and gives
// a connection up whose request is held back; here a connection stands first, then it is decided, then the request is
// written, in one go. Nothing is followed, nothing is read from the environment.
type transport struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	tls  *tls.Config

	mu   sync.Mutex
	idle map[string][]*conn // by scheme and host
}

// conn is one connection to a receiver.
type conn struct {
	net.Conn
	origin string
	in     *bufio.Reader
	left   int // bytes that may still be read in this exchange
	reused bool
	since  time.Time // when it became idle
}

// Bounds of an exchange.
const (
	exchangeWithin = 20 * time.Second // from the first byte of a request to the last of its answer; Standard Webhooks: 15-30 s
	answerBytes    = 64 << 10         // of an answer, its headers included
	idleFor        = 20 * time.Second
	idleMost       = 4 // of one host
)

// errHeld says that a request was held back at the last moment.
var errHeld = errors.New("the request was held back")

// errTLS says that there is a connection and no encryption.
var errTLS = errors.New("the TLS handshake did not succeed")

// Read counts what comes, so that an answer is bounded.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("the answer is larger than it may be")
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func originOf(u *url.URL) (origin, address string) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	address = net.JoinHostPort(u.Hostname(), port)
	return u.Scheme + "://" + address, address
}

// connect gives a connection to a host, one that was used before or a new one.
func (t *transport) connect(ctx context.Context, u *url.URL, fresh bool) (*conn, error) {
	origin, address := originOf(u)
	for !fresh {
		t.mu.Lock()
		all := t.idle[origin]
		if len(all) == 0 {
			t.mu.Unlock()
			break
		}
		c := all[len(all)-1]
		t.idle[origin] = all[:len(all)-1]
		t.mu.Unlock()
		if time.Since(c.since) < idleFor {
			c.reused = true
			return c, nil
		}
		_ = c.Close()
	}
	raw, err := t.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, origin: origin}
	if u.Scheme == "https" {
		cfg := t.tls.Clone()
		cfg.ServerName = u.Hostname()
		secure := tls.Client(raw, cfg)
		shake, cancel := context.WithTimeout(ctx, dialWithin)
		err := secure.HandshakeContext(shake)
		cancel()
		if err != nil {
			_ = raw.Close()
			return nil, fmt.Errorf("%w: %w", errTLS, err)
		}
		c.Conn = secure
	}
	c.in = bufio.NewReaderSize(c, 4<<10)
	return c, nil
}

// put keeps a connection for the next request to its host.
func (t *transport) put(c *conn) {
	c.since = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if all := t.idle[c.origin]; t.idle != nil && len(all) < idleMost {
		t.idle[c.origin] = append(all, c)
		return
	}
	_ = c.Close()
}

// sweep closes connections that nobody uses.
func (t *transport) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for origin, all := range t.idle {
		kept := all[:0]
		for _, c := range all {
			if time.Since(c.since) < idleFor {
				kept = append(kept, c)
				continue
			}
			_ = c.Close()
		}
		if t.idle[origin] = kept; len(kept) == 0 {
			delete(t.idle, origin)
		}
	}
}

func (t *transport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, all := range t.idle {
		for _, c := range all {
			_ = c.Close()
		}
	}
	t.idle = nil
}

// answer is what of an answer counts.
type answer struct {
	status int
	header http.Header
}

// exchange sends a request over a connection, which it takes, and reads the answer. may is asked right before the first byte
// leaves; nil: it may. A connection that was used before may have been closed meanwhile: errStale says so, where nothing came
// back. An error of any kind leaves open whether the receiver has the request, errHeld excepted.
func (t *transport) exchange(ctx context.Context, c *conn, r *http.Request, may func() bool) (answer, error) {
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		_ = c.Close()
		return answer{}, err
	}
	deadline := time.Now().Add(exchangeWithin)
	if err := c.SetDeadline(deadline); err != nil {
		_ = c.Close()
		return answer{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	c.left = answerBytes
	if may != nil && !may() {
		t.put(c)
		return answer{}, errHeld
	}
	if _, err := c.Write(out.Bytes()); err != nil {
		_ = c.Close()
		return answer{}, stale(c, err)
	}
	if _, err := c.in.Peek(1); err != nil {
		_ = c.Close()
		return answer{}, stale(c, err)
	}
	var res *http.Response
	for range 5 { // answers that come before the answer
		var err error
		if res, err = http.ReadResponse(c.in, r); err != nil {
			_ = c.Close()
			return answer{}, err
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			break
		}
	}
	_, err := io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if err != nil || res.Close || res.StatusCode < 200 || !stop() {
		_ = c.Close()
	} else {
		t.put(c)
	}
	return answer{res.StatusCode, res.Header}, nil
}

// errStale says that a connection was closed before it was used again.
var errStale = errors.New("the connection had been closed")

func stale(c *conn, err error) error {
	var timeout net.Error
	if c.reused && (!errors.As(err, &timeout) || !timeout.Timeout()) {
		return errStale
	}
	return err
}
