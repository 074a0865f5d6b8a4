package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/demo"
	"civicbus/internal/embedded"

	"github.com/spf13/cobra"
)

func newDemo() *cobra.Command {
	cmd := &cobra.Command{Use: "demo", Short: "Play the example world on a cluster of its own, in memory, and check what comes of it", Args: args(cobra.NoArgs),
		Long: `Starts civicbus whole with an embedded cluster in memory, loads the example organisations, event types, subscriptions
and consents, publishes the example life events, and shows for each who got what and why. It ends by itself, with 0
only if every verdict and every delivery was as examples/scenarios.yaml says.`}
	limit := cmd.Flags().Duration("timeout", 3*time.Minute, "give up after this long")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), *limit)
		defer cancel()
		scenarios, err := examples.Scenarios()
		if err != nil {
			return err
		}
		return runDemo(ctx, cmd, scenarios)
	}
	return cmd
}

// runDemo plays the scenarios and ends with 1 when anything differs from what they expect.
func runDemo(ctx context.Context, cmd *cobra.Command, scenarios []examples.Scenario) (err error) {
	cfg, err := load(cmd, true)
	if err != nil {
		return err
	}
	began := time.Now()
	log := warnings(logger(cmd, cfg))
	out := cmd.OutOrStdout()
	say := func(text string) { fmt.Fprintf(cmd.ErrOrStderr(), "%5.1fs  %s\n", time.Since(began).Seconds(), text) }
	cluster, err := embedded.Start(ctx, embedded.Config{Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	cfg.Kafka.Brokers, cfg.Registry.URL = cluster.Brokers(), cluster.RegistryURL()
	key := []byte("the demo's bus key: its cluster ends with it")
	nc, err := nodeConfig(cfg, key, log, nil, true)
	if err != nil {
		return err
	}
	nc.Instance = "demo"
	if _, err := app.Apply(ctx, nc); err != nil {
		return err
	}
	n, err := app.Connect(ctx, nc)
	if err != nil {
		return err
	}
	say("Kafka on " + cluster.Brokers()[0] + ", Schema Registry on " + cluster.RegistryURL())
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- n.Run(running) }()
	defer func() { stop(); err = errors.Join(err, <-done) }()

	player, err := demo.Load(ctx, demo.Config{BusKey: key, Admin: admin.Config{Connection: nc.Connection, Registry: nc.Registry, BusKey: key, Logger: log}}, say)
	if err != nil {
		return err
	}
	defer player.Close()
	var sum demo.Summary
	if err := player.Play(ctx, scenarios, func(t demo.Told) { demo.Show(out, t); sum.Add(t) }); err != nil {
		return err
	}
	t := sum.Totals
	fmt.Fprintf(out, "\n%d events (%d held), %d decisions, %d deliveries, %d denials in %.1fs\n", t.Events, t.Held, t.Records, t.Permits, t.Denials, time.Since(began).Seconds())
	if sum.Faults > 0 || t != examples.Sum(scenarios) {
		fmt.Fprintf(out, "NOT as expected: %d differences\n", sum.Faults)
		return refused()
	}
	fmt.Fprintln(out, "all as expected")
	return nil
}
