package main

import (
	"civicbus/internal/admin"

	"github.com/spf13/cobra"
)

func newTopicsDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete TOPIC...", Short: "Delete topics of organisations that are revoked", Args: args(cobra.MinimumNArgs(1)),
		Long: "Delete a revoked organisation's own topics, subscriber.{organisation} and inbox.{organisation}, and what stands on them. Without\n" +
			"--execute it only says what would go. One topic that may not be deleted keeps all the others."}
	cmd.Flags().Bool("execute", false, "delete them")
	cmd.RunE = func(cmd *cobra.Command, topics []string) error {
		c, err := dial(cmd)
		if err != nil {
			return err
		}
		defer c.Close()
		plan, err := c.PlanDeletion(cmd.Context(), topics...)
		if err != nil {
			return err
		}
		if err := printDeletion(cmd, plan); err != nil {
			return err
		}
		if execute, _ := cmd.Flags().GetBool("execute"); !execute { // added above
			note(cmd, "Nothing was done: give --execute.")
			return nil
		}
		return c.Delete(cmd.Context(), plan)
	}
	formatFlag(cmd, "table", "json")
	return cmd
}

func printDeletion(cmd *cobra.Command, plan []admin.Deletion) error {
	if format(cmd) == "json" {
		return printJSON(cmd.OutOrStdout(), plan)
	}
	rows := make([][]any, len(plan))
	for i, d := range plan {
		rows[i] = []any{d.Topic, d.Status, d.Offsets, d.Refused}
	}
	return printTable(cmd.OutOrStdout(), []string{"topic", "organisation", "offsets", "kept because"}, rows)
}
