package main

import (
	"fmt"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/refdata"

	"github.com/spf13/cobra"
)

// changeFlags adds what every command that changes reference data knows.
func changeFlags(cmd *cobra.Command) *cobra.Command {
	f := cmd.Flags()
	f.String("actor", "", "who asks, as it goes on record (default operator: and the user that runs this)")
	f.String("id", "", "id of the command, so that it can be repeated without doing it twice (default a random one)")
	f.Int64("if-version", 0, "the row's version that the change was made on; 0: the one that the document names, or any")
	f.Bool("no-wait", false, "wait only until it is accepted or refused, and print the version")
	f.Duration("timeout", 30*time.Second, "how long to wait; 0: for ever")
	formatFlag(cmd, "table", "json")
	return cmd
}

// change connects, builds the commands and follows them. It ends with 0 once all are in effect (with --no-wait: accepted),
// 1 when one is refused, 2 when the time is over.
func change(cmd *cobra.Command, build func(c *admin.Client, by admin.By) ([]admin.Request, error)) error {
	f := cmd.Flags()
	who, err := actor(cmd)
	if err != nil {
		return err
	}
	by := admin.By{Actor: who}
	by.ID, _ = f.GetString("id") // changeFlags added these
	by.IfVersion, _ = f.GetInt64("if-version")
	var wait admin.Wait
	wait.AnswerOnly, _ = f.GetBool("no-wait")
	wait.Timeout, _ = f.GetDuration("timeout")
	c, err := dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	requests, err := build(c, by)
	if err != nil {
		return err
	}
	outcomes, err := c.Send(cmd.Context(), requests, wait)
	if err != nil {
		return err
	}
	if err := printOutcomes(cmd, outcomes); err != nil {
		return err
	}
	return verdictOf(outcomes, wait.AnswerOnly)
}

func printOutcomes(cmd *cobra.Command, outcomes []admin.Outcome) error {
	if format(cmd) == "json" {
		return printJSON(cmd.OutOrStdout(), outcomes)
	}
	rows := make([][]any, len(outcomes))
	for i, o := range outcomes {
		rows[i] = []any{o.About, o.Version, state(o)}
	}
	if err := printTable(cmd.OutOrStdout(), []string{"command", "version", "state"}, rows); err != nil {
		return err
	}
	for _, o := range outcomes {
		if o.Status == admin.Refused {
			note(cmd, "%s refused: %s", o.About, o.Reason)
			printFaults(cmd, o.Faults)
		}
	}
	return nil
}

func state(o admin.Outcome) string {
	switch {
	case o.InEffect && o.Row > o.Version:
		return fmt.Sprintf("in effect, and changed since (version %d)", o.Row)
	case o.InEffect:
		return "in effect"
	case o.Status == admin.Accepted:
		return "accepted, not yet in effect"
	case o.Status == admin.Refused:
		return "refused: " + o.Reason
	}
	return "written, not yet answered"
}

func verdictOf(outcomes []admin.Outcome, answerOnly bool) error {
	late := false
	for _, o := range outcomes {
		if o.Status == admin.Refused {
			return refused()
		}
		late = late || o.Status == admin.Unanswered || !o.InEffect && !answerOnly
	}
	if late {
		return unfinished()
	}
	return nil
}

// printFaults tells people what is wrong, by field.
func printFaults(cmd *cobra.Command, faults []codecs.Fault) {
	for _, f := range faults {
		field := f.Field
		if field != "" {
			field += ": "
		}
		note(cmd, "  %s%s (%s)", field, f.Text, f.Reason)
	}
}

// applyCommand reads documents and asks for each in turn.
func applyCommand[T any](what, example string, parse func([]byte) ([]T, []codecs.Fault), build func(c *admin.Client, cmd *cobra.Command, by admin.By, rows []T) ([]admin.Request, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use: "apply -f FILE...", Short: "Apply " + what + " from YAML or JSON documents",
		Long: "Apply " + what + " from YAML or JSON documents, several in a file, in their order.\n\n" +
			"It ends with 0 once all are in effect, 1 when one is refused, 2 when the time is over first.",
		Example: example, Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			files, _ := cmd.Flags().GetStringArray("file") // added below
			if len(files) == 0 {
				return usage(fmt.Errorf("%s: -f FILE is needed; - is standard input", cmd.CommandPath()))
			}
			var all []T
			for _, name := range files {
				text, err := read(cmd, name, refdata.MaxDocumentBytes)
				if err != nil {
					return err
				}
				rows, faults := parse(text)
				if len(faults) > 0 {
					note(cmd, "%s cannot be read:", name)
					printFaults(cmd, faults)
					return refused()
				}
				all = append(all, rows...)
			}
			return change(cmd, func(c *admin.Client, by admin.By) ([]admin.Request, error) { return build(c, cmd, by, all) })
		},
	}
	cmd.Flags().StringArrayP("file", "f", nil, "file of documents, YAML or JSON; - is standard input; may be repeated")
	return changeFlags(cmd)
}
