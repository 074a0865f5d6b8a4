package app

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/embedded"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/topology"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func key32(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// keyed is a node that has its configuration and its keys, and nothing else.
func keyed(t *testing.T, cfg Config) *Node {
	t.Helper()
	keys, err := pseudonym.NewKeys(cfg.BusKey)
	if err != nil {
		t.Fatal(err)
	}
	return &Node{cfg: cfg, keys: keys}
}

func TestDefaults(t *testing.T) {
	c := Config{BusKey: key32(7)}
	if err := c.defaults(); err != nil {
		t.Fatal(err)
	}
	if c.LeaseAge != 500*time.Millisecond || c.Interval != 20*time.Millisecond || c.TxnTimeout != 5*time.Second || c.Session != 10*time.Second || c.Replicas != 1 ||
		len(c.Parts) != len(Parts())-2 || slices.Contains(c.Parts, PartGateway) || slices.Contains(c.Parts, PartAccess) || c.Now == nil || c.Logger == nil || c.Metrics == nil {
		t.Errorf("defaults %+v", c)
	}
	c = Config{BusKey: key32(7), Access: Access{Manage: true}}
	if err := c.defaults(); err != nil || !slices.Contains(c.Parts, PartAccess) {
		t.Errorf("access is to be managed: parts %v, %v", c.Parts, err)
	}
	reg, moment := prometheus.NewRegistry(), time.Unix(1, 0)
	c = Config{BusKey: key32(7), LeaseAge: 1, Interval: 2, TxnTimeout: 3, Session: 4, Replicas: 5, Parts: []string{"router", PartRelay}, Logger: silent, Metrics: reg,
		Now: func() time.Time { return moment }}
	if err := c.defaults(); err != nil {
		t.Fatal(err)
	}
	if c.LeaseAge != 1 || c.Interval != 2 || c.TxnTimeout != 3 || c.Session != 4 || c.Replicas != 5 || len(c.Parts) != 2 || c.Logger != silent || c.Metrics != reg || c.Now() != moment {
		t.Errorf("what was given became %+v", c)
	}
	c = Config{BusKey: key32(7), Parts: []string{"router", "gatehouse"}}
	if err := c.defaults(); err == nil || !strings.Contains(err.Error(), `"gatehouse"`) || !strings.Contains(err.Error(), "router") {
		t.Errorf("an unknown part: %v", err)
	}
}

func TestSettingsAgree(t *testing.T) {
	ours := Config{BusKey: key32(7), LeaseAge: 500 * time.Millisecond, Shape: topology.Shape{Partitions: 8}}
	n := keyed(t, ours)
	for _, test := range []struct {
		name   string
		change func(*codecs.Settings)
		says   []string
	}{
		{"the same", func(*codecs.Settings) {}, nil},
		{"written at another time", func(s *codecs.Settings) { s.At = 99 }, nil},
		{"another lease", func(s *codecs.Settings) { s.LeaseAgeMillis = 2000 }, []string{"lease.age is 500ms here and 2s in the cluster"}},
		{"other partitions", func(s *codecs.Settings) { s.Partitions = 64 }, []string{"kafka.partitions is 8 here and 64 in the cluster"}},
		{"another key", func(s *codecs.Settings) { s.BusKeyCheck = "x" }, []string{"keys.bus_key_file"}},
		{"all of it", func(s *codecs.Settings) { *s = codecs.Settings{} }, []string{"lease.age", "kafka.partitions", "keys.bus_key_file"}},
	} {
		have := n.want()
		test.change(&have)
		err := n.agree(&have)
		if (err == nil) != (len(test.says) == 0) {
			t.Errorf("%s: %v", test.name, err)
		}
		for _, text := range test.says {
			if err != nil && !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v, want %q in it", test.name, err, text)
			}
		}
	}
	other := keyed(t, Config{BusKey: key32(8)})
	if check := n.want().BusKeyCheck; check == other.want().BusKeyCheck || check == "" || strings.Contains(check, string(ours.BusKey)) {
		t.Errorf("the check of a bus key is %q", check)
	}
}

// A cluster is set up once; whoever comes with other settings is refused, and so is who comes before.
func TestAClusterIsSetUpOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := embedded.Start(ctx, embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	cfg := func() Config {
		return Config{Connection: kafka.Connection{Brokers: c.Brokers()}, Registry: codecs.RegistryConfig{URL: c.RegistryURL()}, BusKey: key32(7),
			Shape: topology.Shape{Partitions: 2}, Instance: "a", Logger: silent}
	}
	if _, err := Connect(ctx, cfg()); !errors.Is(err, ErrNotApplied) {
		t.Fatalf("before it is set up: %v", err)
	}
	diffs, err := Apply(ctx, cfg())
	if err != nil || len(diffs) != len(topology.Topics(topology.Shape{Partitions: 2})) {
		t.Fatalf("set up: %d differences, %v", len(diffs), err)
	}
	if diffs, err := Apply(ctx, cfg()); err != nil || len(diffs) != 0 {
		t.Errorf("set up again: %v, %v", diffs, err)
	}
	for name, change := range map[string]func(*Config){
		"lease.age":          func(c *Config) { c.LeaseAge = time.Second },
		"keys.bus_key_file":  func(c *Config) { c.BusKey = key32(9) },
		"engine.instance_id": func(c *Config) { c.Instance = "" },
	} {
		other := cfg()
		change(&other)
		if _, err := Connect(ctx, other); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: connected with %v", name, err)
		}
		if name == "engine.instance_id" {
			continue
		}
		if _, err := Apply(ctx, other); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: applied with %v", name, err)
		}
	}
	n, err := Connect(ctx, cfg())
	if err != nil {
		t.Fatal(err)
	}
	n.Close()
}

// A process that starts while brokers elect leaders waits for them instead of ending.
func TestConnectWaitsForLeaders(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := embedded.Start(ctx, embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	cfg := Config{Connection: kafka.Connection{Brokers: c.Brokers()}, Registry: codecs.RegistryConfig{URL: c.RegistryURL()}, BusKey: key32(7),
		Shape: topology.Shape{Partitions: 2}, Instance: "a", Logger: silent}
	if _, err := Apply(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	faults := c.Kafka().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: topology.Settings.Name, Err: kerr.LeaderNotAvailable, Count: -1})
	elected := time.AfterFunc(2*time.Second, faults.Remove)
	defer elected.Stop()
	n, err := Connect(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Close()
	if faults.Hits() < 1 {
		t.Error("nobody asked for the leaders that were missing")
	}
}
