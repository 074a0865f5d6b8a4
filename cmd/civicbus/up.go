package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"civicbus/internal/app"
	"civicbus/internal/config"
	"civicbus/internal/embedded"

	"github.com/spf13/cobra"
)

func newUp() *cobra.Command {
	cmd := &cobra.Command{Use: "up", Short: "Run civicbus whole, with a Kafka and a Schema Registry of its own", Args: args(cobra.NoArgs),
		Long: `Starts an embedded Kafka broker and Schema Registry on real ports, with their data in a directory, creates every
topic, registers every schema and runs every group. Ctrl-C stops it cleanly; started again it goes on where it was.`}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(cmd, true)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		log := logger(cmd, cfg)
		if secure, _ := cmd.Flags().GetBool("secure"); secure { // added below
			cfg.Embedded.Secure = true
		}
		superuser, err := secured(cfg)
		if err != nil {
			return err
		}
		cluster, err := embedded.Start(ctx, embedded.Config{DataDir: cfg.Embedded.DataDir, Host: cfg.Embedded.Host, Superuser: superuser,
			KafkaPort: cfg.Embedded.KafkaPort, RegistryPort: cfg.Embedded.RegistryPort, Logger: warnings(log)})
		if err != nil {
			return err
		}
		defer func() {
			if err := cluster.Close(); err != nil {
				log.Error("stop the embedded cluster", "error", err)
			}
		}()
		key, err := makeBusKey(cfg)
		if err != nil {
			return err
		}
		cfg.Kafka.Brokers, cfg.Registry.URL = cluster.Brokers(), cluster.RegistryURL()
		nc, err := nodeConfig(cfg, key, log, nil, true)
		if err != nil {
			return err
		}
		if nc.Instance == "" {
			nc.Instance = "up" // the only process with this data directory
		}
		stop, err := traced(ctx, cfg, &nc, log)
		if err != nil {
			return err
		}
		defer stop()
		out := cmd.OutOrStdout()
		address := make(chan net.Addr, 1)
		nc.Gateway.DevelopmentKey, nc.Gateway.Addr = developmentKey(cfg), func(addr net.Addr) { address <- addr }
		if _, err := app.Apply(ctx, nc); err != nil {
			return err
		}
		n, err := app.Connect(ctx, nc)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "Kafka            %s\nSchema Registry  %s\ndata             %s\n", cluster.Brokers()[0], cluster.RegistryURL(), cfg.Embedded.DataDir)
		if superuser != nil {
			path, err := tellSettings(cfg)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "settings         %s (export CIVICBUS_CONFIG=%s: every client of Kafka authenticates)\n", path, path)
		}
		go whenReady(ctx, n, func() {
			select {
			case addr := <-address:
				fmt.Fprintf(out, "gateway          %s/docs (tokens: civicbus token, a development issuer)\n", baseURL(cfg, addr))
			case <-ctx.Done():
				return
			}
			fmt.Fprintln(out, "ready; Ctrl-C stops")
		})
		return serveNode(ctx, n, cfg.HTTP.Listen, func(addr string) { fmt.Fprintf(out, "metrics, health  http://%s/metrics /livez /readyz\n", addr) })
	}
	cmd.Flags().Bool("secure", false, "as --embedded-secure: every client of the broker authenticates, civicbus itself as the superuser")
	return cmd
}

// baseURL is where the gateway listens.
func baseURL(cfg *config.Config, addr net.Addr) string {
	if cfg.Gateway.TLS.Cert != "" {
		return "https://" + addr.String()
	}
	return "http://" + addr.String()
}

// makeBusKey reads the bus key, and makes one for a data directory that has none.
func makeBusKey(cfg *config.Config) ([]byte, error) {
	key, err := busKey(cfg)
	if err != nil {
		return nil, fmt.Errorf("read the bus key: %w", err)
	}
	if key != nil {
		return key, nil
	}
	key, err = newSecret(busKeyPath(cfg))
	if err != nil {
		return nil, fmt.Errorf("make a bus key: %w", err)
	}
	return key, nil
}

// newSecret makes a secret of 32 random bytes in a file, or reads the one that is there.
func newSecret(path string) ([]byte, error) {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails (crypto/rand)
	text := hex.EncodeToString(secret[:])
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return config.ReadSecret(path)
	}
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(text + "\n")
	return []byte(text), errors.Join(err, f.Sync(), f.Close())
}
