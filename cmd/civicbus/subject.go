package main

import (
	"time"

	"civicbus/internal/admin"

	"github.com/spf13/cobra"
)

func newSubject() *cobra.Command {
	erase := &cobra.Command{
		Use: "erase [-f FILE] --execute", Short: "Deny everything about a subject at once and for good", Args: args(cobra.NoArgs),
		Long: "Deny everything about a subject at once and for good, and drop what the bus keeps of them in its tables. The subject,\n" +
			"scheme:id, is read from a file or standard input. Topics expire by themselves: the date on which the last personal data\n" +
			"of the subject does is printed. Without --execute nothing is done but saying what would be.",
		Example: "  civicbus subject erase --execute < subject.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			who, err := subject(cmd)
			if err != nil {
				return err
			}
			if execute, _ := cmd.Flags().GetBool("execute"); !execute { // added below
				note(cmd, "would deny every event about this subject (%s) from now on, for good, and drop its profile and its consents.", who)
				if err := printRetention(cmd); err != nil {
					return err
				}
				note(cmd, "Nothing was done: give --execute.")
				return nil
			}
			err = change(cmd, func(c *admin.Client, by admin.By) ([]admin.Request, error) {
				return c.EraseSubject(cmd.Context(), by, who)
			})
			if err != nil {
				return err
			}
			return printRetention(cmd)
		},
	}
	erase.Flags().Bool("execute", false, "do it")
	subjectFlag(erase)
	return group("subject", "What the bus keeps of a person or company", changeFlags(erase))
}

// printRetention says when the last personal data expires.
func printRetention(cmd *cobra.Command) error {
	c, err := dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	kept, err := c.PersonalData(cmd.Context())
	if err != nil {
		return err
	}
	if by, ends := admin.ExpiredBy(time.Now(), kept); ends {
		note(cmd, "The last retained personal data of the subject expires on %s: topic %s keeps it for %d days.",
			by.UTC().Format(time.DateOnly), kept[0].Topic, int(kept[0].Keep/(24*time.Hour)))
	} else {
		note(cmd, "Personal data of the subject does not expire: topic %s keeps it for ever. See civicbus topics diff.", kept[0].Topic)
	}
	note(cmd, "Commands, their results and decisions are kept longer; they hold a pseudonym, versions and reasons, and no personal data.")
	return nil
}
