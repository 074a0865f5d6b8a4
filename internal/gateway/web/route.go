package web

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Route declares one method of one path.
type Route struct {
	ID          string // lower-case words with hyphens: the operation's name, also in metrics
	Method      string
	Path        string // with parameters in braces: /api/subscriptions/{id}
	Tag         string // the heading that it stands under in the documentation
	Summary     string
	Description string
	For         Kind   // who may call it
	Scope       string // that the token must have; empty: none
	Status      int    // of a success; 200
	Problems    []int  // statuses that it can answer with beside those that follow from the rest of the declaration

	MaxBody int64         // bytes of the body after decompression; Config.MaxBody
	Timeout time.Duration // until the answer is written; Config.Timeout. A stream has none
	// Stream is for Serve alone: the answer goes on. The request's context ends with the token (ErrTokenExpired is its cause)
	// and when the gateway stops (ErrStopping); there is no deadline for writing, the handler sets its own.
	Stream bool
	// Document completes what the documentation says of a route of Serve: parameters, bodies, answers. nil: nothing.
	Document func(*huma.Operation)
}

// Why a stream's context ended, as its cause.
var (
	ErrTokenExpired = errors.New("the token has expired")
	ErrStopping     = errors.New("the gateway stops")
)

// Handle declares a route that takes and answers JSON. I and O are structs after huma's conventions: of I the fields tagged
// path, query and header, and Body; of O the fields tagged header, Status and Body. What I's tags demand is checked before
// the handler runs. An error that is no Problem becomes status 500 and a line in the log.
func Handle[I, O any](a *API, r Route, handle func(ctx context.Context, in *I) (*O, error)) {
	_, hasBody := reflect.TypeFor[I]().FieldByName("Body")
	op := a.operation(&r, hasBody)
	op.DefaultStatus = r.Status
	op.BodyReadTimeout = -1 // the gate has read it
	op.MaxBodyBytes = a.maxBody(&r) + 1
	op.Middlewares = huma.Middlewares{a.gate(&r, hasBody)}
	huma.Register(a.huma, op, handle)
}

// Serve declares a route that is served by hand. The body, if the method has one, has been read and decompressed. An error
// is answered as a Problem, unless something has been written.
func Serve(a *API, r Route, handle func(w http.ResponseWriter, r *http.Request) error) {
	hasBody := r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch
	op := a.operation(&r, hasBody)
	for part := range strings.SplitSeq(r.Path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			op.Parameters = append(op.Parameters, &huma.Param{Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}})
		}
	}
	if r.Document != nil {
		r.Document(&op)
	}
	if status := strconv.Itoa(r.Status); op.Responses[status] == nil {
		op.Responses[status] = &huma.Response{Description: http.StatusText(r.Status)}
	}
	a.huma.OpenAPI().AddOperation(&op)
	gate := a.gate(&r, hasBody)
	a.huma.Adapter().Handle(&op, func(ctx huma.Context) {
		gate(ctx, func(ctx huma.Context) {
			req, w := humago.Unwrap(ctx)
			req = req.WithContext(ctx.Context())
			if r.Stream {
				end := a.stream(&r, &req)
				defer end()
			}
			if err := handle(w, req); err != nil {
				a.failed(w, req, err)
			}
		})
	})
}

// failed answers with an error, or notes it when it is too late for an answer.
func (a *API) failed(w http.ResponseWriter, req *http.Request, err error) {
	if rec := requestOf(req.Context()).recorder; rec != nil && rec.status != 0 {
		if req.Context().Err() == nil {
			a.internal(req.Context(), err)
		}
		return
	}
	a.Write(w, req, err)
}

// stream gives a request the context of a stream; call what it returns at its end.
func (a *API) stream(r *Route, req **http.Request) func() {
	a.streams.Add(1)
	a.metrics.streams.WithLabelValues(r.ID).Inc()
	ctx, cancel := context.WithCancelCause((*req).Context())
	stop := context.AfterFunc(a.draining, func() { cancel(ErrStopping) })
	expiring := func() bool { return true }
	if id := From(ctx); !id.Expires.IsZero() {
		timer := time.AfterFunc(id.Expires.Sub(a.cfg.Now()), func() { cancel(ErrTokenExpired) })
		expiring = timer.Stop
	}
	*req = (*req).WithContext(ctx)
	return func() {
		stop()
		expiring()
		cancel(nil)
		a.metrics.streams.WithLabelValues(r.ID).Dec()
		a.streams.Done()
	}
}

func (a *API) maxBody(r *Route) int64 {
	if r.MaxBody > 0 {
		return r.MaxBody
	}
	return a.cfg.MaxBody
}

// operation is what the documentation says of a route.
func (a *API) operation(r *Route, hasBody bool) huma.Operation {
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	op := huma.Operation{OperationID: r.ID, Method: r.Method, Path: r.Path, Summary: r.Summary, Description: r.Description, Tags: []string{r.Tag},
		Responses: map[string]*huma.Response{}, Security: []map[string][]string{}}
	statuses := append([]int{http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable}, r.Problems...)
	if r.For != Anyone {
		statuses = append(statuses, http.StatusUnauthorized, http.StatusForbidden)
		scopes := []string{}
		if r.Scope != "" {
			scopes = append(scopes, r.Scope)
		}
		op.Security = append(op.Security, map[string][]string{securityScheme: scopes})
		op.Description = strings.TrimSpace(op.Description + "\n\nFor " + r.For.String() + scopeText(r.Scope) + ".")
	}
	if hasBody {
		statuses = append(statuses, http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	schema := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	for _, s := range statuses {
		op.Responses[strconv.Itoa(s)] = &huma.Response{Description: http.StatusText(s), Content: map[string]*huma.MediaType{problemType: {Schema: schema}}}
	}
	return op
}

func scopeText(scope string) string {
	if scope == "" {
		return ""
	}
	return " with the scope " + scope
}

// gate is what every request of a route passes: authentication, rate limit, permission, the body.
func (a *API) gate(r *Route, hasBody bool) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		req, w := humago.Unwrap(hc)
		state := requestOf(req.Context())
		state.route, state.stream = r.ID, r.Stream
		control := http.NewResponseController(w)
		ctx := hc.Context()
		if r.Stream {
			_ = control.SetWriteDeadline(time.Time{}) // a transport without deadlines has none to lift
		} else {
			timeout := a.cfg.Timeout
			if r.Timeout > 0 {
				timeout = r.Timeout
			}
			_ = control.SetWriteDeadline(time.Now().Add(timeout + time.Second))
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		id, err := a.admit(ctx, req, w.Header(), r)
		if err == nil && id != nil {
			state.client = id.Client
			ctx = context.WithValue(ctx, identityKey{}, id)
		}
		if err == nil && hasBody {
			var body []byte
			var release func()
			if body, release, err = a.body(w, req, a.maxBody(r)); err == nil {
				defer release()
				req.Body = io.NopCloser(bytes.NewReader(body))
				req.ContentLength = int64(len(body))
			}
		}
		if err != nil {
			a.Write(w, req, err)
			return
		}
		next(huma.WithContext(hc, ctx))
	}
}

// admit says who asks and that they may; nil: a route for Anyone.
func (a *API) admit(ctx context.Context, req *http.Request, answer http.Header, r *Route) (*Identity, error) {
	if r.For == Anyone {
		return nil, a.strange.take(address(req), answer)
	}
	id, err := a.identify(ctx, req.Header, r)
	if err != nil {
		return nil, err
	}
	if err := a.clients.take(id.Client+"\x00"+id.Person, answer); err != nil {
		return nil, err
	}
	return id, r.permit(id)
}

// address is where a request came from, without the port. What a proxy says of it is not believed.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
