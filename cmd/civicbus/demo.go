package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"civicbus/examples"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/demo"
	"civicbus/internal/embedded"
	"civicbus/internal/gateway"
	"civicbus/internal/gateway/identity"
	"civicbus/internal/gateway/web"

	"github.com/spf13/cobra"
)

func newDemo() *cobra.Command {
	cmd := &cobra.Command{Use: "demo", Short: "Play the example world on a cluster of its own, in memory, and check what comes of it", Args: args(cobra.NoArgs),
		Long: `Starts civicbus whole with an embedded cluster in memory, loads the example organisations, event types, subscriptions
and consents, publishes the example life events, and shows for each who got what and why. Then it tells one birth and what
follows from it over real connections: HTTP, webhooks, a wallet's WebSockets and Kafka consumers. It ends by itself, with 0
only if everything was as examples/scenarios.yaml and examples/story/story.yaml say.`}
	cmd.Flags().Duration("timeout", 3*time.Minute, "give up after this long")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		told, err := tellDemo(cmd)
		if err != nil {
			return err
		}
		return concludeDemo(cmd.OutOrStdout(), told)
	}
	return cmd
}

// demoTold is everything that a demo has shown.
type demoTold struct {
	scenarios []examples.Scenario
	story     *examples.Story
	steps     []demo.Told // of all scenarios
	acts      []demo.Act
	took      time.Duration
}

// concludeDemo compares all that was seen with what was expected, and ends with 1 where it differs.
func concludeDemo(out io.Writer, d demoTold) error {
	t, faults := demo.Conclude(d.scenarios, d.story, d.steps, d.acts)
	fmt.Fprintf(out, "\n%d events (%d held), %d decisions, %d deliveries, %d denials, and a story of %d acts, in %.1f s\n",
		t.Events, t.Held, t.Records, t.Permits, t.Denials, len(d.acts), d.took.Seconds())
	if faults > 0 {
		fmt.Fprintf(out, "NOT as expected: %d differences\n", faults)
		return refused()
	}
	fmt.Fprintln(out, "all as expected")
	return nil
}

// tellDemo starts civicbus, tells everything, and shows it as it goes.
func tellDemo(cmd *cobra.Command) (told demoTold, err error) {
	limit, err := cmd.Flags().GetDuration("timeout")
	if err != nil {
		return told, err
	}
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), limit, fmt.Errorf("not done after %v (--timeout)", limit))
	defer cancel()
	if told.scenarios, err = examples.Scenarios(); err != nil {
		return told, err
	}
	if told.story, err = examples.ReadStory(); err != nil {
		return told, err
	}
	began := time.Now()
	out := cmd.OutOrStdout()
	say := func(text string) { fmt.Fprintf(cmd.ErrOrStderr(), "%5.1fs  %s\n", time.Since(began).Seconds(), text) }
	world, stop, err := startDemo(ctx, cmd, say)
	if err != nil {
		return told, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	player, err := demo.Load(ctx, world, say)
	if err != nil {
		return told, err
	}
	defer player.Close()
	if err := player.Play(ctx, told.scenarios, func(t demo.Told) { demo.Show(out, t); told.steps = append(told.steps, t) }); err != nil {
		return told, err
	}
	fmt.Fprintf(out, "\n%s\n", told.story.Title)
	err = player.Story(ctx, told.story, func(a demo.Act) { demo.ShowAct(out, a); told.acts = append(told.acts, a) })
	told.took = time.Since(began)
	return told, err
}

// startDemo starts a cluster and a node with everything on it, which stop ends.
func startDemo(ctx context.Context, cmd *cobra.Command, say func(string)) (world demo.Config, stop func() error, err error) {
	var stops []func() error
	stop = func() error {
		var errs []error
		for _, f := range slices.Backward(stops) {
			errs = append(errs, f())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	cfg, err := load(cmd, true)
	if err != nil {
		return world, stop, err
	}
	log := slog.New(levelHandler{logger(cmd, cfg).Handler(), slog.LevelError}) // what it would warn of, such as its own issuer, is the demo
	cluster, err := embedded.Start(ctx, embedded.Config{Logger: log})
	if err != nil {
		return world, stop, err
	}
	stops = append(stops, cluster.Close)
	dir, err := os.MkdirTemp("", "civicbus-demo")
	if err != nil {
		return world, stop, err
	}
	stops = append(stops, func() error { return os.RemoveAll(dir) })
	cfg.Kafka.Brokers, cfg.Registry.URL = cluster.Brokers(), cluster.RegistryURL()
	nc, err := nodeConfig(cfg, []byte("the demo's bus key: its cluster ends with it"), log, nil, true)
	if err != nil {
		return world, stop, err
	}
	address := make(chan net.Addr, 1)
	nc.Instance, nc.Webhooks.Development = "demo", true
	nc.Gateway = gateway.Settings{Listen: "127.0.0.1:0", DevelopmentKey: filepath.Join(dir, "development-issuer.key"), Limit: nc.Gateway.Limit, Addr: func(addr net.Addr) { address <- addr }}
	if _, err := app.Apply(ctx, nc); err != nil {
		return world, stop, err
	}
	n, err := app.Connect(ctx, nc)
	if err != nil {
		return world, stop, err
	}
	running, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- n.Run(running) }()
	stops = append(stops, func() error { end(); return <-done })
	issuer, err := identity.OpenDevelopment(nc.Gateway.DevelopmentKey)
	if err != nil {
		return world, stop, err
	}
	world = demo.Config{BusKey: nc.BusKey, Admin: admin.Config{Connection: nc.Connection, Registry: nc.Registry, BusKey: nc.BusKey, Logger: log},
		Token: func(w demo.Who) (string, error) {
			return issuer.Token(identity.Grant{Organisation: w.Organisation, Operator: w.Operator, Person: w.Person, Scopes: web.Scopes()}, time.Now())
		}}
	select {
	case addr := <-address:
		world.Gateway = "http://" + addr.String()
	case err := <-done:
		done <- nil
		return world, stop, errors.Join(errors.New("the node ended"), err)
	case <-ctx.Done():
		return world, stop, ctx.Err()
	}
	say("Kafka on " + cluster.Brokers()[0] + ", Schema Registry on " + cluster.RegistryURL() + ", gateway on " + world.Gateway)
	return world, stop, nil
}
