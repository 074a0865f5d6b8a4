package main

import (
	"errors"
	"strings"

	"civicbus/internal/admin"

	"github.com/spf13/cobra"
)

func newGroupsGaps() *cobra.Command {
	cmd := &cobra.Command{
		Use: "gaps [GROUP...]", Short: "Put on record what groups could not read any more, and let them go on after it", Args: args(cobra.ArbitraryArgs),
		Long: "Lists where a group has stopped because what it has to read next is not in its log: it expired before the group came to it\n" +
			"(expired), its topic was made anew (recreated), or has lost its end (cut). The last two look the same from here: --beyond says\n" +
			"which it was. Of a topic that was made anew the group reads everything, of one that has lost its end what comes from now on.\n\n" +
			"With --execute each gap is put into the audit log, as the actor's, and the group goes on after it when it is started again;\n" +
			"it must be stopped. What was lost is not in civicbus: ask its sources for it. Without --execute it shows what it would do.",
		Example: "  civicbus groups gaps\n  civicbus groups gaps router --execute --actor operator:anna",
		RunE:    closeGaps,
	}
	cmd.Flags().Bool("execute", false, "do it")
	cmd.Flags().String("beyond", "", "why an offset lies behind the end of its log: recreated or cut")
	cmd.Flags().String("actor", "", "who does it, as it goes on record (default operator: and the user that runs this)")
	formatFlag(cmd, "table", "json")
	return cmd
}

func closeGaps(cmd *cobra.Command, groups []string) error {
	execute, _ := cmd.Flags().GetBool("execute") // newGroupsGaps added these
	beyond, _ := cmd.Flags().GetString("beyond")
	who, err := actor(cmd)
	if err != nil {
		return err
	}
	c, err := dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	gaps, err := c.Gaps(cmd.Context(), beyond, groups...)
	if errors.Is(err, admin.ErrGapReason) {
		return usage(err)
	}
	if err != nil {
		return err
	}
	if execute && len(gaps) > 0 {
		if err := c.CloseGaps(cmd.Context(), who, gaps); err != nil {
			return err
		}
	}
	if format(cmd) == "json" {
		return printJSON(cmd.OutOrStdout(), gaps)
	}
	if len(gaps) == 0 {
		note(cmd, "there are no gaps")
		return nil
	}
	rows := make([][]any, 0, len(gaps))
	for _, g := range gaps {
		rows = append(rows, []any{g.Group, g.Topic, g.Partition, g.Next, g.First, g.End, orText(g.Reason, "recreated or cut"), strings.Join(g.Members, ", ")})
	}
	if err := printTable(cmd.OutOrStdout(), []string{"group", "topic", "partition", "next", "kept from", "kept to", "reason", "runs on"}, rows); err != nil {
		return err
	}
	if execute {
		note(cmd, "on record; start the groups")
	} else {
		note(cmd, "nothing was done; --execute puts these gaps on record and lets the groups go on after them")
	}
	return nil
}
