// Package demo plays the example world on a running civicbus: it loads the reference data, publishes the events of each
// scenario, and compares every verdict and every delivery with what examples/scenarios.yaml says must come. Then it tells a story
// over real connections, as the agencies and people in it, and compares what each of them sees with examples/story. It works from
// outside, through the gateway, the streams and topics alone, so what it shows is what an operator, a subscriber and a person see.
package demo

import (
	"context"
	"fmt"
	"time"

	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/internal/kafka"
	"civicbus/internal/pseudonym"
	"civicbus/internal/refdata"
	"civicbus/internal/verdict"
)

// Config says where to play.
type Config struct {
	Admin   admin.Config
	BusKey  []byte
	Gateway string                    // the gateway's address, for the story; empty: none is told
	Token   func(Who) (string, error) // makes tokens for the gateway; nil: no story is told
}

// Player plays scenarios. Make one with Load.
type Player struct {
	client *admin.Client
	world  *examples.World
	keys   *pseudonym.Keys
	log    *watch
	pub    *admin.Publisher
	lives  map[string]string // life event by the file of the event

	connection kafka.Connection
	gateway    string
	token      func(Who) (string, error)
}

// askers are the two people that the reference data needs: who asks, and who approves.
const (
	asker    = "operator:anna"
	approver = "operator:bertil"
)

// Load puts the example world's schemas and reference data on the cluster and returns once all of it is in effect.
func Load(ctx context.Context, cfg Config, say func(string)) (*Player, error) {
	p := &Player{lives: map[string]string{}, connection: cfg.Admin.Connection, gateway: cfg.Gateway, token: cfg.Token}
	var err error
	if p.world, err = examples.Load(); err != nil {
		return nil, err
	}
	if p.keys, err = pseudonym.NewKeys(cfg.BusKey); err != nil {
		return nil, err
	}
	if p.client, err = admin.Dial(ctx, cfg.Admin); err != nil {
		return nil, err
	}
	for subject, schema := range p.world.Schemas {
		if _, err := p.client.RegisterSource(ctx, subject, schema); err != nil {
			return nil, err
		}
	}
	say(fmt.Sprintf("registered %d schemas of the sources", len(p.world.Schemas)))
	by := admin.By{Actor: asker}
	requests, err := p.client.PutOrganisations(ctx, by, p.world.Organisations...)
	if err := p.client.InEffect(ctx, requests, err); err != nil {
		return nil, err
	}
	say(fmt.Sprintf("%d organisations in effect", len(requests)))
	requests, err = p.client.PutEventTypes(ctx, by, p.world.EventTypes...)
	if err := p.client.InEffect(ctx, requests, err); err != nil {
		return nil, err
	}
	say(fmt.Sprintf("%d event types in effect", len(requests)))
	requests, err = p.client.PutSubscriptions(ctx, by, p.world.Subscriptions...)
	if err := p.client.InEffect(ctx, requests, err); err != nil {
		return nil, err
	}
	say(fmt.Sprintf("%d subscriptions in effect", len(requests)))
	if err := p.activate(ctx, say); err != nil {
		return nil, err
	}
	if err := p.consents(ctx, p.world.Consents); err != nil {
		return nil, err
	}
	say(fmt.Sprintf("%d grants and refusals in effect", len(p.world.Consents)))
	if p.pub, err = p.client.NewPublisher(ctx); err != nil {
		return nil, err
	}
	records, err := p.client.Records(ctx)
	if err != nil {
		return nil, err
	}
	p.log, err = newWatch(ctx, cfg.Admin.Connection, records, p.world)
	return p, err
}

// Close ends the player's clients.
func (p *Player) Close() {
	if p.log != nil {
		p.log.close()
	}
	if p.pub != nil {
		p.pub.Close()
	}
	if p.client != nil {
		p.client.Close()
	}
}

// activate approves what waits for a second person, and waits until every subscription is active.
func (p *Player) activate(ctx context.Context, say func(string)) error {
	rows, err := admin.Subscriptions.All(ctx, p.client)
	if err != nil {
		return err
	}
	var pending []string
	for _, s := range p.world.Subscriptions {
		if rows[s.ID].Status == "pending" {
			pending = append(pending, s.ID)
		}
	}
	if len(pending) > 0 {
		requests, err := p.client.ChangeSubscriptions(ctx, admin.By{Actor: approver}, "approve", "", pending...)
		if err := p.client.InEffect(ctx, requests, err); err != nil {
			return err
		}
	}
	err = poll(ctx, func() (bool, error) {
		rows, err := admin.Subscriptions.All(ctx, p.client)
		if err != nil {
			return false, err
		}
		for _, s := range p.world.Subscriptions {
			if rows[s.ID].Status == verdict.StatusActivating {
				return false, nil
			}
		}
		return true, nil
	})
	if err == nil {
		say(fmt.Sprintf("%d subscriptions approved by a second person, all active", len(pending)))
	}
	return err
}

func (p *Player) consents(ctx context.Context, cs []refdata.Consent) error {
	if len(cs) == 0 {
		return nil
	}
	requests, err := p.client.ChangeConsents(ctx, admin.By{Actor: asker}, cs...)
	return p.client.InEffect(ctx, requests, err)
}

// ended waits until the subject's death has ended its consents, and routers may no longer decide on the row before.
func (p *Player) ended(ctx context.Context, subject refdata.Subject) error {
	key, err := p.client.Subject(ctx, subject)
	if err != nil {
		return err
	}
	settings, err := p.client.Settings(ctx)
	if err != nil {
		return err
	}
	err = poll(ctx, func() (bool, error) {
		row, err := admin.Consents.One(ctx, p.client, key)
		return row != nil && row.EndedAt > 0, err
	})
	if err != nil {
		return err
	}
	select {
	case <-time.After(time.Duration(settings.LeaseAgeMillis) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// poll asks every 20 ms until the answer is yes.
func poll(ctx context.Context, ask func() (bool, error)) error {
	for {
		ok, err := ask()
		if ok || err != nil {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
