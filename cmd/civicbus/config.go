package main

import "github.com/spf13/cobra"

func newConfig() *cobra.Command {
	embedded := func(cmd *cobra.Command) *cobra.Command {
		cmd.Flags().Bool("embedded", false, "with the defaults of an embedded cluster, as up and demo have them")
		return cmd
	}
	show := &cobra.Command{
		Use: "print", Short: "Print every setting, what it means and where it came from", Args: args(cobra.NoArgs),
		Long: "Print every setting as a configuration file, with what it means and where it came from. What is wrong is told as well.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			redact, _ := cmd.Flags().GetBool("redact") // added below
			local, _ := cmd.Flags().GetBool("embedded")
			cfg, wrong := load(cmd, local)
			if cfg != nil {
				if err := cfg.Print(cmd.OutOrStdout(), redact); err != nil {
					return err
				}
			}
			return wrong
		},
	}
	show.Flags().Bool("redact", false, "leave out the names of users")
	validate := &cobra.Command{
		Use: "validate", Short: "Check every setting; connect to nothing", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			local, _ := cmd.Flags().GetBool("embedded")
			if _, err := load(cmd, local); err != nil {
				return exit{1, err} // the call was right, the settings are not
			}
			note(cmd, "every setting is valid")
			return nil
		},
	}
	return group("config", "Settings", embedded(show), embedded(validate))
}
