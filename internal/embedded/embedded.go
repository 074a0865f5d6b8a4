// Package embedded is a Kafka and a Schema Registry inside this process, on real ports, so that civicbus runs with
// nothing else installed and any Kafka client can connect.
//
// Its rules:
//   - The broker is franz-go's kfake, one node; the registry is franz-go's srfake behind the checks that a real registry
//     makes before it accepts a schema (compatibility, validity), which srfake leaves out.
//   - With a data directory everything acknowledged is there again after a restart, also after a kill: topics, records,
//     transactions, committed offsets, schema ids and versions. The broker writes through the operating system's page
//     cache, as Kafka does by default; the registry syncs each change to disk before it answers.
//   - One process a data directory: a second one is refused.
//   - There is no replication. Without a superuser there is no authentication either, and it listens on the loopback address
//     unless told otherwise; with one every client authenticates, and has the rights that it was given (secure.go).
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/twmb/franz-go/pkg/kfake"
)

// ErrInUse says that another process works on the data directory.
var ErrInUse = errors.New("data directory is in use by another process")

// Config says where the embedded cluster keeps its data and where it listens. The zero value is a cluster in memory
// on free ports of 127.0.0.1.
type Config struct {
	// DataDir is the directory of everything that must outlive the process; it is created when absent.
	// Empty keeps everything in memory.
	DataDir string
	// Host is the address that both listen on and that the broker tells its clients to connect to. Empty is 127.0.0.1.
	// It is one address of this machine: a wildcard is refused, because clients cannot connect to one.
	Host string
	// KafkaPort is the broker's TCP port; 0 takes a free one.
	KafkaPort int
	// RegistryPort is the registry's TCP port; 0 takes a free one.
	RegistryPort int
	// Superuser makes it a secured cluster: who may do everything on it. nil: everybody may.
	Superuser *User
	// Logger receives what the broker and the registry report; nil discards it.
	Logger *slog.Logger
}

// Cluster is a running broker and registry. Its methods are safe for concurrent use.
type Cluster struct {
	kafka    *kfake.Cluster
	registry *Registry
	unlock   func() error
}

// Start starts the broker and the registry and returns once both answer. ctx bounds the start alone: the cluster runs
// until Close. It returns ErrInUse when another process holds DataDir.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	if a, err := netip.ParseAddr(cfg.Host); err == nil && a.IsUnspecified() {
		return nil, fmt.Errorf("listen on %s: clients cannot connect to a wildcard address; name one address of this machine", cfg.Host)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Cluster{unlock: func() error { return nil }}
	if err := c.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, cfg Config) (err error) {
	var kafkaDir, journalPath string
	if cfg.DataDir != "" {
		kafkaDir = filepath.Join(cfg.DataDir, "kafka")
		journalPath = filepath.Join(cfg.DataDir, "registry", "journal.jsonl")
		for _, dir := range []string{kafkaDir, filepath.Dir(journalPath)} {
			if err := os.MkdirAll(dir, 0o750); err != nil {
				return fmt.Errorf("create data directory: %w", err)
			}
		}
		if c.unlock, err = lock(filepath.Join(cfg.DataDir, "lock")); err != nil {
			c.unlock = func() error { return nil }
			return fmt.Errorf("lock data directory %s: %w", cfg.DataDir, err)
		}
	}
	if c.kafka, err = startKafka(ctx, cfg, kafkaDir); err != nil {
		return err
	}
	c.registry, err = startRegistry(ctx, net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.RegistryPort)), journalPath, cfg.Superuser, cfg.Logger)
	return err
}

// Brokers returns the bootstrap addresses, host:port each.
func (c *Cluster) Brokers() []string { return c.kafka.ListenAddrs() }

// RegistryURL returns the registry's base URL, without a slash at its end.
func (c *Cluster) RegistryURL() string { return c.registry.URL() }

// Kafka returns the broker, for the injection of faults.
func (c *Cluster) Kafka() *kfake.Cluster { return c.kafka }

// Registry returns the registry, for the injection of faults.
func (c *Cluster) Registry() *Registry { return c.registry }

// Close stops both, writes out what the broker still holds in memory, and releases the data directory. A second call
// does nothing.
func (c *Cluster) Close() error {
	var err error
	if c.registry != nil {
		err = c.registry.close()
	}
	if c.kafka != nil {
		c.kafka.Close()
	}
	return errors.Join(err, c.unlock())
}
