package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"civicbus/codecs"
	"civicbus/internal/flaw"
	"civicbus/internal/kafka"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Statuses of an Outcome.
const (
	Accepted   = "accepted"
	Refused    = "refused"
	Unanswered = "unanswered" // written, and not answered within the time: it may still be carried out
)

// Request is one command, ready to be sent.
type Request struct {
	About string // what it is about, for people; never personal
	ID    string // the command's id

	key   string
	value []byte
	to    table
}

// table is a Table of any row.
type table interface {
	topic() string
	commands() string
	versionOf(ctx context.Context, c *Client, row []byte) (int64, error)
}

// Outcome is what became of one command.
type Outcome struct {
	About    string         `json:"about"`
	ID       string         `json:"commandId"`
	Status   string         `json:"status"`
	Version  int64          `json:"version"`    // of the row after the command, or of the row that refused it
	Row      int64          `json:"rowVersion"` // newest version of the row that was read; above Version when it has changed since; 0: not read
	InEffect bool           `json:"inEffect"`
	Reason   string         `json:"reason,omitempty"`
	Faults   []codecs.Fault `json:"faults,omitempty"`
}

// Wait says how long Send waits.
type Wait struct {
	AnswerOnly bool          // only until each command is accepted or refused
	Timeout    time.Duration // 0: until the context ends
}

const (
	// rowLate is how long after the last answer a row is still expected on its way: the markers of one transaction land
	// partition by partition. Then the table is read from its start: a repeated command writes no row.
	rowLate   = 300 * time.Millisecond
	pollAtMax = 100 * time.Millisecond
)

// Send writes commands in their order and follows each until it is in effect: a read_committed reader has seen, in the table
// topic itself, the row at the command's version or a later one, and the lease's age has passed since (DESIGN.md 3.2). It
// returns one Outcome for each request, also with Timeout over; an error says that Kafka, the registry or the context did
// not let it find out.
func (c *Client) Send(ctx context.Context, requests []Request, wait Wait) ([]Outcome, error) {
	settings, err := c.Settings(ctx)
	if err != nil {
		return nil, err
	}
	f := &following{c: c, requests: requests, wait: wait, seen: map[rowKey]int64{}}
	for _, r := range requests {
		f.outcomes = append(f.outcomes, Outcome{About: r.About, ID: r.ID, Status: Unanswered})
	}
	f.wait.AnswerOnly = wait.AnswerOnly || flaw.Planted(flaw.AckEarly)
	consumer, err := f.listen(ctx)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	limited := ctx
	if wait.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, wait.Timeout)
		defer cancel()
	}
	if err := c.write(limited, requests); err != nil {
		return nil, err
	}
	done, err := f.follow(limited, consumer)
	if err == nil && done && !f.wait.AnswerOnly {
		done = pause(limited, time.Duration(settings.LeaseAgeMillis)*time.Millisecond)
	}
	switch {
	case ctx.Err() != nil:
		return f.outcomes, fmt.Errorf("wait for the commands: %w", ctx.Err())
	case err != nil && limited.Err() == nil:
		return f.outcomes, err
	}
	for i, q := range requests {
		f.outcomes[i].Row = f.seen[rowKey{q.to.topic(), q.key}]
		f.outcomes[i].InEffect = done && !wait.AnswerOnly && f.outcomes[i].Status == Accepted
	}
	return f.outcomes, nil
}

// InEffect sends commands, as the methods that make them gave them with their error, and is nil once all are in effect.
func (c *Client) InEffect(ctx context.Context, requests []Request, err error) error {
	if err != nil {
		return err
	}
	outcomes, err := c.Send(ctx, requests, Wait{})
	if err != nil {
		return err
	}
	for _, o := range outcomes {
		if !o.InEffect {
			return fmt.Errorf("%s: %s %s %v", o.About, o.Status, o.Reason, o.Faults)
		}
	}
	return nil
}

// write puts the commands on their streams; Kafka's default partitioning puts each beside its row and its answer.
func (c *Client) write(ctx context.Context, requests []Request) error {
	records := make([]*kgo.Record, len(requests))
	for i, r := range requests {
		records[i] = &kgo.Record{Topic: r.to.commands(), Key: []byte(r.key), Value: r.value}
	}
	if err := c.kafka.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("write the commands: %w", err)
	}
	return nil
}

type rowKey struct{ topic, key string }

// following is one Send.
type following struct {
	c        *Client
	requests []Request
	outcomes []Outcome
	wait     Wait
	seen     map[rowKey]int64 // the newest version read of each row
}

// listen begins to read answers and rows where the topics end before the commands are written.
func (f *following) listen(ctx context.Context) (*kgo.Client, error) {
	ends := map[string][]span{}
	from := map[string]map[int32]kgo.Offset{}
	for _, r := range f.requests {
		for _, topic := range []string{topology.CommandResults.Name, r.to.topic()} {
			if ends[topic] == nil {
				spans, err := f.c.whole(ctx, topic)
				if err != nil {
					return nil, err
				}
				ends[topic], from[topic] = spans, map[int32]kgo.Offset{}
			}
			s := ends[topic][kafka.Partition([]byte(r.key), int32(len(ends[topic])))]
			from[topic][s.partition] = kgo.NewOffset().At(s.to)
		}
	}
	return f.c.cfg.Connection.Client(kgo.ConsumePartitions(from), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(time.Second))
}

// follow reads until everything is answered and, unless only that is wanted, every accepted command's row was seen.
func (f *following) follow(ctx context.Context, consumer *kgo.Client) (done bool, err error) {
	lookAt := time.Time{} // when to read the tables from their start; zero: not yet
	for ctx.Err() == nil {
		poll, cancel := context.WithTimeout(ctx, pollAtMax)
		fetches := consumer.PollFetches(poll)
		cancel()
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) && !errors.Is(e.Err, context.Canceled) {
				return false, fmt.Errorf("read the answers on %s/%d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		for _, r := range fetches.Records() {
			if err := f.take(ctx, r); err != nil {
				return false, err
			}
		}
		switch {
		case !f.answered():
		case f.wait.AnswerOnly, len(f.unseen()) == 0:
			return true, nil
		case lookAt.IsZero():
			lookAt = time.Now().Add(rowLate)
		case time.Now().After(lookAt):
			if err := f.look(ctx); err != nil {
				return false, err
			}
			lookAt = time.Now().Add(rowLate)
		}
	}
	return false, nil
}

// take handles one record of either topic.
func (f *following) take(ctx context.Context, r *kgo.Record) error {
	if r.Topic != topology.CommandResults.Name {
		return f.row(ctx, r.Topic, string(r.Key), r.Value)
	}
	result, err := f.c.records.CommandResult.DecodeLoading(ctx, r.Value)
	if err != nil {
		return fmt.Errorf("decode an answer on %s/%d: %w", r.Topic, r.Partition, err)
	}
	for i, q := range f.requests {
		o := &f.outcomes[i]
		if o.Status == Unanswered && q.ID == result.CommandID && q.key == string(r.Key) && q.to.commands() == result.Stream {
			o.Status, o.Version, o.Reason, o.Faults = result.Status, result.Version, result.Reason, result.Faults
			return nil
		}
	}
	return nil
}

// row notes the version of a row that some request is about.
func (f *following) row(ctx context.Context, topic, key string, value []byte) error {
	at := slices.IndexFunc(f.requests, func(q Request) bool { return q.to.topic() == topic && q.key == key })
	if at < 0 || value == nil {
		return nil
	}
	version, err := f.requests[at].to.versionOf(ctx, f.c, value)
	if err != nil {
		return err
	}
	f.seen[rowKey{topic, key}] = max(version, f.seen[rowKey{topic, key}])
	return nil
}

func (f *following) answered() bool {
	return !slices.ContainsFunc(f.outcomes, func(o Outcome) bool { return o.Status == Unanswered })
}

// unseen lists the accepted commands whose row was not read yet. Version 0 is that of a row that is not there and was not
// made: nothing changed.
func (f *following) unseen() (late []int) {
	for i, o := range f.outcomes {
		q := f.requests[i]
		if o.Status == Accepted && f.seen[rowKey{q.to.topic(), q.key}] < o.Version {
			late = append(late, i)
		}
	}
	return late
}

// look reads the rows that are missing from the start of their partitions.
func (f *following) look(ctx context.Context) error {
	for _, i := range f.unseen() {
		q := f.requests[i]
		value, err := f.c.lastOf(ctx, q.to.topic(), q.key)
		if err != nil {
			return err
		}
		if err := f.row(ctx, q.to.topic(), q.key, value); err != nil {
			return err
		}
	}
	return nil
}
