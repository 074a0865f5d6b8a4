package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/gateway"
	"civicbus/internal/gateway/commands"
	"civicbus/internal/gateway/web"
)

// commandWithin bounds how long a caller of the gateway waits for a command: in regular operation it takes about twice the
// lease's age.
const commandWithin = 20 * time.Second

// newGateway makes the gateway of a node that has connected.
func newGateway(ctx context.Context, n *Node) (*gateway.Gateway, *admin.Client, error) {
	client, err := admin.Dial(ctx, admin.Config{Connection: n.cfg.Connection, Registry: n.cfg.Registry, BusKey: n.cfg.BusKey, Logger: n.log})
	if err != nil {
		return nil, nil, err
	}
	g, err := gateway.New(gateway.Config{Settings: n.cfg.Gateway, Connection: n.cfg.Connection, Registry: n.registry, RegistryURL: n.cfg.Registry.URL,
		Records: n.records, Keys: n.keys, BusKey: n.cfg.BusKey, AuditKey: n.cfg.AuditKey, Partitions: n.cfg.Shape.Partitions, LeaseAge: n.cfg.LeaseAge, Tables: n.world,
		Commands: sender{client, n.cfg.Now}, Replays: replaysOver{sender{client, n.cfg.Now}, n}, TryWebhook: n.tryWebhook, Admission: n.metrics.admission, Tracer: n.cfg.Tracer, Metrics: n.cfg.Metrics, Logger: n.log, Now: n.cfg.Now})
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	return g, client, nil
}

// sender is commands.Sender by the operators' client.
type sender struct {
	client *admin.Client
	now    func() time.Time
}

// Subscription is commands.Sender.
func (s sender) Subscription(ctx context.Context, cmd codecs.SubscriptionCommand) (commands.Outcome, error) {
	requests, err := s.client.SubscriptionCommand(ctx, cmd)
	return s.send(ctx, requests, err)
}

// Consent is commands.Sender.
func (s sender) Consent(ctx context.Context, subject string, cmd codecs.ConsentCommand) (commands.Outcome, error) {
	requests, err := s.client.ConsentCommand(ctx, subject, cmd)
	return s.send(ctx, requests, err)
}

func (s sender) send(ctx context.Context, requests []admin.Request, err error) (commands.Outcome, error) {
	if err != nil {
		return commands.Outcome{}, fmt.Errorf("write a command: %w", err)
	}
	outcomes, err := s.client.Send(ctx, requests, admin.Wait{Timeout: commandWithin})
	switch {
	case err != nil && ctx.Err() != nil:
		return commands.Outcome{}, ctx.Err()
	case err != nil:
		return commands.Outcome{}, errors.Join(web.Unavailable("the command may have been written and may still be carried out: look before asking again"), err)
	case outcomes[0].Status == admin.Unanswered, outcomes[0].Status == admin.Accepted && !outcomes[0].InEffect:
		return commands.Outcome{}, web.Unavailable("the command was written and is not in effect yet: look before asking again")
	}
	o := commands.Outcome{Accepted: outcomes[0].Status == admin.Accepted, Reason: outcomes[0].Reason, Faults: outcomes[0].Faults, Version: outcomes[0].Version, InEffect: outcomes[0].InEffect}
	if o.InEffect {
		o.At = s.now()
	}
	return o, nil
}
