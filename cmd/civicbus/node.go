package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"civicbus/internal/app"
	"civicbus/internal/config"
	"civicbus/internal/gateway"
	"civicbus/internal/gateway/web"
	"civicbus/internal/tracing"
	"civicbus/topology"

	"github.com/spf13/cobra"
)

// nodeConfig turns settings into a node's. An empty instance id is left to the caller.
func nodeConfig(cfg *config.Config, key []byte, log *slog.Logger, parts []string, embedded bool) (app.Config, error) {
	reg, err := registry(cfg)
	if err != nil {
		return app.Config{}, err
	}
	if key == nil {
		return app.Config{}, usage(errors.New("no bus key is configured: keys.bus_key_file names a file of at least 32 bytes"))
	}
	audit, err := auditKey(cfg, key, embedded)
	if err != nil {
		return app.Config{}, err
	}
	webhooks, err := webhookSettings(cfg)
	if err != nil {
		return app.Config{}, err
	}
	return app.Config{Connection: connection(cfg, warnings(log)), Registry: reg, BusKey: key, AuditKey: audit, Replicas: cfg.Kafka.Replication,
		Heads: cfg.Audit.HeadInterval, HeadsFile: cfg.Audit.HeadFile,
		Shape:    topology.Shape{Partitions: cfg.Kafka.Partitions, Compact: !embedded}, // the embedded broker's compaction cannot be trusted with transactions yet
		LeaseAge: cfg.Lease.Age, Interval: cfg.Engine.Interval, TxnTimeout: cfg.Engine.TransactionTimeout,
		Instance: cfg.Engine.InstanceID, Parts: parts, Gateway: gatewaySettings(cfg), Webhooks: webhooks,
		Access: app.Access{Manage: cfg.Access.Manage, Limits: limits(cfg)}, Logger: log}, nil
}

// traced makes a node trace what it does, where that is set; stop sends what has not been sent yet.
func traced(ctx context.Context, cfg *config.Config, nc *app.Config, log *slog.Logger) (stop func(), err error) {
	if !cfg.Tracing.Enabled {
		return func() {}, nil
	}
	tracer, end, err := tracing.Start(ctx, nc.Instance, os.Getenv, log)
	if err != nil {
		return nil, err
	}
	nc.Tracer = tracer
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := end(ctx); err != nil {
			log.Warn("send the last traces", "error", err)
		}
	}, nil
}

// gatewaySettings turns settings into the gateway's.
func gatewaySettings(cfg *config.Config) gateway.Settings {
	g := cfg.Gateway
	return gateway.Settings{Listen: g.Listen, CertFile: g.TLS.Cert, KeyFile: g.TLS.Key, PublicURL: g.PublicURL, AccessFile: g.AccessFile, Audience: g.Audience,
		Origins: g.Origins, Limit: web.Limit{Requests: g.RateLimit, Window: time.Minute}, MaxConnections: g.MaxConnections}
}

// warnings is a logger that passes on warnings and worse: franz-go tells at info what only matters to its own authors.
func warnings(log *slog.Logger) *slog.Logger {
	return slog.New(levelHandler{log.Handler(), slog.LevelWarn})
}

type levelHandler struct {
	slog.Handler
	from slog.Level
}

func (h levelHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.from && h.Handler.Enabled(ctx, l)
}

func (h levelHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return levelHandler{h.Handler.WithAttrs(attrs), h.from}
}

func (h levelHandler) WithGroup(name string) slog.Handler {
	return levelHandler{h.Handler.WithGroup(name), h.from}
}

// serveNode runs a node and its /metrics, /livez and /readyz until the context ends.
func serveNode(ctx context.Context, n *app.Node, listen string, addr func(string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		err := n.Serve(ctx, listen, addr)
		if err != nil {
			cancel() // a node that nobody can watch is not run
		}
		served <- err
	}()
	err := n.Run(ctx)
	cancel()
	return errors.Join(err, <-served)
}

// whenReady calls f once the node is ready, unless the context ends before.
func whenReady(ctx context.Context, n *app.Node, f func()) {
	for n.Ready() != nil {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
	f()
}

// newInstance makes an instance id for a process that was given none.
func newInstance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "civicbus"
	}
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return host + "-" + hex.EncodeToString(id[:])
}

func newRun() *cobra.Command {
	cmd := &cobra.Command{Use: "run [GROUP...]", Short: "Run groups and edges against the configured cluster; all of them when none is named",
		Long: fmt.Sprintf("Runs the named groups and edges, of %v, until it is interrupted. The cluster must have been set up with civicbus\n"+
			"topics apply. Start it as often as there is work: the instances share the partitions. With engine.instance_id a restart\n"+
			"moves no partition; without one the process leaves its groups when it stops.", app.Parts())}
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		embedded, err := onEmbedded(cmd)
		if err != nil {
			return err
		}
		cfg, err := load(cmd, embedded) // beside civicbus up, its defaults hold
		if err != nil {
			return err
		}
		key, err := busKey(cfg)
		if err != nil {
			return fmt.Errorf("read the bus key: %w", err)
		}
		log := logger(cmd, cfg)
		nc, err := nodeConfig(cfg, key, log, names, embedded)
		if err != nil {
			return err
		}
		passing := nc.Instance == ""
		if passing {
			nc.Instance = newInstance()
		}
		nc.Gateway.Addr = func(addr net.Addr) { log.Info("serving the gateway", "address", addr.String()) }
		stop, err := traced(cmd.Context(), cfg, &nc, log)
		if err != nil {
			return err
		}
		defer stop()
		n, err := app.Connect(cmd.Context(), nc)
		if err != nil {
			return err
		}
		go whenReady(cmd.Context(), n, func() { log.Info("ready", "instance", nc.Instance, "parts", nc.Parts) })
		err = serveNode(cmd.Context(), n, cfg.HTTP.Listen, func(addr string) { log.Info("serving /metrics, /livez and /readyz", "address", addr) })
		if passing {
			leave, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			err = errors.Join(err, n.Leave(leave))
		}
		return err
	}
	return cmd
}

// onEmbedded says whether the configured cluster is one that `civicbus up` runs, whose tables are kept for ever.
func onEmbedded(cmd *cobra.Command) (bool, error) {
	c, err := dial(cmd)
	if err != nil {
		return false, err
	}
	defer c.Close()
	return c.Embedded(cmd.Context())
}
