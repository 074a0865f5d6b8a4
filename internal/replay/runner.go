package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"civicbus/codecs"
	"civicbus/internal/kafka"
	"civicbus/internal/tables"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// RunnerConfig says how replays are carried out.
type RunnerConfig struct {
	Config
	Tables Tables // kept current by whoever made them
	// Owns says whether this process is the one to carry out a replay; several may believe it of themselves for a moment, and
	// the one that began last goes on. nil: always.
	Owns    func(id string) bool
	Metrics *Metrics // nil: not counted
}

// Runner carries out the replays that are running by replay-table, until each is over, and says so.
type Runner struct {
	cfg    RunnerConfig
	client *kgo.Client
	admin  *kadm.Client
	log    *kafka.Log
	view   *kafka.View
	wake   chan struct{} // has room for one: a row changed
	turn   chan struct{} // of the replays of this process

	mu   sync.Mutex
	ctx  context.Context // of Run, for the registry's sake
	rows map[string]*codecs.Replay

	jobs  map[string]*underway // of the goroutine of Run
	ended chan string          // ids of jobs that have ended
}

// underway is a job that runs, or one that has said how it ended.
type underway struct {
	version int64
	cancel  context.CancelFunc // nil: it has ended
	again   time.Time          // when it is begun again, or its end said again
}

const (
	replayRows  = 8                // replays that one process carries out at once; others wait
	lookEvery   = time.Second      // whether what this process owns has changed
	saidAgain   = 10 * time.Second // when a row does not say what was told
	tellTimeout = 10 * time.Second
)

var replayTable = topology.TableTopic(topology.Replay.Name)

// NewRunner makes the view of the replays; Run starts it.
func NewRunner(cfg RunnerConfig) (*Runner, error) {
	cfg.defaults()
	if cfg.Owns == nil {
		cfg.Owns = func(string) bool { return true }
	}
	r := &Runner{cfg: cfg, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), ctx: context.Background(), rows: map[string]*codecs.Replay{}, jobs: map[string]*underway{}, ended: make(chan string)}
	var err error
	r.view, err = kafka.NewView(cfg.Connection, cfg.Age, cfg.Logger, r.changed, replayTable)
	return r, err
}

// changed is the view's.
func (r *Runner) changed(_, key string, value []byte) {
	r.mu.Lock()
	ctx := r.ctx
	r.mu.Unlock()
	var row *codecs.Replay
	if value != nil {
		if v, err := r.cfg.Records.Replay.DecodeLoading(ctx, value); err == nil {
			row = &v
		} else {
			r.cfg.Logger.Error("table row cannot be decoded and counts as absent", "table", replayTable, "error", err)
		}
	}
	r.mu.Lock()
	if row == nil || row.Status != running {
		delete(r.rows, key)
	} else {
		r.rows[key] = row
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run carries replays out until the context ends. Call it once. An error says that no more are carried out.
func (r *Runner) Run(ctx context.Context) error {
	var err error
	if r.client, err = r.cfg.Connection.Client(); err != nil {
		return err
	}
	defer r.client.Close()
	r.admin, r.log = kadm.NewClient(r.client), kafka.NewLog(r.client)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	r.ctx = ctx
	r.mu.Unlock()
	viewed := make(chan error, 1)
	go func() { viewed <- r.view.Run(ctx) }()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for err == nil && ctx.Err() == nil {
		r.look(ctx)
		select {
		case <-r.wake:
		case <-tick.C:
		case id := <-r.ended:
			r.jobs[id].cancel = nil
		case err = <-viewed:
			viewed <- nil // for the end below
			if ctx.Err() == nil {
				err = errors.Join(errors.New("replays are not carried out any more: their table cannot be read"), err)
			}
		case <-ctx.Done():
		}
	}
	cancel()
	for r.working() > 0 {
		r.jobs[<-r.ended].cancel = nil
	}
	return errors.Join(err, <-viewed)
}

func (r *Runner) working() (n int) {
	for _, u := range r.jobs {
		if u.cancel != nil {
			n++
		}
	}
	return n
}

// look begins what is running and ours, and ends what is not any more.
func (r *Runner) look(ctx context.Context) {
	r.mu.Lock()
	rows := make(map[string]*codecs.Replay, len(r.rows))
	for id, row := range r.rows {
		rows[id] = row
	}
	r.mu.Unlock()
	for id, u := range r.jobs {
		row := rows[id]
		ours := row != nil && row.Version == u.version && r.cfg.Owns(id)
		if u.cancel != nil && !ours {
			u.cancel()
		}
		if u.cancel == nil && (!ours || time.Now().After(u.again)) {
			delete(r.jobs, id)
		}
	}
	for id, row := range rows {
		if r.jobs[id] == nil && r.working() < replayRows && r.cfg.Owns(id) {
			r.begin(ctx, row)
		}
	}
}

func (r *Runner) begin(ctx context.Context, row *codecs.Replay) {
	ctx, cancel := context.WithCancel(ctx)
	u := &underway{version: row.Version, cancel: cancel, again: time.Now().Add(saidAgain)}
	r.jobs[row.ID] = u
	r.cfg.Metrics.begin(1)
	go func() {
		defer func() {
			cancel()
			r.cfg.Metrics.begin(-1)
			r.ended <- row.ID
		}()
		if err := r.carryOut(ctx, row); err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn("replay is begun again", "replay", row.ID, "error", err)
		}
	}()
}

// carryOut does one replay and tells how it ended.
func (r *Runner) carryOut(ctx context.Context, row *codecs.Replay) error {
	j := &job{cfg: &r.cfg.Config, row: *row, admin: r.admin, log: r.log, tables: r.cfg.Tables, lease: tables.NewLease(r.cfg.Tables, r.cfg.Age), going: r.going(row), metrics: r.cfg.Metrics,
		logger: r.cfg.Logger, targets: &targets{registry: r.cfg.Registry, known: map[targetKey]*target{}}, limit: maxLimit, refused: map[place]bool{}}
	waits := false
	j.pace = &pace{rate: row.Rate, admin: r.admin, turn: r.turn, waiting: func(now bool) {
		if now != waits {
			waits = now
			r.cfg.Metrics.wait(map[bool]float64{true: 1, false: -1}[now])
		}
	}}
	status, reason := done, ""
	err := j.run(ctx)
	var f *failure
	switch {
	case errors.As(err, &f):
		status, reason = failed, f.reason
	case errors.Is(err, errEnded):
		return nil
	case err != nil:
		return err
	}
	return r.tell(ctx, row, status, reason)
}

// going is job.going: the row is as it was when the job began, and the table that says so is confirmed current.
func (r *Runner) going(row *codecs.Replay) func() (time.Time, bool) {
	return func() (time.Time, bool) {
		confirmed, _ := r.view.Fresh()
		r.mu.Lock()
		defer r.mu.Unlock()
		now := r.rows[row.ID]
		return confirmed, now != nil && now.Version == row.Version
	}
}

// tell writes the command that ends the replay's row. Its id is the same for whoever tells it.
func (r *Runner) tell(ctx context.Context, row *codecs.Replay, status, reason string) error {
	p, err := ProgressOf(ctx, r.admin, row)
	if err != nil {
		return err
	}
	cmd := codecs.ReplayCommand{Meta: codecs.Meta{ID: fmt.Sprintf("ended-%s-%d", row.ID, row.Version), Actor: "civicbus", IssuedAt: codecs.Millis(r.cfg.Now()), IfVersion: row.Version},
		Kind: "ended", Replay: codecs.Replay{ID: row.ID, Status: status, StatusReason: reason, Counts: p.Counts}}
	value, err := r.cfg.Records.ReplayCommand.Encode(&cmd)
	if err != nil {
		return fmt.Errorf("write the end of replay %s: %w", row.ID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	if err := r.client.ProduceSync(ctx, &kgo.Record{Topic: topology.ReplayCommands.Name, Key: []byte(row.ID), Value: value}).FirstErr(); err != nil {
		return fmt.Errorf("write the end of replay %s: %w", row.ID, err)
	}
	r.cfg.Logger.Info("replay has ended", "replay", row.ID, "status", status, "reason", reason, "sent", p.Sent, "verdicts", p.Verdicts)
	return nil
}
