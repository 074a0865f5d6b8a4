package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"civicbus/internal/admin"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"
)

func newGroups() *cobra.Command {
	cmd := &cobra.Command{
		Use: "groups [GROUP...]", Short: "Who works in which group, how far behind it is, and what it still recovers", Args: args(cobra.ArbitraryArgs),
		Long: "The members of every group with the partitions that each has, the records that wait and the age of the first, and, with\n" +
			"--metrics, what nodes still have to read of their tables before they go on.",
		Example: "  civicbus groups --metrics http://127.0.0.1:9644/metrics",
		RunE:    showGroups,
	}
	cmd.Flags().StringArray("metrics", nil, "where a node tells its metrics; may be repeated")
	formatFlag(cmd, "table", "json")
	cmd.AddCommand(newGroupsDrain(), newGroupsRebuild(), newGroupsGaps())
	return cmd
}

// groupShown is a group as it is printed.
type groupShown struct {
	admin.GroupState
	Recovering *int64 `json:"recovering,omitempty"` // offsets of its tables still to be read, on all nodes asked; absent: none was asked
}

func showGroups(cmd *cobra.Command, names []string) error {
	addresses, _ := cmd.Flags().GetStringArray("metrics") // newGroups added it
	recovering := map[string]int64{}
	for _, address := range addresses {
		if err := addRecovering(cmd, address, recovering); err != nil {
			return err
		}
	}
	c, err := dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	states, err := c.Groups(cmd.Context(), names...)
	if err != nil {
		return err
	}
	all := make([]groupShown, 0, len(states))
	for _, s := range states {
		g := groupShown{GroupState: s}
		if len(addresses) > 0 {
			n := recovering[s.Group]
			g.Recovering = &n
		}
		all = append(all, g)
	}
	if format(cmd) == "json" {
		return printJSON(cmd.OutOrStdout(), all)
	}
	var rows [][]any
	for _, g := range all {
		left := "-"
		if g.Recovering != nil {
			left = strconv.FormatInt(*g.Recovering, 10)
		}
		first := []any{g.Group, strings.ToLower(g.State), g.Records, g.Behind.Round(time.Millisecond), left}
		if len(g.Members) == 0 {
			rows = append(rows, append(first, "(nobody)", ""))
		}
		for i, m := range g.Members {
			if i > 0 {
				first = []any{"", "", "", "", ""}
			}
			rows = append(rows, append(first, m.Instance, numbers(m.Partitions)))
		}
	}
	return printTable(cmd.OutOrStdout(), []string{"group", "state", "waiting", "behind", "recovering", "instance", "partitions"}, rows)
}

const (
	metricsWithin = 5 * time.Second
	metricsBytes  = 16 << 20
	recoveryName  = "civicbus_table_recovery_records"
)

// addRecovering reads from a node's metrics what it still recovers, by group.
func addRecovering(cmd *cobra.Command, address string, to map[string]int64) error {
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, address, nil)
	if err != nil {
		return usage(fmt.Errorf("--metrics %q: %w", address, err))
	}
	client := http.Client{Timeout: metricsWithin}
	answer, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("read the metrics: %w", err)
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("read the metrics at %s: status %d", address, answer.StatusCode)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(io.LimitReader(answer.Body, metricsBytes))
	if err != nil {
		return fmt.Errorf("read the metrics at %s: %w", address, err)
	}
	for _, m := range families[recoveryName].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "group" {
				to[l.GetValue()] += int64(m.GetGauge().GetValue())
			}
		}
	}
	return nil
}

// numbers writes partition numbers, runs of them shortened: 0-3,7.
func numbers(all []int32) string {
	var out []string
	for i := 0; i < len(all); {
		j := i
		for j+1 < len(all) && all[j+1] == all[j]+1 {
			j++
		}
		if j == i {
			out = append(out, strconv.Itoa(int(all[i])))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", all[i], all[j]))
		}
		i = j + 1
	}
	return strings.Join(out, ",")
}

func newGroupsDrain() *cobra.Command {
	cmd := &cobra.Command{
		Use: "drain INSTANCE", Short: "Take a stopped instance out of its groups for good", Args: args(cobra.ExactArgs(1)),
		Long: "An instance that is stopped keeps its partitions until its session times out, so that a restart moves nothing. Drain ends that:\n" +
			"the others get them at once. Stop the instance first; one that still runs would come back. Without --execute it shows what it\n" +
			"would do.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			plan, err := c.PlanDrain(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			execute, _ := cmd.Flags().GetBool("execute") // added below
			if len(plan) == 0 {
				note(cmd, "%s is in no group", args[0])
				return refused()
			}
			if execute {
				if err := c.Drain(cmd.Context(), args[0], plan); err != nil {
					return err
				}
			}
			if format(cmd) == "json" {
				return printJSON(cmd.OutOrStdout(), plan)
			}
			rows := make([][]any, 0, len(plan))
			for _, l := range plan {
				rows = append(rows, []any{l.Group, numbers(l.Partitions), l.Others})
			}
			if err := printTable(cmd.OutOrStdout(), []string{"group", "partitions", "other members"}, rows); err != nil {
				return err
			}
			if !execute {
				note(cmd, "nothing was done; --execute takes %s out of these groups", args[0])
			}
			return nil
		}}
	cmd.Flags().Bool("execute", false, "do it")
	formatFlag(cmd, "table", "json")
	return cmd
}

func newGroupsRebuild() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rebuild GROUP", Short: "Make a stopped group's table again out of its inputs", Args: args(cobra.ExactArgs(1)),
		Long: "Drops the rows of the group's table and sets the group back to the begin of its inputs; the group makes the table again when it\n" +
			"is started. Only a group that writes nothing but its table can be rebuilt so, and it must be stopped. Without --execute it\n" +
			"shows what it would do.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			plan, err := c.PlanRebuild(cmd.Context(), args[0])
			if errors.Is(err, admin.ErrNotRebuilt) {
				note(cmd, "%v", err)
				return refused()
			}
			if err != nil {
				return err
			}
			execute, _ := cmd.Flags().GetBool("execute") // added below
			if execute {
				if err := c.Rebuild(cmd.Context(), plan); err != nil {
					return err
				}
			}
			if format(cmd) == "json" {
				return printJSON(cmd.OutOrStdout(), plan)
			}
			sort.Strings(plan.Expired)
			note(cmd, "group %s: %d rows are dropped, %d offsets of its inputs are read again", plan.Group, plan.Rows, plan.Records)
			if len(plan.Expired) > 0 {
				note(cmd, "not everything is kept of %s: what has expired is not in the new table", strings.Join(plan.Expired, ", "))
			}
			switch {
			case execute:
				note(cmd, "done; start the group")
			case len(plan.Members) > 0:
				note(cmd, "the group runs on %s: stop it first", strings.Join(plan.Members, ", "))
			default:
				note(cmd, "nothing was done; --execute does it")
			}
			return nil
		}}
	cmd.Flags().Bool("execute", false, "do it")
	formatFlag(cmd, "table", "json")
	return cmd
}
