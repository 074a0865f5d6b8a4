package bench

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// soakReader reads what came out, as a subscriber and an auditor would, into the ledger.
type soakReader struct {
	w      *soakWorld
	client *kgo.Client
	ends   atomic.Int64 // end marks met
}

// endMark is the key of the last record of each partition, written when nobody else writes any more.
const endMark = "end of the soak"

func (w *soakWorld) topics() []string {
	topics := []string{topology.Decisions.Name}
	for k := range soakSubscribers {
		topics = append(topics, topology.SubscriberTopicName(soakSubscriber(k)))
	}
	return topics
}

func newSoakReader(w *soakWorld) (*soakReader, error) {
	cl, err := w.cfg.Connection.Client(kgo.ConsumeTopics(append(w.topics(), topology.DeadLetters.Name)...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	return &soakReader{w: w, client: cl}, err
}

// run reads until the context ends.
func (r *soakReader) run(ctx context.Context) error {
	for ctx.Err() == nil {
		fetches := r.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to end
		}
		for _, e := range fetches.Errors() {
			return fmt.Errorf("read %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
		for _, rec := range fetches.Records() {
			if string(rec.Key) == endMark {
				r.ends.Add(1)
				continue
			}
			if err := r.take(rec); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *soakReader) take(rec *kgo.Record) error {
	place := fmt.Sprintf("%s/%d at %d", rec.Topic, rec.Partition, rec.Offset)
	switch rec.Topic {
	case topology.Decisions.Name:
		return r.decision(rec, place)
	case topology.DeadLetters.Name:
		letter, err := r.w.records.DeadLetter.Decode(rec.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
		r.w.ledger.mu.Lock()
		defer r.w.ledger.mu.Unlock()
		r.w.ledger.letters = append(r.w.ledger.letters, fmt.Sprintf("%s of %s %s/%d at %d: %s", letter.Cause, letter.Group, letter.Topic, letter.Partition, letter.Offset, letter.Detail))
		return nil
	}
	h := map[string]string{}
	for _, header := range rec.Headers {
		h[header.Key] = string(header.Value)
	}
	org := strings.TrimPrefix(rec.Topic, topology.SubscriberTopicName(""))
	text, err := r.w.keys.For(org).OpenID(h[codecs.HeaderCorrelation])
	life, known := parseID(text)
	id, ok := parseID(h[codecs.HeaderID])
	if err != nil || !known || !ok {
		r.w.ledger.mu.Lock()
		defer r.w.ledger.mu.Unlock()
		r.w.ledger.strange = append(r.w.ledger.strange, place+" bears no life event id of its subscriber")
		return nil
	}
	// The texts of the fields are told apart by how they begin, so nothing is decoded with the code that is tested.
	r.w.ledger.deliver(life, id, delivered{street: bytes.Contains(rec.Value, []byte(streetText)), name: bytes.Contains(rec.Value, []byte(nameText)),
		id: bytes.Contains(rec.Value, []byte(idText)), place: place})
	return nil
}

func (r *soakReader) decision(rec *kgo.Record, place string) error {
	d, err := r.w.records.Decision.Decode(rec.Value)
	if err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	if d.Kind != topology.Router.Name {
		return nil
	}
	life, ok := parseID(d.LifeEventID)
	if !ok {
		return fmt.Errorf("%s: no life event id", place)
	}
	out := decided{consents: d.ConsentVersion, at: d.DecidedAt, place: fmt.Sprintf("%s, about %s/%d at %d", place, d.Topic, d.Partition, d.Offset)}
	for _, v := range d.Verdicts {
		for k := range soakSubscribers {
			if v.Subscription == soakSubscription(k) {
				out.verdicts[k] = soakVerdict{version: v.SubscriptionVersion, trust: v.TrustVersion, permit: v.Permit, there: true}
			}
		}
	}
	r.w.ledger.decide(life, out)
	return nil
}
