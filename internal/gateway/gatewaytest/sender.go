package gatewaytest

import (
	"context"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/gateway/commands"
)

// Sender sends commands as a node's gateway does.
type Sender struct{ b *Bus }

// Sender is the bus's.
func (b *Bus) Sender() Sender { return Sender{b} }

// Subscription is commands.Sender.
func (s Sender) Subscription(ctx context.Context, cmd codecs.SubscriptionCommand) (commands.Outcome, error) {
	requests, err := s.b.Admin.SubscriptionCommand(ctx, cmd)
	return s.send(ctx, requests, err)
}

// Consent is commands.Sender.
func (s Sender) Consent(ctx context.Context, subject string, cmd codecs.ConsentCommand) (commands.Outcome, error) {
	requests, err := s.b.Admin.ConsentCommand(ctx, subject, cmd)
	return s.send(ctx, requests, err)
}

func (s Sender) send(ctx context.Context, requests []admin.Request, err error) (commands.Outcome, error) {
	if err != nil {
		return commands.Outcome{}, err
	}
	all, err := s.b.Admin.Send(ctx, requests, admin.Wait{Timeout: within})
	if err != nil {
		return commands.Outcome{}, err
	}
	o := commands.Outcome{Accepted: all[0].Status == admin.Accepted, Reason: all[0].Reason, Faults: all[0].Faults, Version: all[0].Version, InEffect: all[0].InEffect}
	if o.InEffect {
		o.At = time.Now()
	}
	return o, nil
}
