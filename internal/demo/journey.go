package demo

import (
	"context"
	"encoding/json"
	"fmt"

	"civicbus/codecs"
	"civicbus/examples"
	"civicbus/internal/pseudonym"

	"github.com/twmb/franz-go/pkg/kgo"
)

// answering is an event with the correlationid of the delivery that it answers: its publisher's own name of that life event.
func (p *Player) answering(ctx context.Context, event []byte, a examples.Answers, organisation string) ([]byte, error) {
	of := p.keys.For(organisation)
	rec, err := p.about(ctx, a.Subscription, of, p.lives[a.Event], "", "")
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(event, &members); err != nil {
		return nil, err
	}
	if members["correlationid"], err = json.Marshal(headerOf(rec, codecs.HeaderCorrelation)); err != nil {
		return nil, err
	}
	return json.Marshal(members)
}

// about waits for a delivery to a subscription that correlates with a life event, and is about a subject; empty: any. Each about a
// subject is for one step alone, which the file of its event names.
func (p *Player) about(ctx context.Context, subscription string, of *pseudonym.Pairwise, life, subject, step string) (*kgo.Record, error) {
	for {
		for id, rec := range p.log.delivered {
			if headerOf(rec, codecs.HeaderSubscription) == subscription && headerOf(rec, codecs.HeaderCorrelation) == of.SealID(life) &&
				(subject == "" || headerOf(rec, codecs.HeaderSubject) == subject && (p.shown[id] == "" || p.shown[id] == step)) {
				if subject != "" {
					p.shown[id] = step
				}
				return rec, nil
			}
		}
		if err := p.log.next(ctx); err != nil {
			return nil, fmt.Errorf("wait for a delivery to %s: %w", subscription, err)
		}
	}
}

// told waits for a delivery of civicbus's own and compares what it says.
func (p *Player) told(ctx context.Context, step examples.Step, want examples.Told, told *Told) error {
	subject, err := p.client.Subject(ctx, want.Subject)
	if err != nil {
		return err
	}
	subscriber := ""
	for _, s := range p.world.Subscriptions {
		if s.ID == want.Subscription {
			subscriber = s.Subscriber
		}
	}
	of := p.keys.For(subscriber)
	sealed, err := of.Seal(subject)
	if err != nil {
		return err
	}
	rec, err := p.about(ctx, want.Subscription, of, p.lives[step.Answers.Event], sealed, step.Event)
	if err != nil {
		return err
	}
	data, _, err := p.data(ctx, rec)
	if err != nil {
		return err
	}
	text, _ := data.(map[string]any)["text"].(string) // a record's data is an object; civicbus's other types have no text
	told.Notes = append(told.Notes, Note{Subscriber: subscriber, EventType: headerOf(rec, codecs.HeaderType), Text: text})
	return nil
}
