package subscriptions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/delivery"
	"civicbus/internal/gateway/gatewaytest"
	"civicbus/internal/gateway/subscriptions"
	"civicbus/internal/gateway/web"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// hooks is the receiver of every subscription, by path; what comes is kept.
type hooks struct {
	mu  sync.Mutex
	got map[string][]request // by subscription
}

type request struct {
	header http.Header
	body   []byte
}

func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	id := strings.TrimPrefix(r.URL.Path, "/")
	h.got[id] = append(h.got[id], request{r.Header, body})
}

func (h *hooks) of(subscription string) []request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]request(nil), h.got[subscription]...)
}

// TestWebhooks lets twenty subscribers have webhooks: nobody gets, or sees in a log, what is another's; secrets are rotated, and
// webhooks tried.
func TestWebhooks(t *testing.T) {
	const n = 20
	h := &hooks{got: map[string][]request{}}
	receivers := httptest.NewServer(h)
	defer receivers.Close()
	b := gatewaytest.Start(t, n, func(c *app.Config) { c.Webhooks.Development = true })
	client := delivery.NewClient(b.Config.Webhooks, b.Keys)
	defer client.Close()
	_, server := b.Serve(func(a *web.API) error {
		return subscriptions.Mount(a, subscriptions.Config{Tables: b.World, Commands: b.Sender(), Schemas: b.Registry, CursorKey: make([]byte, 32),
			Delivered: func(context.Context, string) (int64, error) { return 0, nil },
			Webhooks: subscriptions.Webhooks{Secret: b.Keys.WebhookSecretText,
				Attempts: func(ctx context.Context, id string) ([]codecs.UsageAttempt, error) {
					row, err := admin.Usage.One(ctx, b.Admin, id)
					if row == nil {
						return nil, err
					}
					return row.Attempts, err
				},
				Try: func(ctx context.Context, sub *codecs.Subscription) subscriptions.Tried {
					got := client.Try(ctx, sub, time.Now())
					return subscriptions.Tried{ID: got.ID, Taken: got.Taken, Cause: got.Cause, Status: got.Status}
				}}})
	})
	call := func(i int, method, path string, answer any) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, http.NoBody)
		b.Must(err)
		r.Header.Set("Authorization", "Bearer "+gatewaytest.Token(gatewaytest.Subscriber(i), time.Now().Add(time.Hour)))
		res, err := http.DefaultClient.Do(r)
		b.Must(err)
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		b.Must(err)
		if answer != nil {
			b.Must(json.Unmarshal(body, answer))
		}
		return res.StatusCode
	}
	if status := call(0, http.MethodPost, "/api/subscriptions/"+gatewaytest.Subscription(0)+"/secret", nil); status != http.StatusConflict {
		t.Errorf("a secret for what goes to no webhook: %d", status)
	}
	var rows []codecs.Subscription
	var ids []string
	for i := range n {
		row := gatewaytest.Row(i)
		row.Delivery = codecs.Delivery{Kind: "webhook", Sink: receivers.URL + "/" + row.ID}
		rows, ids = append(rows, row), append(ids, row.ID)
	}
	b.InEffect(b.Admin.PutSubscriptions(t.Context(), admin.By{Actor: "operator:anna"}, rows...))
	b.Active(ids...)
	var events [][]byte
	for i := range n { // person i allows subscribers i and i+1
		b.Consent(gatewaytest.Grant(i, gatewaytest.Subscriber(i), gatewaytest.Scope), gatewaytest.Grant(i, gatewaytest.Subscriber((i+1)%n), gatewaytest.Scope))
		events = append(events, gatewaytest.Moved(fmt.Sprint("move-", i), i, fmt.Sprint("street ", i)))
	}
	b.Publish(events...)

	attempts := make([]struct{ Attempts []subscriptions.Attempt }, n)
	for i := range n {
		b.Eventually("two deliveries, and the attempts on record", func() bool {
			return len(h.of(ids[i])) == 2 && call(i, http.MethodGet, "/api/subscriptions/"+ids[i]+"/deliveries", &attempts[i]) == http.StatusOK && len(attempts[i].Attempts) == 2
		})
		own := map[string]bool{}
		for _, got := range h.of(ids[i]) {
			own[got.header.Get("webhook-id")] = true
			if street := fmt.Sprintf(`"street %d"`, i); !bytes.Contains(got.body, []byte(street)) && !bytes.Contains(got.body, fmt.Appendf(nil, `"street %d"`, (i+n-1)%n)) {
				t.Errorf("CROSSING: %s got %s", ids[i], got.body)
			}
			for p := range n {
				if bytes.Contains(got.body, []byte(gatewaytest.Person(p))) || strings.Contains(fmt.Sprint(got.header), gatewaytest.Person(p)) {
					t.Error("a national id was delivered")
				}
			}
		}
		for _, a := range attempts[i].Attempts {
			if !own[a.DeliveryID] || a.Outcome != "delivered" || a.Attempt != 1 || a.Status != http.StatusOK || a.EventType != gatewaytest.EventType {
				t.Errorf("CROSSING in the log of %s: %+v", ids[i], a)
			}
		}
	}
	for i := range n {
		for j := range n {
			if i == j {
				continue
			}
			for _, c := range [][2]string{{http.MethodGet, "/deliveries"}, {http.MethodPost, "/test"}, {http.MethodPost, "/secret"}} {
				if status := call(i, c[0], "/api/subscriptions/"+ids[j]+c[1], nil); status != http.StatusNotFound {
					t.Fatalf("CROSSING: %s %s%s as %s: %d", c[0], ids[j], c[1], gatewaytest.Subscriber(i), status)
				}
			}
		}
	}

	before := len(h.of(ids[0]))
	var tried subscriptions.Tried
	if status := call(0, http.MethodPost, "/api/subscriptions/"+ids[0]+"/test", &tried); status != http.StatusOK || !tried.Taken || tried.Status != http.StatusOK {
		t.Errorf("%d %+v", status, tried)
	}
	got := h.of(ids[0])
	if len(got) != before+1 || got[before].header.Get("ce-type") != delivery.TestType || string(got[before].body) != `{"test":true}` {
		t.Fatalf("%+v", got[before:])
	}
	verified := func(secret string, r request) bool {
		hook, err := standardwebhooks.NewWebhook(secret)
		return err == nil && hook.Verify(r.body, r.header) == nil
	}
	first := b.Keys.WebhookSecretText(ids[0], 0)
	if !verified(first, got[before]) {
		t.Error("the test event's signature is not good")
	}
	var secret struct{ Secret, PreviousUntil string }
	if status := call(0, http.MethodPost, "/api/subscriptions/"+ids[0]+"/secret", &secret); status != http.StatusOK || secret.Secret == first {
		t.Fatalf("%d %+v", status, secret)
	}
	b.Publish(gatewaytest.Moved("after", 0, "street 0"))
	b.Eventually("a delivery after the rotation", func() bool { return len(h.of(ids[0])) == before+2 })
	got = h.of(ids[0])
	if after := got[len(got)-1]; !verified(first, after) || !verified(secret.Secret, after) {
		t.Error("both secrets are good for a day")
	}
	if tried, second := got[before], secret.Secret; verified(second, tried) {
		t.Error("what was sent before is signed with the new secret")
	}
}
