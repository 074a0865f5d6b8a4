package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"civicbus/codecs"
	"civicbus/internal/tracing"
)

// ErrFenced ends Run: another live relay uses the same instance id, and the two would push each other out for ever.
var ErrFenced = errors.New("another relay runs under this instance id")

// RelayConfig says how the relay runs. A field without a default named is required.
type RelayConfig struct {
	Options  []kgo.Opt // brokers, TLS, SASL: what every client of the process shares
	Group    string    // consumer group; relay
	Instance string    // static member id (KIP-345) and part of the transactional id; unique among live relays
	Door     *Door
	Resolver *Resolver
	Tables   func() Tables   // the tables as they are now; asked once a batch, after the lease
	Inboxes  func() []string // organisations that have an inbox now
	Lease    Lease
	LeaseAge time.Duration // DefaultLeaseAge; the cluster's
	Letters  *codecs.Record[codecs.DeadLetter]

	MaxRecords   int           // most records in a transaction; 500
	UnknownAfter time.Duration // how long an unknown schema id is waited for; 10 s
	RetryEvery   time.Duration // how often a held partition is tried again; 250 ms
	TopicsEvery  time.Duration // how often Inboxes is asked; 1 s
	Session      time.Duration // session timeout of the group member; 10 s

	Logger  *slog.Logger // nil: slog.Default()
	Metrics *Metrics     // nil: not counted
	Tracer  *tracing.Tracer
}

const (
	txnTimeout    = 5 * time.Second        // a killed relay holds the readers of admitted that long
	flushTimeout  = 4 * time.Second        // the broker's patience, less a margin
	endTimeout    = 90 * time.Second       // above rebalance and request timeout: an End cut short leaves the client unusable
	minBackoff    = 100 * time.Millisecond // after a client was given up, doubled each time
	maxBackoff    = 5 * time.Second
	fencings      = 5 // in fencingWindow: then Run gives up
	fencingWindow = time.Minute
	maxBatchBytes = 8 << 20 // of outputs in one transaction; at least one input's
)

func (c *RelayConfig) defaults() error {
	if c.Instance == "" || c.Door == nil || c.Resolver == nil || c.Tables == nil || c.Inboxes == nil || c.Lease == nil || c.Letters == nil {
		return errors.New("run relay: instance, door, resolver, tables, inboxes, lease and letters are required")
	}
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&c.LeaseAge, DefaultLeaseAge)
	or(&c.UnknownAfter, 10*time.Second)
	or(&c.RetryEvery, 250*time.Millisecond)
	or(&c.TopicsEvery, time.Second)
	or(&c.Session, 10*time.Second)
	if c.Group == "" {
		c.Group = "relay"
	}
	if c.MaxRecords == 0 {
		c.MaxRecords = 500
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// Relay moves events from the inboxes to admitted: each poll is one transaction of outputs and offsets, so that every
// inbox record is admitted, dead-lettered or still to come, exactly once. Order holds within an inbox partition. A partition
// whose next record must wait (registry out of reach, schema not known yet) waits alone.
type Relay struct {
	cfg   RelayConfig
	limit int // records a transaction may take now: halved when one outlived the lease

	unknown map[int32]time.Time // schema ids that the registry does not know, and since when
}

// place is a partition of an inbox.
type place struct {
	topic     string
	partition int32
}

// NewRelay checks the configuration; Run starts it.
func NewRelay(cfg RelayConfig) (*Relay, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	return &Relay{cfg: cfg, limit: cfg.MaxRecords, unknown: map[int32]time.Time{}}, nil
}

// Run works until ctx ends, then returns nil. A client that Kafka no longer believes is given up, and a new one starts
// from the committed offsets. The errors are ErrFenced and a configuration that Kafka's client refuses. Call it once.
func (r *Relay) Run(ctx context.Context) error {
	backoff := minBackoff
	var fenced []time.Time
	for ctx.Err() == nil {
		progress, err := r.live(ctx)
		if ctx.Err() != nil || err == nil {
			continue
		}
		var refused *refusedOptions
		if errors.As(err, &refused) {
			return err
		}
		if progress {
			backoff = minBackoff
		}
		if isFenced(err) {
			now := time.Now()
			fenced = append(slices.DeleteFunc(fenced, func(t time.Time) bool { return now.Sub(t) > fencingWindow }), now)
			r.cfg.Metrics.dropped("fenced")
			if len(fenced) >= fencings {
				return fmt.Errorf("run relay %s: %w: %w", r.cfg.Instance, ErrFenced, err)
			}
		}
		r.cfg.Logger.Warn("relay starts anew from its committed offsets", "instance", r.cfg.Instance, "after", backoff, "error", err)
		pause(ctx, backoff)
		backoff = min(2*backoff, maxBackoff)
	}
	return nil
}

// Leave gives up the group membership for good (scale-in), after Run has returned: a static member that merely stops keeps
// its partitions until its session times out, which is what a rolling restart wants.
func (r *Relay) Leave(ctx context.Context) error {
	cl, err := kgo.NewClient(r.cfg.Options...)
	if err != nil {
		return fmt.Errorf("leave group %s: %w", r.cfg.Group, err)
	}
	defer cl.Close()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = r.cfg.Group
	member := kmsg.NewLeaveGroupRequestMember()
	member.InstanceID = &r.cfg.Instance
	req.Members = append(req.Members, member)
	if _, err := req.RequestWith(ctx, cl); err != nil {
		return fmt.Errorf("leave group %s: %w", r.cfg.Group, err)
	}
	return nil
}

// topics lists the inboxes now, in order.
func (r *Relay) topics() []string {
	organisations := r.cfg.Inboxes()
	topics := make([]string, 0, len(organisations))
	for _, o := range organisations {
		if organisationID(o) {
			topics = append(topics, InboxPrefix+o)
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

func (r *Relay) client(topics []string) (*kgo.GroupTransactSession, error) {
	s, err := kgo.NewGroupTransactSession(append(append(r.cfg.Tracer.Producing(), r.cfg.Options...),
		kgo.ConsumerGroup(r.cfg.Group), kgo.InstanceID(r.cfg.Instance), kgo.ConsumeTopics(topics...),
		kgo.TransactionalID("relay-"+r.cfg.Instance), kgo.TransactionTimeout(txnTimeout),
		kgo.SessionTimeout(r.cfg.Session), kgo.HeartbeatInterval(r.cfg.Session/10), kgo.RebalanceTimeout(60*time.Second),
		kgo.DisableAutoCommit(), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(500*time.Millisecond),
		// A new inbox is read from its start; an offset that is gone stops its partition instead of skipping records.
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.MetadataMinAge(250*time.Millisecond),
	)...)
	if err != nil {
		return nil, &refusedOptions{err}
	}
	return s, nil
}

// refusedOptions is a configuration that will not get better by trying again.
type refusedOptions struct{ err error }

func (e *refusedOptions) Error() string { return "make relay client: " + e.err.Error() }
func (e *refusedOptions) Unwrap() error { return e.err }

func isFenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.FencedInstanceID)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
