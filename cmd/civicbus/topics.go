package main

import (
	"fmt"

	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/kafka"

	"github.com/spf13/cobra"
)

func newTopics() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List civicbus's topics as they are", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			topics, err := c.Topics(cmd.Context())
			if err != nil {
				return err
			}
			if format(cmd) == "json" {
				return printJSON(cmd.OutOrStdout(), topics)
			}
			rows := make([][]any, len(topics))
			for i, t := range topics {
				rows[i] = []any{t.Name, t.Partitions, t.Offsets, t.Cleanup, t.RetentionMs}
				if !t.Present {
					rows[i] = []any{t.Name, "missing", "", "", ""}
				}
			}
			return printTable(cmd.OutOrStdout(), []string{"topic", "partitions", "offsets", "cleanup", "retention ms"}, rows)
		},
	}
	formatFlag(list, "table", "json")
	diff := &cobra.Command{
		Use: "diff", Short: "Show in what topics are not as they are wanted", Args: args(cobra.NoArgs),
		Long: "Show in what topics are not as they are wanted. It ends with 1 when there is a difference.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			node, err := wanted(cmd, c)
			if err != nil {
				return err
			}
			diffs, err := c.Diff(cmd.Context(), node.Shape)
			if err != nil {
				return err
			}
			if err := printDifferences(cmd, diffs); err != nil {
				return err
			}
			if len(diffs) > 0 {
				return refused()
			}
			return nil
		},
	}
	formatFlag(diff, "table", "json")
	apply := &cobra.Command{
		Use: "apply", Short: "Create the topics and set what differs", Args: args(cobra.NoArgs),
		Long: "Create the topics of the map, set what differs, and record the settings that all processes of the cluster must agree on\n" +
			"(lease.age, kafka.partitions, the bus key). A number of partitions that differs is refused: it decides where every key lies.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			node, err := wanted(cmd, c)
			if err != nil {
				return err
			}
			diffs, err := app.Apply(cmd.Context(), node)
			if printErr := printDifferences(cmd, diffs); err == nil {
				err = printErr
			}
			return err
		},
	}
	formatFlag(apply, "table", "json")
	return group("topics", "The topics of the map, and how they are configured", list, diff, apply, newTopicsDelete())
}

// wanted gives the settings of the cluster that is connected to, and what a node of it would be: an embedded one has other
// defaults and keeps its tables whole.
func wanted(cmd *cobra.Command, c *admin.Client) (app.Config, error) {
	embedded, err := c.Embedded(cmd.Context())
	if err != nil {
		return app.Config{}, err
	}
	cfg, err := load(cmd, embedded)
	if err != nil {
		return app.Config{}, err
	}
	key, err := busKey(cfg)
	if err != nil {
		return app.Config{}, fmt.Errorf("read the bus key: %w", err)
	}
	node, err := nodeConfig(cfg, key, logger(cmd, cfg), nil, embedded)
	if node.Instance == "" {
		node.Instance = newInstance()
	}
	return node, err
}

func printDifferences(cmd *cobra.Command, diffs []kafka.Difference) error {
	if format(cmd) == "json" {
		return printJSON(cmd.OutOrStdout(), append([]kafka.Difference{}, diffs...))
	}
	if len(diffs) == 0 {
		note(cmd, "every topic is as it is wanted")
		return nil
	}
	rows := make([][]any, len(diffs))
	for i, d := range diffs {
		rows[i] = []any{d.Topic, d.What, d.Want, d.Have}
	}
	return printTable(cmd.OutOrStdout(), []string{"topic", "what", "want", "was"}, rows)
}
