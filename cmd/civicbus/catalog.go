package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/refdata"

	"github.com/spf13/cobra"
)

func newCatalog() *cobra.Command {
	retire := &cobra.Command{
		Use: "retire TYPE", Short: "Admit no new events of a type", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return change(cmd, func(c *admin.Client, by admin.By) ([]admin.Request, error) {
				return c.RetireEventType(cmd.Context(), by, args[0])
			})
		},
	}
	return group("catalog", "Event types: roles, scopes, legal rules",
		applyCommand("event types", "  civicbus catalog apply -f examples/catalog/fi.dvv.person.birth.yaml", refdata.ParseEventTypes,
			func(c *admin.Client, cmd *cobra.Command, by admin.By, rows []codecs.EventType) ([]admin.Request, error) {
				return c.PutEventTypes(cmd.Context(), by, rows...)
			}),
		newCatalogGet(),
		listCommand("event type", admin.EventTypes, []string{"type", "version", "stream", "category", "owner", "roles", "rules", "retired"}, func(t codecs.EventType) []any {
			var roles []string
			for _, r := range t.Roles {
				roles = append(roles, r.Name)
			}
			return []any{t.Type, t.Version, t.Stream, t.Category, t.Owner, strings.Join(roles, ","), len(t.Rules), t.Retired}
		}),
		changeFlags(retire))
}

func newCatalogGet() *cobra.Command {
	cmd := &cobra.Command{
		Use: "get TYPE", Short: "Print an event type, and who receives it", Args: args(cobra.ExactArgs(1)),
		Long: "Print an event type, and who receives it. As YAML the receivers are comments, so that what is printed can be edited and\n" +
			"applied again.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			row, err := admin.EventTypes.One(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if row == nil {
				return fmt.Errorf("there is no event type %q", args[0])
			}
			receivers, err := admin.Receivers(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return printEventType(cmd, row, receivers)
		},
	}
	formatFlag(cmd, "yaml", "table", "json")
	return cmd
}

func printEventType(cmd *cobra.Command, row *codecs.EventType, receivers []admin.Receiver) error {
	out := cmd.OutOrStdout()
	switch format(cmd) {
	case "json":
		document, err := refdata.JSON(row)
		if err != nil {
			return err
		}
		return printJSON(out, struct {
			EventType json.RawMessage  `json:"eventType"`
			Receivers []admin.Receiver `json:"receivers"`
		}{document, slices.Concat([]admin.Receiver{}, receivers)})
	case "table":
		rows := make([][]any, len(receivers))
		for i, r := range receivers {
			rows[i] = []any{r.Subscription, r.Subscriber, r.Status, orText(r.Role, "(first)"), r.Purpose, r.Basis, orText(strings.Join(r.Fields, ","), "(all permitted)")}
		}
		return printTable(out, []string{"subscription", "subscriber", "status", "role", "purpose", "basis", "fields"}, rows)
	}
	document, err := refdata.YAML(row)
	if err != nil {
		return err
	}
	if len(receivers) == 0 {
		document = append(document, "# Nobody receives it.\n"...)
	} else {
		document = append(document, "# Who receives it:\n"...)
	}
	for _, r := range receivers {
		document = fmt.Appendf(document, "#   %s (%s): %s, role %s, for %s on %s, fields %s\n", r.Subscriber, r.Subscription, r.Status,
			orText(r.Role, "(first)"), r.Purpose, r.Basis, orText(strings.Join(r.Fields, ","), "(all permitted)"))
	}
	_, err = out.Write(document)
	return err
}

func orText(text, instead string) string {
	if text == "" {
		return instead
	}
	return text
}
