package main

import (
	"errors"

	"civicbus/internal/admin"
	"civicbus/internal/refdata"

	"github.com/spf13/cobra"
)

func newConsent() *cobra.Command {
	get := &cobra.Command{
		Use: "get [-f FILE]", Short: "Print what one subject has said about sharing", Args: args(cobra.NoArgs),
		Long: "Print what one subject has said about sharing: grants, objections, restrictions. The subject, scheme:id, is read from a\n" +
			"file or standard input, and is not printed. There is no list: without its subject a row says nothing.",
		Example: "  civicbus consent get < subject.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			who, err := subject(cmd)
			if err != nil {
				return err
			}
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			key, err := c.Subject(cmd.Context(), who)
			if err != nil {
				return err
			}
			row, err := admin.Consents.One(cmd.Context(), c, key)
			if err != nil {
				return err
			}
			if row == nil {
				return errors.New("the subject has said nothing")
			}
			return printRow(cmd, *row)
		},
	}
	formatFlag(get, "yaml", "json")
	subjectFlag(get)
	return group("consent", "Grants, objections and restrictions of people and companies",
		applyCommand("consents", "  civicbus consent apply -f examples/consents/consents.yaml", refdata.ParseConsents,
			func(c *admin.Client, cmd *cobra.Command, by admin.By, documents []refdata.Consent) ([]admin.Request, error) {
				return c.ChangeConsents(cmd.Context(), by, documents...)
			}),
		get)
}
