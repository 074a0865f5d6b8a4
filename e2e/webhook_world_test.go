package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/app"
	"civicbus/internal/pseudonym"
	"civicbus/processors/delivery"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// clock is the time of the nodes of a test; it can be set forward. Zero is ready for use.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// webhooks lets nodes reach receivers on this machine, by a clock that the test sets.
func webhooks(c *clock) func(*app.Config) {
	return func(cfg *app.Config) {
		cfg.Webhooks.Development = true
		cfg.Now = c.now
	}
}

// taken is one delivery that a receiver has taken, or was asked to take.
type taken struct {
	subscription string
	id           string
	subject      string
	street       string
	dataref      string // of a thin one
	replayed     bool
	status       int // that it was answered with
	at           time.Time
}

// receiver is an HTTP server of webhooks, one path for each subscription. It checks every signature.
type receiver struct {
	b      *bus
	server *httptest.Server

	mu     sync.Mutex
	all    []taken
	asked  map[string]int  // handshakes, by subscription
	answer func(taken) int // nil: 204
}

// receive starts a receiver; the end of the test stops it.
func (b *bus) receive() *receiver {
	r := &receiver{b: b, asked: map[string]int{}}
	r.server = httptest.NewServer(r)
	b.root.Cleanup(func() { r.server.Close() })
	return r
}

// stop makes the receiver go away; start makes it come back where it was.
func (r *receiver) stop() {
	r.server.CloseClientConnections()
	r.server.Close()
}

func (r *receiver) start() {
	r.b.t.Helper()
	l, err := new(net.ListenConfig).Listen(r.b.t.Context(), "tcp", strings.TrimPrefix(r.server.URL, "http://"))
	r.b.must(err)
	r.server = httptest.NewUnstartedServer(r)
	r.b.must(r.server.Listener.Close())
	r.server.Listener = l
	r.server.Start()
}

// answers sets what deliveries are answered with.
func (r *receiver) answers(f func(taken) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// ServeHTTP takes a delivery.
func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	subscription := strings.TrimPrefix(q.URL.Path, "/")
	if q.Method == http.MethodOptions {
		r.mu.Lock()
		r.asked[subscription]++
		r.mu.Unlock()
		w.Header().Set("WebHook-Allowed-Origin", q.Header.Get("WebHook-Request-Origin"))
		return
	}
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	if pseudonym.HoldsHetu(q.URL.String()) || pseudonym.HoldsHetu(fmt.Sprint(q.Header)) {
		r.b.root.Errorf("%s: a national id stands in the address or the headers", subscription)
	}
	if strings.Contains(strings.ToLower(fmt.Sprint(q.Header, string(body))), "trace") {
		r.b.root.Errorf("%s: it is told of a trace", subscription)
	}
	if err := r.verified(q, body, subscription); err != nil {
		r.b.root.Errorf("%s: %v", subscription, err)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	t := taken{subscription: q.Header.Get("ce-subscription"), id: q.Header.Get("webhook-id"), subject: q.Header.Get("ce-subject"), dataref: q.Header.Get("ce-dataref"),
		replayed: q.Header.Get("ce-replayed") == "true", at: time.Now(), status: http.StatusNoContent}
	data := body
	if strings.HasPrefix(q.Header.Get("Content-Type"), "application/cloudevents+json") {
		var e struct {
			Subscription, Subject, DataRef, Replayed string
			Data                                     json.RawMessage
		}
		if err := json.Unmarshal(body, &e); err != nil {
			r.b.root.Error(err)
		}
		t.subscription, t.subject, t.dataref, t.replayed, data = e.Subscription, e.Subject, e.DataRef, e.Replayed == "true", e.Data
	}
	var move struct {
		NewAddress struct{ Street string } `json:"newAddress"`
	}
	if t.dataref != "" && len(data) > 0 {
		r.b.root.Errorf("%s: a thin delivery has data", subscription)
	} else if t.dataref != "" {
		data = []byte("{}")
	}
	if err := json.Unmarshal(data, &move); err != nil {
		r.b.root.Errorf("%s: %v in %s", subscription, err, body)
	}
	t.street = move.NewAddress.Street
	if t.subscription != subscription {
		r.b.root.Errorf("CROSSING: a delivery of %s came to %s", t.subscription, subscription)
	}
	r.mu.Lock()
	if r.answer != nil {
		t.status = r.answer(t)
	}
	r.all = append(r.all, t)
	r.mu.Unlock()
	if t.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "7200")
	}
	w.WriteHeader(t.status)
}

// verified checks a request as a receiver does, with the official package.
func (r *receiver) verified(q *http.Request, body []byte, subscription string) error {
	var err error
	row := r.b.row(subscription)
	for _, version := range []int64{row.SecretVersion, row.SecretVersion + 1} { // it may have been rotated since
		var hook *standardwebhooks.Webhook
		if hook, err = standardwebhooks.NewWebhook(r.b.keys.WebhookSecretText(subscription, version)); err != nil {
			return err
		}
		if err = hook.VerifyIgnoringTimestamp(body, q.Header); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the signature is not good: %w", err)
}

// got are the deliveries so far for which keep is true; nil: all.
func (r *receiver) got(keep func(taken) bool) (all []taken) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.all {
		if keep == nil || keep(t) {
			all = append(all, t)
		}
	}
	return all
}

// of are those of one subscription.
func (r *receiver) of(subscription string) []taken {
	return r.got(func(t taken) bool { return t.subscription == subscription })
}

// hooked makes subscriptions of the small world go to the receiver.
func (r *receiver) hooked(subscriptions ...string) func(*examples.World) {
	return func(w *examples.World) {
		for i := range w.Subscriptions {
			for _, id := range subscriptions {
				if s := &w.Subscriptions[i]; s.ID == id {
					s.Delivery = codecs.Delivery{Kind: "webhook", Sink: r.server.URL + "/" + id}
					if id == agencySub {
						s.Delivery.Mode = "structured"
					}
				}
			}
		}
	}
}

// waiting is what waits about a person, by the table's own topic.
func (b *bus) waiting(who string) []codecs.WaitingDelivery {
	b.t.Helper()
	value := b.tables.row("delivery-table", b.subjectOf(who))
	if value == nil {
		return nil
	}
	row, err := b.records.DeliveryRow.Decode(value)
	b.must(err)
	return row.Waiting
}

// attempts counts the decisions of attempts with one verdict for a subscription, as line writes it.
func (b *bus) attempts(subscription, verdict string) (n int) {
	return b.decisions.count(func(d *codecs.Decision) bool {
		return d.Kind == delivery.Kind && verdictOf(*d, subscription) == verdict
	})
}

// awaitAttempts waits until as many attempts are on record, and wants no more: what a row tells is seen before its decision may be.
func (b *bus) awaitAttempts(subscription, verdict string, want int) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("%d attempts: %s", want, verdict), func() bool { return b.attempts(subscription, verdict) >= want })
	if n := b.attempts(subscription, verdict); n != want {
		b.t.Errorf("%d attempts: %s; want %d", n, verdict, want)
	}
}

// ahead is how far the nodes' clock is ahead of this machine's.
func (b *bus) ahead() time.Duration {
	if b.cfg.Now == nil {
		return 0
	}
	return time.Until(b.cfg.Now())
}
