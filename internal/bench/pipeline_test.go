package bench

import (
	"strings"
	"testing"

	"civicbus/internal/embedded"
)

func TestPipelineShort(t *testing.T) {
	long(t)
	c, err := embedded.Start(t.Context(), embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	r, err := pipeline(t.Context(), Config{Brokers: c.Brokers(), Registry: c.RegistryURL(), Events: 500, Say: func(text string) { t.Log(text) }})
	if err != nil {
		t.Fatal(err)
	}
	share := 0.0
	for _, s := range r.Stages {
		share += s.Share
		if s.CPU <= 0 || s.PerSecond <= 0 {
			t.Errorf("stage %s cost nothing", s.Stage)
		}
		if !strings.Contains(Table(r.Stages), "| "+s.Stage+" |") {
			t.Errorf("stage %s is not in the table", s.Stage)
		}
	}
	if len(r.Stages) != 4 || share < 0.999 || share > 1.001 {
		t.Errorf("%d stages with a share of %f, want 4 with all of it", len(r.Stages), share)
	}
}
