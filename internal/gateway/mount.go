package gateway

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"civicbus/internal/gateway/catalog"
	"civicbus/internal/gateway/publish"
	"civicbus/internal/gateway/replays"
	"civicbus/internal/gateway/subscriptions"
)

// mount declares the routes of every part.
func (g *Gateway) mount() error {
	if err := g.mountReaders(); err != nil {
		return err
	}
	if err := publish.Mount(g.api, g.publisher); err != nil {
		return err
	}
	if g.cfg.Replays != nil {
		if err := replays.Mount(g.api, g.cfg.Replays, g.cfg.Tables); err != nil {
			return err
		}
	}
	cursors, err := hkdf.Key(sha256.New, g.cfg.BusKey, nil, "civicbus gateway list cursors", 32)
	if err != nil {
		return fmt.Errorf("derive the key of cursors: %w", err)
	}
	err = subscriptions.Mount(g.api, subscriptions.Config{Tables: g.cfg.Tables, Commands: g.cfg.Commands, Schemas: g.cfg.Registry, Delivered: g.delivered, CursorKey: cursors,
		Webhooks: subscriptions.Webhooks{Secret: g.cfg.Keys.WebhookSecretText, Attempts: g.attempts, Try: g.cfg.TryWebhook}, Now: g.cfg.Now})
	if err != nil {
		return err
	}
	return catalog.Mount(g.api, catalog.Config{Tables: g.cfg.Tables, Schemas: g.cfg.Registry, Brokers: g.cfg.Connection.Brokers, RegistryURL: g.cfg.RegistryURL,
		PublicURL: g.cfg.PublicURL, Partitions: g.cfg.Partitions})
}
