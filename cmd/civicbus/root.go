package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"civicbus/internal/config"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newRoot makes the whole command tree. Nothing in it is shared between two calls, so tests run several in one process.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "civicbus",
		Short: "Consent-aware event bus for public services",
		Long: `civicbus carries life and business events from authoritative sources to the organisations that may see
them, cut down to the fields that they may see, and keeps a record of every decision.

Every setting is a key of the configuration file, an environment variable and a flag: civicbus help settings.`,
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.ArbitraryArgs,
		RunE: helpOrUnknown,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	flags := root.PersistentFlags()
	flags.String("config", "", "configuration file, YAML ($CIVICBUS_CONFIG)")
	config.AddFlags(flags)
	hideSettings(root)
	root.AddCommand(
		newCatalog(), newTrust(), newSubscription(), newConsent(), newSubject(),
		newPublish(), newTail(), newDeadLetters(), newDeliveries(), newReplay(), newGroups(), newLag(), newAudit(), newUsage(),
		newTopics(), newAccess(), newJourneys(), newSchemas(), newTopology(), newToken(), newBench(), newConfig(), newVersion(),
	)
	root.AddCommand(parts()...)
	return root
}

// hideSettings keeps the settings' flags, one for each key, out of every command's help, and gives them a page of their own.
func hideSettings(root *cobra.Command) {
	settings := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	config.AddFlags(settings)
	settings.VisitAll(func(f *pflag.Flag) { root.PersistentFlags().Lookup(f.Name).Hidden = true })
	root.AddCommand(&cobra.Command{Use: "settings", Short: "Every setting, as a flag and as an environment variable",
		Long: "The key of a setting in the configuration file is its flag's name with dots and underscores; civicbus config print\n" +
			"shows every key with its value.\n\n" + settings.FlagUsages()})
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: helpOrUnknown}
	cmd.AddCommand(commands...)
	return cmd
}

// helpOrUnknown shows what there is; a word that is none of it is an error, where cobra would show the help and succeed.
func helpOrUnknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += fmt.Sprintf("; did you mean %s?", near[0])
	}
	return usage(errors.New(text))
}

// exit is an error with the exit code that it ends the program with. A nil err says nothing: what there is to say has been said.
type exit struct {
	code int
	err  error
}

func (e exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e exit) Unwrap() error { return e.err }

// usage says that the program was called wrongly.
func usage(err error) error { return exit{2, err} }

// refused ends with 1 after everything has been said.
func refused() error { return exit{code: 1} }

// unfinished ends with 2 after everything has been said: accepted, not yet in effect.
func unfinished() error { return exit{code: 2} }

// args makes cobra's complaints about arguments usage errors.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usage(fmt.Errorf("%s: %w", cmd.CommandPath(), err))
		}
		return nil
	}
}

// execute runs the program and returns its exit code.
func execute(ctx context.Context, root *cobra.Command, stderr io.Writer) int {
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var e exit
	if !errors.As(err, &e) {
		e = exit{1, err}
	}
	if e.err != nil {
		fmt.Fprintln(stderr, "civicbus:", err)
		if e.code == 2 {
			fmt.Fprintln(stderr, "civicbus --help shows what there is")
		}
	}
	return e.code
}
