package admin

import (
	"context"

	"civicbus/codecs"
)

// SubscriptionCommand asks for a whole command on a subscription; its id and its time are filled in where they are empty.
func (c *Client) SubscriptionCommand(ctx context.Context, cmd codecs.SubscriptionCommand) ([]Request, error) {
	return requests(ctx, c, Subscriptions, c.records.SubscriptionCommand, []codecs.SubscriptionCommand{cmd}, func(_ int, cmd codecs.SubscriptionCommand) (string, string, string, codecs.SubscriptionCommand) {
		complete(&cmd.Meta)
		return cmd.Meta.ID, cmd.Subscription.ID, cmd.Kind + " " + cmd.Subscription.ID, cmd
	})
}

// ConsentCommand asks for a whole command on the consents of one subject, given by bus pseudonym.
func (c *Client) ConsentCommand(ctx context.Context, subject string, cmd codecs.ConsentCommand) ([]Request, error) {
	return requests(ctx, c, Consents, c.records.ConsentCommand, []codecs.ConsentCommand{cmd}, func(_ int, cmd codecs.ConsentCommand) (string, string, string, codecs.ConsentCommand) {
		complete(&cmd.Meta)
		return cmd.Meta.ID, subject, cmd.Kind, cmd
	})
}

func complete(m *codecs.Meta) {
	filled := By{ID: m.ID}.meta(0, 1, 0)
	if m.ID == "" {
		m.ID = filled.ID
	}
	if m.IssuedAt == 0 {
		m.IssuedAt = filled.IssuedAt
	}
}
