package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/app"
	"civicbus/internal/delivery"
	"civicbus/internal/kafka"
	"civicbus/internal/waits"
	"civicbus/topology"

	"github.com/prometheus/client_golang/prometheus"
)

// node is one node in this process.
type node struct {
	*app.Node
	b      *bus
	name   string
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
}

// run starts a node; the end of the whole test stops it if nobody did before.
func (b *bus) run(instance string, parts ...string) *node {
	b.t.Helper()
	cfg := b.cfg
	cfg.Instance, cfg.Parts, cfg.Metrics = instance, parts, prometheus.NewRegistry()
	n, err := app.Connect(b.t.Context(), cfg)
	b.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	nd := &node{Node: n, b: b, name: instance, cancel: cancel, done: make(chan error, 1)}
	go func() { nd.done <- n.Run(ctx) }()
	b.mu.Lock()
	b.nodes[instance] = nd
	b.mu.Unlock()
	b.root.Cleanup(nd.stop)
	return nd
}

// stop ends a node in an orderly way.
func (n *node) stop() {
	n.once.Do(func() {
		b := n.b
		b.mu.Lock()
		delete(b.nodes, n.name)
		if b.from == n {
			b.pub.Close()
			b.pub, b.from = nil, nil
		}
		b.mu.Unlock()
		n.cancel()
		select {
		case err := <-n.done:
			if err != nil {
				b.t.Errorf("node %s: %v", n.name, err)
			}
		case <-time.After(within):
			b.t.Errorf("node %s does not stop", n.name)
		}
	})
}

// leave stops a node for good.
func (n *node) leave() {
	n.b.t.Helper()
	n.stop()
	n.b.must(n.Leave(n.b.t.Context()))
}

// ready waits until the node has recovered its partitions and holds its leases.
func (n *node) ready() {
	n.b.t.Helper()
	n.b.eventually("node "+n.name+" is ready", func() bool { return n.Ready() == nil })
}

// process is one node in a process of its own, which can be killed.
type process struct {
	b    *bus
	cmd  *exec.Cmd
	in   io.Closer
	once sync.Once
}

// nodeEnv holds the settings of a node's process; see TestMain.
const nodeEnv = "CIVICBUS_E2E_NODE"

// settings is what app.Config has and a process can be given.
type settings struct {
	Brokers           []string
	Registry          string
	BusKey, AuditKey  []byte
	Shape             topology.Shape
	LeaseAge, Session time.Duration
	Instance          string
	Parts             []string
	Development       bool          // webhooks on this machine
	Ahead             time.Duration // of the clock
}

// runApart starts a node in another process; the end of the test kills it if nobody stopped it before.
func (b *bus) runApart(instance string, parts ...string) *process {
	b.t.Helper()
	spec, err := json.Marshal(settings{Brokers: b.cfg.Connection.Brokers, Registry: b.cfg.Registry.URL, BusKey: b.cfg.BusKey, AuditKey: b.cfg.AuditKey, Shape: b.cfg.Shape,
		LeaseAge: b.cfg.LeaseAge, Session: b.cfg.Session, Instance: instance, Parts: parts, Development: b.cfg.Webhooks.Development, Ahead: b.ahead()})
	b.must(err)
	self, err := os.Executable()
	b.must(err)
	p := &process{b: b, cmd: exec.CommandContext(context.WithoutCancel(b.t.Context()), self)}
	p.cmd.Env = append(os.Environ(), nodeEnv+"="+string(spec))
	p.cmd.Stdout, p.cmd.Stderr = b.log, b.log
	p.in, err = p.cmd.StdinPipe()
	b.must(err)
	b.must(p.cmd.Start())
	b.root.Cleanup(p.kill)
	return p
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
}

// stop ends the process in an orderly way.
func (p *process) stop() {
	p.once.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		if err := p.cmd.Wait(); err != nil {
			p.b.t.Errorf("node's process: %v", err)
		}
	})
}

// TestMain runs the tests, or the one node that runApart asked for.
func TestMain(m *testing.M) {
	spec := os.Getenv(nodeEnv)
	if spec == "" {
		code := waits.Run(m, "5")
		_ = os.RemoveAll(programDir)
		os.Exit(code)
	}
	if err := runHere(spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runHere(spec string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() { // whoever started this process is gone when its input ends
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var s settings
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	n, err := app.Connect(ctx, app.Config{Connection: kafka.Connection{Brokers: s.Brokers}, Registry: codecs.RegistryConfig{URL: s.Registry}, BusKey: s.BusKey, AuditKey: s.AuditKey,
		Shape: s.Shape, Replicas: 1, LeaseAge: s.LeaseAge, Session: s.Session, Instance: s.Instance, Parts: s.Parts,
		Webhooks: delivery.Settings{Development: s.Development}, Now: func() time.Time { return time.Now().Add(s.Ahead) },
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		return err
	}
	if err := n.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
