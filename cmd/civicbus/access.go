package main

import (
	"context"
	"errors"
	"fmt"

	"civicbus/internal/access"
	"civicbus/internal/admin"
	"civicbus/internal/config"

	"github.com/spf13/cobra"
)

func newAccess() *cobra.Command {
	plan := accessCommand("plan [ORGANISATION...]", "Show in what organisations' access to Kafka is not as it should be", false)
	apply := accessCommand("apply [ORGANISATION...]", "Give and take what is different", true)
	return group("access", "What organisations may do on Kafka by themselves: users, rights, quotas", plan, apply,
		issueCommand("issue", "Make an organisation's Kafka user, and show its password once", false),
		issueCommand("rotate", "Give an organisation's Kafka user a new password, and show it once", true))
}

// limits are the quotas that organisations are wanted to have.
func limits(cfg *config.Config) access.Limits {
	return access.Limits{ReadBytes: int64(cfg.Access.ReadBytes), WriteBytes: int64(cfg.Access.WriteBytes), RequestPercent: float64(cfg.Access.RequestPercent)}
}

// managing connects a command, with the settings that it was called with.
func managing(cmd *cobra.Command, do func(context.Context, *admin.Client, *config.Config) error) error {
	cfg, err := load(cmd, false)
	if err != nil {
		return err
	}
	c, err := dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(cmd.Context(), c, cfg)
}

func accessCommand(use, short string, apply bool) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: args(cobra.ArbitraryArgs),
		Long: short + `.

An organisation that is active in the trust registry reads its own topic and its own consumer groups while it has an approved
subscription that Kafka delivers, and writes its own inbox if it has one. It has no other right. What makes a user is
civicbus access issue: somebody must be told its password. Part access of civicbus run does by itself what apply does.`}
	cmd.RunE = func(cmd *cobra.Command, organisations []string) error {
		return managing(cmd, func(ctx context.Context, c *admin.Client, cfg *config.Config) error {
			a, err := c.Access(ctx, limits(cfg), organisations...)
			if err != nil {
				return err
			}
			for _, w := range a.Plan.Warnings {
				note(cmd, "warning: %s", w)
			}
			if err := printPlan(cmd, a.Plan); err != nil || !apply {
				return err
			}
			return c.ApplyAccess(ctx, a)
		})
	}
	formatFlag(cmd, "table", "json")
	return cmd
}

func printPlan(cmd *cobra.Command, p access.Plan) error {
	if format(cmd) == "json" {
		p.Differences, p.Warnings = append([]access.Difference{}, p.Differences...), append([]access.Warning{}, p.Warnings...)
		return printJSON(cmd.OutOrStdout(), p)
	}
	if len(p.Differences) == 0 {
		note(cmd, "every organisation has the access that it should have")
		return nil
	}
	rows := make([][]any, len(p.Differences))
	for i, d := range p.Differences {
		rows[i] = []any{d.Organisation, d.Change, d.What, d.Detail}
	}
	return printTable(cmd.OutOrStdout(), []string{"organisation", "change", "what", "detail"}, rows)
}

func issueCommand(use, short string, rotate bool) *cobra.Command {
	cmd := &cobra.Command{Use: use + " ORGANISATION", Short: short, Args: args(cobra.ExactArgs(1)),
		Long: short + `.

It prints a client's configuration with the password in it, which is stored nowhere else: whoever loses it needs a new one,
by civicbus access rotate. An old password opens no connection any more; connections that are open last until the brokers
ask anew (connections.max.reauth.ms).`,
		Example: "  civicbus access " + use + " posti.fi > posti.properties\n  kcat -F posti.properties -G posti.fi:reader subscriber.posti.fi"}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return managing(cmd, func(ctx context.Context, c *admin.Client, cfg *config.Config) error {
			client, err := c.IssueAccess(ctx, limits(cfg), args[0], rotate)
			if client.Password == "" {
				return err
			}
			if len(cfg.Access.Brokers) > 0 {
				client.Brokers = cfg.Access.Brokers
			}
			if cfg.Access.RegistryURL != "" {
				client.Registry = cfg.Access.RegistryURL
			}
			text, formatErr := client.Text(format(cmd))
			_, writeErr := fmt.Fprint(cmd.OutOrStdout(), text)
			return errors.Join(err, formatErr, writeErr)
		})
	}
	formatFlag(cmd, access.Formats()...)
	return cmd
}
