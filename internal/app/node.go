// Package app puts civicbus together: it connects a process to its cluster, runs the groups and edges that it was told to,
// and stops them in order.
//
// A Node is one process's worth of civicbus; several of them, in one process or in many, share the work by Kafka's consumer
// groups. Nothing in it is global, so tests run several side by side.
package app

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/access"
	"civicbus/internal/admin"
	"civicbus/internal/admission"
	"civicbus/internal/audit"
	"civicbus/internal/delivery"
	"civicbus/internal/gateway"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/internal/replay"
	"civicbus/internal/tables"
	"civicbus/internal/tracing"
	"civicbus/internal/verdict"
	"civicbus/topology"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
)

// Config says what a node connects to and how it works. A field without a default named is required.
type Config struct {
	Connection kafka.Connection
	Registry   codecs.RegistryConfig
	BusKey     []byte // at least 32 bytes
	AuditKey   []byte // at least 32 bytes, for parts audit and heads; nil: derived from the bus key if tables are not compacted, which is on an embedded cluster alone
	Shape      topology.Shape
	Replicas   int16             // of topics that the node creates for subscribers and sources; 1
	LeaseAge   time.Duration     // 500 ms
	Interval   time.Duration     // 20 ms
	TxnTimeout time.Duration     // 5 s
	Session    time.Duration     // 10 s
	Instance   string            // unique among live nodes; the same after a restart
	Parts      []string          // groups and edges to run; empty: all
	Heads      time.Duration     // between two signed heads of a chain of the audit log; 1 minute
	HeadsFile  string            // signed heads are appended to it too; empty: to the topic alone
	Access     Access            // for part access
	Webhooks   delivery.Settings // for group delivery
	Gateway    gateway.Settings  // for part gateway, which is run when it is named, or when all parts are and somebody could be let in
	Now        func() time.Time
	Logger     *slog.Logger
	Metrics    *prometheus.Registry // nil: one of its own
	Tracer     *tracing.Tracer      // nil: nothing is traced

	// HoldTable is a fault for tests: table partitions for which it is true are not read by groups.
	HoldTable func(group, topic string, partition int32) bool
}

// Access says how part access works: it is run when it is named, or when all parts are and Manage is set.
type Access struct {
	Manage bool
	Limits access.Limits
}

// Edges that a node can run beside the groups of the map.
const (
	PartRelay    = "relay"
	PartKeepers  = "keepers" // creates subscribers' and sources' topics, activates subscriptions
	PartHeads    = "heads"   // signs how far the audit log's chains have come
	PartGateway  = "gateway" // civicbus over HTTP
	PartAccess   = "access"  // organisations' rights on Kafka
	settleTime   = 10 * time.Second
	connectLimit = 30 * time.Second
)

// Parts lists everything that a node can run.
func Parts() []string {
	var all []string
	for _, g := range topology.Groups {
		all = append(all, g.Name)
	}
	return append(all, PartRelay, PartKeepers, PartHeads, PartGateway, PartAccess)
}

// DeriveAuditKey makes an audit key out of a bus key, for an embedded cluster alone: whoever has its bus key has its broker's
// files too, so a key of its own would protect nothing more. HKDF-SHA256 (RFC 5869).
func DeriveAuditKey(busKey []byte) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, busKey, nil, "civicbus embedded audit key", 32)
	if err != nil {
		return nil, fmt.Errorf("derive the audit key: %w", err)
	}
	return key, nil
}

// Node is one running process of civicbus.
type Node struct {
	cfg         Config
	log         *slog.Logger
	conn        kafka.Connection
	registry    *codecs.Registry
	records     *codecs.Records
	consents    *verdict.PackedConsents // as the router's joined table keeps them
	keys        *pseudonym.Keys
	admin       *kadm.Client
	schemas     *schemas
	projections *projections
	outlets     *outlets
	metrics     *metrics
	groups      []*group
	world       *tables.World    // of what decides beside the router; nil when nothing does
	edges       *edges           // nil when none is run
	notary      *audit.Notary    // nil when it is not run
	gateway     *gateway.Gateway // nil when it is not run
	webhooks    *webhooks        // nil when group delivery is not run
	replays     *replay.Runner   // nil when group replay is not run
	commands    *admin.Client    // the gateway's; nil without it
	ctx         context.Context
	cancel      context.CancelFunc
}

// Connect makes a node: it binds civicbus's records in the registry and checks that the cluster's topics and settings are
// what this process expects. It starts nothing.
func Connect(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	if cfg.Instance == "" {
		return nil, errors.New("run a node: its instance id is required (engine.instance_id)")
	}
	n := &Node{cfg: cfg, log: cfg.Logger, conn: cfg.Connection, records: codecs.NewRecords(), metrics: newMetrics(cfg.Metrics, cfg.LeaseAge)}
	n.consents = verdict.NewPackedConsents(n.records.Consents)
	var err error
	if n.runs(PartHeads, topology.Audit.Name) {
		keys, err := audit.NewKeys(cfg.AuditKey)
		if err != nil {
			return nil, fmt.Errorf("run %s and %s: %w (keys.audit_key_file)", topology.Audit.Name, PartHeads, err)
		}
		if n.runs(PartHeads) {
			n.notary = audit.NewNotary(audit.NotaryConfig{Connection: cfg.Connection, Records: n.records, Keys: keys, Interval: cfg.Heads, File: cfg.HeadsFile,
				Now: cfg.Now, Logger: n.log})
		}
	}
	if n.keys, err = pseudonym.NewKeys(cfg.BusKey); err != nil {
		return nil, err
	}
	if n.registry, err = codecs.NewRegistry(cfg.Registry); err != nil {
		return nil, err
	}
	bound, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	if err := n.records.Bind(bound, n.registry); err != nil {
		return nil, fmt.Errorf("register civicbus's own schemas: %w", err)
	}
	cl, err := n.conn.Client()
	if err != nil {
		return nil, err
	}
	n.admin = kadm.NewClient(cl)
	if err := n.check(bound); err != nil {
		n.admin.Close()
		return nil, err
	}
	n.ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	n.schemas = newSchemas(n.ctx, n.registry, n.log)
	n.projections = newProjections(n.ctx, n.registry, n.log)
	n.outlets = newOutlets(n.admin, n.log)
	if n.runs(topology.Delivery.Name, topology.Replay.Name, PartGateway) {
		if n.world, err = tables.NewWorld(n.conn, n.registry, n.records, cfg.LeaseAge, n.log); err != nil {
			n.Close()
			return nil, err
		}
	}
	if n.runs(topology.Delivery.Name) {
		n.webhooks = newWebhooks(n)
	}
	for _, name := range cfg.Parts {
		if g, ok := topology.GroupByName(name); ok {
			n.groups = append(n.groups, newGroup(n, g))
		}
	}
	if n.runs(PartRelay, PartKeepers, PartAccess) {
		if n.edges, err = newEdges(n); err != nil {
			n.Close()
			return nil, err
		}
	}
	if n.runs(topology.Replay.Name) {
		if n.replays, err = newReplays(n); err != nil {
			n.Close()
			return nil, err
		}
	}
	if n.runs(PartGateway) {
		if n.gateway, n.commands, err = newGateway(bound, n); err != nil {
			n.Close()
			return nil, err
		}
	}
	return n, nil
}

func (c *Config) defaults() error {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&c.LeaseAge, 500*time.Millisecond)
	or(&c.Interval, 20*time.Millisecond)
	or(&c.TxnTimeout, 5*time.Second)
	or(&c.Session, 10*time.Second)
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if len(c.Parts) == 0 {
		c.Parts = Parts()
		if !c.Gateway.Configured() {
			c.Parts = slices.DeleteFunc(c.Parts, func(p string) bool { return p == PartGateway })
		}
		if !c.Access.Manage {
			c.Parts = slices.DeleteFunc(c.Parts, func(p string) bool { return p == PartAccess })
		}
	}
	for _, p := range c.Parts {
		if !slices.Contains(Parts(), p) {
			return fmt.Errorf("run %q: there is no such group or edge, want some of %v", p, Parts())
		}
	}
	if c.AuditKey == nil && !c.Shape.Compact {
		var err error
		if c.AuditKey, err = DeriveAuditKey(c.BusKey); err != nil {
			return err
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Webhooks.Origin == "" {
		c.Webhooks.Origin = "civicbus"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Metrics == nil {
		c.Metrics = ownRegistry()
	}
	return nil
}

// runs says whether one of the parts is this node's.
func (n *Node) runs(parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(n.cfg.Parts, p) })
}

// Run works until the context ends, then stops in order: groups commit what they have in hand, and leave nothing open. A part that
// cannot go on ends the whole node with its error: whoever started it can start it again, and would not notice a part that is
// missing.
func (n *Node) Run(ctx context.Context) error {
	defer n.Close()
	ctx, end := context.WithCancel(ctx)
	defer end()
	defer collectSeldom()()
	var wg, reading sync.WaitGroup
	if n.world != nil {
		read, unread := context.WithCancel(context.WithoutCancel(ctx)) // what is under way when the node stops still needs the tables
		defer reading.Wait()
		defer unread()
		reading.Go(func() { n.world.Run(read) })
	}
	errs := make(chan error, len(n.groups)+6)
	run := func(f func(context.Context) error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := f(ctx); err != nil {
				errs <- err
				end()
			}
		}()
	}
	run(func(ctx context.Context) error { n.outlets.run(ctx); return nil })
	for _, g := range n.groups {
		run(g.run)
	}
	if n.edges != nil {
		run(n.edges.run)
	}
	if n.notary != nil {
		run(n.notary.Run)
	}
	if n.gateway != nil {
		run(n.gateway.Run)
	}
	if n.webhooks != nil {
		run(n.webhooks.run)
	}
	if n.replays != nil {
		run(n.replays.Run)
	}
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Close ends what Connect began. Run does it by itself.
func (n *Node) Close() {
	if n.cancel != nil {
		n.cancel()
	}
	if n.commands != nil {
		n.commands.Close()
	}
	n.admin.Close()
}

// Leave gives up every group membership for good, after Run has returned: for scale-in.
func (n *Node) Leave(ctx context.Context) error {
	var errs []error
	for _, g := range n.groups {
		errs = append(errs, g.leave(ctx))
	}
	return errors.Join(errs...)
}

// Status reports what each group is doing.
func (n *Node) Status() []kafka.Status {
	var all []kafka.Status
	for _, g := range n.groups {
		all = append(all, g.status())
	}
	return all
}

// Ready is nil when every group has recovered its partitions and holds its lease, else it says what is missing.
func (n *Node) Ready() error {
	var errs []error
	for _, s := range n.Status() {
		if !s.Ready() {
			errs = append(errs, fmt.Errorf("group %s: %s, %d partitions, lease held: %t, stopped: %d", s.Group, s.State, len(s.Partitions), s.Leased, s.Stopped))
		}
	}
	if n.edges != nil {
		if _, ok := n.edges.tables.Fresh(); !ok {
			errs = append(errs, errors.New("edges: the tables are not confirmed current"))
		}
	}
	if n.world != nil {
		if _, ok := n.world.Fresh(); !ok {
			errs = append(errs, errors.New("gateway, webhooks and replays: the tables are not confirmed current"))
		}
	}
	if n.webhooks != nil {
		errs = append(errs, n.webhooks.ready())
	}
	return errors.Join(errs...)
}

// Loaded counts the table records that the groups have read: what starts and rebalances cost.
func (n *Node) Loaded() (total int64) {
	for _, g := range n.groups {
		total += g.loaded()
	}
	return total
}

// Metrics is where the node's metrics are registered.
func (n *Node) Metrics() *prometheus.Registry { return n.cfg.Metrics }

// door is admission's, for the relay and for publishers in this process.
func (n *Node) door(belongs func(string, int32) bool) *admission.Door {
	return &admission.Door{Keys: n.keys, Belongs: belongs, RegistryURL: n.cfg.Registry.URL}
}
