package demo_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/demo"
	"civicbus/internal/embedded"
	"civicbus/topology"
)

// TestPlay plays the example world; then it plays one scenario whose expectations were changed, which must show.
func TestPlay(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cluster, err := embedded.Start(ctx, embedded.Config{})
	must(t, err)
	defer func() { must(t, cluster.Close()) }()
	cfg := app.Config{BusKey: []byte("a bus key for tests, of 32 bytes or more"), Instance: "a", LeaseAge: 300 * time.Millisecond,
		Shape: topology.Shape{Partitions: 4}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	cfg.Connection.Brokers, cfg.Registry.URL = cluster.Brokers(), cluster.RegistryURL()
	_, err = app.Apply(ctx, cfg)
	must(t, err)
	n, err := app.Connect(ctx, cfg)
	must(t, err)
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- n.Run(running) }()
	defer func() { stop(); must(t, <-done) }()
	p, err := demo.Load(ctx, demo.Config{BusKey: cfg.BusKey, Admin: admin.Config{Connection: cfg.Connection, Registry: cfg.Registry, BusKey: cfg.BusKey}}, func(string) {})
	must(t, err)
	defer p.Close()

	scenarios, err := examples.Scenarios()
	must(t, err)
	var steps []demo.Told
	must(t, p.Play(ctx, scenarios, func(told demo.Told) {
		steps = append(steps, told)
		for _, f := range told.Faults {
			t.Errorf("%s: %s: %s", told.Scenario, told.Title, f)
		}
		var b bytes.Buffer
		demo.Show(&b, told)
		if !bytes.Contains(b.Bytes(), []byte(told.EventType)) {
			t.Errorf("what is shown does not name the event type %s", told.EventType)
		}
	}))
	if sum, faults := demo.Conclude(scenarios, &examples.Story{}, steps, nil); faults > 0 {
		t.Errorf("%d differences, totals %+v", faults, sum)
	}

	// The first scenario's decisions are on record: compared with wrong expectations, each difference must be told.
	for name, spoil := range map[string]func(*examples.Verdict){
		"verdict":  func(v *examples.Verdict) { v.Permit = !v.Permit },
		"reason":   func(v *examples.Verdict) { v.Reason = "objected" },
		"fields":   func(v *examples.Verdict) { v.Fields = nil },
		"withheld": func(v *examples.Verdict) { v.Withheld = []string{"data.nothing"} },
		"absent":   func(v *examples.Verdict) { v.Subscription = "sub-nobody" },
	} {
		t.Run(name, func(t *testing.T) {
			changed, err := examples.Scenarios()
			must(t, err)
			step := changed[0].Steps[0]
			spoil(&step.Records[0].Verdicts[0])
			told := 0
			must(t, p.Play(ctx, []examples.Scenario{{Name: name, Steps: []examples.Step{step}}}, func(s demo.Told) { told += len(s.Faults) }))
			if told == 0 {
				t.Error("a wrong expectation was not noticed")
			}
		})
	}
	t.Run("wrong text", func(t *testing.T) {
		step := stepWith(t, func(s *examples.Step) bool { return len(s.Told) > 0 && s.Told[0].Text != "" })
		step.Told[0].Text = "4 services updated."
		told := 0
		must(t, p.Play(ctx, []examples.Scenario{{Name: "wrong text", Steps: []examples.Step{step}}}, func(s demo.Told) { told += len(s.Faults) }))
		if told != 1 {
			t.Errorf("%d faults, want the wrong text alone", told)
		}
	})
}

// stepWith is the first of the scenarios for which something is true.
func stepWith(t *testing.T, is func(*examples.Step) bool) examples.Step {
	t.Helper()
	changed, err := examples.Scenarios()
	must(t, err)
	for _, s := range changed {
		for _, step := range s.Steps {
			if is(&step) {
				return step
			}
		}
	}
	t.Fatal("there is no such step")
	return examples.Step{}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
