package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"civicbus/internal/admin"
	"civicbus/internal/admission"

	"github.com/spf13/cobra"
)

func newDeadLetters() *cobra.Command {
	return group("dead-letters", "What could not be processed or delivered", newLettersList(), newLettersShow(), newLettersRedrive())
}

// letterFlags add what narrows a choice of dead letters.
func letterFlags(cmd *cobra.Command) {
	cmd.Flags().StringSlice("cause", nil, "only of these causes")
	cmd.Flags().String("group", "", "only of this group, or admission")
	cmd.Flags().String("since", "", "only from a duration ago (2h) or a time (RFC 3339) on")
}

func letterFilter(cmd *cobra.Command, places []string) (admin.LetterFilter, error) {
	var f admin.LetterFilter
	f.Causes, _ = cmd.Flags().GetStringSlice("cause") // letterFlags added these
	f.Group, _ = cmd.Flags().GetString("group")
	if since, _ := cmd.Flags().GetString("since"); since != "" {
		from, err := admin.ParseFrom(since, time.Now())
		if err != nil || from.Since.IsZero() {
			return f, usage(fmt.Errorf("--since %q: want a duration ago (2h) or a time (RFC 3339)", since))
		}
		f.Since = from.Since
	}
	for _, text := range places {
		p, err := admin.ParsePlace(text)
		if err != nil {
			return f, usage(err)
		}
		f.Places = append(f.Places, p)
	}
	return f, nil
}

// letterLine is a dead letter as it is listed.
type letterLine struct {
	Place        string    `json:"place"`
	Cause        string    `json:"cause"`
	Group        string    `json:"group"`
	From         string    `json:"from,omitempty"`
	Subscription string    `json:"subscription,omitempty"`
	At           time.Time `json:"at"`
	Detail       string    `json:"detail"`
}

func newLettersList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List dead letters, and how many there are of each cause", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := letterFilter(cmd, nil)
			if err != nil {
				return err
			}
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			limit, _ := cmd.Flags().GetInt("limit") // added below
			lines, causes := []letterLine{}, map[string]int{}
			for l, err := range c.Letters(cmd.Context(), filter) {
				if err != nil {
					return err
				}
				causes[l.Cause]++
				if len(lines) < limit {
					lines = append(lines, letterLine{l.Place.String(), l.Cause, l.Group, l.Origin(), l.Subscription, time.UnixMilli(l.At).UTC(), l.Detail})
				}
			}
			if format(cmd) == "json" {
				return printJSON(cmd.OutOrStdout(), lines)
			}
			rows := make([][]any, len(lines))
			for i, l := range lines {
				rows[i] = []any{l.Place, l.At.Format(time.RFC3339), l.Cause, l.Group, l.From, l.Subscription, l.Detail}
			}
			if err := printTable(cmd.OutOrStdout(), []string{"place", "at", "cause", "group", "from", "subscription", "detail"}, rows); err != nil {
				return err
			}
			for _, cause := range slices.Sorted(maps.Keys(causes)) {
				note(cmd, "%d %s", causes[cause], cause)
			}
			return nil
		},
	}
	letterFlags(cmd)
	cmd.Flags().Int("limit", 1000, "lines at most; all are counted")
	formatFlag(cmd, "table", "json")
	return cmd
}

func newLettersShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show PARTITION:OFFSET", Short: "Show one dead letter", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := letterFilter(cmd, args)
			if err != nil {
				return err
			}
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			data, _ := cmd.Flags().GetBool("data") // added below
			for l, err := range c.Letters(cmd.Context(), filter) {
				if err != nil {
					return err
				}
				text, err := c.LetterJSON(cmd.Context(), l, data)
				if err == nil {
					_, err = cmd.OutOrStdout().Write(text)
				}
				return err
			}
			return fmt.Errorf("there is no dead letter at %s", args[0])
		},
	}
	cmd.Flags().Bool("data", false, "also its value: it holds what the event says of people")
	letterFlags(cmd)
	for _, hidden := range []string{"cause", "group", "since"} {
		cmd.Flags().Lookup(hidden).Hidden = true
	}
	return cmd
}

func newLettersRedrive() *cobra.Command {
	cmd := &cobra.Command{
		Use: "redrive [PARTITION:OFFSET...]", Short: "Let dead letters re-enter where they failed", Args: args(cobra.ArbitraryArgs),
		Long: "Let dead letters re-enter where they failed, in the order in which they were written: those of admission at admission,\n" +
			"others on the topic that they came from; an undeliverable one is decided for its one subscription. Without --execute only\n" +
			"the plan is shown.\n\n" +
			"The letter stays, and counts as open no more: redriven twice it is decided twice, and its deliveries have the same ids both times.",
		Example: "  civicbus dead-letters redrive --cause undeliverable_topic --execute\n" +
			"  civicbus dead-letters redrive 3:17 --subject-file mother.txt --execute",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !anyChanged(cmd, "cause", "group", "since") && len(args) == 0 {
				return usage(fmt.Errorf("%s: choose letters by place, --cause, --group or --since", cmd.CommandPath()))
			}
			filter, err := letterFilter(cmd, args)
			if err != nil {
				return err
			}
			var given []admission.Given
			if file, _ := cmd.Flags().GetString("subject-file"); file != "" { // added below
				text, err := read(cmd, file, maxSubjectBytes)
				if err != nil {
					return err
				}
				if given, err = admin.ParseGiven(text); err != nil {
					return usage(err)
				}
			}
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			return redrive(cmd, c, filter, given)
		},
	}
	letterFlags(cmd)
	cmd.Flags().Int("limit", 100, "letters at most")
	cmd.Flags().String("subject-file", "", "file of the subjects that a no_subject letter lacks, a line role=scheme:id each; - is standard input")
	cmd.Flags().Bool("execute", false, "do it")
	formatFlag(cmd, "table", "json")
	return cmd
}

func anyChanged(cmd *cobra.Command, names ...string) bool {
	return slices.ContainsFunc(names, cmd.Flags().Changed)
}

func redrive(cmd *cobra.Command, c *admin.Client, filter admin.LetterFilter, given []admission.Given) error {
	limit, _ := cmd.Flags().GetInt("limit") // newLettersRedrive added these
	execute, _ := cmd.Flags().GetBool("execute")
	var letters []admin.Letter
	for l, err := range c.Letters(cmd.Context(), filter) {
		if err != nil {
			return err
		}
		if len(letters) == limit {
			note(cmd, "There are more than %d: --limit.", limit)
			break
		}
		letters = append(letters, l)
	}
	steps := admin.Plan(letters, given)
	var results []admin.Result
	if !execute {
		for _, s := range steps {
			r := admin.Result{Place: s.Letter.Place.String(), To: s.To, Status: "planned"}
			if s.To == "" {
				r.Status, r.Detail = admin.Skipped, s.Why
			}
			results = append(results, r)
		}
		if err := printResults(cmd, results); err != nil {
			return err
		}
		note(cmd, "Nothing was done: give --execute.")
		return nil
	}
	step, end := progress(cmd, int64(len(steps)), "redriving")
	failed := false
	err := c.Redrive(cmd.Context(), steps, given, func(r admin.Result) error {
		step()
		failed = failed || r.Status != admin.Redriven && r.Status != string(admission.Accepted)
		results = append(results, r)
		return nil
	})
	end()
	if printErr := printResults(cmd, results); err == nil {
		err = printErr
	}
	if err == nil && failed {
		return refused()
	}
	return err
}

func printResults(cmd *cobra.Command, results []admin.Result) error {
	if format(cmd) == "json" {
		return printJSON(cmd.OutOrStdout(), slices.Concat([]admin.Result{}, results))
	}
	rows := make([][]any, len(results))
	for i, r := range results {
		rows[i] = []any{r.Place, r.Status, r.To, r.Detail}
	}
	if err := printTable(cmd.OutOrStdout(), []string{"place", "status", "to", "detail"}, rows); err != nil {
		return err
	}
	for _, r := range results {
		printFaults(cmd, r.Faults)
	}
	return nil
}
