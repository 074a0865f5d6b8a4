package main

import (
	"civicbus/internal/bench"

	"github.com/spf13/cobra"
)

// newBenchNode is a process of the soak, which it kills: INSTANCE REGISTRY BROKER...
func newBenchNode() *cobra.Command {
	return &cobra.Command{Use: "node", Hidden: true, Args: args(cobra.MinimumNArgs(3)), RunE: func(cmd *cobra.Command, names []string) error {
		return bench.SoakNode(cmd.Context(), names, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
	}}
}
