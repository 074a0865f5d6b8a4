package admin

import (
	"context"
	"fmt"

	"civicbus/codecs"
	"civicbus/internal/pseudonym"
)

// RotateSecret asks to sign a subscription's deliveries with a next secret.
func (c *Client) RotateSecret(ctx context.Context, by By, subscription string) ([]Request, error) {
	return c.ChangeSubscriptions(ctx, by, "rotate-secret", "", subscription)
}

// WebhookSecret is the secret that a subscription's deliveries are signed with now, as its receiver is given it.
func (c *Client) WebhookSecret(ctx context.Context, subscription string) (string, error) {
	keys, err := c.pseudonyms(ctx)
	if err != nil {
		return "", err
	}
	row, err := c.Webhook(ctx, subscription)
	if err != nil {
		return "", err
	}
	return keys.WebhookSecretText(row.ID, row.SecretVersion), nil
}

// Webhook is a subscription whose deliveries go to a webhook.
func (c *Client) Webhook(ctx context.Context, subscription string) (*codecs.Subscription, error) {
	row, err := Subscriptions.One(ctx, c, subscription)
	switch {
	case err != nil:
		return nil, err
	case row == nil:
		return nil, fmt.Errorf("there is no subscription %q", subscription)
	case row.Delivery.Kind != "webhook":
		return nil, fmt.Errorf("subscription %s goes to no webhook", subscription)
	}
	return row, nil
}

// Pseudonyms are what hangs on the bus key, known to be the cluster's.
func (c *Client) Pseudonyms(ctx context.Context) (*pseudonym.Keys, error) { return c.pseudonyms(ctx) }
