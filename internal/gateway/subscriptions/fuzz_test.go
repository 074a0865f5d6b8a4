package subscriptions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/gateway/commands"
	"civicbus/internal/gateway/web"
	"civicbus/internal/mutant"
	"civicbus/internal/verdict"
)

// agency is whoever asks.
type agency struct{}

func (agency) Authenticate(context.Context, string) (*web.Identity, error) {
	return &web.Identity{Client: "kela", Organisation: "kela.fi", Actor: "client:kela", Scopes: web.Scopes(), Expires: time.Now().Add(time.Hour)}, nil
}

// still is a world in which nothing changes: every command is refused, and kept to be looked at.
type still struct {
	snap *verdict.Snapshot
	sent *codecs.SubscriptionCommand
}

func (s *still) Wait(context.Context) error  { return nil }
func (s *still) Snapshot() *verdict.Snapshot { return s.snap }
func (s *still) Latest(context.Context, string) (*codecs.Schema, error) {
	return nil, codecs.ErrUnknownSubject
}

func (s *still) Subscription(_ context.Context, cmd codecs.SubscriptionCommand) (commands.Outcome, error) {
	s.sent = &cmd
	return commands.Outcome{Reason: "filter_malformed", Faults: []codecs.Fault{{Field: "filter", Reason: "filter_malformed"}}}, nil
}

func (s *still) Consent(context.Context, string, codecs.ConsentCommand) (commands.Outcome, error) {
	return commands.Outcome{}, errors.New("not asked for")
}

func newStill(f *testing.F) (*still, *server, http.Handler) {
	s := &still{snap: verdict.NewSnapshot().With(verdict.Changes{
		Organisations: map[string]*codecs.Organisation{"kela.fi": {ID: "kela.fi", Status: "active", Receives: []codecs.Entitlement{{EventType: "fi.dvv.person.birth", Purposes: []string{"child-benefit", "taxation"}}}}},
		Subscriptions: map[string]*codecs.Subscription{"sub-a": {ID: "sub-a", Version: 3, Subscriber: "kela.fi", EventTypes: []string{"fi.dvv.person.birth"}, Status: "active"}}})}
	a, err := web.New(web.Config{Authenticator: agency{}, Logger: slog.New(slog.DiscardHandler), Limit: web.Limit{Requests: 1_000_000_000, Window: time.Minute}})
	if err != nil {
		f.Fatal(err)
	}
	cfg := Config{Tables: s, Commands: s, Schemas: s, CursorKey: make([]byte, 32), Delivered: func(context.Context, string) (int64, error) { return 0, nil },
		Webhooks: Webhooks{Secret: func(string, int64) string { return "" }, Attempts: func(context.Context, string) ([]codecs.UsageAttempt, error) { return nil, nil },
			Try: func(context.Context, *codecs.Subscription) Tried { return Tried{} }}}
	if err := Mount(a, cfg); err != nil {
		f.Fatal(err)
	}
	return s, &server{cfg: cfg, api: a}, a.Handler()
}

// ask makes a request; what is refused is refused with a whole problem, and never by an error of the gateway's own.
func ask(tb testing.TB, h http.Handler, method, path string, body []byte, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(tb.Context(), method, path, bytes.NewReader(body))
	req.Header.Set("Authorization", "Bearer x")
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	var p web.Problem
	if w.Code >= http.StatusBadRequest {
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code >= http.StatusInternalServerError || p.Status != w.Code || p.Code == "" {
			tb.Errorf("%d %s (%v)", w.Code, w.Body, err)
		}
	}
	return w
}

// FuzzCloudEventsSubscription: a body in CloudEvents' shape becomes a command about the caller's own subscription, which is shown as
// it was asked for; or it is refused.
func FuzzCloudEventsSubscription(f *testing.F) {
	world, _, h := newStill(f)
	mutant.Fuzz(f, 1<<12, func(tb testing.TB, body []byte) bool {
		world.sent = nil
		ask(tb, h, http.MethodPost, "/subscriptions", body)
		if world.sent == nil {
			return false
		}
		row := world.sent.Subscription
		if world.sent.Kind != "put" || row.Subscriber != "kela.fi" || world.sent.Meta.Actor != "client:kela" || row.ID == "" {
			tb.Fatalf("%+v", world.sent)
		}
		text := written(tb, showCloudEvents(&row).CloudEventsWanted)
		world.sent = nil
		if ask(tb, h, http.MethodPost, "/subscriptions", text); world.sent == nil || !reflect.DeepEqual(clean(world.sent.Subscription), clean(row)) {
			tb.Errorf("shown as %s\nthat is %+v\nwas     %+v", text, world.sent, row)
		}
		return true
	}, []byte(`{"id":"ce-shape","source":"https://hus.fi","types":["fi.dvv.person.birth"],"filters":[{"prefix":{"type":"fi.dvv."}},{"not":{"exact":{"subjectrole":"child"}}}],`+
		`"config":{"purpose":"child-benefit","scopes":["birth-notification"],"role":"mother"},"protocol":"HTTP","sink":"https://kela.fi/ce","protocolsettings":{"contentmode":"structured"}}`),
		[]byte(`{"types":["fi.dvv.person.birth"],"config":{"purpose":"taxation","basis":"legal_obligation","fields":["data.x"],"thin":true},"protocol":"SSE"}`),
		[]byte(`{"types":["fi.dvv.person.birth"],"config":{"purpose":"words of child benefit"},"filters":{"data.a":1.0},"protocol":"KAFKA","sink":"subscriber.kela.fi"}`),
		[]byte(`{"sinkcredential":{"secret":"x"}}`))
}

// written is JSON without escapes that need not be: a filter is kept as it was written.
func written(tb testing.TB, v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// clean forgets in which of two ways nothing is said.
func clean(row codecs.Subscription) codecs.Subscription {
	for _, list := range []*[]string{&row.Scopes, &row.Fields, &row.EventTypes} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	source, filters := splitSource(row.Filter)
	row.Filter, _ = joinSource(source, filters)
	return row
}

// FuzzSubscription: the same of civicbus's own shape.
func FuzzSubscription(f *testing.F) {
	world, _, h := newStill(f)
	mutant.Fuzz(f, 1<<12, func(tb testing.TB, body []byte) bool {
		world.sent = nil
		ask(tb, h, http.MethodPost, "/api/subscriptions", body)
		if world.sent == nil {
			return false
		}
		row := world.sent.Subscription
		if row.Subscriber != "kela.fi" || world.sent.Meta.Actor != "client:kela" || row.Filter != "" && !json.Valid([]byte(row.Filter)) {
			tb.Fatalf("%+v", world.sent)
		}
		text := written(tb, show(&row, 0).Wanted)
		was := row
		world.sent = nil
		if ask(tb, h, http.MethodPost, "/api/subscriptions", text); world.sent == nil || !reflect.DeepEqual(world.sent.Subscription, was) {
			tb.Errorf("shown as %s\nthat is %+v\nwas     %+v", text, world.sent, was)
		}
		return true
	}, []byte(`{"subscriberId":"kela.fi","eventTypes":["fi.dvv.person.birth"],"filter":{"data.parentResidency":"Finland"},"webhook":"https://kela.fi/api/event-handler",`+
		`"consent":{"requiredScopes":["birth-notification","benefit-eligibility"],"purpose":"Automatic child benefit processing"}}`),
		[]byte(`{"subscriberId":"kela.fi","eventTypes":["fi.dvv.person.birth"],"purpose":"taxation","basis":"legal_obligation","thin":true,"fields":["data.a"],"mode":"binary"}`),
		[]byte(`{"subscriberId":"vero.fi"}`))
}

// FuzzVersion: an ETag, and a list's cursor, each before the byte of its own: what was not given out changes nothing and shows nothing.
func FuzzVersion(f *testing.F) {
	world, s, h := newStill(f)
	cursor := s.seal("sub-a", "client:kela")
	mutant.Fuzz(f, 1<<10, func(tb testing.TB, in []byte) bool {
		etag, after, _ := bytes.Cut(in, []byte{0x1d})
		world.sent = nil
		w := ask(tb, h, http.MethodPost, "/api/subscriptions/sub-a/pause", nil, "If-Match", string(etag))
		if on, err := version(string(etag), false); (err == nil && len(etag) <= 64) != (world.sent != nil) || world.sent != nil && world.sent.Meta.IfVersion != on {
			tb.Errorf("If-Match %q: %d, %+v", etag, w.Code, world.sent)
		}
		id, ok := s.open(string(after), "client:kela")
		if ok && s.seal(id, "client:kela") != string(after) || ok && id != "sub-a" {
			tb.Errorf("%q is a cursor behind %q", after, id)
		}
		return world.sent != nil
	}, []byte("\"3\"\x1d"+cursor), []byte("*\x1d"), []byte("W/\"3\"\x1dAAAA"))
}
