package main

import (
	"civicbus/topology"

	"github.com/spf13/cobra"
)

func newTopology() *cobra.Command {
	cmd := &cobra.Command{
		Use: "topology", Short: "Print the map: every stream, table, group and edge", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var text []byte
			var err error
			switch format(cmd) {
			case "mermaid":
				text = []byte(topology.Mermaid())
			case "json":
				text, err = topology.JSON()
			default:
				text = []byte(topology.Text())
			}
			if err == nil {
				_, err = cmd.OutOrStdout().Write(text)
			}
			return err
		},
	}
	formatFlag(cmd, "text", "mermaid", "json")
	return cmd
}
