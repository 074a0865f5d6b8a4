// Package admin is what operators do to a running civicbus from outside: commands and when they are in effect, what stands
// in the tables, events in, deliveries out, dead letters, lag, topics and schemas. The command line is a thin layer on it.
//
// Its rules:
//   - It changes reference data only by commands on the command streams, as everyone does, and says "in effect" only by
//     what it read itself (command.go).
//   - Everything is read with read_committed, to the last stable offset that stood when it was asked for.
//   - What every process of a cluster must agree on (the lease's age, the bus key) is taken from the cluster or checked
//     against it, never assumed.
//   - A national id comes in through a reader, becomes a pseudonym at once, and never goes out: not in an error, a result,
//     a line of output. Pseudonyms are not shown either.
//
// A Client is safe for concurrent use.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	// ErrNotApplied says that the cluster has no settings yet.
	ErrNotApplied = errors.New("the cluster has not been set up: run civicbus topics apply")
	// ErrNoBusKey says that a subject cannot become a pseudonym, because no bus key is configured.
	ErrNoBusKey = errors.New("no bus key is configured (keys.bus_key_file)")
	// ErrOtherBusKey says that the configured bus key is not the cluster's: every subject would be a stranger.
	ErrOtherBusKey = errors.New("the bus key (keys.bus_key_file) is not the one that the cluster was set up with")
	// ErrNoTopic says that a topic is not there.
	ErrNoTopic = errors.New("no such topic")
)

// Config says what a client connects to. Connection and Registry are required.
type Config struct {
	Connection kafka.Connection
	Registry   codecs.RegistryConfig
	BusKey     []byte       // nil: what needs a pseudonym is refused with ErrNoBusKey
	Logger     *slog.Logger // of tables that are held (publish); nil: silent
}

// Client is a connection to one civicbus.
type Client struct {
	cfg      Config
	kafka    *kgo.Client
	admin    *kadm.Client
	registry *codecs.Registry
	records  *codecs.Records
	keys     *pseudonym.Keys // nil: none configured

	log *kafka.Log

	mu     sync.Mutex
	bound  bool
	agreed *codecs.Settings // nil: not asked yet
}

// reachWithin bounds how long Dial waits for a first broker: an operator who mistyped an address is not kept waiting.
const reachWithin = 10 * time.Second

// metadataAge is how long franz-go's answers about topics may be old: an operator looks at what was just created.
const metadataAge = 100 * time.Millisecond

// Dial connects to the cluster. The registry is asked only by what needs it, so that lag and topics work while it is down.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, records: codecs.NewRecords()}
	var err error
	if len(cfg.BusKey) > 0 {
		if c.keys, err = pseudonym.NewKeys(cfg.BusKey); err != nil {
			return nil, err
		}
	}
	if c.registry, err = codecs.NewRegistry(cfg.Registry); err != nil {
		return nil, err
	}
	if c.kafka, err = cfg.Connection.Client(kgo.MetadataMinAge(metadataAge)); err != nil {
		return nil, err
	}
	c.admin, c.log = kadm.NewClient(c.kafka), kafka.NewLog(c.kafka)
	reach, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	if err := c.kafka.Ping(reach); err != nil {
		c.kafka.Close()
		return nil, fmt.Errorf("reach kafka at %s: %w", strings.Join(cfg.Connection.Brokers, ","), err)
	}
	return c, nil
}

// Close ends the connection.
func (c *Client) Close() { c.kafka.Close() }

// Registry is the schema registry's client, for what is read or registered beside this package.
func (c *Client) Registry() *codecs.Registry { return c.registry }

// Embedded says whether the cluster is the one that `civicbus up` runs in its own process.
func (c *Client) Embedded(ctx context.Context) (bool, error) {
	meta, err := c.admin.BrokerMetadata(ctx)
	if err != nil {
		return false, fmt.Errorf("ask the cluster for its name: %w", err)
	}
	return meta.Cluster == "civicbus-embedded", nil
}

// bind registers civicbus's own records, once.
func (c *Client) bind(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bound {
		return nil
	}
	if err := c.records.Bind(ctx, c.registry); err != nil {
		return fmt.Errorf("register civicbus's own schemas: %w", err)
	}
	c.bound = true
	return nil
}

// Records gives civicbus's own records, bound to the registry.
func (c *Client) Records(ctx context.Context) (*codecs.Records, error) {
	if err := c.bind(ctx); err != nil {
		return nil, err
	}
	return c.records, nil
}

// Settings are what the cluster was set up with, or ErrNotApplied; ErrOtherBusKey when the configured key is another one.
func (c *Client) Settings(ctx context.Context) (*codecs.Settings, error) {
	c.mu.Lock()
	agreed := c.agreed
	c.mu.Unlock()
	if agreed != nil {
		return agreed, nil
	}
	if err := c.bind(ctx); err != nil {
		return nil, err
	}
	value, err := c.lastOf(ctx, topology.Settings.Name, "cluster")
	switch {
	case errors.Is(err, ErrNoTopic), err == nil && value == nil:
		return nil, ErrNotApplied
	case err != nil:
		return nil, fmt.Errorf("read the cluster's settings: %w", err)
	}
	s, err := c.records.Settings.DecodeLoading(ctx, value)
	if err != nil {
		return nil, fmt.Errorf("read the cluster's settings: %w", err)
	}
	if c.keys != nil && c.keys.LifeEvent("civicbus", "settings") != s.BusKeyCheck {
		return nil, ErrOtherBusKey
	}
	c.mu.Lock()
	c.agreed = &s
	c.mu.Unlock()
	return &s, nil
}

// pseudonyms gives the bus key's, known to be the cluster's.
func (c *Client) pseudonyms(ctx context.Context) (*pseudonym.Keys, error) {
	if c.keys == nil {
		return nil, ErrNoBusKey
	}
	_, err := c.Settings(ctx)
	return c.keys, err
}
