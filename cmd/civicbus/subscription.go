package main

import (
	"fmt"
	"strings"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/refdata"

	"github.com/spf13/cobra"
)

func newSubscription() *cobra.Command {
	status := func(kind, short string, withReason bool) *cobra.Command {
		cmd := &cobra.Command{
			Use: kind + " SUBSCRIPTION...", Short: short, Args: args(cobra.MinimumNArgs(1)),
			RunE: func(cmd *cobra.Command, args []string) error {
				reason := ""
				if withReason {
					reason, _ = cmd.Flags().GetString("reason") // added below
				}
				return change(cmd, func(c *admin.Client, by admin.By) ([]admin.Request, error) {
					return c.ChangeSubscriptions(cmd.Context(), by, kind, reason, args...)
				})
			},
		}
		if withReason {
			cmd.Flags().String("reason", "", "why, of a closed list: requested (default), maintenance, security, misuse, entitlement_withdrawn, superseded, ended")
		}
		return changeFlags(cmd)
	}
	return group("subscription", "Who wants which events, for which purpose",
		applyCommand("subscriptions", "  civicbus subscription apply -f examples/subscriptions/address.yaml", refdata.ParseSubscriptions,
			func(c *admin.Client, cmd *cobra.Command, by admin.By, rows []codecs.Subscription) ([]admin.Request, error) {
				return c.PutSubscriptions(cmd.Context(), by, rows...)
			}),
		getCommand("subscription", "SUBSCRIPTION", admin.Subscriptions, withoutVector),
		listCommand("subscription", admin.Subscriptions, []string{"subscription", "version", "status", "subscriber", "event types", "role", "purpose", "basis", "delivery"}, func(s codecs.Subscription) []any {
			status := s.Status
			if s.StatusReason != "" {
				status += " (" + s.StatusReason + ")"
			}
			return []any{s.ID, s.Version, status, s.Subscriber, strings.Join(s.EventTypes, ","), s.Role, s.Purpose, s.Basis, s.Delivery.Kind}
		}),
		status("approve", "Approve pending subscriptions, as someone else than who asked for them", false),
		status("pause", "Stop deliveries, for a while", true),
		status("resume", "Go on after a pause", false),
		status("revoke", "End subscriptions for good", true),
		newRotateSecret())
}

// withoutVector leaves out the offsets from which on a subscription is in effect: there is one for each partition of each
// stream, and apply takes none of them.
func withoutVector(s codecs.Subscription) (codecs.Subscription, string) {
	if len(s.From) == 0 {
		return s, ""
	}
	topics := map[string]bool{}
	for _, p := range s.From {
		topics[p.Topic] = true
	}
	left := fmt.Sprintf("from: in effect from recorded offsets of %d partitions of %d streams on; -o json shows them", len(s.From), len(topics))
	s.From = nil
	return s, left
}
