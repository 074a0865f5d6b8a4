package gatewaytest

import (
	"context"
	"testing"

	"civicbus/codecs"
	"civicbus/e2e/realcluster"
	"civicbus/internal/app"
	"civicbus/internal/embedded"
	"civicbus/internal/kafka"
)

// Cluster is where a test's civicbus runs until it ends: an embedded one; or the one that CIVICBUS_TEST_BROKERS and
// CIVICBUS_TEST_REGISTRY name, from which everything is deleted first, and which has one user at a time. It sets cfg's
// addresses.
func Cluster(t testing.TB, cfg *app.Config) *embedded.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if real := realcluster.FromEnv(); real != nil {
		if err := real.Wipe(ctx); err != nil {
			t.Fatal(err)
		}
		cfg.Connection, cfg.Registry, cfg.Shape.Compact = kafka.Connection{Brokers: real.Brokers}, codecs.RegistryConfig{URL: real.Registry}, true
		return nil
	}
	c, err := embedded.Start(ctx, embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	cfg.Connection, cfg.Registry = kafka.Connection{Brokers: c.Brokers()}, codecs.RegistryConfig{URL: c.RegistryURL()}
	return c
}
