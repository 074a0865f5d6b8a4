package receive_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/gateway/feed"
	"civicbus/internal/gateway/gatewaytest"
	"civicbus/internal/gateway/receive"

	"github.com/coder/websocket"
)

// TestReceive is what one bus shows; each part has subscribers and people of its own.
func TestReceive(t *testing.T) {
	h := start(t, 28)
	t.Run("the same by every way", h.sameByEveryWay)
	t.Run("thin", h.thin)
	t.Run("cut at random", h.cutAtRandom)
	t.Run("another instance", h.anotherInstance)
	t.Run("lease lost", h.held)
	t.Run("stuck readers", h.stuck)
	t.Run("the gateway stops", h.stopping)
	t.Run("the official receiver", h.officialReceiver)
	t.Run("crossings", h.crossings)
	t.Run("withdrawn", h.withdrawn)
	t.Run("paused", h.paused)
	t.Run("token", h.token)
	t.Run("retention", h.expired)
	t.Run("certificate", h.certificate)
	t.Run("refusals", h.refusals)
	t.Run("acknowledgements", h.acknowledgements)
	t.Run("revoked", h.revoked)
}

// of makes the house's methods report to a subtest.
func (h *house) of(t *testing.T) *house { return &house{h.Bus, t, h.url} }

func (h *house) sameByEveryWay(t *testing.T) {
	h = h.of(t)
	h.Consent(gatewaytest.Grant(0, gatewaytest.Subscriber(0), gatewaytest.Scope))
	h.Publish(moves("same", 0, 20)...)
	var first map[string]event
	for _, way := range ways {
		got := gather(t, h.reader(way, gatewaytest.Subscription(0), own(gatewaytest.Subscriber(0))), 20)
		if first == nil {
			first = got
		}
		for id, e := range got {
			if first[id].text != e.text {
				t.Errorf("%s: %s\nby another way: %s", way, e.text, first[id].text)
			}
		}
	}
	// One subject's deliveries come in order.
	r := h.reader("sse", gatewaytest.Subscription(0), own(gatewaytest.Subscriber(0)))
	defer r.cut()
	for i := range 20 {
		events, _ := r.next(t.Context())
		if want := fmt.Sprint("same-", i); len(events) != 1 || events[0].Data.Street != want {
			t.Fatalf("%v, want %s", events, want)
		}
	}
}

// cutAtRandom breaks connections at random places: nothing is lost, nothing that was safe comes again.
func (h *house) cutAtRandom(t *testing.T) {
	h = h.of(t)
	const n = 120
	h.Consent(gatewaytest.Grant(2, gatewaytest.Subscriber(2), gatewaytest.Scope))
	go h.Publish(moves("cut", 2, n)...)
	for _, way := range ways {
		random := rand.New(rand.NewPCG(1, 2))
		r := h.reader(way, gatewaytest.Subscription(2), own(gatewaytest.Subscriber(2)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		seen, safe := map[string]int{}, map[string]bool{}
		cuts, repeats := 0, 0
		var pending []event // acknowledged, and not known to have arrived
		for len(seen) < n {
			events, code := r.next(ctx)
			if code != "" || ctx.Err() != nil {
				t.Fatalf("%s: %q after %d", way, code, len(safe))
			}
			for _, e := range events {
				if seen[e.ID]++; seen[e.ID] > 1 {
					repeats++
				}
				if safe[e.ID] {
					t.Fatalf("%s: %s came again, and was safe", way, e.ID)
				}
			}
			if random.IntN(8) == 0 { // before it was safe: it comes again
				r.cut()
				cuts++
				pending = nil
				continue
			}
			r.safe()
			pending = append(pending, events...)
			stay := random.IntN(4) > 0
			if ws, ok := r.(*wsReader); ok {
				if stay && len(seen) < n {
					continue
				}
				ws.confirm(ctx)
			}
			for _, e := range pending {
				safe[e.ID] = true
			}
			pending = nil
			if !stay {
				r.cut()
				cuts++
			}
		}
		cancel()
		r.cut()
		if cuts < 4 {
			t.Errorf("%s: %d cuts", way, cuts)
		}
		t.Logf("%s: %d cuts, %d came again", way, cuts, repeats)
	}
}

// open readers of one subscription, by every way, that have all there is.
func (h *house) openReaders(t *testing.T, subscription, token string, n int) map[string]reader {
	all := map[string]reader{}
	for _, way := range ways {
		r := h.reader(way, subscription, token)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		for got := map[string]bool{}; len(got) < n; {
			events, code := r.next(ctx)
			if code != "" || ctx.Err() != nil {
				t.Fatalf("%s: %q", way, code)
			}
			for _, e := range events {
				got[e.ID] = true
			}
			r.safe()
		}
		cancel()
		all[way] = r
	}
	return all
}

// withdrawn: behind the acknowledgement nothing leaves, neither what is published then nor what lies there since before.
func (h *house) withdrawn(t *testing.T) {
	h = h.of(t)
	subscriber, sub := gatewaytest.Subscriber(3), gatewaytest.Subscription(3)
	h.Consent(gatewaytest.Grant(3, subscriber, gatewaytest.Scope), gatewaytest.Grant(4, subscriber, gatewaytest.Scope))
	h.Publish(moves("before", 3, 5)...)
	readers := h.openReaders(t, sub, own(subscriber), 5)
	h.Consent(gatewaytest.Withdraw(3, subscriber))
	at := time.Now()
	h.Publish(append(moves("after", 3, 5), gatewaytest.Moved("mark", 4, "mark"))...)
	for way, r := range readers {
		events, code := r.next(t.Context())
		if code != "" || len(events) != 1 || events[0].Data.Street != "mark" {
			t.Errorf("%s: %v %q", way, events, code)
		}
		r.cut()
	}
	for _, way := range ways { // all of it once more, by readers that stand at the beginning
		r := h.reader(way, sub, own(subscriber))
		if ws, ok := r.(*wsReader); ok {
			ws.url += "?from=oldest"
		}
		for _, e := range gather(t, r, 1) {
			if e.Data.Street != "mark" {
				t.Errorf("%s: %s", way, e.text)
			}
		}
	}
	for _, d := range h.Decisions(feed.Kind) {
		if v := d.Verdicts[0]; v.Subscription == sub && v.Permit && d.DecidedAt > at.UnixMilli() && d.Offset >= 0 && d.LifeEventID != h.Keys.LifeEvent(gatewaytest.Site, "mark") {
			t.Error("permitted after the acknowledgement")
		}
	}
}

func (h *house) paused(t *testing.T) {
	h = h.of(t)
	subscriber, sub := gatewaytest.Subscriber(4), gatewaytest.Subscription(4)
	h.Consent(gatewaytest.Grant(5, subscriber, gatewaytest.Scope))
	h.Publish(moves("run", 5, 3)...)
	readers := h.openReaders(t, sub, own(subscriber), 3)
	h.Publish(moves("more", 5, 3)...)
	h.Eventually("more is delivered", func() bool {
		n := 0
		for _, d := range h.Decisions("router") {
			for _, v := range d.Verdicts {
				if v.Subscription == sub && v.Permit {
					n++
				}
			}
		}
		return n == 6
	})
	h.Change("pause", sub)
	for way, r := range readers {
		for range 4 { // what was sent before it was paused
			if _, code := r.next(t.Context()); code != "" {
				if code != feed.SubscriptionPaused {
					t.Errorf("%s: %s", way, code)
				}
				break
			}
		}
		if _, code := r.next(t.Context()); code != feed.SubscriptionPaused {
			t.Errorf("%s: %q", way, code)
		}
	}
	h.Change("resume", sub)
	h.Active(sub)
	for way, r := range readers { // they go on where they were
		got := map[string]bool{}
		for len(got) < 3 {
			events, code := r.next(t.Context())
			if code != "" {
				t.Fatalf("%s: %s", way, code)
			}
			for _, e := range events {
				if !strings.HasPrefix(e.Data.Street, "more-") {
					t.Errorf("%s: %s", way, e.Data.Street)
				}
				got[e.ID] = true
			}
			r.safe()
		}
		r.cut()
	}
}

func (h *house) token(t *testing.T) {
	h = h.of(t)
	h.Consent(gatewaytest.Grant(6, gatewaytest.Subscriber(5), gatewaytest.Scope))
	h.Publish(moves("token", 6, 2)...)
	short := gatewaytest.Token(gatewaytest.Subscriber(5), time.Now().Add(time.Second))
	readers := h.openReaders(t, gatewaytest.Subscription(5), short, 2)
	for way, r := range readers {
		want := "token_expired"
		if way == "pull" {
			want = "token_invalid"
		}
		if _, code := r.next(t.Context()); code != want {
			t.Errorf("%s: %q", way, code)
		}
		r.cut()
	}
}

func (h *house) certificate(t *testing.T) {
	h = h.of(t)
	subscriber, sub := gatewaytest.Subscriber(6), gatewaytest.Subscription(6)
	h.Consent(gatewaytest.Grant(7, subscriber, gatewaytest.Scope))
	h.Publish(moves("certified", 7, 2)...)
	readers := h.openReaders(t, sub, own(subscriber), 2)
	row := gatewaytest.Organisation(subscriber)
	row.Certifications[0].ValidTo = codecs.Millis(time.Now().Add(time.Second))
	h.InEffect(h.Admin.PutOrganisations(t.Context(), admin.By{Actor: "operator:anna"}, row))
	for way, r := range readers { // it expires by itself
		if _, code := r.next(t.Context()); code != "certification_missing" {
			t.Errorf("%s: %q", way, code)
		}
		r.cut()
	}
}

func (h *house) revoked(t *testing.T) {
	h = h.of(t)
	subscriber, sub := gatewaytest.Subscriber(7), gatewaytest.Subscription(7)
	h.Consent(gatewaytest.Grant(8, subscriber, gatewaytest.Scope))
	h.Publish(moves("revoked", 8, 2)...)
	readers := h.openReaders(t, sub, own(subscriber), 2)
	h.Change("revoke", sub)
	for way, r := range readers {
		if _, code := r.next(t.Context()); code != feed.SubscriptionRevoked {
			t.Errorf("%s: %q", way, code)
		}
		r.cut()
	}
}

func (h *house) refusals(t *testing.T) {
	h = h.of(t)
	base := subscriptionURL(h, gatewaytest.Subscription(0))
	token := own(gatewaytest.Subscriber(0))
	for _, c := range []struct {
		path, token, headers string
		status               int
		code                 string
	}{
		{"/events", own(gatewaytest.Subscriber(1)), "", 404, feed.SubscriptionUnknown},
		{"/events", gatewaytest.PersonToken(0, later), "", 403, "wrong_caller"},
		{"/events", "none", "", 401, "token_invalid"},
		{"/events?cursor=AAAA", token, "", 400, feed.CursorInvalid},
		{"/events?limit=0", token, "", 422, "invalid"},
		{"/events?limit=1001", token, "", 422, "invalid"},
		{"/events?limit=x", token, "", 422, "invalid"},
		{"/events?limit=1&limit=2", token, "", 422, "invalid"},
		{"/events?wait=31", token, "", 422, "invalid"},
		{"/events?from=there", token, "", 422, "invalid"},
		{"/events?after=1", token, "", 422, "invalid"},
		{"/events?cursor=" + strings.Repeat("A", 9<<10), token, "", 422, "invalid"},
		{"/events/AAAA", token, "", 404, feed.CursorInvalid},
		{"/sse?cursor=AAAA", token, "", 400, feed.CursorInvalid},
		{"/sse", token, "Last-Event-ID=AAAA", 400, feed.CursorInvalid},
		{"/sse", token, "Last-Event-ID=AAAA:AAAA", 400, feed.CursorInvalid},
		{"/sse", own(gatewaytest.Subscriber(1)), "", 404, feed.SubscriptionUnknown},
		{"/websocket", token, "", 426, "upgrade_required"},
		{"/websocket", own(gatewaytest.Subscriber(1)), "", 404, feed.SubscriptionUnknown},
	} {
		var headers []string
		if name, value, ok := strings.Cut(c.headers, "="); ok {
			headers = []string{name, value}
		}
		res, text := h.get(base+c.path, c.token, headers...) //nolint:bodyclose // get has read it, dial has closed it
		if res.StatusCode != c.status || problem(text) != c.code {
			t.Errorf("%.40s: %d %s, want %d %s", c.path, res.StatusCode, problem(text), c.status, c.code)
		}
		if strings.Contains(text, "AAAA") {
			t.Errorf("%.40s: quotes what was sent", c.path)
		}
	}
	for origin, want := range map[string]int{"https://evil.test": 403, "null": 403, "https://[": 403, h.url: 101} {
		conn, res, err := h.dial(t.Context(), base+"/websocket", token, "Origin", origin) //nolint:bodyclose // get has read it, dial has closed it
		if res.StatusCode != want {
			t.Errorf("%s: %d %v", origin, res.StatusCode, err)
		}
		if err == nil {
			_ = conn.CloseNow()
		}
	}
	_, res, err := websocket.Dial(t.Context(), strings.Replace(base, "http", "ws", 1)+"/websocket", &websocket.DialOptions{Subprotocols: []string{"cloudevents.avro"}, //nolint:bodyclose // get has read it, dial has closed it
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}})
	if err == nil || res.StatusCode != http.StatusBadRequest {
		t.Errorf("another sub-protocol: %d", res.StatusCode)
	}
}

// acknowledgements: no more than a window goes out before one comes, and what is none ends the connection.
func (h *house) acknowledgements(t *testing.T) {
	h = h.of(t)
	h = open(t, h.Bus, func(c *receive.Config) { c.Window, c.Slow = 4, 300*time.Millisecond })
	token := own(gatewaytest.Subscriber(0))
	address := subscriptionURL(h, gatewaytest.Subscription(0)) + "/websocket?from=oldest"
	read := func(conn *websocket.Conn) (n int, reason string) {
		for {
			_, _, err := conn.Read(t.Context())
			if err != nil {
				var end websocket.CloseError
				if !asClose(err, &end) {
					t.Fatal(err)
				}
				return n, end.Reason
			}
			n++
		}
	}
	conn, _, err := h.dial(t.Context(), address, token) //nolint:bodyclose // get has read it, dial has closed it
	h.Must(err)
	if n, reason := read(conn); n != 4 || reason != "slow_reader" {
		t.Errorf("without acknowledgements: %d, then %q", n, reason)
	}
	conn, _, err = h.dial(t.Context(), address+"&ack=auto", token) //nolint:bodyclose // get has read it, dial has closed it
	h.Must(err)
	for range 20 {
		if _, _, err := conn.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn.CloseNow()
	for name, message := range map[string]string{"no JSON": "x", "another event": `{"specversion":"1.0","type":"other"}`, "of what was never sent": string(ackOf("x")),
		"large": `{"specversion":"1.0","type":"` + strings.Repeat("x", 5000) + `"}`, "deep": strings.Repeat("[", 4000)} {
		conn, _, err := h.dial(t.Context(), address, token) //nolint:bodyclose // get has read it, dial has closed it
		h.Must(err)
		h.Must(conn.Write(t.Context(), websocket.MessageText, []byte(message)))
		if _, reason := read(conn); reason != "message_refused" && name != "large" {
			t.Errorf("%s: %q", name, reason)
		}
	}
}
