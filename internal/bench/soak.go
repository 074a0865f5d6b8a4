package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"civicbus/internal/app"
	"civicbus/internal/audit"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Soak is what `bench soak` says beside a Result's name.
type Soak struct {
	Seed       uint64  `json:"seed"`
	Kills      int     `json:"kills"`
	Disturbed  int     `json:"disturbed,omitempty"` // other faults, in tests: brokers killed
	Events     int     `json:"events"`
	Commands   int     `json:"commands"` // accepted and acknowledged
	Lost       int     `json:"lost"`
	Leaked     int     `json:"leaked"`
	Duplicates int     `json:"duplicates"`
	Disorder   int     `json:"out_of_order"` // deliveries of a subject's events to one subscription that came in another order than the events
	Rows       int     `json:"wrong_rows"`   // rows that are not what was asked for, at the end
	Late       int     `json:"late"`         // calm phases in which something was still undelivered after 30 s
	Audit      int     `json:"audit"`        // findings of the audit log's verifier
	Calm       float64 `json:"calm_seconds"` // the longest that it took, once nobody was killed, until all was delivered
	Seconds    float64 `json:"seconds"`
	Decisions  int     `json:"decisions"`
	Deliveries int     `json:"deliveries"`
	AuditLog   int64   `json:"audit_entries"`
}

// Err is nil when nothing was lost, leaked or delivered twice, nothing came out of order or late, every row is what was asked
// for, and the audit chain is whole.
func (s *Soak) Err() error {
	if s == nil || s.Lost+s.Leaked+s.Duplicates+s.Disorder+s.Rows+s.Late+s.Audit == 0 {
		return nil
	}
	return fmt.Errorf("lost %d, leaked %d, duplicates %d, out of order %d, wrong rows %d, late %d, audit findings %d", s.Lost, s.Leaked, s.Duplicates, s.Disorder, s.Rows, s.Late, s.Audit)
}

const (
	soakNodeCount = 3
	soakBehind    = 15_000 // accepted and not decided: then the source waits
	soakCalmLimit = 30 * time.Second
	soakCalmEvery = time.Minute
	soakStall     = 15 * time.Second // without a decision although events wait: then killing pauses
)

// soak runs nodes, kills them at random and starts them again, while commands and events come; and holds what came out against
// a model. The order of what happens follows from the seed; when it happens, from the machine.
func soak(ctx context.Context, c Config) (Result, error) { return soakUnder(ctx, c, nil) }

// soakUnder is a soak with one more fault every ten seconds or so: disturb, which returns when it is over; nil: none.
func soakUnder(ctx context.Context, c Config, disturb func(context.Context, *rand.Rand) error) (Result, error) {
	if c.Seed == 0 {
		c.Seed = uint64(time.Now().UnixNano())
	}
	if c.Kills == 0 {
		c.Kills = 220
	}
	if c.For == 0 {
		c.For = 4 * time.Minute
	}
	s := &soaking{c: c, disturb: disturb, report: Soak{Seed: c.Seed}, began: time.Now()}
	c.Say(fmt.Sprintf("seed %d: %d kills, %d events, %s", c.Seed, c.Kills, c.Events, c.For))
	err := s.run(ctx)
	s.report.Seconds = time.Since(s.began).Seconds()
	return Result{Name: "soak", Unit: "violations", Runs: 1, Ours: float64(s.report.Lost + s.report.Leaked + s.report.Duplicates + s.report.Disorder + s.report.Rows), Soak: &s.report}, err
}

type soaking struct {
	c       Config
	disturb func(context.Context, *rand.Rand) error
	began   time.Time
	report  Soak
	w       *soakWorld
	nodes   *soakNodes
	calm    sync.RWMutex // held for writing: nobody kills, publishes or commands
	stalls  int
	over    atomic.Bool
}

func (s *soaking) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.w, err = newSoakWorld(ctx, s.c); err != nil {
		return err
	}
	defer s.w.close()
	if s.nodes, err = newSoakNodes(soakNodeCount, s.c.Brokers, s.c.Registry); err != nil {
		return err
	}
	defer func() {
		s.nodes.stop()
		if err != nil || s.report.Err() != nil {
			s.c.Say("what the nodes said last:\n" + s.nodes.tails(15))
		} else {
			err = os.RemoveAll(s.nodes.dir)
		}
	}()
	if err := s.nodes.startAll(); err != nil {
		return err
	}
	if err := s.w.load(ctx); err != nil {
		return fmt.Errorf("set the soak's world up: %w", err)
	}
	reader, err := newSoakReader(s.w)
	if err != nil {
		return err
	}
	defer reader.client.Close()
	parts := make(chan error, 8)
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	go func() { parts <- reader.run(reading) }()
	if err := s.fault(ctx, parts); err != nil {
		return errors.Join(err, s.diagnose(ctx))
	}
	return s.conclude(ctx, reader)
}

// fault is the soak proper: until time is over, and as many events are in and processes killed as were asked for.
func (s *soaking) fault(ctx context.Context, ended chan error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	until := time.Now().Add(s.c.For)
	s.c.Say(fmt.Sprintf("%d nodes and the world are up after %.1f s", soakNodeCount, time.Since(s.began).Seconds()))
	var wg sync.WaitGroup
	work := func(n uint64, f func(context.Context, *rand.Rand) error) {
		wg.Go(func() {
			if err := f(ctx, rand.New(rand.NewPCG(s.c.Seed, n))); err != nil && ctx.Err() == nil {
				ended <- err
			}
		})
	}
	const changers = 2
	for i := range changers {
		work(uint64(i), func(ctx context.Context, r *rand.Rand) error { return s.change(ctx, r, i, changers) })
	}
	work(10, func(ctx context.Context, r *rand.Rand) error { return s.toggle(ctx, r, s.w.toggle) })
	work(13, func(ctx context.Context, r *rand.Rand) error { return s.toggle(ctx, r, s.w.trust) })
	events, kills := make(chan struct{}), make(chan struct{})
	work(11, func(ctx context.Context, r *rand.Rand) error { defer close(events); return s.publish(ctx, r, until) })
	work(12, func(ctx context.Context, r *rand.Rand) error { defer close(kills); return s.kill(ctx, r, until) })
	if s.disturb != nil {
		work(14, func(ctx context.Context, r *rand.Rand) error { return s.disturbs(ctx, r, until) })
	}
	defer wg.Wait()
	defer cancel()
	calm := time.NewTicker(soakCalmEvery)
	defer calm.Stop()
	for left := 2; left > 0; {
		select {
		case err := <-ended:
			return err
		case <-events:
			events, left = nil, left-1
		case <-kills:
			kills, left = nil, left-1
		case <-calm.C:
			if time.Until(until) > soakCalmEvery/4 { // else the end is near, which is calm too
				if err := s.beCalm(ctx); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// What was commanded last is still waited for: nothing of it may stay unanswered.
	s.over.Store(true)
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case err := <-ended:
			return err
		case <-time.After(time.Second):
			if err := s.reviveDead(); err != nil {
				return err
			}
		}
	}
	select {
	case err := <-ended:
		return err
	default:
		return nil
	}
}

// beCalm lets nobody kill, publish or command until all that was accepted is decided and delivered, which may take 30 s.
func (s *soaking) beCalm(ctx context.Context) error {
	s.calm.Lock()
	defer s.calm.Unlock()
	began := time.Now()
	for {
		undecided, undelivered := s.w.ledger.waiting()
		if undecided == 0 && undelivered == 0 {
			break
		}
		if time.Since(began) > soakCalmLimit {
			s.report.Late++
			s.c.Say(fmt.Sprintf("after %s of calm %d events are undecided and %d deliveries have not come", soakCalmLimit, undecided, undelivered))
			return s.diagnose(ctx)
		}
		if err := s.reviveDead(); err != nil {
			return err
		}
		if !wait(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
	took := time.Since(began).Seconds()
	s.report.Calm = max(s.report.Calm, took)
	s.c.Say(fmt.Sprintf("%.0f s: calm, all is delivered after %.1f s", time.Since(s.began).Seconds(), took))
	return nil
}

// conclude waits until everything is done, stops the nodes, reads what is there to its end and judges.
func (s *soaking) conclude(ctx context.Context, reader *soakReader) error {
	if err := s.beCalm(ctx); err != nil {
		return err
	}
	if err := s.idle(ctx); err != nil {
		return err
	}
	s.nodes.stop()
	if err := s.verify(ctx); err != nil {
		return err
	}
	// Behind a mark in each partition there is nothing, and before it nothing that was not read.
	marks := int64(0)
	for _, topic := range s.w.topics() {
		for p := range s.w.cfg.Shape.Partitions {
			if err := s.w.mark(ctx, topic, p); err != nil {
				return err
			}
			marks++
		}
	}
	for limit := time.Now().Add(soakCalmLimit); reader.ends.Load() < marks; {
		if time.Now().After(limit) {
			return fmt.Errorf("the end of %d of %d partitions was read: the others are held by a transaction that nobody ends", reader.ends.Load(), marks)
		}
		if !wait(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
	f := s.w.ledger.judge()
	s.report.Lost, s.report.Leaked, s.report.Duplicates, s.report.Disorder = f.lost, f.leaked, f.duplicates, f.disorder
	s.report.Events, s.report.Commands, s.report.Decisions, s.report.Deliveries = s.w.ledger.accepted, s.w.commands, len(s.w.ledger.decided), len(s.w.ledger.delivered)
	for _, line := range f.told {
		s.c.Say(line)
	}
	wrong, err := s.w.rows(ctx)
	if err != nil {
		return err
	}
	s.report.Rows = len(wrong)
	for _, line := range wrong[:min(len(wrong), toldAtMost)] {
		s.c.Say("row: " + line)
	}
	if s.report.Err() != nil {
		return s.diagnose(ctx)
	}
	return nil
}

// mark writes the end mark to a partition.
func (w *soakWorld) mark(ctx context.Context, topic string, partition int32) error {
	cl, err := w.cfg.Connection.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	return cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: partition, Key: []byte(endMark)}).FirstErr()
}

// idle waits until no group whose work is looked at has anything left to handle.
func (s *soaking) idle(ctx context.Context) error {
	for limit := time.Now().Add(soakCalmLimit); ; {
		lags, err := s.w.operator.Lag(ctx, topology.Profile.Name, topology.Router.Name, topology.Audit.Name, topology.Usage.Name)
		left := int64(0)
		for _, l := range lags {
			left += l.Records
		}
		if err == nil && left == 0 {
			return nil
		}
		if time.Now().After(limit) {
			if err != nil {
				return err
			}
			s.report.Late++
			s.c.Say(fmt.Sprintf("%d records are not handled after %s of calm", left, soakCalmLimit))
			return s.diagnose(ctx)
		}
		if err := s.reviveDead(); err != nil {
			return err
		}
		if !wait(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// verify walks the audit log with the auditor's code.
func (s *soaking) verify(ctx context.Context) error {
	secret, err := app.DeriveAuditKey(s.w.cfg.BusKey)
	if err != nil {
		return err
	}
	keys, err := audit.NewKeys(secret)
	if err != nil {
		return err
	}
	log, err := audit.Open(s.w.cfg.Connection, s.w.records)
	if err != nil {
		return err
	}
	defer log.Close()
	result, err := log.Verify(ctx, audit.Check{Keys: keys, Now: time.Now()})
	if err != nil {
		return fmt.Errorf("verify the audit log: %w", err)
	}
	s.report.Audit, s.report.AuditLog = len(result.Findings), result.Entries
	for _, f := range result.Findings {
		s.c.Say("audit log: " + f.String())
	}
	return nil
}

// diagnose says where the groups are and who has what.
func (s *soaking) diagnose(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	lags, err := s.w.operator.Lag(ctx)
	if err != nil {
		return err
	}
	for _, l := range lags {
		if l.Records > 0 {
			s.c.Say(fmt.Sprintf("group %s, %s/%d: committed %d, last stable offset %d, %d records wait, for %.1f s", l.Group, l.Topic, l.Partition, l.Committed, l.Stable, l.Records, l.Seconds))
		}
	}
	groups, err := s.w.admin.DescribeGroups(ctx)
	if err != nil {
		return err
	}
	for _, g := range groups.Sorted() {
		s.c.Say(fmt.Sprintf("group %s: %s", g.Group, g.State))
		for _, m := range g.Members {
			instance := ""
			if m.InstanceID != nil {
				instance = *m.InstanceID
			}
			assigned, _ := m.Assigned.AsConsumer()
			line := fmt.Sprintf("  %s %s:", instance, m.MemberID)
			if assigned != nil {
				for _, t := range assigned.Topics {
					line += fmt.Sprintf(" %s %v", t.Topic, t.Partitions)
				}
			}
			s.c.Say(line)
		}
	}
	return nil
}
