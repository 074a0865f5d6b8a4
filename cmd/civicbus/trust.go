package main

import (
	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/refdata"

	"github.com/spf13/cobra"
)

func newTrust() *cobra.Command {
	status := func(kind, short string) *cobra.Command {
		return changeFlags(&cobra.Command{
			Use: kind + " ORGANISATION", Short: short, Args: args(cobra.ExactArgs(1)),
			RunE: func(cmd *cobra.Command, args []string) error {
				return change(cmd, func(c *admin.Client, by admin.By) ([]admin.Request, error) {
					return c.ChangeOrganisation(cmd.Context(), by, kind, args[0])
				})
			},
		})
	}
	return group("trust", "Organisations: what they may publish and receive",
		applyCommand("organisations", "  civicbus trust apply -f examples/trust/agencies.yaml", refdata.ParseOrganisations,
			func(c *admin.Client, cmd *cobra.Command, by admin.By, rows []codecs.Organisation) ([]admin.Request, error) {
				return c.PutOrganisations(cmd.Context(), by, rows...)
			}),
		getCommand("organisation", "ORGANISATION", admin.Organisations, nil),
		listCommand("organisation", admin.Organisations, []string{"organisation", "version", "status", "name", "source", "publishes", "receives", "inbox"}, func(o codecs.Organisation) []any {
			return []any{o.ID, o.Version, o.Status, o.Name, o.Source, len(o.Publishes), len(o.Receives), o.Inbox}
		}),
		status("suspend", "Let nothing of or to an organisation pass, for a while"),
		status("resume", "End a suspension"),
		status("revoke", "Let nothing of or to an organisation pass, for good"))
}
