package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"

	"github.com/spf13/cobra"
)

// usageLine is what became of one subscription's events.
type usageLine struct {
	Subscription string               `json:"subscription"`
	Subscriber   string               `json:"subscriber"`
	Purpose      string               `json:"purpose"`
	Delivered    int64                `json:"delivered"`
	Repeated     int64                `json:"repeated"`
	Denied       []codecs.UsageDenial `json:"denied"` // the most frequent reason first
	First        time.Time            `json:"first"`
	Last         time.Time            `json:"last"`
}

func newUsage() *cobra.Command {
	cmd := &cobra.Command{
		Use: "usage [SUBSCRIPTION...]", Short: "How much each subscription got, and why it did not get the rest", Args: args(cobra.ArbitraryArgs),
		Long: "How many events each subscription got, each delivery counted once (as far as the last 256 tell repeats), and how many it was\n" +
			"denied, by reason.\n\n" +
			"For operators alone. Do not show subscribers the counts of no_grant and filter_unknown: they tell of people who have granted\n" +
			"nothing to the subscriber, and of how many there are.",
		RunE: func(cmd *cobra.Command, ids []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			rows, err := admin.Usage.All(cmd.Context(), c)
			if err != nil {
				return err
			}
			for _, id := range ids {
				if _, ok := rows[id]; !ok {
					return fmt.Errorf("nothing was decided about a subscription %q so far", id)
				}
			}
			lines := usageLines(rows, ids)
			if format(cmd) == "json" {
				return printJSON(cmd.OutOrStdout(), lines)
			}
			table := make([][]any, len(lines))
			for i, l := range lines {
				var denied []string
				for _, d := range l.Denied {
					denied = append(denied, fmt.Sprintf("%s %d", d.Reason, d.Count))
				}
				table[i] = []any{l.Subscription, l.Subscriber, l.Purpose, l.Delivered, l.Repeated, strings.Join(denied, ", "), l.Last.Format(time.RFC3339)}
			}
			return printTable(cmd.OutOrStdout(), []string{"subscription", "subscriber", "purpose", "delivered", "repeated", "denied", "last"}, table)
		},
	}
	formatFlag(cmd, "table", "json")
	return cmd
}

// usageLines gives the rows of some subscriptions, of all if none is named, by subscription.
func usageLines(rows map[string]codecs.UsageRow, ids []string) []usageLine {
	lines := []usageLine{}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		if len(ids) > 0 && !slices.Contains(ids, id) {
			continue
		}
		r := rows[id]
		denied := append([]codecs.UsageDenial{}, r.Denied...)
		slices.SortStableFunc(denied, func(a, b codecs.UsageDenial) int { return cmp.Compare(b.Count, a.Count) })
		lines = append(lines, usageLine{id, r.Subscriber, r.Purpose, r.Delivered, r.Repeated, denied, time.UnixMilli(r.First).UTC(), time.UnixMilli(r.Last).UTC()})
	}
	return lines
}
