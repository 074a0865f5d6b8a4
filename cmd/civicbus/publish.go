package main

import (
	"fmt"

	"civicbus/internal/admission"

	"github.com/spf13/cobra"
)

func newPublish() *cobra.Command {
	cmd := &cobra.Command{
		Use: "publish -f FILE --as ORGANISATION", Short: "Publish CloudEvents in JSON", Args: args(cobra.NoArgs),
		Long: "Publish CloudEvents in JSON: one event, an array of them, or one after the other. JSON data is converted to the newest Avro\n" +
			"schema of its type; Avro goes into data_base64. National ids become pseudonyms and are never printed.\n\n" +
			"An event is accepted, held (its subject is not known: a dead letter keeps it) or refused, with what is wrong by field.\n" +
			"It ends with 1 when one was refused.",
		Example: "  civicbus publish --as hus.fi -f examples/events/birth.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, _ := cmd.Flags().GetString("file") // added below
			organisation, _ := cmd.Flags().GetString("as")
			if file == "" || organisation == "" {
				return usage(fmt.Errorf("%s: -f FILE and --as ORGANISATION are needed; the file - is standard input", cmd.CommandPath()))
			}
			return publish(cmd, file, organisation)
		},
	}
	cmd.Flags().StringP("file", "f", "", "file of events; - is standard input")
	cmd.Flags().String("as", "", "the organisation whose events they are, as it stands in the trust registry")
	formatFlag(cmd, "table", "json")
	return cmd
}

// answer is what became of one event, as it is printed.
type answer struct {
	Event     int    `json:"event"` // its number in the file, from 1
	Status    string `json:"status"`
	LifeEvent string `json:"lifeEventId,omitempty"`
	Subjects  int    `json:"subjects"`
	Faults    any    `json:"faults,omitempty"`
	Error     string `json:"error,omitempty"` // what could not be reached, of status unavailable
}

func publish(cmd *cobra.Command, file, organisation string) error {
	in, err := open(cmd, file)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // nothing was written
	c, err := dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	publisher, err := c.NewPublisher(cmd.Context())
	if err != nil {
		return err
	}
	defer publisher.Close()
	step, end := progress(cmd, -1, "publishing")
	counts := map[admission.Status]int{}
	err = publisher.Events(cmd.Context(), organisation, admission.ReadEvents(in, organisation), func(number int, a admission.Answer) error {
		step()
		counts[a.Status]++
		return printAnswer(cmd, number, a)
	})
	end()
	if err != nil {
		return err
	}
	note(cmd, "%d accepted, %d held, %d refused, %d not known", counts[admission.Accepted], counts[admission.Held], counts[admission.Refused], counts[admission.Unavailable])
	if counts[admission.Refused]+counts[admission.Unavailable] > 0 {
		return refused()
	}
	return nil
}

// printAnswer writes a line for each event as it is answered: there may be millions.
func printAnswer(cmd *cobra.Command, number int, a admission.Answer) error {
	out := cmd.OutOrStdout()
	if format(cmd) == "json" {
		line := answer{Event: number, Status: string(a.Status), LifeEvent: a.LifeEvent, Subjects: a.Subjects}
		if len(a.Faults) > 0 {
			line.Faults = a.Faults
		}
		if a.Err != nil {
			line.Error = a.Err.Error()
		}
		return printLine(out, line)
	}
	if _, err := fmt.Fprintf(out, "%d\t%s\t%s\t%d subjects\n", number, a.Status, orText(a.LifeEvent, "-"), a.Subjects); err != nil {
		return err
	}
	switch {
	case a.Err != nil:
		note(cmd, "event %d: nobody knows yet whether it is in; publishing it again does no harm: %v", number, a.Err)
	case a.Status != admission.Accepted:
		note(cmd, "event %d %s:", number, a.Status)
		printFaults(cmd, a.Faults)
	}
	return nil
}
