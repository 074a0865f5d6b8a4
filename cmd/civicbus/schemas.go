package main

import (
	"fmt"

	"civicbus/codecs"
	"civicbus/internal/admin"

	"github.com/spf13/cobra"
)

func newSchemas() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List civicbus's own schemas, and what the registry has of them", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			own, err := c.OwnSchemas(cmd.Context())
			if err != nil {
				return err
			}
			if format(cmd) == "json" {
				return printJSON(cmd.OutOrStdout(), own)
			}
			rows := make([][]any, len(own))
			for i, s := range own {
				rows[i] = []any{s.Record, s.RegistrySubject, s.Published, fmt.Sprint(s.IDs)}
			}
			return printTable(cmd.OutOrStdout(), []string{"record", "registry subject", "versions", "ids in the registry"}, rows)
		},
	}
	formatFlag(list, "table", "json")
	return group("schemas", "Avro schemas: civicbus's own, and those of sources", newSchemasCheck(), newSchemasRegister(), list)
}

// sourceSchema reads the arguments of a source's schema: a registry subject and a file.
func sourceSchema(cmd *cobra.Command, args []string) (registrySubject, text string, err error) {
	content, err := read(cmd, args[1], codecs.MaxSchemaBytes)
	return args[0], string(content), err
}

// noneOrBoth takes no argument, or a registry subject and a file.
func noneOrBoth(cmd *cobra.Command, args []string) error {
	if len(args) == 0 || len(args) == 2 {
		return nil
	}
	return usage(fmt.Errorf("%s takes no argument, or a registry subject and a file", cmd.CommandPath()))
}

func newSchemasCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check [REGISTRY-SUBJECT FILE]", Short: "Check that every version can be read with every other", Args: noneOrBoth,
		Long: "Check that every published version of civicbus's own schemas can be read with every other (FULL_TRANSITIVE). With a registry\n" +
			"subject and a file: that a source's schema can be read with every version there, before it is registered.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				if err := admin.CheckOwn(); err != nil {
					return err
				}
				note(cmd, "civicbus's own schemas are compatible")
				return nil
			}
			registrySubject, text, err := sourceSchema(cmd, args)
			if err != nil {
				return err
			}
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.CheckSource(cmd.Context(), registrySubject, text); err != nil {
				return err
			}
			note(cmd, "the schema can be registered under %s", registrySubject)
			return nil
		},
	}
}

func newSchemasRegister() *cobra.Command {
	return &cobra.Command{
		Use: "register [REGISTRY-SUBJECT FILE]", Short: "Register civicbus's own schemas, or a source's", Args: noneOrBoth,
		Long: "Register every version of civicbus's own schemas; every process does so when it starts. With a registry subject and a file:\n" +
			"a source's own schema, under the registry subject that the catalog entry of its type names. Its id is printed.",
		Example: "  civicbus schemas register fi.dvv.person.birth examples/schemas/fi.dvv.person.birth.avsc",
		RunE: func(cmd *cobra.Command, args []string) error {
			var registrySubject, text string
			if len(args) == 2 {
				var err error
				if registrySubject, text, err = sourceSchema(cmd, args); err != nil {
					return err
				}
			}
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if len(args) == 0 {
				if _, err := c.Records(cmd.Context()); err != nil {
					return err
				}
				note(cmd, "civicbus's own schemas are registered")
				return nil
			}
			id, err := c.RegisterSource(cmd.Context(), registrySubject, text)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
			return err
		},
	}
}
