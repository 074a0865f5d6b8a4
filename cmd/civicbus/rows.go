package main

import (
	"fmt"
	"maps"
	"slices"

	"civicbus/internal/admin"
	"civicbus/internal/refdata"

	"github.com/spf13/cobra"
)

// getCommand prints one row. brief, if it is not nil, leaves out of the YAML what nobody reads, and says so in a line.
func getCommand[T any](what, arg string, table admin.Table[T], brief func(T) (row T, left string)) *cobra.Command {
	cmd := &cobra.Command{
		Use: "get " + arg, Short: "Print one " + what, Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			row, err := table.One(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if row == nil {
				return fmt.Errorf("there is no %s %q", what, args[0])
			}
			if brief == nil || format(cmd) == "json" {
				return printRow(cmd, *row)
			}
			short, left := brief(*row)
			if err := printRow(cmd, short); err != nil || left == "" {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "# "+left)
			return err
		},
	}
	formatFlag(cmd, "yaml", "json")
	return cmd
}

// printRow prints a row as the document that apply takes.
func printRow[T any](cmd *cobra.Command, row T) error {
	var text []byte
	var err error
	if format(cmd) == "json" {
		text, err = refdata.JSON(row)
		text = append(text, '\n')
	} else {
		text, err = refdata.YAML(row)
	}
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(text)
	return err
}

// listCommand prints all rows, by key.
func listCommand[T any](what string, table admin.Table[T], header []string, cells func(T) []any) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List every " + what, Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			byKey, err := table.All(cmd.Context(), c)
			if err != nil {
				return err
			}
			var rows []T
			for _, key := range slices.Sorted(maps.Keys(byKey)) {
				rows = append(rows, byKey[key])
			}
			switch format(cmd) {
			case "json":
				if rows == nil {
					rows = []T{}
				}
				return printJSON(cmd.OutOrStdout(), rows)
			case "yaml":
				text, err := refdata.YAML(rows...)
				if err == nil {
					_, err = cmd.OutOrStdout().Write(text)
				}
				return err
			}
			lines := make([][]any, len(rows))
			for i, row := range rows {
				lines[i] = cells(row)
			}
			return printTable(cmd.OutOrStdout(), header, lines)
		},
	}
	formatFlag(cmd, "table", "yaml", "json")
	return cmd
}
