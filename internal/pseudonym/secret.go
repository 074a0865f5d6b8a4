package pseudonym

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
)

// WebhookSecretPrefix begins the text of a secret (Standard Webhooks 1.0.0).
const WebhookSecretPrefix = "whsec_"

// WebhookSecret is the secret, of 32 bytes, that deliveries to a subscription's webhook are signed with, by its number. It is
// derived from the bus key, so that no secret has to be kept: only its number stands on Kafka.
func (k *Keys) WebhookSecret(subscription string, version int64) []byte {
	key, err := hkdf.Key(sha256.New, k.secret, nil, "civicbus webhook secret 1:"+strconv.FormatInt(version, 10)+":"+subscription, 32)
	if err != nil {
		panic(err) // only for lengths that no caller can ask for
	}
	return key
}

// WebhookSecretText is that secret as its receiver is given it.
func (k *Keys) WebhookSecretText(subscription string, version int64) string {
	return WebhookSecretPrefix + base64.StdEncoding.EncodeToString(k.WebhookSecret(subscription, version))
}
