package receive_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/gateway/feed"
	"civicbus/internal/gateway/gatewaytest"
	"civicbus/internal/gateway/receive"
	"civicbus/internal/refdata"
	"civicbus/internal/tables"
	"civicbus/topology"

	ce "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
)

// officialReceiver: what is given is what the CloudEvents SDK takes, by every way.
func (h *house) officialReceiver(t *testing.T) {
	h = h.of(t)
	token := own(gatewaytest.Subscriber(0))
	base := subscriptionURL(h, gatewaytest.Subscription(0))
	res := h.ask(t.Context(), http.MethodGet, base+"/events?limit=20", token)
	defer func() { _ = res.Body.Close() }()
	batch, err := cehttp.NewEventsFromHTTPResponse(res)
	h.Must(err)
	if len(batch) != 20 {
		t.Fatalf("%d events in the batch", len(batch))
	}
	want := map[string]string{}
	for i := range batch {
		h.Must(batch[i].Validate())
		want[batch[i].ID()] = fmt.Sprint(batch[i])
	}
	for _, way := range []string{"sse", "websocket"} {
		r := h.reader(way, gatewaytest.Subscription(0), token)
		if ws, ok := r.(*wsReader); ok {
			ws.url += "?from=oldest"
		}
		for id, got := range gather(t, r, 20) {
			var e ce.Event
			h.Must(json.Unmarshal([]byte(got.text), &e))
			h.Must(e.Validate())
			if fmt.Sprint(e) != want[id] {
				t.Errorf("%s: %s\nby pull: %s", way, e, want[id])
			}
		}
	}
	events := gather(t, h.reader("pull", "sub-thin-kept", own(gatewaytest.Subscriber(1))), 1)
	for id, e := range events {
		res := h.ask(t.Context(), http.MethodGet, h.url+e.DataRef, own(gatewaytest.Subscriber(1)))
		whole, err := cehttp.NewEventFromHTTPResponse(res)
		h.Must(errors.Join(err, res.Body.Close()))
		h.Must(whole.Validate())
		if whole.ID() != id || whole.Extensions()["subscription"] != "sub-thin-kept" || !strings.Contains(string(whole.Data()), `"street":"kept-`) {
			t.Errorf("%s", whole)
		}
	}
}

// crossings: of all ordered pairs of 20 subscribers nobody reads another's deliveries, by any way.
func (h *house) crossings(t *testing.T) {
	h = h.of(t)
	const first, n = 8, 20
	var events [][]byte
	var consents []refdata.Consent
	for i := range n {
		consents = append(consents, gatewaytest.Grant(100+i, gatewaytest.Subscriber(first+i), gatewaytest.Scope))
		events = append(events, gatewaytest.Moved(fmt.Sprint("cross-", i), 100+i, fmt.Sprint("cross-", i)))
	}
	var rows []codecs.Subscription
	for i := range n {
		row := gatewaytest.Row(first + i)
		row.ID, row.Delivery.Thin = thinOf(first+i), true
		rows = append(rows, row)
	}
	h.InEffect(h.Admin.PutSubscriptions(t.Context(), admin.By{Actor: "operator:anna"}, rows...))
	for _, row := range rows {
		h.Active(row.ID)
	}
	h.Consent(consents...)
	h.Publish(events...)
	type theirs struct{ token, base, cursor, thin, ref string }
	all := make([]theirs, n)
	subjects := map[string]int{}
	for i := range n {
		x := &all[i]
		x.thin = subscriptionURL(h, thinOf(first+i))
		x.token, x.base = own(gatewaytest.Subscriber(first+i)), subscriptionURL(h, gatewaytest.Subscription(first+i))
		r := h.reader("pull", gatewaytest.Subscription(first+i), x.token).(*puller)
		for _, e := range gather(t, r, 1) {
			if e.Data.Street != fmt.Sprint("cross-", i) {
				t.Fatalf("%d reads %s", i, e.Data.Street)
			}
			if who, ok := subjects[e.Subject]; ok {
				t.Errorf("%d and %d know people by the same name", i, who)
			}
			subjects[e.Subject] = i
		}
		x.cursor = r.then[strings.Index(r.then, "cursor=")+len("cursor="):]
		x.cursor, _, _ = strings.Cut(x.cursor, "&")
		for _, e := range gather(t, h.reader("pull", thinOf(first+i), x.token), 1) {
			x.ref = e.DataRef[strings.LastIndexByte(e.DataRef, '/'):]
		}
		if res, text := h.get(x.thin+"/events"+x.ref, x.token); res.StatusCode != http.StatusOK || !strings.Contains(text, fmt.Sprint("cross-", i)) { //nolint:bodyclose // get has closed it
			t.Fatalf("%d's own: %d %s", i, res.StatusCode, text)
		}
	}
	requests := 0
	for i := range n {
		for j := range n {
			if i == j {
				continue
			}
			for _, c := range []struct {
				address string
				status  int
			}{{all[j].base + "/events", 404}, {all[j].base + "/events?cursor=" + all[j].cursor, 404}, {all[j].base + "/sse", 404}, {all[j].base + "/events/" + all[j].cursor, 404},
				{all[i].base + "/events?cursor=" + all[j].cursor, 400}, {all[i].base + "/sse?cursor=" + all[j].cursor, 400}, {all[i].base + "/events/" + all[j].cursor, 404},
				{all[j].thin + "/events" + all[j].ref, 404}, {all[i].thin + "/events" + all[j].ref, 404}, {all[i].base + "/events" + all[j].ref, 404}} {
				requests++
				if res, text := h.get(c.address, all[i].token); res.StatusCode != c.status || strings.Contains(text, "cross-") { //nolint:bodyclose // get has closed it
					t.Fatalf("%d reads of %d: %d %s", i, j, res.StatusCode, text)
				}
			}
			if conn, res, err := h.dial(t.Context(), all[j].base+"/websocket", all[i].token); err == nil || res.StatusCode != http.StatusNotFound { //nolint:bodyclose // the library has closed it
				if conn != nil {
					_ = conn.CloseNow()
				}
				t.Fatalf("%d opens a WebSocket of %d", i, j)
			}
		}
	}
	if requests != n*(n-1)*10 {
		t.Errorf("%d requests", requests)
	}
}

func thinOf(i int) string { return "thin-" + gatewaytest.Subscription(i) }

// expired: what retention took is said, by every way, and never passed over.
func (h *house) expired(t *testing.T) {
	h = h.of(t)
	subscriber, sub := gatewaytest.Subscriber(5), gatewaytest.Subscription(5)
	h.Publish(moves("old", 6, 8)...)
	token := own(subscriber)
	r := h.reader("sse", sub, token).(*sseReader)
	got := 0
	var first string
	for got < 8 {
		events, code := r.next(t.Context())
		if code != "" {
			t.Fatal(code)
		}
		if strings.HasPrefix(events[0].Data.Street, "old-") {
			if got++; first == "" {
				first = r.then
			}
		}
	}
	r.cut()
	client, err := h.Config.Connection.Client()
	h.Must(err)
	defer client.Close()
	adm := kadm.NewClient(client)
	topic := topology.SubscriberTopicName(subscriber)
	ends, err := adm.ListEndOffsets(t.Context(), topic)
	h.Must(err)
	before := kadm.Offsets{}
	ends.Each(func(o kadm.ListedOffset) { before.AddOffset(topic, o.Partition, o.Offset, -1) })
	_, err = adm.DeleteRecords(t.Context(), before)
	h.Must(err)
	_, cursor, _ := strings.Cut(first, ":")
	base := subscriptionURL(h, sub)
	for _, address := range []string{base + "/events?cursor=" + cursor} {
		if res, text := h.get(address, token); res.StatusCode != http.StatusGone || //nolint:bodyclose // get has read it
			problem(text) != feed.CursorExpired {
			t.Errorf("pull: %d %s", res.StatusCode, text)
		}
	}
	again := h.reader("sse", sub, token).(*sseReader)
	again.last = first
	if _, code := again.next(t.Context()); code != feed.CursorExpired {
		t.Errorf("sse: %s", code)
	}
	ws := h.reader("websocket", sub, token).(*wsReader)
	ws.url += "?cursor=" + cursor
	if _, code := ws.next(t.Context()); code != feed.CursorExpired {
		t.Errorf("websocket: %s", code)
	}
	h.Publish(gatewaytest.Moved("new", 6, "new"))
	for _, way := range []string{"pull", "sse"} { // without a cursor it begins with what is kept
		for _, e := range gather(t, h.reader(way, sub, token), 1) {
			if e.Data.Street != "new" {
				t.Errorf("%s: %s", way, e.Data.Street)
			}
		}
	}
}

// leased are tables of which it can be said that they are not confirmed current.
type leased struct {
	tables.Current
	lost atomic.Bool
}

func (l *leased) Fresh() (time.Time, bool) {
	t, ok := l.Current.Fresh()
	return t, ok && !l.lost.Load()
}

// held: while the lease is lost nothing is decided: streams stay and say nothing, a pull says to ask again.
func (h *house) held(t *testing.T) {
	h = h.of(t)
	known := &leased{Current: h.World}
	f, err := feed.New(feed.Config{Connection: h.Config.Connection, Registry: h.Registry, Records: h.Records, Keys: h.Keys, Secret: h.Config.BusKey,
		Partitions: h.Config.Shape.Partitions, Tables: known, Age: h.Config.LeaseAge, DataRef: receive.DataRef("")})
	h.Must(err)
	defer f.Close()
	_, s := serve(h.Bus, known, f)
	other := &house{h.Bus, t, s.URL}
	subscriber, sub := gatewaytest.Subscriber(2), gatewaytest.Subscription(2)
	token := own(subscriber)
	readers := map[string]reader{}
	for _, way := range []string{"sse", "websocket"} {
		r := other.reader(way, sub, token)
		if ws, ok := r.(*wsReader); ok {
			ws.url += "?from=oldest"
		}
		gather1(t, r, 122)
		readers[way] = r
	}
	known.lost.Store(true)
	h.Eventually("a pull says to ask again, once the last confirmation is too old", func() bool {
		res, text := other.get(subscriptionURL(other, sub)+"/events", token) //nolint:bodyclose // get has read it
		return res.StatusCode == http.StatusServiceUnavailable && problem(text) == "unavailable"
	})
	h.Publish(gatewaytest.Moved("held", 2, "held"))
	for way, r := range readers {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if way == "websocket" { // a reading that is cancelled closes a WebSocket
			cancel()
			continue
		}
		if events, code := r.next(ctx); len(events) > 0 || code != "" {
			t.Errorf("%s: %v %q", way, events, code)
		}
		cancel()
	}
	known.lost.Store(false)
	for way, r := range readers {
		if events, code := r.next(t.Context()); len(events) != 1 || events[0].Data.Street != "held" {
			t.Errorf("%s: %v %q", way, events, code)
		}
		r.safe()
		r.cut()
	}
}

// gather1 reads n different deliveries and keeps the connection.
func gather1(t *testing.T, r reader, n int) {
	t.Helper()
	got := map[string]bool{}
	for len(got) < n {
		events, code := r.next(t.Context())
		if code != "" {
			t.Fatalf("%d of %d, then %q", len(got), n, code)
		}
		for _, e := range events {
			got[e.ID] = true
		}
		r.safe()
	}
}

// anotherInstance: a reader goes on at another gateway where it was.
func (h *house) anotherInstance(t *testing.T) {
	h = h.of(t)
	subscriber, sub := gatewaytest.Subscriber(2), gatewaytest.Subscription(2)
	token := own(subscriber)
	w, f := h.Instance()
	h.Must(w.Wait(t.Context()))
	_, s := serve(h.Bus, w, f)
	h.Publish(gatewaytest.Moved("move-1", 2, "move-1"), gatewaytest.Moved("move-2", 2, "move-2"))
	for _, way := range ways {
		r := h.reader(way, sub, token)
		found := false
		for !found {
			events, code := r.next(t.Context())
			if code != "" {
				t.Fatalf("%s: %q", way, code)
			}
			for _, e := range events {
				found = found || e.Data.Street == "move-1"
			}
			if found && way == "pull" {
				break // the page may hold the second one too
			}
			r.safe()
		}
		if ws, ok := r.(*wsReader); ok {
			ws.confirm(t.Context())
			h.Eventually("the acknowledgement is kept", func() bool {
				at, err := f.Acked(t.Context(), sub)
				here, _ := h.Feed.Acked(t.Context(), sub)
				return err == nil && at != nil && fmt.Sprint(at) == fmt.Sprint(here)
			})
			ws.url = strings.Replace(ws.url, h.url, s.URL, 1)
		}
		r.cut()
		switch r := r.(type) {
		case *puller:
			r.broken, r.at = false, strings.Replace(r.at, h.url, s.URL, 1)
		case *sseReader:
			r.url = strings.Replace(r.url, h.url, s.URL, 1)
		}
		events, code := r.next(t.Context())
		if code != "" || len(events) == 0 || events[len(events)-1].Data.Street != "move-2" {
			t.Errorf("%s: %v %q", way, events, code)
		}
		r.cut()
	}
}

// small makes a listener's connections hold little, so that a reader that does not read is noticed soon.
type small struct{ net.Listener }

func (s small) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(2 << 10)
	}
	return c, err
}

// stuck: readers that do not read are cut off, with a code where it can be said; the others get everything.
func (h *house) stuck(t *testing.T) {
	h = h.of(t)
	subscriber, sub := gatewaytest.Subscriber(2), gatewaytest.Subscription(2)
	metrics := prometheus.NewRegistry()
	a, _ := serve(h.Bus, h.World, h.Feed, func(c *receive.Config) { c.Slow, c.Metrics = 200*time.Millisecond, metrics })
	s := httptest.NewUnstartedServer(a.Handler())
	s.Listener = small{s.Listener}
	s.Start()
	defer s.Close()
	other := &house{h.Bus, t, s.URL}
	token := own(subscriber)
	for range 5 {
		dialer := net.Dialer{}
		conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
		h.Must(err)
		defer func() { _ = conn.Close() }()
		h.Must(conn.(*net.TCPConn).SetReadBuffer(2 << 10))
		_, err = fmt.Fprintf(conn, "GET /api/subscriptions/%s/sse HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", sub, token)
		h.Must(err)
	}
	slow, _, err := other.dial(t.Context(), subscriptionURL(other, sub)+"/websocket?from=oldest", token) //nolint:bodyclose // reads nothing, acknowledges nothing
	h.Must(err)
	var notices []string
	for _, way := range ways {
		r := other.reader(way, sub, token)
		if ws, ok := r.(*wsReader); ok {
			ws.url += "?from=oldest"
		}
		gather1(t, r, 120)
		r.cut()
		if sse, ok := r.(*sseReader); ok {
			notices = append(notices, sse.notices...)
		}
	}
	h.Eventually("the stuck readers are cut off", func() bool { return ends(t, metrics, "slow_reader") >= 6 })
	next := other.reader("sse", sub, token).(*sseReader)
	gather1(t, next, 1)
	next.cut()
	if notices = append(notices, next.notices...); len(notices) == 0 || notices[0] != "slow_reader" {
		t.Errorf("the next stream says of the one that was cut off: %v", notices)
	}
	for {
		_, _, err := slow.Read(t.Context())
		var end websocket.CloseError
		if asClose(err, &end) {
			if end.Reason != "slow_reader" {
				t.Errorf("%q", end.Reason)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// ends counts streams that ended with a code.
func ends(t *testing.T, metrics *prometheus.Registry, code string) (n float64) {
	t.Helper()
	all, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		if family.GetName() != "civicbus_gateway_stream_ends_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "code" && l.GetValue() == code {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// stopping: the gateway's stop ends streams with a code that says so.
func (h *house) stopping(t *testing.T) {
	h = h.of(t)
	a, s := serve(h.Bus, h.World, h.Feed)
	other := &house{h.Bus, t, s.URL}
	subscriber, sub := gatewaytest.Subscriber(2), gatewaytest.Subscription(2)
	readers := map[string]reader{}
	for _, way := range []string{"sse", "websocket"} {
		r := other.reader(way, sub, own(subscriber))
		if ws, ok := r.(*wsReader); ok {
			ws.url += "?from=oldest"
		}
		gather1(t, r, 120)
		readers[way] = r
	}
	closed := make(chan error, 1)
	go func() { closed <- a.Close(t.Context()) }()
	for way, r := range readers {
		for {
			events, code := r.next(t.Context())
			if code != "" {
				if code != "gateway_stopping" {
					t.Errorf("%s: %q", way, code)
				}
				break
			}
			if len(events) == 0 {
				t.Fatal(way)
			}
		}
	}
	h.Must(<-closed)
}
