// Package gateway is civicbus over HTTP: for sources, subscribers' systems and people who do not speak Kafka. Here its parts
// are put together; what every route stands on is package web.
//
// It makes no verdict of its own: what is let in is internal/admission's, what leaves internal/verdict's, and state changes by
// commands. It keeps no state but what it can read again, so instances run side by side.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admission"
	"civicbus/internal/gateway/commands"
	"civicbus/internal/gateway/identity"
	"civicbus/internal/gateway/replays"
	"civicbus/internal/gateway/subscriptions"
	"civicbus/internal/gateway/web"
	"civicbus/internal/kafka"
	"civicbus/internal/projections"
	"civicbus/internal/pseudonym"
	"civicbus/internal/tables"
	"civicbus/internal/tracing"
	"civicbus/topology"

	"github.com/prometheus/client_golang/prometheus"
)

// Settings are what an operator decides about the gateway.
type Settings struct {
	Listen         string    // host:port; port 0 takes a free one
	CertFile       string    // PEM, with KeyFile: TLS; read again when they change
	KeyFile        string    //
	PublicURL      string    // how clients reach it, such as https://bus.example; empty: addresses are given without a host
	AccessFile     string    // issuers and clients, see package identity
	Audience       string    // of tokens; civicbus
	DevelopmentKey string    // file of the development issuer's key, made when absent; empty: there is no such issuer
	Origins        []string  // of web pages that may open a WebSocket
	Limit          web.Limit // of each client
	MaxConnections int
	Addr           func(net.Addr) // told where it listens; nil: nobody
}

// Configured says whether there is anybody who could be let in.
func (s *Settings) Configured() bool { return s.AccessFile != "" || s.DevelopmentKey != "" }

// Config says what a gateway stands on. A field without a default named is required.
type Config struct {
	Settings
	Connection  kafka.Connection
	Registry    *codecs.Registry
	RegistryURL string
	Records     *codecs.Records // bound
	Keys        *pseudonym.Keys
	BusKey      []byte // cursors are authenticated under a key derived from it
	AuditKey    []byte // nil: nobody sees the history of decisions
	Partitions  int32
	LeaseAge    time.Duration
	Tables      *tables.World // kept current by whoever made them, until Run has returned
	Commands    commands.Sender
	Replays     replays.Replays // nil: there are no routes for them
	TryWebhook  func(ctx context.Context, sub *codecs.Subscription) subscriptions.Tried
	Admission   *admission.Metrics // nil: not counted
	Tracer      *tracing.Tracer
	Metrics     prometheus.Registerer // nil: not registered
	Logger      *slog.Logger
	Now         func() time.Time
}

// Gateway is one instance.
type Gateway struct {
	cfg       Config
	api       *web.API
	rows      *kafka.View // of what is shown and decides nothing: usage and journeys
	read      atomic.Bool // rows was read whole once
	publisher *admission.Publisher
	closers   []func()
}

var (
	usageTable   = topology.TableTopic(topology.Usage.Name)
	journeyTable = topology.TableTopic(topology.Journey.Name)
)

// New puts a gateway together; it reaches for nothing.
func New(cfg Config) (*Gateway, error) {
	if cfg.TryWebhook == nil {
		return nil, errors.New("make the gateway: a way to try webhooks is required")
	}
	if cfg.Commands == nil || cfg.Keys == nil || cfg.Records == nil || cfg.Registry == nil || cfg.Tables == nil {
		return nil, errors.New("make the gateway: registry, records, keys, tables and commands are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	g := &Gateway{cfg: cfg}
	if err := g.make(); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func (g *Gateway) make() (err error) {
	cfg := &g.cfg
	access := identity.Config{AccessFile: cfg.AccessFile, Audience: cfg.Audience, Keys: cfg.Keys, Logger: cfg.Logger}
	if cfg.DevelopmentKey != "" {
		cfg.Logger.Warn("the gateway has a development issuer: whoever can read its key can be anybody", "key", cfg.DevelopmentKey)
		if access.Development, err = identity.OpenDevelopment(cfg.DevelopmentKey); err != nil {
			return err
		}
	}
	authenticator, err := identity.New(access)
	if err != nil {
		return err
	}
	if g.api, err = web.New(web.Config{Authenticator: authenticator, Limit: cfg.Limit, Logger: cfg.Logger, Metrics: cfg.Metrics}); err != nil {
		return err
	}
	if g.rows, err = kafka.NewView(cfg.Connection, cfg.LeaseAge, cfg.Logger, nil, usageTable, journeyTable); err != nil {
		return err
	}
	if g.publisher, err = g.newPublisher(); err != nil {
		return err
	}
	g.closers = append(g.closers, g.publisher.Close)
	return g.mount()
}

func (g *Gateway) newPublisher() (*admission.Publisher, error) {
	opts, err := g.cfg.Connection.Opts()
	if err != nil {
		return nil, err
	}
	resolver := admission.NewResolver(g.cfg.Registry, g.prepare)
	return admission.NewPublisher(admission.PublisherConfig{Options: opts, Resolver: resolver,
		Door:   &admission.Door{Keys: g.cfg.Keys, Belongs: resolver.Belongs, RegistryURL: g.cfg.RegistryURL},
		Tables: func() admission.Tables { return g.cfg.Tables.Snapshot() }, Lease: g.cfg.Tables, Letters: g.cfg.Records.DeadLetter, Timeout: publishWithin, Metrics: g.cfg.Admission, Tracer: g.cfg.Tracer})
}

// rowsWithin bounds the wait for the tables of what is shown after a start.
const rowsWithin = 5 * time.Second

// publishWithin bounds the wait for Kafka, the lease and the registry: it lies below the time that a request has.
const publishWithin = 20 * time.Second

// prepare registers the projected schemas of an event type's deliveries.
func (g *Gateway) prepare(ctx context.Context, eventType string, schema *codecs.Schema) error {
	return projections.Prepare(ctx, g.cfg.Registry, g.cfg.Tables.Snapshot().Targets(eventType, schema))
}

// API is the interface that the gateway serves, for its documentation.
func (g *Gateway) API() *web.API { return g.api }

// Run serves until the context ends, then lets requests finish.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.close()
	reading, stop := context.WithCancel(context.WithoutCancel(ctx)) // requests that finish still need the rows
	failed := make(chan error, 1)
	go func() { failed <- g.rows.Run(reading) }()
	serving, end := context.WithCancel(ctx)
	defer end()
	served := make(chan error, 1)
	go func() {
		served <- g.api.Serve(serving, web.ServerConfig{Listen: g.cfg.Listen, CertFile: g.cfg.CertFile, KeyFile: g.cfg.KeyFile, MaxConnections: g.cfg.MaxConnections, Addr: g.cfg.Addr})
	}()
	var err error
	select {
	case err = <-served:
		stop()
		err = errors.Join(err, <-failed)
	case err = <-failed:
		end()
		err = errors.Join(fmt.Errorf("read the rows that the gateway shows: %w", err), <-served)
		stop()
	}
	return err
}

func (g *Gateway) close() {
	for _, c := range g.closers {
		c()
	}
}

// delivered counts the unique deliveries of a subscription, as group usage has counted them.
func (g *Gateway) delivered(ctx context.Context, subscription string) (int64, error) {
	u, err := g.used(ctx, subscription)
	return u.Delivered, err
}

// attempts are the last attempts at a subscription's webhook.
func (g *Gateway) attempts(ctx context.Context, subscription string) ([]codecs.UsageAttempt, error) {
	u, err := g.used(ctx, subscription)
	return u.Attempts, err
}

// used is a subscription's row of the usage table; the zero row when there is none.
func (g *Gateway) used(ctx context.Context, subscription string) (u codecs.UsageRow, err error) {
	_, err = shownRow(ctx, g, usageTable, subscription, g.cfg.Records.UsageRow, &u)
	return u, err
}

// journey is a row of the journey table; nil when there is none.
func (g *Gateway) journey(ctx context.Context, key string) (*codecs.Journey, error) {
	j := new(codecs.Journey)
	if found, err := shownRow(ctx, g, journeyTable, key, g.cfg.Records.Journey, j); err != nil || !found {
		return nil, err
	}
	return j, nil
}

// shownRow reads a row into one; false when there is none. Once its table was read whole, it may be a little old.
func shownRow[T any](ctx context.Context, g *Gateway, table, key string, record *codecs.Record[T], into *T) (found bool, err error) {
	if !g.read.Load() {
		wait, cancel := context.WithTimeout(ctx, rowsWithin)
		defer cancel()
		if err := g.rows.Wait(wait); err != nil {
			return false, web.Unavailable("the tables of what is shown have not been read yet")
		}
		g.read.Store(true)
	}
	row := g.rows.Row(table, key)
	if row == nil {
		return false, nil
	}
	v, err := record.DecodeLoading(ctx, row)
	if err != nil {
		return false, fmt.Errorf("read a row of %s: %w", table, err)
	}
	*into = v
	return true, nil
}
