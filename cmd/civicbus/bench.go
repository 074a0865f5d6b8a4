package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"civicbus/internal/bench"
	"civicbus/internal/embedded"

	"github.com/spf13/cobra"
)

func newBench() *cobra.Command {
	var about []string
	for _, b := range bench.All() {
		about = append(about, "  "+b.Name+"\t"+b.About)
	}
	cmd := &cobra.Command{Use: "bench NAME...", Short: "Measure civicbus against what one would use instead, side by side", Args: args(cobra.MinimumNArgs(1)),
		Long: "Each benchmark runs both sides in turn, several times, on an embedded cluster in a process of its own.\n\n" + strings.Join(about, "\n")}
	output := cmd.Flags().StringP("output", "o", "text", "text or json")
	runs := cmd.Flags().Int("runs", 0, "runs of each side; 0: the benchmark's own number")
	events := cmd.Flags().Int("events", 0, "events a run; 0: the benchmark's own number")
	kills := cmd.Flags().Int("kills", 0, "soak: processes to kill; 0: 220")
	lasting := cmd.Flags().Duration("for", 0, "soak: how long to kill; 0: 4m")
	seed := cmd.Flags().Uint64("seed", 0, "soak: of what is done at random; 0: a random one, which is shown")
	profile := cmd.Flags().String("profile", "", "write the processor profile of our side to this file")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		var failed error
		for _, name := range names {
			r, err := runBench(cmd, name, bench.Config{Runs: *runs, Events: *events, Profile: *profile, Kills: *kills, For: *lasting, Seed: *seed, Say: func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }})
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := r.Soak.Err(); err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
			}
			if *output == "json" {
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(r); err != nil {
					return err
				}
				continue
			}
			if len(r.Stages) > 0 {
				fmt.Fprint(cmd.OutOrStdout(), bench.Table(r.Stages))
				continue
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ratio %.3f (ours %.2f, theirs %.2f %s, %d runs)\n", r.Name, r.Ratio, r.Ours, r.Theirs, r.Unit, r.Runs)
		}
		return failed
	}
	cmd.AddCommand(newBenchBroker(), newBenchFeed(), newBenchNode())
	return cmd
}

// runBench gives a benchmark a broker of its own, in another process: what the broker costs must not count.
func runBench(cmd *cobra.Command, name string, cfg bench.Config) (r bench.Result, err error) {
	if bench.NoBroker(name) {
		return bench.Run(cmd.Context(), name, cfg)
	}
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	broker := exec.CommandContext(cmd.Context(), self, "bench", "broker") //nolint:gosec // this program
	broker.Stderr = cmd.ErrOrStderr()
	stdin, err := broker.StdinPipe()
	if err != nil {
		return r, err
	}
	stdout, err := broker.StdoutPipe()
	if err != nil {
		return r, err
	}
	if err := broker.Start(); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stdin.Close(), broker.Wait()) }()
	lines := bufio.NewScanner(stdout)
	for _, into := range []*string{new(string), &cfg.Registry} {
		if !lines.Scan() {
			return r, errors.New("the broker process did not say where it listens")
		}
		*into = lines.Text()
		if cfg.Brokers == nil {
			cfg.Brokers = []string{*into}
		}
	}
	cfg.Feed = func(ctx context.Context, first, n int) error {
		feed := exec.CommandContext(ctx, self, "bench", "feed", cfg.Brokers[0], cfg.Registry, strconv.Itoa(first), strconv.Itoa(n)) //nolint:gosec // this program
		feed.Stderr = cmd.ErrOrStderr()
		return feed.Run()
	}
	cfg.Node = func(ctx context.Context, instance string) (func() error, error) {
		return benchNode(ctx, self, instance, cfg)
	}
	return bench.Run(cmd.Context(), name, cfg)
}

// benchNode starts a node with every group in another process, and returns when it is ready; stop ends it.
func benchNode(ctx context.Context, self, instance string, cfg bench.Config) (stop func() error, err error) {
	node := exec.CommandContext(ctx, self, append([]string{"bench", "node", instance, cfg.Registry}, cfg.Brokers...)...) //nolint:gosec // this program
	stdin, err := node.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := node.Start(); err != nil {
		return nil, err
	}
	stop = func() error { return errors.Join(stdin.Close(), node.Wait()) }
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if lines.Text() == "ready" {
			return stop, nil
		}
	}
	return nil, errors.Join(errors.New("the node of the benchmark ended before it was ready"), stop())
}

// newBenchBroker is the other process: a cluster in memory that lives as long as its standard input is open.
func newBenchBroker() *cobra.Command {
	cmd := &cobra.Command{Use: "broker", Hidden: true, Args: args(cobra.NoArgs)}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := embedded.Start(cmd.Context(), embedded.Config{})
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s\n", c.Brokers()[0], c.RegistryURL())
		for in := bufio.NewScanner(cmd.InOrStdin()); in.Scan(); {
			continue
		}
		return c.Close()
	}
	return cmd
}

// newBenchFeed is the source: it writes events of the benchmarks' world.
func newBenchFeed() *cobra.Command {
	cmd := &cobra.Command{Use: "feed BROKER REGISTRY FIRST COUNT", Hidden: true, Args: args(cobra.ExactArgs(4))}
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		first, err := strconv.Atoi(given[2])
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(given[3])
		if err != nil {
			return err
		}
		return bench.Feed(cmd.Context(), bench.Config{Brokers: given[:1], Registry: given[1]}, first, n)
	}
	return cmd
}
