package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"civicbus/codecs"
	"civicbus/internal/admin"
	"civicbus/internal/app"
	"civicbus/internal/config"
	"civicbus/internal/kafka"

	"github.com/spf13/cobra"
)

// busKeyName is the bus key that an embedded cluster makes for itself, in its data directory.
const busKeyName = "bus.key"

// load reads the settings of a command; embedded takes the defaults of an embedded cluster. A fault in them is a usage error.
func load(cmd *cobra.Command, embedded bool) (*config.Config, error) {
	file, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(config.Sources{File: file, Environ: os.Environ(), Flags: cmd.Flags(), Embedded: embedded})
	if err != nil {
		return cfg, usage(err)
	}
	return cfg, nil
}

// connection is how every client of the process reaches Kafka.
func connection(cfg *config.Config, log *slog.Logger) kafka.Connection {
	k := cfg.Kafka
	return kafka.Connection{Brokers: k.Brokers, ClientID: k.ClientID, Logger: log,
		TLS:  kafka.TLS{Enabled: k.TLS.Enabled, CA: k.TLS.CA, Cert: k.TLS.Cert, Key: k.TLS.Key},
		SASL: kafka.SASL{Mechanism: k.SASL.Mechanism, User: k.SASL.User, PasswordFile: k.SASL.PasswordFile, TokenFile: k.SASL.TokenFile}}
}

// registry is how every client of the process reaches the Schema Registry.
func registry(cfg *config.Config) (codecs.RegistryConfig, error) {
	r := codecs.RegistryConfig{URL: cfg.Registry.URL, User: cfg.Registry.User}
	if cfg.Registry.PasswordFile == "" {
		return r, nil
	}
	password, err := config.ReadSecret(cfg.Registry.PasswordFile)
	r.Password = string(password)
	return r, err
}

// busKey reads the bus key; nil when none is configured and no embedded cluster has made one. That a key found in the data
// directory is the right one is checked against the cluster, as for every key.
func busKey(cfg *config.Config) ([]byte, error) {
	if cfg.Keys.BusKeyFile != "" {
		return config.ReadSecret(cfg.Keys.BusKeyFile)
	}
	key, err := config.ReadSecret(busKeyPath(cfg))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return key, err
}

// auditKey reads the audit key; on an embedded cluster it is derived from the bus key when none is configured. nil: none.
func auditKey(cfg *config.Config, busKey []byte, embedded bool) ([]byte, error) {
	switch {
	case cfg.Keys.AuditKeyFile != "":
		return config.ReadSecret(cfg.Keys.AuditKeyFile)
	case embedded && busKey != nil:
		return app.DeriveAuditKey(busKey)
	}
	return nil, nil
}

// busKeyPath is where an embedded cluster keeps its bus key.
func busKeyPath(cfg *config.Config) string { return filepath.Join(cfg.Embedded.DataDir, busKeyName) }

// logger writes to standard error, in the format and from the level that the settings say.
func logger(cmd *cobra.Command, cfg *config.Config) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		level = slog.LevelInfo // Validate has refused it
	}
	options := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format == config.JSON {
		return slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), options))
	}
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), options))
}

// dial connects an operator's command to the cluster. Close the client.
func dial(cmd *cobra.Command) (*admin.Client, error) {
	cfg, err := load(cmd, false)
	if err != nil {
		return nil, err
	}
	reg, err := registry(cfg)
	if err != nil {
		return nil, err
	}
	key, err := busKey(cfg)
	if err != nil {
		return nil, fmt.Errorf("read the bus key: %w", err)
	}
	return admin.Dial(cmd.Context(), admin.Config{Connection: connection(cfg, nil), Registry: reg, BusKey: key, Logger: logger(cmd, cfg)})
}
