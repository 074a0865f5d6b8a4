package kafka

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// GroupConfig says how one goka group runs. The zero value of a field takes the default named there.
type GroupConfig struct {
	Connection Connection
	Graph      *goka.GroupGraph
	Instance   string        // static member id (KIP-345) and part of the transactional id; unique among the group's live instances; required
	LeaseAge   time.Duration // 500 ms; the cluster's, see package app
	Interval   time.Duration // longest time in which records are added to a transaction; 20 ms
	MaxRecords int           // most records in a transaction; 1,000
	TxnTimeout time.Duration // transaction.timeout.ms; 5 s: a killed writer holds its readers that long
	Session    time.Duration // session timeout of the group member; 10 s

	// Due names keys of a held partition whose timers are due, at most so many; it is asked every Tick, and again while it
	// names as many as it may. Each is handed to the callback of the graph's Timer. It must not block. nil: no timers.
	Due  func(partition int32, most int) []string
	Tick time.Duration // 1 s

	// Runs says that goka is handed a run of records as one message: see Run. Only for a group without a table of its own.
	Runs bool
	// Ready says whether a record may be handed on now: its schemas are known here, and so on. It is asked again until it
	// is true, and its partition waits meanwhile; it must not block. nil: always.
	Ready func(*kgo.Record) bool
	// Changed is told of each committed row as it is read from any table of the group, before the lease counts it as applied,
	// and of the group's own rows when their transaction committed; row is nil when it is gone. While it blocks, the table
	// falls behind and the lease holds. nil: nobody.
	Changed func(table, key string, row []byte)
	// Pack says, by table topic, what is kept of the rows of a table that the group joins or looks up; Changed is told the
	// whole row. The group's own table is kept whole. nil: all are.
	Pack map[string]Pack
	// Committed is told of what a transaction that has just committed handled of an input partition: records in their order, which
	// are the engine's, and when the transaction began. It must not block. nil: nobody.
	Committed func(records []*kgo.Record, began time.Time)
	// Trail says by what a group without a table of its own knows that it has handled records of a partition before: records in the
	// partition of that number of a topic that it writes. The zero value: by nothing.
	Trail struct {
		Topic string
		Own   func(*kgo.Record) bool // whether the group has written it
	}
	// Failed is told of an output that could not be written, before its transaction is tried again. nil: nobody.
	Failed func(topic string, size int, err error)
	// HoldTable is a fault for tests: table partitions for which it is true are not read. nil: none.
	HoldTable func(topic string, partition int32) bool

	Logger  *slog.Logger // nil: slog.Default()
	Metrics *Metrics     // nil: not counted
}

func (c *GroupConfig) defaults() error {
	if c.Graph == nil || c.Instance == "" {
		return errors.New("run a group: its graph and its instance id are required")
	}
	if c.Runs && c.Graph.GroupTable() != nil {
		return fmt.Errorf("run group %s: runs of records are for groups without a table", c.Graph.Group())
	}
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&c.LeaseAge, 500*time.Millisecond)
	or(&c.Interval, 20*time.Millisecond)
	or(&c.TxnTimeout, 5*time.Second)
	or(&c.Session, 10*time.Second)
	or(&c.Tick, time.Second)
	if c.MaxRecords == 0 {
		c.MaxRecords = 1000
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("group", string(c.Graph.Group()))
	return nil
}

// Engine is the Kafka side of one instance of one goka group. Make one, give Options to goka.NewProcessor, and Close it
// after the processor has ended. An engine serves one run of one processor.
type Engine struct {
	cfg     GroupConfig
	group   string
	table   string // the group's own table topic; empty: none
	inputs  []string
	log     *slog.Logger
	reader  *reader
	tables  *tables
	lease   lease
	consume *kgo.Client
	errs    chan error

	batch atomic.Pointer[batch] // the open transaction

	mu         sync.Mutex
	assignment *assignment // nil while there is none
	session    *session    // the running one
	prod       *producer
	fencings   []time.Time
	draining   bool
	closed     bool
	fatal      error         // why the processor must end
	wake       chan struct{} // closed and replaced when assignment, draining or closed change
	status     Status
}

// assignment is what the group's coordinator gave this member in one generation.
type assignment struct {
	client *kgo.Client // the member; it may be given partitions before join knows it
	claims map[string][]int32
	queues map[tp]*queue
	member member        // who we are in this generation; later the client may know another one
	placed bool          // committed offsets are known
	over   chan struct{} // closed when it was revoked or lost
}

// NewEngine makes an engine. It connects when the processor runs.
func NewEngine(cfg GroupConfig) (*Engine, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	g := cfg.Graph
	e := &Engine{cfg: cfg, group: string(g.Group()), log: cfg.Logger, wake: make(chan struct{}), errs: make(chan error, 16)}
	if t := g.GroupTable(); t != nil {
		e.table = t.Topic()
	}
	for _, in := range g.InputStreams() {
		e.inputs = append(e.inputs, in.Topic())
	}
	if l := g.LoopStream(); l != nil {
		e.inputs = append(e.inputs, l.Topic())
	}
	var err error
	if e.reader, err = newReader(cfg.Connection, cfg.LeaseAge, e.log, cfg.HoldTable, e.fail); err != nil {
		return nil, err
	}
	e.tables = newTables(e.table, cfg.Changed, e.fail)
	e.tables.packs, e.tables.reader = cfg.Pack, e.reader
	if m := cfg.Metrics; m != nil {
		e.tables.seen = func(topic string, written time.Time) {
			m.read.WithLabelValues(e.group, topic).Observe(max(0, time.Since(written).Seconds()))
		}
	}
	e.lease = lease{age: cfg.LeaseAge, reader: e.reader, tables: e.tables}
	for _, l := range g.LookupTables() {
		e.lease.views = append(e.lease.views, l.Topic())
	}
	for _, j := range g.JointTables() {
		e.lease.joins = append(e.lease.joins, j.Topic())
	}
	go e.watchRecovery()
	return e, nil
}

// Options are what goka needs to run on this engine.
func (e *Engine) Options() []goka.ProcessorOption {
	return []goka.ProcessorOption{
		goka.WithConsumerGroupBuilder(func([]string, string, string) (sarama.ConsumerGroup, error) { return e.join() }),
		goka.WithProducerBuilder(func([]string, string, func() hash.Hash32) (goka.Producer, error) { return gokaProducer{e}, nil }),
		goka.WithConsumerSaramaBuilder(func([]string, string) (sarama.Consumer, error) { return e.reader, nil }),
		goka.WithTopicManagerBuilder(topicManagerBuilder(e.reader, e.tables)),
		goka.WithStorageBuilder(e.tables.builder()),
		goka.WithHasher(Hasher),
		goka.WithNilHandling(goka.NilProcess),
		goka.WithLogger(gokaLogger{e.log}),
	}
}

// Row returns the committed row of a key in a looked-up table, as goka's view of it has it; nil when there is none.
func (e *Engine) Row(table, key string) []byte { return e.tables.row(table, key) }

// Rows calls f with every committed row of a looked-up table.
func (e *Engine) Rows(table string, f func(key string, row []byte)) { e.tables.each(table, f) }

// Loaded counts the table records applied since the engine was made: what starts and rebalances re-read.
func (e *Engine) Loaded() int64 { return e.tables.loaded() }

// join becomes a member of the consumer group.
func (e *Engine) join() (sarama.ConsumerGroup, error) {
	cl, err := e.cfg.Connection.Client(
		kgo.ConsumerGroup(e.group), kgo.ConsumeTopics(e.inputs...), kgo.InstanceID(e.cfg.Instance),
		kgo.Balancers(&wholeBalancer{}),
		kgo.SessionTimeout(e.cfg.Session), kgo.HeartbeatInterval(e.cfg.Session/10), kgo.RebalanceTimeout(60*time.Second),
		kgo.DisableAutoCommit(), kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.AdjustFetchOffsetsFn(e.place),
		kgo.OnPartitionsAssigned(e.assigned), kgo.OnPartitionsRevoked(e.revoked), kgo.OnPartitionsLost(e.revoked),
		kgo.FetchMaxWait(500*time.Millisecond), kgo.WithHooks(groupErrors{e}),
	)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.consume = cl
	e.mu.Unlock()
	return e, nil
}

// fail makes the processor end with err, the first one that was given.
func (e *Engine) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fatal == nil {
		e.fatal = err
		e.signal()
	}
}

// signal wakes whoever waits for a change; the caller holds mu.
func (e *Engine) signal() {
	close(e.wake)
	e.wake = make(chan struct{})
}

func (e *Engine) assigned(ctx context.Context, cl *kgo.Client, claims map[string][]int32) {
	e.revoked(ctx, cl, nil)          // a new assignment ends the one before, whether or not we were told that it was taken
	cl.ResumeFetchPartitions(claims) // franz-go remembers a pause beyond the assignment
	e.mu.Lock()
	defer e.mu.Unlock()
	a := &assignment{client: cl, claims: claims, queues: map[tp]*queue{}, over: make(chan struct{})}
	a.member.id, a.member.generation = cl.GroupMetadata()
	a.member.instance = e.cfg.Instance
	for t, ps := range claims {
		for _, p := range ps {
			a.queues[tp{t, p}] = &queue{committed: -1, follows: -1}
		}
	}
	a.placed = len(a.queues) == 0
	e.assignment = a
	e.status.Stopped = 0
	e.log.Info("partitions assigned", "partitions", numbers(claims))
	e.signal()
}

// place learns the committed offsets of a new assignment before its first fetch, and where a group that never committed
// begins: at the start of the log. That is also where it goes on when the committed offset is not kept any more, but nothing behind it was
// lost by that (ReadUpTo). The leader epochs are left out: with one the client would look for truncation and, with no policy to reset to,
// stop where only an unclean election can have truncated.
func (e *Engine) place(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	e.mu.Lock()
	a := e.assignment
	e.mu.Unlock()
	if a == nil {
		return offsets, nil
	}
	if err := e.forgotten(ctx, a.client, offsets); err != nil {
		if errors.Is(err, errForgotten) {
			e.fail(err)
		}
		return nil, err
	}
	claims := map[string][]int32{}
	for t, ps := range offsets {
		for p := range ps {
			claims[t] = append(claims[t], p)
		}
	}
	noted, err := stableOffsets(ctx, a.client, e.group, claims)
	if err != nil {
		return nil, err
	}
	starts := map[string]bool{}
	for t, ps := range offsets {
		for p, o := range ps {
			if at := o.EpochOffset().Offset; at < 0 || noted[tp{t, p}].upTo > at {
				starts[t] = true
			}
		}
	}
	names := make([]string, 0, len(starts))
	for t := range starts {
		names = append(names, t)
	}
	var start kadm.ListedOffsets
	if len(names) > 0 {
		if start, err = kadm.NewClient(a.client).ListStartOffsets(ctx, names...); err != nil {
			return nil, fmt.Errorf("list where the inputs of group %s start: %w", e.group, err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for t, ps := range offsets {
		for p, o := range ps {
			at := o.EpochOffset().Offset
			from, n := at, noted[tp{t, p}]
			if n.at != at {
				n.upTo = at
			}
			if at < 0 || n.upTo > at {
				s, ok := start.Lookup(t, p)
				if !ok || s.Err != nil {
					return nil, fmt.Errorf("list where %s/%d starts: %w", t, p, errors.Join(s.Err, errors.New("no answer")))
				}
				switch {
				case at < 0:
					at, from, n.upTo = s.Offset, s.Offset, s.Offset
				case at < s.Offset && s.Offset <= n.upTo:
					from = s.Offset
				}
			}
			ps[p] = kgo.NewOffset().At(from)
			if q := a.queues[tp{t, p}]; q != nil {
				q.committed, q.follows, q.noted = at, at, n.upTo
			}
		}
	}
	for k, q := range a.queues {
		if q.committed < 0 { // the group is joined anew: nothing else would ever ask for it again
			return nil, fmt.Errorf("fetch the committed offset of %s/%d: no answer", k.topic, k.partition)
		}
	}
	a.placed = true
	e.signal()
	return offsets, nil
}

// revoked ends the session before the partitions go: the open transaction is committed if it can be. It serves for lost
// partitions too: there the commit is refused by the coordinator and the transaction aborted.
func (e *Engine) revoked(_ context.Context, _ *kgo.Client, claims map[string][]int32) {
	e.mu.Lock()
	a, s := e.assignment, e.session
	if a == nil {
		e.mu.Unlock()
		return
	}
	e.assignment = nil
	close(a.over)
	e.signal()
	e.mu.Unlock()
	e.log.Info("partitions revoked", "partitions", numbers(claims))
	if s != nil {
		<-s.done
	}
}

// Drain makes the running session commit what it has in hand and end, and waits for it; then the processor can be stopped
// without an aborted transaction.
func (e *Engine) Drain(ctx context.Context) {
	e.mu.Lock()
	e.draining = true
	s := e.session
	e.signal()
	e.mu.Unlock()
	if s == nil {
		return
	}
	select {
	case <-s.done:
	case <-ctx.Done():
	}
}

// Leave gives up an instance's membership of a group for good (scale-in): a static member that merely stops keeps its
// partitions until its session times out, which is what a rolling restart wants. Call it after the instance has ended.
func Leave(ctx context.Context, c Connection, group, instance string) error {
	cl, err := c.Client()
	if err != nil {
		return err
	}
	defer cl.Close()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = group
	m := kmsg.NewLeaveGroupRequestMember()
	m.InstanceID = &instance
	req.Members = append(req.Members, m)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("leave group %s: %w", group, err)
	}
	for _, m := range resp.Members {
		if err := kerr.ErrorForCode(m.ErrorCode); err != nil && !errors.Is(err, kerr.UnknownMemberID) {
			return fmt.Errorf("leave group %s: %w", group, err)
		}
	}
	return nil
}

// Close ends the engine's clients. Call it after the processor has ended.
func (e *Engine) Close() error {
	e.mu.Lock()
	was := e.closed
	e.closed = true
	cl, prod := e.consume, e.prod
	e.prod = nil
	e.signal()
	e.mu.Unlock()
	if was {
		return nil
	}
	if prod != nil {
		prod.drop()
	}
	if cl != nil {
		closeBounded(cl)
	}
	e.reader.close()
	return nil
}

// closeBounded closes a client, but does not wait for more than five seconds: leaving a group may block on a dead network.
func closeBounded(cl *kgo.Client) {
	done := make(chan struct{})
	go func() { cl.CloseAllowingRebalance(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
}

func numbers(claims map[string][]int32) []int32 {
	for _, ps := range claims {
		return ps
	}
	return nil
}
