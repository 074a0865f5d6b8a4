package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/config"
	"civicbus/internal/delivery"

	"github.com/spf13/cobra"
)

// webhookSettings turns settings into those of the sender of webhooks.
func webhookSettings(cfg *config.Config) (delivery.Settings, error) {
	w := cfg.Webhooks
	s := delivery.Settings{Origin: w.Origin, Development: w.Development}
	for _, text := range w.Networks {
		n, err := netip.ParsePrefix(text)
		if err != nil {
			return s, fmt.Errorf("webhooks.networks: %w", err) // Validate has refused it
		}
		s.Networks = append(s.Networks, n)
	}
	if w.CA == "" {
		return s, nil
	}
	pem, err := os.ReadFile(w.CA)
	if err != nil {
		return s, fmt.Errorf("read webhooks.ca: %w", err)
	}
	if s.Roots = x509.NewCertPool(); !s.Roots.AppendCertsFromPEM(pem) {
		return s, fmt.Errorf("read webhooks.ca %s: no PEM certificate in it", w.CA)
	}
	return s, nil
}

func newDeliveries() *cobra.Command {
	cmd := &cobra.Command{
		Use: "deliveries SUBSCRIPTION", Short: "The last attempts at a subscription's webhook", Args: args(cobra.ExactArgs(1)),
		Long: "The last hundred attempts to deliver to a subscription's webhook, the newest first. They are counted a moment after they\n" +
			"were made.",
		RunE: func(cmd *cobra.Command, ids []string) error {
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Webhook(cmd.Context(), ids[0]); err != nil {
				return err
			}
			row, err := admin.Usage.One(cmd.Context(), c, ids[0])
			if err != nil {
				return err
			}
			attempts := []codecs.UsageAttempt{}
			for i := 0; row != nil && i < len(row.Attempts); i++ {
				attempts = append(attempts, row.Attempts[len(row.Attempts)-1-i])
			}
			if format(cmd) == "json" {
				return printJSON(cmd.OutOrStdout(), attempts)
			}
			lines := make([][]any, len(attempts))
			for i, a := range attempts {
				lines[i] = []any{time.UnixMilli(a.At).UTC().Format(time.RFC3339), a.DeliveryID, a.EventType, a.Attempt, a.Outcome, a.Cause, statusText(a.Status), fmt.Sprintf("%d ms", a.Millis)}
			}
			return printTable(cmd.OutOrStdout(), []string{"at", "delivery", "event type", "attempt", "outcome", "cause", "status", "took"}, lines)
		},
	}
	formatFlag(cmd, "table", "json")
	cmd.AddCommand(newTestDelivery())
	return cmd
}

func statusText(status int32) any {
	if status == 0 {
		return ""
	}
	return status
}

// newTestDelivery tries a webhook from where it is called.
func newTestDelivery() *cobra.Command {
	return &cobra.Command{
		Use: "test SUBSCRIPTION", Short: "Send a signed test event to a subscription's webhook, from here", Args: args(cobra.ExactArgs(1)),
		Long: "Asks the webhook for its permission (CloudEvents' OPTIONS handshake) and sends it one signed event that says nothing of\n" +
			"anybody. It goes out from where the command is run, by the settings webhooks.*; nothing is repeated or written down.",
		RunE: func(cmd *cobra.Command, ids []string) error {
			embedded, err := onEmbedded(cmd)
			if err != nil {
				return err
			}
			cfg, err := load(cmd, embedded)
			if err != nil {
				return err
			}
			settings, err := webhookSettings(cfg)
			if err != nil {
				return err
			}
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			sub, err := c.Webhook(cmd.Context(), ids[0])
			if err != nil {
				return err
			}
			keys, err := c.Pseudonyms(cmd.Context())
			if err != nil {
				return err
			}
			web := delivery.NewClient(settings, keys)
			defer web.Close()
			t := web.Try(cmd.Context(), sub, time.Now())
			switch {
			case t.Taken:
				fmt.Fprintf(cmd.OutOrStdout(), "%s taken with status %d in %d ms\n", t.ID, t.Status, t.Took.Milliseconds())
				return nil
			case t.Status > 0:
				return fmt.Errorf("%s: not taken: %s %d", t.ID, t.Cause, t.Status)
			}
			return fmt.Errorf("%s: not taken: %s", t.ID, t.Cause)
		},
	}
}

// newRotateSecret shows the next secret once.
func newRotateSecret() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rotate-secret SUBSCRIPTION", Short: "Give a webhook's signatures a new secret, and print it", Args: args(cobra.ExactArgs(1)),
		Long: "Gives the signatures of a subscription's deliveries a new secret and prints that, once it is in effect: for the receiver\n" +
			"alone. For a day deliveries have two signatures, with the new secret and with the one before it (Standard Webhooks 1.0.0).",
		RunE: func(cmd *cobra.Command, ids []string) error {
			out := cmd.OutOrStdout()
			cmd.SetOut(cmd.ErrOrStderr()) // what became of the command; the secret alone goes to standard output
			err := change(cmd, func(c *admin.Client, by admin.By) ([]admin.Request, error) {
				return c.RotateSecret(cmd.Context(), by, ids[0])
			})
			cmd.SetOut(out)
			if err != nil {
				return err
			}
			c, err := dial(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			secret, err := c.WebhookSecret(cmd.Context(), ids[0])
			if err != nil {
				return errors.Join(errors.New("the secret was changed and cannot be shown: change it again"), err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), secret)
			return nil
		},
	}
	return changeFlags(cmd)
}
