package receive

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"civicbus/internal/gateway/feed"
	"civicbus/internal/mutant"
)

// FuzzAcknowledgement: what a client sends on a WebSocket acknowledges what was sent there, in order, or is refused.
func FuzzAcknowledgement(f *testing.F) {
	id := strings.Repeat("0123456789abcdef", 2)
	good := []byte(`{"specversion":"1.0","id":"a","source":"https://receiver.test","type":"` + AckType + `","subject":"` + id + `"}`)
	mutant.Fuzz(f, 1<<6, func(tb testing.TB, message []byte) bool {
		of, ok := acknowledged(message)
		if !ok {
			return false
		}
		if !json.Valid(message) {
			tb.Errorf("%q is no JSON", message)
		}
		acked := -1
		o := &webSocketSink{acked: make(chan struct{}, 1), ack: func(at feed.Position) { acked = int(at[0]) }}
		for i := range 3 {
			o.sent = append(o.sent, sent{fmt.Sprintf("%032d", i), feed.Position{int64(i)}})
		}
		o.sent = append(o.sent, sent{id, feed.Position{3}})
		was := slices.Clone(o.sent)
		i := slices.IndexFunc(was, func(s sent) bool { return s.id == of })
		if taken := o.take(of); taken != (i >= 0 || len(of) == deliveryID) || acked != i || i >= 0 && len(o.sent) != len(was)-i-1 {
			tb.Errorf("%q is taken: %t; acknowledged up to %d, %d left", of, taken, acked, len(o.sent))
		}
		return true
	}, good, []byte(`{"specversion":"1.0","type":"`+AckType+`","subject":"x"}`), []byte(`{"type":1}`), []byte(strings.Repeat("[", 4000)))
}

// FuzzQuery: a query is read as documented, or refused without a word of it.
func FuzzQuery(f *testing.F) {
	all := slices.Concat(pullParameters, webSocketParameters[2:])
	mutant.Fuzz(f, 1<<8, func(tb testing.TB, raw []byte) bool {
		values, err := query(&http.Request{URL: &url.URL{RawQuery: string(raw)}}, all...)
		if err != nil {
			return false
		}
		for name, v := range values {
			if !slices.ContainsFunc(all, func(p parameter) bool { return p.name == name }) || name != "cursor" && len(v) > 20 {
				tb.Errorf("%q is %q", name, v)
			}
		}
		if n := number(values, "limit", pullLimit); n < 1 || n > feed.MaxLimit {
			tb.Errorf("limit %d of %q", n, values["limit"])
		}
		if n := number(values, "wait", 0); n < 0 || n > pullWait {
			tb.Errorf("wait %d of %q", n, values["wait"])
		}
		return true
	}, []byte("cursor=AAAA&limit=100&wait=30"), []byte("from=now&ack=auto"), []byte("limit=%31&limit=2"), []byte("limit=+1"))
}
