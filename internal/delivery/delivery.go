// Package delivery sends what waits for webhooks. It runs beside the goka group of that name (processors/delivery), in the same
// process, for the partitions that the process holds, and is no part of goka: callbacks do no HTTP.
//
// Its rules:
//   - What waits, for what and until when stands in the group's rows. The sender sees them as they are committed, attempts what
//     is due, and reports on the group's loop what came of it; only that changes a row. Nothing in this process is needed
//     to be right: after a crash the next owner of the partition attempts again, with the same webhook-id.
//   - Of the deliveries of one subscription about one subject only the first that waits is attempted.
//   - Each attempt is decided anew (internal/leave) on tables that are confirmed current, after everything that takes time, and
//     the decision is on record before a byte of the delivery leaves. What is denied is dropped. What belongs to a paused
//     subscription is kept until it is resumed.
//   - A receiver has taken a delivery when it answers 2xx. A redirect is not followed, a proxy not used, and no more of an
//     answer is read than is needed.
//   - An address is checked when it is dialled, after its name was resolved (address.go).
//   - A receiver that fails costs no other one anything: each subscription has a lane of its own, with its own breaker.
package delivery

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/leave"
	"civicbus/internal/pseudonym"
	"civicbus/internal/tables"
	"civicbus/internal/tracing"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Settings are what an operator decides about webhooks.
type Settings struct {
	Origin      string         // DNS name by which civicbus asks a receiver for its permission (WebHook-Request-Origin)
	Networks    []netip.Prefix // that may be reached although they are not public
	Development bool           // any address may be reached, and loopback addresses without TLS
	Roots       *x509.CertPool // that receivers' certificates are checked with; nil: the system's
}

// Outcomes are the words of reports; they are the group's, which this package does not import.
type Outcomes struct {
	Delivered, Failed, Gone, Denied, Unreadable, Expired, Overdue string
}

// Rows are the group's committed rows, as this process has them.
type Rows struct {
	Held func() []int32                         // partition numbers that the process holds, recovered
	Each func(f func(subject string, _ []byte)) // calls f with every row of a partition that the process holds or held
	Row  func(subject string) (row []byte)      // nil: there is none
}

// Config says what a sender works with. A field without a default named is required.
type Config struct {
	Settings
	Kind       string // of decisions
	Outcomes   Outcomes
	Attempts   int32         // how often a delivery is attempted
	MaxAge     time.Duration // how long it waits at most
	Connection kafka.Connection
	Registry   *codecs.Registry
	Records    *codecs.Records // bound
	Keys       *pseudonym.Keys
	Tables     tables.Current
	Age        time.Duration // of the lease
	Partitions int32
	Rows       Rows
	Now        func() time.Time // default time.Now
	Look       time.Duration    // how often it looks whether the clock, the partitions or a paused subscription have changed; 250 ms
	Metrics    *Metrics         // nil: not counted
	Tracer     *tracing.Tracer
	Logger     *slog.Logger
}

// Sender sends. Its methods are safe for concurrent use.
type Sender struct {
	cfg    Config
	exit   *leave.Exit
	client *kgo.Client // reads deliveries, writes reports
	log    *kafka.Log
	web    *Client
	cache  *cache
	ended  sync.WaitGroup // of lanes and attempts

	queue
}

// New makes a sender; Run starts it. It reaches for nothing.
func New(cfg Config) (*Sender, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Look == 0 {
		cfg.Look = 250 * time.Millisecond
	}
	s := &Sender{cfg: cfg, web: NewClient(cfg.Settings, cfg.Keys), cache: newCache()}
	s.queue.init(s)
	var err error
	s.exit, err = leave.New(leave.Config{Kind: cfg.Kind, Connection: cfg.Connection, Registry: cfg.Registry, Records: cfg.Records, Keys: cfg.Keys, Tables: cfg.Tables, Age: cfg.Age})
	if err != nil {
		return nil, err
	}
	if s.client, err = cfg.Connection.Client(kgo.ProducerLinger(2 * time.Millisecond)); err != nil {
		s.exit.Close()
		return nil, err
	}
	s.log = kafka.NewLog(s.client)
	return s, nil
}

// endWithin bounds how long attempts under way may still take when the sender is to end.
const endWithin = 5 * time.Second

// Run sends until the context ends, and lets attempts under way end.
func (s *Sender) Run(parent context.Context) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent)) // of attempts
	defer func() {
		cancel()
		s.ended.Wait()
		s.web.Close()
		s.exit.Close()
		s.client.Close()
	}()
	s.cfg.Metrics.watch(s)
	defer s.cfg.Metrics.watch(nil)
	s.begin(parent, ctx)
	tick := time.NewTicker(s.cfg.Look)
	defer tick.Stop()
	for {
		s.hold(s.cfg.Rows.Held())
		s.web.sweep()
		select {
		case <-tick.C:
		case <-parent.Done():
			s.settle()
			return nil
		}
	}
}

// settle waits until no attempt is under way, not for long.
func (s *Sender) settle() {
	done := make(chan struct{})
	go func() { s.attempts.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(endWithin):
	}
}

// Arrived keeps a delivery that has just begun to wait, so that it need not be read again. It is only a help.
func (s *Sender) Arrived(r *kgo.Record) { s.cache.put(r) }

// errNotThere says that a record is not where its row says.
var errNotThere = errors.New("the delivery is not kept any more")

// record is the delivery that a row names.
func (s *Sender) record(ctx context.Context, partition int32, offset int64) (*kgo.Record, error) {
	if r := s.cache.take(partition, offset); r != nil {
		return r, nil
	}
	const bytes = 64 << 10 // a batch comes whole, however large it is
	records, _, _, err := s.log.Fetch(ctx, topology.WebhookDeliveries.Name, partition, offset, bytes)
	switch {
	case errors.Is(err, kafka.ErrExpired), errors.Is(err, kafka.ErrBeyond), errors.Is(err, kafka.ErrNoTopic):
		return nil, errNotThere
	case err != nil:
		return nil, err
	}
	for _, r := range records {
		if r.Offset == offset {
			return r, nil
		}
	}
	return nil, errNotThere
}

// report tells the group what came of an attempt; it returns when that is on its loop. It waits for Kafka as long as it must.
func (s *Sender) report(ctx context.Context, subject string, r *codecs.DeliveryReport) error {
	value, err := s.cfg.Records.DeliveryReport.Encode(r)
	if err != nil {
		return err
	}
	return s.client.ProduceSync(ctx, &kgo.Record{Topic: topology.DeliveryReports.Name, Key: []byte(subject), Value: value}).FirstErr()
}
