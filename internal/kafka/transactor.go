package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Transactor writes transactions for a part that is no goka group: outputs together with offsets of a consumer group that has
// no members, which is how far the part has come. It is the engine's own producer.
//
// One goroutine uses it: Take, then for each transaction Add and one Commit. Whoever takes a transactional id ends the
// transaction that its former holder left open and fences that one off, so that of several who believe the work to be
// theirs the last one does it, from what is committed.
type Transactor struct {
	conn    Connection
	group   string
	id      string
	timeout time.Duration
	log     *slog.Logger
	prod    *producer
	open    bool // something was added
}

// Progress is a committed offset, with what its writer noted beside it: at most 4096 bytes, Kafka's default bound.
type Progress struct {
	Offset int64
	Note   string
}

var (
	// ErrLost says that nobody can say how a transaction ended. Take, and read what is committed.
	ErrLost = errors.New("the outcome of the transaction is not known")
	// ErrTaken is ErrLost because somebody else has taken the transactional id.
	ErrTaken = errors.New("another process has taken over")
	// ErrHeld says that a transaction was given up because its writer did not want it any more.
	ErrHeld = errors.New("the transaction was given up")
)

// RefusedError says that Kafka will not take an output, however often it is tried. Its transaction was given up whole.
type RefusedError struct {
	Topic string
	Size  int // bytes of the largest record for it
	Err   error
}

func (e *RefusedError) Error() string { return fmt.Sprintf("write to %s: %v", e.Topic, e.Err) }
func (e *RefusedError) Unwrap() error { return e.Err }

// NewTransactor reaches for nothing. timeout is the transaction's: so long a killed writer holds back who reads committed data.
func NewTransactor(c Connection, group, transactionalID string, timeout time.Duration, log *slog.Logger) *Transactor {
	return &Transactor{conn: c, group: group, id: transactionalID, timeout: timeout, log: log}
}

// Take takes the transactional id over; the former holder's open transaction has ended when it returns.
func (t *Transactor) Take(ctx context.Context) error {
	t.Close()
	p, err := newProducer(ctx, t.conn, t.group, t.id, t.timeout, t.log)
	if err != nil {
		return err
	}
	p.out.tick()
	t.prod, t.open = p, false
	return nil
}

// Add adds a record to the next transaction; nothing of it is kept.
func (t *Transactor) Add(r *kgo.Record) {
	var shut atomic.Bool
	o := output(r, nil)
	if !t.open {
		t.prod.out.tick()
		t.open = true
	}
	t.prod.out.add(&o, &shut)
}

// Commit writes what was added, together with offsets by topic and partition, as one transaction. last is asked when all is
// written and once more right before the transaction is committed: its error gives the transaction up (ErrHeld). After a
// RefusedError and ErrHeld the next transaction can begin; after any other error Take comes first.
func (t *Transactor) Commit(ctx context.Context, offsets map[string]map[int32]Progress, last func() error) error {
	t.open = false
	p := t.prod
	limited, cancel := context.WithTimeout(ctx, t.timeout-t.timeout/5)
	defer cancel()
	err := p.flush(limited, func(string, int32, int64) {})
	if refused := (*refusedOutput)(nil); errors.As(err, &refused) {
		if fenced(err) {
			return t.lost(fmt.Errorf("write the outputs: %w", err))
		}
		if aerr := p.abort(); aerr != nil {
			return t.lost(aerr)
		}
		out := &RefusedError{refused.topic, refused.size, refused.err}
		if err := t.Take(ctx); err != nil { // what it knows of a partition's sequence numbers may be nothing any more
			return errors.Join(t.lost(err), out)
		}
		return out
	}
	if err != nil {
		return t.lost(fmt.Errorf("write the outputs: %w", err))
	}
	if err := last(); err != nil {
		return t.giveUp(err)
	}
	ending, done := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer done()
	plain, notes := map[string]map[int32]int64{}, map[tp]string{}
	for topic, partitions := range offsets {
		plain[topic] = map[int32]int64{}
		for partition, at := range partitions {
			plain[topic][partition], notes[tp{topic, partition}] = at.Offset, at.Note
		}
	}
	if err := p.addOffsets(ending, member{generation: -1}, plain, notes); err != nil {
		return t.lost(err)
	}
	if err := last(); err != nil {
		return t.giveUp(err)
	}
	if err := p.commit(); err != nil {
		return t.lost(fmt.Errorf("commit transaction: %w", err))
	}
	return nil
}

// giveUp ends the transaction without its outputs.
func (t *Transactor) giveUp(why error) error {
	if err := t.prod.abort(); err != nil {
		return t.lost(fmt.Errorf("abort transaction: %w", err))
	}
	return fmt.Errorf("%w: %w", ErrHeld, why)
}

func (t *Transactor) lost(err error) error {
	t.Close()
	if fenced(err) {
		return fmt.Errorf("%w: %w: %w", ErrLost, ErrTaken, err)
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// Close drops the connection, and with it what was not committed.
func (t *Transactor) Close() {
	if t.prod != nil {
		t.prod.drop()
		t.prod = nil
	}
}
