package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"civicbus/examples"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// receivers are the agencies' own HTTP servers for webhooks, a path for each subscription. They know nothing of civicbus: signatures are
// checked by the package of Standard Webhooks, events are read by the SDK of CloudEvents.
type receivers struct {
	in     *inbox
	whose  map[string]string // subscriber by subscription
	server *http.Server
	base   string

	mu       sync.Mutex
	hooks    map[string]*standardwebhooks.Webhook // by subscription
	down     string                               // the subscription whose server breaks every connection; empty: none
	attempts map[string]int                       // by webhook-id
}

// down is the note on an attempt that nobody answered.
const down = "the server is down"

func newReceivers(ctx context.Context, in *inbox, whose map[string]string) (*receivers, error) {
	r := &receivers{in: in, whose: whose, hooks: map[string]*standardwebhooks.Webhook{}, attempts: map[string]int{}}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r.base = "http://" + l.Addr().String()
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	r.server.SetKeepAlivesEnabled(false)  // a connection that breaks is then a new one, which is no reason to ask at once again
	go func() { _ = r.server.Serve(l) }() // until it is closed
	return r, nil
}

// sign gives a subscription's receiver the secret that its deliveries are signed with.
func (r *receivers) sign(subscription, secret string) error {
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return fmt.Errorf("read the secret of %s: %w", subscription, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hooks[subscription] = hook
	return nil
}

// fail makes one subscription's server break every connection; empty: none any more.
func (r *receivers) fail(subscription string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = subscription
}

// ServeHTTP takes a delivery, or gives the permission to send any.
func (r *receivers) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	subscription := strings.TrimPrefix(q.URL.Path, "/")
	if q.Method == http.MethodOptions {
		w.Header().Set("WebHook-Allowed-Origin", q.Header.Get("WebHook-Request-Origin"))
		return
	}
	id := q.Header.Get("webhook-id")
	r.mu.Lock()
	hook, fails := r.hooks[subscription], r.down == subscription
	r.attempts[id]++
	attempt := r.attempts[id]
	r.mu.Unlock()
	line := examples.Line{Who: r.whose[subscription], How: "webhook", Subscription: subscription, What: "an attempt"}
	if fails {
		line.Note = down
		r.in.add(Seen{Line: line})
		panic(http.ErrAbortHandler) // breaks the connection
	}
	seen, err := r.read(q, hook, subscription, attempt)
	if err != nil {
		line.Note = "refused: " + err.Error()
		r.in.add(Seen{Line: line})
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.in.add(seen)
	w.WriteHeader(http.StatusNoContent)
}

func (r *receivers) read(q *http.Request, hook *standardwebhooks.Webhook, subscription string, attempt int) (Seen, error) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return Seen{}, err
	}
	if hook == nil {
		return Seen{}, errors.New("there is no such receiver")
	}
	if err := hook.Verify(body, q.Header); err != nil {
		return Seen{}, fmt.Errorf("verify the signature: %w", err)
	}
	q.Body = io.NopCloser(bytes.NewReader(body))
	event, err := cehttp.NewEventFromHTTPRequest(q)
	if err == nil {
		err = event.Validate()
	}
	if err != nil {
		return Seen{}, fmt.Errorf("read the event: %w", err)
	}
	var data any
	if err := event.DataAs(&data); err != nil {
		return Seen{}, fmt.Errorf("read the data: %w", err)
	}
	text := func(name string) string { s, _ := event.Extensions()[name].(string); return s }
	e := envelope{ID: event.ID(), Type: event.Type(), Subscription: text("subscription"), CorrelationID: text("correlationid")}
	if id := q.Header.Get("webhook-id"); id != e.ID || e.Subscription != subscription {
		return Seen{}, errors.New("this is another delivery than its headers say")
	}
	_, replayed := event.Extensions()["replayed"]
	note := ""
	switch {
	case replayed && attempt > 1:
		note = "replayed, under the same webhook-id"
	case replayed:
		note = "replayed, under a new webhook-id"
	case attempt > 1:
		note = fmt.Sprintf("attempt %d, under the same webhook-id", attempt)
	}
	return delivered(r.whose[subscription], "webhook", e, data, note), nil
}

func (r *receivers) close() { _ = r.server.Close() }
