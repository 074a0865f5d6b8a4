package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"time"
)

// request is what is known of a request while it is served.
type request struct {
	id       string // random: it says nothing
	route    string // empty: none fits
	client   string
	stream   bool
	recorder *recorder
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	if r, _ := ctx.Value(requestKey{}).(*request); r != nil {
		return r
	}
	return &request{}
}

// recorder remembers the status that was written. It hides nothing of the writer below: http.ResponseController and
// WebSockets find it by Unwrap.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 || r.status < http.StatusOK {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// serve answers every request.
func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	rec := &recorder{ResponseWriter: w}
	state := &request{id: newID(), recorder: rec}
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, state))
	h := w.Header()
	h.Set("X-Request-Id", state.id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if r.TLS != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	defer func() {
		if p := recover(); p != nil {
			a.recovered(rec, r, p)
		}
		a.metrics.answered(state.route, rec.status, state.stream, time.Since(began))
		a.log.Debug("request", "request", state.id, "route", state.route, "status", rec.status, "client", state.client, "took", time.Since(began))
	}()
	handler, pattern := a.mux.Handler(r)
	switch {
	case clean(r.URL.Path) != r.URL.Path: // the mux would redirect
		a.Write(rec, r, Fail(http.StatusNotFound, "not_found", "there is nothing at this address"))
	case pattern == "":
		a.unmatched(rec, r, handler)
	default:
		a.mux.ServeHTTP(rec, r)
	}
}

// clean is the form of a path that the mux serves without a redirect.
func clean(p string) string {
	c := path.Clean(p)
	if strings.HasSuffix(p, "/") && c != "/" {
		c += "/"
	}
	return c
}

// unmatched answers a request that no route fits: 405 with Allow when its path is known by other methods, else 404.
func (a *API) unmatched(w http.ResponseWriter, r *http.Request, handler http.Handler) {
	probe := &probe{header: http.Header{}}
	handler.ServeHTTP(probe, r)
	if allow := probe.header.Get("Allow"); probe.status == http.StatusMethodNotAllowed && allow != "" {
		a.Write(w, r, refuse(http.StatusMethodNotAllowed, "method_not_allowed", "this address has other methods: "+allow, http.Header{"Allow": {allow}}))
		return
	}
	a.Write(w, r, Fail(http.StatusNotFound, "not_found", "there is nothing at this address"))
}

// probe takes the mux's own answer to a request that no route fits.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(status int)      { p.status = status }

// recovered ends a request whose handler panicked: a bug, whose value may hold personal data and is not logged.
func (a *API) recovered(w *recorder, r *http.Request, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	a.log.Error("a handler panicked", "request", requestOf(r.Context()).id, "route", requestOf(r.Context()).route, "kind", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
	if w.status == 0 {
		a.Write(w, r, Fail(http.StatusInternalServerError, "internal", "an error of the gateway's own; its log has it under this instance"))
	}
}

// internal notes an error that is the gateway's own fault, or that of what it stands on.
func (a *API) internal(ctx context.Context, err error) {
	r := requestOf(ctx)
	a.log.Error("a request could not be served", "request", r.id, "route", r.route, "error", err)
}

func newID() string {
	var id [12]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return hex.EncodeToString(id[:])
}
