package admission

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"civicbus/codecs"
	"civicbus/internal/tracing"
)

// PublisherConfig says how a publisher runs. A field without a default named is required.
type PublisherConfig struct {
	Options  []kgo.Opt // brokers, TLS, SASL: what every client of the process shares
	Door     *Door
	Resolver *Resolver
	Tables   func() Tables // the tables as they are now
	Lease    Lease
	Letters  *codecs.Record[codecs.DeadLetter]
	Timeout  time.Duration // how long Kafka, the lease and the registry are waited for; 30 s
	Metrics  *Metrics      // nil: not counted
	Tracer   *tracing.Tracer
}

// Publisher admits events of callers who wait for their answer. Its producer is idempotent without transactions: a caller
// who got no answer publishes again, and the repeat ends at the profile group. Safe for concurrent use.
type Publisher struct {
	cfg    PublisherConfig
	client *kgo.Client
}

// Answer is what became of one event.
type Answer struct {
	Status    Status
	LifeEvent string         // the life event id, by which an accepted event can be followed; empty when id or source are missing
	Subjects  int            // Accepted: how many records it became
	Faults    []codecs.Fault // Held and Refused: what is missing or wrong, by field
	Err       error          // Unavailable: what could not be reached
}

// publishAtOnce is how many events share one look at the lease.
const publishAtOnce = 200

// NewPublisher makes the producer; it connects when it is used.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	if cfg.Door == nil || cfg.Resolver == nil || cfg.Tables == nil || cfg.Lease == nil || cfg.Letters == nil {
		return nil, errors.New("make publisher: door, resolver, tables, lease and letters are required")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	client, err := kgo.NewClient(append(append(cfg.Tracer.Producing(), cfg.Options...),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(time.Millisecond), kgo.RecordDeliveryTimeout(max(cfg.Timeout, time.Second)))...)
	if err != nil {
		return nil, fmt.Errorf("make publisher: %w", err)
	}
	return &Publisher{cfg: cfg, client: client}, nil
}

// Close ends the producer. Publish calls that still run answer Unavailable.
func (p *Publisher) Close() { p.client.Close() }

// Publish admits events of one organisation and answers each by its index, once Kafka has those it accepts (acks=all) or
// holds. Inputs of one call are written in their order. Between the look at the lease and Kafka's answer the tables may
// change, as for any request that began before a change was acknowledged. The inputs must not be used again.
func (p *Publisher) Publish(ctx context.Context, organisation string, inputs []*Input) []Answer {
	answers := make([]Answer, len(inputs))
	for from := 0; from < len(inputs); from += publishAtOnce {
		to := min(from+publishAtOnce, len(inputs))
		p.some(ctx, organisation, inputs[from:to], answers[from:to])
	}
	for i := range answers {
		reason := ""
		if len(answers[i].Faults) > 0 {
			reason = answers[i].Faults[0].Reason
		}
		p.cfg.Metrics.event("publisher", answers[i].Status, reason, answers[i].Subjects)
	}
	return answers
}

func (p *Publisher) some(ctx context.Context, organisation string, inputs []*Input, answers []Answer) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	asked := p.cfg.Tables()
	for i, in := range inputs {
		in.Organisation = organisation
		if err := p.resolve(ctx, in, asked); err != nil {
			answers[i] = Answer{Status: Unavailable, Err: err}
		}
	}
	_, tables, err := underLease(ctx, p.cfg.Lease, p.cfg.Tables)
	var pending sync.WaitGroup
	var mu sync.Mutex
	for i, in := range inputs {
		answer := &answers[i]
		switch {
		case answer.Status == Unavailable:
			continue
		case err != nil:
			*answer = Answer{Status: Unavailable, Err: fmt.Errorf("wait for the trust and catalog tables: %w", err)}
			continue
		case !in.current(p.cfg.Door, tables):
			*answer = Answer{Status: Unavailable, Err: errors.New("the catalog changed meanwhile")}
			continue
		}
		traced, result := p.cfg.Door.traced(ctx, p.cfg.Tracer, in, tables, time.Now())
		*answer = Answer{Status: result.Status, LifeEvent: result.LifeEvent, Subjects: len(result.Records), Faults: result.Faults}
		records, err := p.outputs(&result)
		if err != nil {
			*answer = Answer{Status: Unavailable, LifeEvent: result.LifeEvent, Err: err}
			continue
		}
		for _, rec := range records {
			pending.Add(1)
			p.client.Produce(traced, rec, func(_ *kgo.Record, err error) {
				defer pending.Done()
				if err == nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				*answer = Answer{Status: Unavailable, LifeEvent: result.LifeEvent, Err: fmt.Errorf("write to Kafka: %w", err)}
			})
		}
	}
	pending.Wait()
}

// resolve is the resolver's, but for an unknown schema id: the caller is there to be told.
func (p *Publisher) resolve(ctx context.Context, in *Input, tables Tables) error {
	err := p.cfg.Resolver.Resolve(ctx, p.cfg.Door, in, tables)
	if errors.Is(err, codecs.ErrUnknownSchema) {
		in.fault("data", UnknownSchema, "the registry does not know the schema id")
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask the schema registry: %w", err)
	}
	return nil
}

// outputs are what Kafka must have before the answer: nothing for a refusal, which the caller is told.
func (p *Publisher) outputs(result *Result) ([]*kgo.Record, error) {
	switch result.Status {
	case Accepted:
		return admittedRecords(result), nil
	case Held:
		rec, err := letterRecord(result, p.cfg.Letters)
		if err != nil {
			return nil, fmt.Errorf("write dead letter: %w", err)
		}
		return []*kgo.Record{rec}, nil
	}
	return nil, nil
}
