package main

import (
	"time"

	"civicbus/internal/admin"

	"github.com/spf13/cobra"
)

func newTail() *cobra.Command {
	cmd := &cobra.Command{
		Use: "tail SUBSCRIBER", Short: "Show a subscriber's deliveries, decoded to JSON, one line each", Args: args(cobra.ExactArgs(1)),
		Long: "Show a subscriber's deliveries as CloudEvents in JSON, one line each. It ends where the topic ends, or goes on with --follow.\n" +
			"Deliveries hold what events say of people, cut to what this subscriber may see.",
		Example: "  civicbus tail kela.fi --from 2h --follow",
		RunE: func(cmd *cobra.Command, args []string) error {
			f := cmd.Flags()
			text, _ := f.GetString("from") // added below
			from, err := admin.ParseFrom(text, time.Now())
			if err != nil {
				return usage(err)
			}
			limit, _ := f.GetInt("number")
			follow, _ := f.GetBool("follow")
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			return c.Tail(cmd.Context(), args[0], admin.Tail{From: from, Limit: limit, Follow: follow}, func(line []byte) error {
				_, err := cmd.OutOrStdout().Write(append(line, '\n'))
				return err
			})
		},
	}
	cmd.Flags().String("from", "beginning", "beginning, an offset of every partition, a duration ago (2h), or a time (RFC 3339)")
	cmd.Flags().IntP("number", "n", 0, "deliveries at most; 0: all")
	cmd.Flags().Bool("follow", false, "go on with what comes")
	return cmd
}
