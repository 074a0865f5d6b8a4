package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"civicbus/e2e/realcluster"
	"civicbus/internal/embedded"
)

// soakBroker is an embedded cluster in a process of its own, until its input ends or it is killed: DIR, PORT of the broker, PORT
// of the registry. It says its registry's address once it is open.
func soakBroker(args []string) error {
	broker, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	registry, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	c, err := embedded.Start(context.Background(), embedded.Config{DataDir: args[0], KafkaPort: broker, RegistryPort: registry})
	if err != nil {
		return err
	}
	fmt.Println(c.RegistryURL())
	_, _ = io.Copy(io.Discard, os.Stdin) // how it ends does not matter
	return c.Close()
}

// brokerProcess is such a process, which can be stopped and started again on its ports and its data.
type brokerProcess struct {
	args     []string
	registry string
	cmd      *exec.Cmd
	in       io.Closer // ends it
}

func (b *brokerProcess) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.cmd = exec.CommandContext(context.Background(), self, append([]string{"bench", "broker"}, b.args...)...)
	b.cmd.Stderr = os.Stderr
	if b.in, err = b.cmd.StdinPipe(); err != nil { // closed with this process
		return err
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.cmd.Start(); err != nil {
		return err
	}
	b.registry, err = bufio.NewReader(out).ReadString('\n')
	b.registry = strings.TrimSpace(b.registry)
	return err
}

func (b *brokerProcess) stop() error {
	return errors.Join(b.in.Close(), b.cmd.Wait())
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// TestSoakBrokerRestarted restarts the broker as well, an embedded one with a data directory. It is not killed: it writes the end
// of a transaction partition by partition, and when it is killed in between a part of the transaction is committed and the rest
// is not. Kafka writes down first that it will be, and finishes it.
func TestSoakBrokerRestarted(t *testing.T) {
	lasting := soakLasting(t)
	b := &brokerProcess{args: []string{t.TempDir(), freePort(t), freePort(t)}}
	if err := b.start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.stop() }() // it may be stopped
	judgeSoak(t, Config{Brokers: []string{"127.0.0.1:" + b.args[1]}, Registry: b.registry, Events: int(lasting.Seconds()) * 150, Kills: int(lasting.Seconds()) / 3, For: lasting},
		func(ctx context.Context, r *rand.Rand) error {
			if err := b.stop(); err != nil {
				return err
			}
			wait(ctx, time.Duration(r.IntN(2000))*time.Millisecond)
			return b.start()
		})
}

// TestSoakRealBrokersKilled kills one of three real brokers at a time. It starts a cluster of its own, so it runs only where one was
// started before.
func TestSoakRealBrokersKilled(t *testing.T) {
	if realcluster.FromEnv() == nil {
		t.Skip("needs Java and Maven: runs where CIVICBUS_TEST_BROKERS is set, as .ci/run does")
	}
	c, err := realcluster.Start(t.Context(), 3, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	lasting := soakLasting(t)
	judgeSoak(t, Config{Brokers: c.Brokers, Registry: c.Registry, Events: int(lasting.Seconds()) * 50, Kills: int(lasting.Seconds()) / 10, For: lasting},
		func(ctx context.Context, r *rand.Rand) error {
			broker := 1 + r.IntN(3)
			if err := c.Kill(ctx, broker); err != nil {
				return err
			}
			wait(ctx, time.Duration(r.IntN(10_000))*time.Millisecond)
			return c.Revive(ctx, broker)
		})
}

// soakLasting is how long a soak lasts whose brokers are killed: CIVICBUS_SOAK_FOR; without it the test is skipped.
func soakLasting(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(os.Getenv("CIVICBUS_SOAK_FOR"))
	if err != nil || raced {
		t.Skip("kills brokers for as long as CIVICBUS_SOAK_FOR says, without the race detector, under which no node keeps the lease")
	}
	return d
}

func judgeSoak(t *testing.T, c Config, disturb func(context.Context, *rand.Rand) error) {
	t.Helper()
	c.Seed, c.Say = 1, func(text string) { t.Log(text) }
	r, err := soakUnder(t.Context(), c, disturb)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Soak.Err(); err != nil {
		t.Error(err)
	}
	if r.Disturbed == 0 || r.Decisions != c.Events {
		t.Errorf("too little happened: %+v", r.Soak)
	}
	t.Logf("%+v", *r.Soak)
}
