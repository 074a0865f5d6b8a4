package main

import (
	"time"

	"civicbus/internal/admin"

	"github.com/spf13/cobra"
)

func newLag() *cobra.Command {
	cmd := &cobra.Command{
		Use: "lag [GROUP...]", Short: "How far groups are behind, in records and seconds", Args: args(cobra.ArbitraryArgs),
		Long: "How far groups are behind: what is committed, the last stable offset, and between them the records that wait (transaction\n" +
			"markers among them counted) and the age of the first. Only partitions that are behind, and the sum of each group, unless --all.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			lags, err := c.Lag(cmd.Context(), args...)
			if err != nil {
				return err
			}
			if format(cmd) == "json" {
				return printJSON(cmd.OutOrStdout(), lags)
			}
			all, _ := cmd.Flags().GetBool("all") // added below
			return printLag(cmd, lags, all)
		},
	}
	cmd.Flags().Bool("all", false, "also partitions where nothing waits")
	formatFlag(cmd, "table", "json")
	return cmd
}

func printLag(cmd *cobra.Command, lags []admin.Lag, all bool) error {
	var rows [][]any
	var sums []admin.Lag // one a group
	for _, l := range lags {
		if len(sums) == 0 || sums[len(sums)-1].Group != l.Group {
			sums = append(sums, admin.Lag{Group: l.Group})
		}
		sum := &sums[len(sums)-1]
		sum.Records += l.Records
		sum.Behind = max(sum.Behind, l.Behind)
		if all || l.Records > 0 {
			rows = append(rows, []any{l.Group, l.Topic, l.Partition, committed(l), l.Stable, l.Records, l.Behind.Round(time.Millisecond)})
		}
	}
	for _, s := range sums {
		rows = append(rows, []any{s.Group, "(all)", "", "", "", s.Records, s.Behind.Round(time.Millisecond)})
	}
	return printTable(cmd.OutOrStdout(), []string{"group", "topic", "partition", "committed", "stable", "records", "behind"}, rows)
}

func committed(l admin.Lag) any {
	if l.Committed < 0 {
		return "-"
	}
	return l.Committed
}
