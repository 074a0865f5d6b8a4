package bench

import (
	"testing"

	"civicbus/internal/embedded"
)

func TestGatewayShort(t *testing.T) {
	long(t)
	c, err := embedded.Start(t.Context(), embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	r, err := gatewayFor(t.Context(), Config{Brokers: c.Brokers(), Registry: c.RegistryURL(), Events: 400, Runs: 1, Say: func(text string) { t.Log(text) }}, crowd{readers: 50})
	if err != nil {
		t.Fatal(err)
	}
	g := r.Gateway
	if g.Published != 400 || g.Deliveries != 400*gatewayMatching || g.Lost != 0 || g.Repeated != 0 {
		t.Errorf("%+v", g)
	}
	if r.Ratio <= 0 || g.SingleP50[0] <= 0 || g.BatchMillis[1] <= 0 || g.HeapAfter <= 0 {
		t.Errorf("%+v %+v", r, g)
	}
}
