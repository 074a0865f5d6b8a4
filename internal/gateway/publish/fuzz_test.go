package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"civicbus/internal/admission"
	"civicbus/internal/gateway/web"
	"civicbus/internal/mutant"
)

// hospital is whoever asks.
type hospital struct{}

func (hospital) Authenticate(context.Context, string) (*web.Identity, error) {
	return &web.Identity{Client: "hus", Organisation: "hus.fi", Scopes: web.Scopes(), Expires: time.Now().Add(time.Hour)}, nil
}

// reader is as far as publishing goes without a world: what admission can read is accepted. What it lets in is that package's to test.
type reader struct{ tb testing.TB }

func (r reader) Publish(_ context.Context, organisation string, inputs []*admission.Input) []admission.Answer {
	out := make([]admission.Answer, len(inputs))
	for i, in := range inputs {
		if in.Organisation != organisation {
			r.tb.Errorf("an event of %q as %q", in.Organisation, organisation)
		}
		out[i] = admission.Answer{Status: admission.Accepted, LifeEvent: "x", Subjects: 1}
		if len(in.Faults) > 0 {
			out[i] = admission.Answer{Status: admission.Refused, Faults: in.Faults}
		}
	}
	return out
}

// heard notes the traces of what is published.
type heard struct {
	reader
	traces *[]string
}

func (h heard) Publish(ctx context.Context, organisation string, inputs []*admission.Input) []admission.Answer {
	for _, in := range inputs {
		*h.traces = append(*h.traces, in.Trace)
	}
	return h.reader.Publish(ctx, organisation, inputs)
}

// TestTheRequestsTraceIsTheEvents, in any mode.
func TestTheRequestsTraceIsTheEvents(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	const event = `{"specversion":"1.0","id":"1","source":"https://hus.fi","type":"fi.dvv.person.birth","data":{}}`
	var traces []string
	a, err := web.New(web.Config{Authenticator: hospital{}, Logger: slog.New(slog.DiscardHandler), Limit: web.Limit{Requests: 100, Window: time.Minute}})
	if err == nil {
		err = Mount(a, heard{reader{t}, &traces})
	}
	if err != nil {
		t.Fatal(err)
	}
	for media, body := range map[string]string{structuredType: event, batchType: "[" + event + "," + event + "]", "application/json": "{}"} {
		traces = nil
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/events", strings.NewReader(body))
		for name, value := range map[string]string{"Content-Type": media, "Authorization": "Bearer x", "traceparent": trace, "tracestate": "a=b",
			"ce-specversion": "1.0", "ce-id": "1", "ce-source": "https://hus.fi", "ce-type": "fi.dvv.person.birth"} {
			req.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, req)
		want := []string{trace}
		if media == batchType {
			want = []string{trace, trace}
		}
		if w.Code != http.StatusAccepted || !slices.Equal(traces, want) {
			t.Errorf("%s: %d, traces %v, want %v", media, w.Code, traces, want)
		}
	}
}

// FuzzPublish: a request in any mode, its headers' names and values in turn and then its body, is read or refused with a whole
// problem, and never an error of the gateway's own.
func FuzzPublish(f *testing.F) {
	to := &reader{f}
	a, err := web.New(web.Config{Authenticator: hospital{}, Logger: slog.New(slog.DiscardHandler), Limit: web.Limit{Requests: 1_000_000_000, Window: time.Minute}})
	if err == nil {
		err = Mount(a, to)
	}
	if err != nil {
		f.Fatal(err)
	}
	const event = `{"specversion":"1.0","id":"1","source":"https://hus.fi","type":"fi.dvv.person.birth","data":{"mother":{"id":"x"},"n":[1,2.5e3]}}`
	mutant.Fuzz(f, 1<<12, func(tb testing.TB, in []byte) bool {
		to.tb = tb
		head, body, _ := bytes.Cut(in, []byte{0x1d})
		req := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, "/api/events", bytes.NewReader(body))
		req.Header.Set("Authorization", "Bearer x")
		parts := strings.Split(string(head), "\x1e")
		for i := 0; i+1 < len(parts); i += 2 {
			if name := textproto.CanonicalMIMEHeaderKey(parts[i]); name != "Authorization" {
				req.Header[name] = append(req.Header[name], parts[i+1])
			}
		}
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, req)
		if w.Code == http.StatusAccepted {
			if !json.Valid(w.Body.Bytes()) {
				tb.Errorf("%s", w.Body)
			}
			return true
		}
		var p web.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code >= http.StatusInternalServerError || p.Status != w.Code || p.Code == "" {
			tb.Errorf("%d %s (%v)", w.Code, w.Body, errors.Unwrap(err))
		}
		return false
	}, []byte("content-type\x1e"+structuredType+"\x1d"+event), []byte("content-type\x1e"+batchType+"\x1d["+event+","+event+"]"),
		[]byte("content-type\x1eapplication/json\x1ece-specversion\x1e1.0\x1ece-id\x1eh%C3%A4\x1ece-source\x1ehttps://hus.fi\x1ece-type\x1efi.dvv.person.birth\x1d{\"a\":1}"),
		[]byte("content-type\x1eapplication/avro\x1ece-specversion\x1e1.0\x1ece-id\x1e\"a\"\x1ece-source\x1eb\x1ece-type\x1ec\x1d\x00\x00\x00\x00\x01ab"),
		[]byte("content-encoding\x1egzip\x1d\x1f\x8b"))
}
