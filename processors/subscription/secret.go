package subscription

import (
	"time"

	"civicbus/codecs"
	"civicbus/processors/command"
)

// How long deliveries are signed with the secret before too, after a rotation: unless the command says otherwise, and at most.
const (
	SecretOverlap    = 24 * time.Hour
	MaxSecretOverlap = 7 * 24 * time.Hour
)

// rotate gives the webhook's signatures their next secret. Of the one before the last nothing is signed any more.
func rotate(row *codecs.Subscription, cmd *codecs.SubscriptionCommand, now time.Time) (*codecs.Subscription, command.Refusal) {
	if row.Delivery.Kind != "webhook" {
		return nil, command.Refuse(NotAWebhook, "delivery.kind", "only deliveries to a webhook are signed")
	}
	until := cmd.Subscription.SecretOverlap
	if until == 0 {
		until = codecs.Millis(now.Add(SecretOverlap))
	}
	if until > codecs.Millis(now.Add(MaxSecretOverlap)) {
		return nil, command.Refuse(OverlapTooLong, "secretOverlap", "at most "+MaxSecretOverlap.String()+" from now")
	}
	next := *row
	next.SecretVersion, next.SecretOverlap = row.SecretVersion+1, until
	return &next, command.Refusal{}
}
