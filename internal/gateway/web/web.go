// Package web is what every part of the gateway's HTTP interface stands on: routes with their documentation, who asks, what
// they may, how often, how large a body may be, and how an error is told.
//
// Its rules:
//   - A route is declared once, with Handle or Stream. Authentication, the kind of caller, the scope, the rate limit, the
//     body's bounds, problems, metrics and the OpenAPI document all follow from that declaration; none of it is left to a
//     handler, so none can be forgotten.
//   - An error is a Problem (RFC 9457) with a code of a closed list. Its texts never quote what was sent: that could be
//     personal data.
//   - No national id and no pseudonym in a log line, a metric, a problem or a header. Paths and queries are not logged.
//   - Nothing is global, so that several instances run side by side in one process.
package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says how an API treats its callers. A field without a default named is required.
type Config struct {
	Authenticator Authenticator
	Version       string                // of the interface, for its documentation; 1.0
	Limit         Limit                 // of each client; default 6000 a minute
	AddressLimit  Limit                 // of each address that asks without a token; default 600 a minute
	MaxBody       int64                 // bytes of a body after decompression, unless a route says otherwise; 1 MiB
	BodyTimeout   time.Duration         // from the first header to the last byte of a body; 10 s
	Timeout       time.Duration         // of a request that is no stream, until its answer is written; 60 s
	Logger        *slog.Logger          // default slog.Default()
	Metrics       prometheus.Registerer // nil: not registered
	Now           func() time.Time
}

// API is the gateway's HTTP interface: make it, declare routes, then serve its Handler. Routes are declared before the
// first request; everything else is safe for concurrent use.
type API struct {
	cfg     Config
	mux     *http.ServeMux
	huma    huma.API
	clients *limiter
	strange *limiter // by address, of who shows no token
	bodies  Budget
	codes   codes
	metrics *metrics
	log     *slog.Logger

	draining context.Context // ends when streams must
	drain    context.CancelFunc
	streams  sync.WaitGroup
}

// New makes an API without routes, but for its own documentation: /openapi.json, /openapi.yaml and /docs.
func New(cfg Config) (*API, error) {
	if cfg.Authenticator == nil {
		return nil, errors.New("make the gateway's interface: an authenticator is required")
	}
	if cfg.Version == "" {
		cfg.Version = "1.0"
	}
	if cfg.Limit.Requests == 0 {
		cfg.Limit = Limit{Requests: 6000, Window: time.Minute}
	}
	if cfg.AddressLimit.Requests == 0 {
		cfg.AddressLimit = Limit{Requests: 600, Window: time.Minute}
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 1 << 20
	}
	if cfg.BodyTimeout == 0 {
		cfg.BodyTimeout = 10 * time.Second
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &API{cfg: cfg, mux: http.NewServeMux(), log: cfg.Logger, metrics: newMetrics(cfg.Metrics),
		bodies: Budget{Bytes: maxBodies}, clients: newLimiter("client", cfg.Limit, cfg.Now), strange: newLimiter("address", cfg.AddressLimit, cfg.Now)}
	a.draining, a.drain = context.WithCancel(context.Background())
	a.huma = humago.New(a.mux, huma.Config{OpenAPI: describe(cfg.Version), DefaultFormat: jsonType, RejectUnknownQueryParameters: true,
		Formats:      map[string]huma.Format{jsonType: {Marshal: marshal, Unmarshal: unmarshal}, "json": {Marshal: marshal, Unmarshal: unmarshal}},
		Transformers: []huma.Transformer{a.problems}})
	a.documentation()
	return a, nil
}

// Handler serves the routes declared so far.
func (a *API) Handler() http.Handler { return http.HandlerFunc(a.serve) }

// Close ends every stream and waits until the last has ended, or the context.
func (a *API) Close(ctx context.Context) error {
	a.drain()
	ended := make(chan struct{})
	go func() {
		a.streams.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
