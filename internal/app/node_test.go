package app

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/embedded"
	"civicbus/internal/gateway"
	"civicbus/internal/kafka"
	"civicbus/topology"
)

// TestAPartThatEndsEndsTheNode starts a node whose gateway finds its address taken: nothing else of the node may go on as if all
// were well.
func TestAPartThatEndsEndsTheNode(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := embedded.Start(ctx, embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	cfg := Config{Connection: kafka.Connection{Brokers: c.Brokers()}, Registry: codecs.RegistryConfig{URL: c.RegistryURL()}, BusKey: key32(7),
		Shape: topology.Shape{Partitions: 1}, Instance: "a", Parts: []string{PartRelay, PartKeepers, topology.Consent.Name, PartGateway}, Logger: silent,
		Gateway: gateway.Settings{Listen: taken.Addr().String(), DevelopmentKey: filepath.Join(t.TempDir(), "issuer.pem")}}
	if _, err := Apply(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	n, err := Connect(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Run(ctx); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) || ctx.Err() != nil {
		t.Errorf("the node ended with %v", err)
	}
}
