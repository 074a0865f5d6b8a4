package main

import (
	"civicbus/internal/admin"
	"civicbus/internal/journeys"

	"github.com/spf13/cobra"
)

func newJourneys() *cobra.Command {
	setup := changeFlags(&cobra.Command{
		Use: "setup", Short: "Put civicbus itself into the trust registry and its own event types into the catalog", Args: args(cobra.NoArgs),
		Long: "Put civicbus itself into the trust registry, and its own event types into the catalog, where they are not yet: without them\n" +
			"nobody is told how a journey stands. What is there stays as it is, so that rules and scopes can be added to it.\n\n" +
			"Afterwards let wallets receive " + journeys.UpdatedType + " and send " + journeys.ConfirmType + ",\n" +
			"and let services receive " + journeys.ConfirmedType + ".",
		RunE: func(cmd *cobra.Command, _ []string) error {
			source, _ := cmd.Flags().GetString("source") // added below
			return change(cmd, func(c *admin.Client, by admin.By) ([]admin.Request, error) { return setUpJourneys(cmd, c, by, source) })
		},
	})
	setup.Flags().String("source", journeys.Source, "ce_source of civicbus's own events")
	return group("journeys", "What became of people's life events at those who received them", setup)
}

// setUpJourneys asks for what is not there.
func setUpJourneys(cmd *cobra.Command, c *admin.Client, by admin.By, source string) (all []admin.Request, err error) {
	ctx := cmd.Context()
	if row, err := admin.Organisations.One(ctx, c, journeys.Organisation); err != nil {
		return nil, err
	} else if row == nil {
		if all, err = c.PutOrganisations(ctx, by, journeys.OwnOrganisation(source)); err != nil {
			return nil, err
		}
	}
	for _, et := range journeys.OwnEventTypes() {
		row, err := admin.EventTypes.One(ctx, c, et.Type)
		if err != nil {
			return nil, err
		}
		if row != nil {
			continue
		}
		requests, err := c.PutEventTypes(ctx, by, et)
		if err != nil {
			return nil, err
		}
		all = append(all, requests...)
	}
	return all, nil
}
