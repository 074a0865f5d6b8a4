package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/kafka"
	"civicbus/internal/tables"
	"civicbus/internal/verdict"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// job carries one replay out, until it is over or its context ends. It is for one goroutine.
type job struct {
	cfg    *Config
	row    codecs.Replay
	admin  *kadm.Client
	log    *kafka.Log
	tables Tables
	lease  *tables.Lease
	// going says whether the replay is still to be carried out, by a table that was confirmed current at that time.
	going   func() (confirmed time.Time, ok bool)
	metrics *Metrics
	logger  *slog.Logger

	pace     *pace
	recorded *verdict.Recorded
	targets  *targets
	limit    int            // records in a transaction now: halved when one outlived the lease
	refused  map[place]bool // events of which Kafka did not take a delivery
	have     map[int32]standing
}

// place is where an event record stands.
type place struct {
	topic     string
	partition int32
	offset    int64
}

// Why a replay ends before its time, as reasons of its row.
const (
	UndeliverableTopic  = "undeliverable_topic"  // the subscriber's topic does not exist
	UndeliverableAccess = "undeliverable_access" // Kafka does not let civicbus write there
)

// failure ends a replay.
type failure struct{ reason string }

func (f *failure) Error() string { return "the replay cannot go on: " + f.reason }

// errEnded says that the replay is not to be carried out any more, or not here.
var errEnded = errors.New("the replay has been ended")

const (
	firstRetry  = 100 * time.Millisecond
	lastRetry   = 10 * time.Second
	maxBatch    = 8 << 20         // bytes of outputs in one transaction; at least one event's
	commitEvery = 5 * time.Second // how far it has come, where nothing is found
)

// run returns nil when everything is done, a *failure, errEnded, or the context's error. Whatever else goes wrong is tried
// again from what is committed.
func (j *job) run(ctx context.Context) error {
	retry := firstRetry
	for {
		before := j.have
		err := j.live(ctx)
		var f *failure
		if err == nil || errors.As(err, &f) || errors.Is(err, errEnded) || ctx.Err() != nil {
			return err
		}
		j.logger.Warn("replay goes on from what is committed", "replay", j.row.ID, "in", retry, "error", err)
		if err := pause(ctx, retry); err != nil {
			return err
		}
		if retry = min(2*retry, lastRetry); moved(before, j.have) {
			retry = firstRetry
		}
	}
}

func moved(before, after map[int32]standing) bool {
	for p, s := range after {
		if s.at != before[p].at {
			return true
		}
	}
	return false
}

// live works with one incarnation of the transactional producer.
func (j *job) live(ctx context.Context) error {
	tx := kafka.NewTransactor(j.cfg.Connection, groupOf(j.row.ID), "replay-"+j.row.ID, j.cfg.TxnTimeout, j.logger)
	defer tx.Close()
	// From here on nobody else's transaction for this replay is open, and what is committed stays as it is.
	if err := tx.Take(ctx); err != nil {
		return err
	}
	var err error
	if j.have, err = standings(kadm.RequireStable(ctx), j.admin, &j.row); err != nil {
		return err
	}
	if j.recorded == nil {
		if _, err := j.lease.Hold(ctx); err != nil {
			return err
		}
		if j.recorded, err = learn(ctx, j.cfg, j.log, j.admin, j.tables.Snapshot(), &j.row); err != nil {
			return err
		}
	}
	var walkers []*walker
	for _, r := range j.row.Scan {
		walkers = append(walkers, newWalker(j.log, j.cfg.Records, &j.row, r.Partition, j.have[r.Partition].at, r.To))
	}
	for {
		walkers = slices.DeleteFunc(walkers, (*walker).over)
		if len(walkers) == 0 {
			return nil
		}
		for _, w := range walkers {
			if err := j.turn(ctx, tx, w); err != nil {
				return err
			}
			w.rest()
		}
	}
}

// turn works on one partition: until what was read is sent, or for a while when there is nothing to be sent.
func (j *job) turn(ctx context.Context, tx *kafka.Transactor, w *walker) error {
	some := false // something was sent
	for begun := time.Now(); !w.over(); {
		if err := j.pace.wait(ctx); err != nil {
			return err
		}
		if _, ok := j.going(); !ok {
			return errEnded
		}
		if err := j.pace.begin(ctx); err != nil {
			return err
		}
		from, sent := time.Now(), 0
		events, _, err := w.next(ctx, min(j.limit, j.pace.most()))
		late := w.over() || time.Since(begun) >= commitEvery
		if err == nil && (len(events) > 0 || late) {
			sent, err = j.send(ctx, tx, w, events)
		}
		j.pace.worked(ctx, sent, time.Since(from))
		some = some || sent > 0
		if err != nil || late || some && w.read() {
			return err
		}
	}
	return nil
}

// send decides events and sends what is permitted, in one transaction with how far the partition has come; sent counts the
// events. The walker stands behind what was committed when it returns.
func (j *job) send(ctx context.Context, tx *kafka.Transactor, w *walker, events []*found) (sent int, err error) {
	a := &again{cfg: j.cfg, tables: j.tables, recorded: j.recorded, targets: j.targets}
	ready := make([]*event, 0, len(events))
	for _, f := range events {
		e, err := a.prepare(ctx, f)
		if err != nil {
			return 0, err
		}
		ready = append(ready, e)
	}
	confirmed, err := j.lease.Hold(ctx)
	if err != nil {
		return 0, err
	}
	since, ok := j.going()
	if !ok {
		return 0, errEnded
	}
	if since.Before(confirmed) {
		confirmed = since
	}
	was := j.have[w.partition]
	next := standing{at: w.at, note: was.note.clone()}
	next.note.At = codecs.Millis(time.Now())
	counts := map[string]int64{}
	snap, now, size := j.tables.Snapshot(), j.cfg.Now(), 0
	for i, e := range ready {
		outs, d, err := j.decide(a, snap, e, now)
		if errors.Is(err, errAsk) || size > maxBatch { // the rest follows
			next.at = e.after - 1
			if i == 0 {
				w.back(next.at)
				return 0, nil
			}
			break
		}
		if err != nil {
			return 0, err
		}
		for _, r := range outs.records {
			size += len(r.Value)
			tx.Add(r)
		}
		for _, reason := range reasons(outs.verdicts, d, e) {
			next.note.add(reason)
			counts[reason]++
		}
		sent++
	}
	progress := offsets(map[int32]standing{w.partition: next})
	if flaw.Planted(flaw.ProgressEarly) {
		if err := commit(ctx, j.admin, j.row.ID, progress); err != nil {
			return 0, err
		}
	}
	err = tx.Commit(ctx, progress, func() error { return j.last(confirmed) })
	switch refused := (*kafka.RefusedError)(nil); {
	case err == nil:
		j.have[w.partition] = next
		w.back(next.at)
		j.limit = min(2*j.limit, maxLimit)
		j.metrics.committed(counts)
		return sent, nil
	case errors.As(err, &refused):
		w.back(was.at)
		j.metrics.aborted("refused")
		return sent, j.refuse(refused, ready)
	case errors.Is(err, kafka.ErrHeld):
		w.back(was.at)
		j.metrics.aborted("held")
		j.limit = max(1, j.limit/2)
		if _, ok := j.going(); !ok {
			return 0, errEnded
		}
		return sent, nil
	}
	j.metrics.aborted("unknown")
	return 0, err
}

// maxLimit is how many events one transaction has at most: while it is open, readers of committed data wait behind it.
const maxLimit = 50

// outcome is what an event comes to.
type outcome struct {
	verdicts []deliver
	records  []*kgo.Record // its deliveries, and its decision
}

// decide decides one event and makes what is to be written.
func (j *job) decide(a *again, snap *verdict.Snapshot, e *event, now time.Time) (outcome, *codecs.Decision, error) {
	outs, d, err := a.decide(snap, e, now)
	if err != nil {
		return outcome{}, nil, err
	}
	var o outcome
	for i := range outs {
		if outs[i].permit == nil {
			continue
		}
		if j.refused[e.place()] {
			outs[i].deny(UndeliverableRefused)
			continue
		}
		r, err := a.delivery(snap, e, &outs[i])
		if errors.As(err, new(codecs.Malformed)) { // to all who may have it, or to none
			outs, o.records, d.Outcome = nil, nil, malformed
			break
		}
		if err != nil {
			return outcome{}, nil, err
		}
		o.records = append(o.records, r)
	}
	for i := range outs {
		d.Verdicts = append(d.Verdicts, outs[i].item)
	}
	o.verdicts = outs
	on, err := a.onRecord(e.key, d)
	o.records = append(o.records, on)
	return o, d, err
}

func (e *event) place() place {
	return place{e.decision.Topic, e.decision.Partition, e.decision.Offset}
}

// last is asked right before a transaction is committed.
func (j *job) last(confirmed time.Time) error {
	if age := time.Since(confirmed); age >= j.cfg.Age {
		return fmt.Errorf("the tables were last confirmed %s ago, want less than %s", age.Round(time.Millisecond), j.cfg.Age)
	}
	if _, ok := j.going(); !ok {
		return errEnded
	}
	return nil
}

// refuse finds out which event it was that Kafka did not take a delivery of. One that is alone is denied next time; a topic that
// is not there ends the replay, since nothing can be sent.
func (j *job) refuse(err *kafka.RefusedError, events []*event) error {
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return &failure{UndeliverableTopic}
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return &failure{UndeliverableAccess}
	case len(events) == 1:
		j.logger.Warn("a delivery was refused and is not sent again", "replay", j.row.ID, "topic", err.Topic, "bytes", err.Size, "error", err.Err)
		j.refused[events[0].place()] = true
	}
	j.limit = max(1, j.limit/2)
	return nil
}
