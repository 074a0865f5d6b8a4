package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"civicbus/internal/app"
	"civicbus/topology"
)

// Session timeout of the soak's nodes. A node that is killed comes back at once under its static id, so the timeout is only
// what a node that never came back would cost.
const soakSession = 6 * time.Second

// soakConfig is what the soak's own clients and its nodes share. Each topic has a copy on every broker, up to three, as where it
// counts.
func soakConfig(brokers []string, registry string) app.Config {
	cfg := app.Config{BusKey: []byte(busKey), Shape: topology.Shape{Partitions: 8}, Replicas: int16(min(3, len(brokers))), Session: soakSession, Logger: slog.New(slog.DiscardHandler)}
	cfg.Connection.Brokers, cfg.Registry.URL = brokers, registry
	return cfg
}

// SoakNode is one of the soak's processes: all groups and edges under an instance id, until the context or its
// input ends or it is killed: no node outlives its soak. args are the instance, the registry and the brokers. It says
// "connected" and "ready" on out, warnings on log.
func SoakNode(ctx context.Context, args []string, in io.Reader, out, log io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in) // how it ends does not matter
		cancel()
	}()
	if len(args) < 3 {
		return errors.New("want an instance id, a registry and brokers")
	}
	cfg := soakConfig(args[2:], args[1])
	cfg.Instance = args[0]
	cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	n, err := app.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "connected")
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ready := false; ; {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			if !ready && n.Ready() == nil {
				ready = true
				tick.Stop()
				fmt.Fprintln(out, "ready")
			}
		}
	}
}

// soakNodes keeps node processes running. Not safe for concurrent use but for what says so.
type soakNodes struct {
	command []string // in front of a node's arguments
	dir     string   // of what the nodes say
	slots   []*soakProcess

	mu        sync.Mutex
	connected []time.Duration // from the start of a process until it said so
	ready     []time.Duration
	died      []string // what ended without being killed
}

type soakProcess struct {
	instance string
	args     []string
	cmd      *exec.Cmd
	said     chan struct{} // closed when its output has been read to the end
	killed   bool          // guarded by soakNodes.mu
}

func newSoakNodes(n int, brokers []string, registry string) (*soakNodes, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "civicbus-soak-")
	if err != nil {
		return nil, err
	}
	s := &soakNodes{command: []string{self, "bench", "node"}, dir: dir}
	for i := range n {
		id := fmt.Sprintf("soak-%d", i)
		s.slots = append(s.slots, &soakProcess{instance: id, args: append([]string{id, registry}, brokers...)})
	}
	return s, nil
}

func (s *soakNodes) startAll() error {
	for _, p := range s.slots {
		if err := s.start(p); err != nil {
			return err
		}
	}
	return nil
}

func (s *soakNodes) start(p *soakProcess) error {
	log, err := os.OpenFile(s.logOf(p), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()                                                    // the process has its own
	p.cmd = exec.Command(s.command[0], append(slices.Clone(s.command[1:]), p.args...)...) //nolint:gosec,noctx // this program, killed by the soak alone
	p.cmd.Stderr = log
	if _, err := p.cmd.StdinPipe(); err != nil { // closed with the process, or with this one
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start node %s: %w", p.instance, err)
	}
	s.mu.Lock()
	p.killed = false
	s.mu.Unlock()
	said := make(chan struct{})
	p.said = said
	go func() {
		defer close(said)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			s.mu.Lock()
			switch lines.Text() {
			case "connected":
				s.connected = append(s.connected, time.Since(began))
			case "ready":
				s.ready = append(s.ready, time.Since(began))
			}
			s.mu.Unlock()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if !p.killed {
			s.died = append(s.died, p.instance)
		}
	}()
	return nil
}

// kill ends a process as a crash would (SIGKILL), and waits until it is gone.
func (s *soakNodes) kill(p *soakProcess) {
	s.end(p, os.Kill)
}

// end sends a signal and waits.
func (s *soakNodes) end(p *soakProcess, signal os.Signal) {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	s.mu.Lock()
	p.killed = true
	s.mu.Unlock()
	_ = p.cmd.Process.Signal(signal) // it may have ended by itself; died says so
	<-p.said
	_ = p.cmd.Wait() // its status is that of the signal
	p.cmd = nil
}

// stop lets all processes end as an operator would, and kills what has not ended after a while.
func (s *soakNodes) stop() {
	var wg sync.WaitGroup
	for _, p := range s.slots {
		cmd := p.cmd
		if cmd == nil {
			continue
		}
		wg.Go(func() {
			late := time.AfterFunc(15*time.Second, func() { _ = cmd.Process.Kill() })
			defer late.Stop()
			s.end(p, os.Interrupt)
		})
	}
	wg.Wait()
}

// revive starts what ended without being killed, and tells which.
func (s *soakNodes) revive() (died []string, err error) {
	s.mu.Lock()
	died, s.died = s.died, nil
	s.mu.Unlock()
	for _, p := range s.slots {
		if slices.Contains(died, p.instance) {
			s.kill(p)
			err = errors.Join(err, s.start(p))
		}
	}
	return died, err
}

// starts tells how long starting took, in the middle and at the worst.
func (s *soakNodes) starts() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	tell := func(d []time.Duration) string {
		if len(d) == 0 {
			return "never"
		}
		d = slices.Sorted(slices.Values(d))
		return fmt.Sprintf("%d times, median %.2f s, p90 %.2f s, longest %.2f s", len(d), d[len(d)/2].Seconds(), d[len(d)*9/10].Seconds(), d[len(d)-1].Seconds())
	}
	return "from process start to connected: " + tell(s.connected) + "; to ready: " + tell(s.ready)
}

func (s *soakNodes) logOf(p *soakProcess) string { return filepath.Join(s.dir, p.instance+".log") }

// tails are the last lines that each node wrote.
func (s *soakNodes) tails(n int) string {
	var out strings.Builder
	for _, p := range s.slots {
		text, err := os.ReadFile(s.logOf(p))
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Fprintf(&out, "%s:\n  %s\n", p.instance, strings.Join(lines[max(0, len(lines)-n):], "\n  "))
	}
	return out.String()
}
