package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/gateway"
	"civicbus/internal/gateway/gatewaytest"
	"civicbus/internal/gateway/identity"
	"civicbus/internal/gateway/web"
	"civicbus/topology"

	"github.com/prometheus/client_golang/prometheus"
)

// within bounds every wait.
const within = time.Minute

// bus is a civicbus with the example world's organisations and types, and a gateway.
type bus struct {
	t       *testing.T
	config  app.Config
	admin   *admin.Client
	world   *examples.World
	issuer  *identity.Development
	base    string // the gateway's address
	stop    func() // of its node
	logs    *logs
	counted *prometheus.Gatherers // every node's metrics
}

// logs is everything that was logged.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newYear is the data's clock in these tests.
var newYear = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func start(t *testing.T, limit ...web.Limit) *bus {
	t.Helper()
	ctx := t.Context()
	b := &bus{t: t, logs: &logs{}, counted: &prometheus.Gatherers{}}
	var err error
	b.world, err = examples.Load()
	b.must(err)
	key := filepath.Join(t.TempDir(), "development.key")
	b.config = app.Config{BusKey: []byte("the bus key of tests, of 32 bytes or more"), AuditKey: []byte("the audit key of tests, of 32 bytes or more"), LeaseAge: 300 * time.Millisecond, Shape: topology.Shape{Partitions: 4}, Instance: "test",
		Now: func() time.Time { return newYear }, Logger: slog.New(slog.NewTextHandler(b.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Gateway: gateway.Settings{Listen: "127.0.0.1:0", DevelopmentKey: key}}
	gatewaytest.Cluster(t, &b.config)
	if len(limit) > 0 {
		b.config.Gateway.Limit = limit[0]
	}
	_, err = app.Apply(ctx, b.config)
	b.must(err)
	b.issuer, err = identity.OpenDevelopment(key)
	b.must(err)
	b.base, b.stop = b.node(b.config)
	b.admin, err = admin.Dial(ctx, admin.Config{Connection: b.config.Connection, Registry: b.config.Registry, BusKey: b.config.BusKey})
	b.must(err)
	t.Cleanup(b.admin.Close)
	for subject, schema := range b.world.Schemas {
		_, err := b.admin.RegisterSource(ctx, subject, schema)
		b.must(err)
	}
	by := admin.By{Actor: "operator:anna"}
	b.inEffect(b.admin.PutOrganisations(ctx, by, b.world.Organisations...))
	b.inEffect(b.admin.PutEventTypes(ctx, by, b.world.EventTypes...))
	return b
}

// node runs a node until the test ends or stop is called, and gives its gateway's address.
func (b *bus) node(cfg app.Config) (base string, stop func()) {
	b.t.Helper()
	listening := make(chan string, 1)
	cfg.Metrics = prometheus.NewRegistry()
	*b.counted = append(*b.counted, cfg.Metrics)
	cfg.Gateway.Addr = func(a net.Addr) { listening <- "http://" + a.String() }
	n, err := app.Connect(b.t.Context(), cfg)
	b.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(stop)
	select {
	case base = <-listening:
	case <-time.After(within):
		b.t.Fatal("the gateway does not listen")
	}
	b.eventually("the node is ready", func() bool { return n.Ready() == nil })
	return base, stop
}

func (b *bus) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bus) inEffect(requests []admin.Request, err error) {
	b.t.Helper()
	b.must(err)
	outcomes, err := b.admin.Send(b.t.Context(), requests, admin.Wait{Timeout: within})
	b.must(err)
	for _, o := range outcomes {
		if !o.InEffect {
			b.t.Fatalf("%+v", o)
		}
	}
}

func (b *bus) eventually(what string, is func() bool) {
	b.t.Helper()
	limit := time.NewTimer(within)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-limit.C:
			b.t.Fatalf("in vain: %s", what)
		}
	}
}

// token is one for an organisation (kela.fi), an operator (@anna) or a person (fi-hetu:...), with every scope.
func (b *bus) token(who string) string {
	b.t.Helper()
	g := identity.Grant{Scopes: web.Scopes()}
	switch {
	case strings.HasPrefix(who, "@"):
		g.Operator = who[1:]
	case strings.Contains(who, ":"):
		g.Person = who
	default:
		g.Organisation = who
	}
	token, err := b.issuer.Token(g, time.Now())
	b.must(err)
	return token
}

// answer is what the gateway said.
type answer struct {
	status int
	header http.Header
	text   string
}

// problem is the code of a problem, with the code of its first error after a slash.
func (a *answer) problem() string {
	var p web.Problem
	if json.Unmarshal([]byte(a.text), &p) != nil {
		return "no problem: " + a.text
	}
	code := p.Code
	if len(p.Errors) > 0 {
		code += "/" + p.Errors[0].Code + "@" + p.Errors[0].Pointer
	}
	return code
}

func (b *bus) ask(who, method, path, body string, headers ...string) *answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, strings.NewReader(body))
	b.must(err)
	if who != "" {
		req.Header.Set("Authorization", "Bearer "+b.token(who))
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	b.must(err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	b.must(err)
	return &answer{res.StatusCode, res.Header, string(text)}
}

// want asks and checks the status.
func (b *bus) want(status int, who, method, path, body string, headers ...string) *answer {
	b.t.Helper()
	a := b.ask(who, method, path, body, headers...)
	if a.status != status {
		b.t.Fatalf("%s %s as %s: %d %s, want %d", method, path, who, a.status, a.text, status)
	}
	return a
}
