package main

import (
	"fmt"
	"os"
	"path/filepath"

	"civicbus/internal/config"
	"civicbus/internal/embedded"

	"go.yaml.in/yaml/v3"
)

const (
	// superuserName is who civicbus is on an embedded cluster whose clients authenticate.
	superuserName = "civicbus"
	// passwordName is the superuser's password, and settingsName what the other commands need to connect, both in the data
	// directory.
	passwordName = "kafka.password"
	settingsName = "civicbus.yaml"
)

// secured gives the superuser of an embedded cluster whose clients authenticate, and makes every client of this process be
// that user; nil where they do not. The password is made once for a data directory.
func secured(cfg *config.Config) (*embedded.User, error) {
	if !cfg.Embedded.Secure {
		return nil, nil
	}
	if err := os.MkdirAll(cfg.Embedded.DataDir, 0o750); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	path, err := filepath.Abs(filepath.Join(cfg.Embedded.DataDir, passwordName))
	if err != nil {
		return nil, fmt.Errorf("find the data directory: %w", err)
	}
	password, err := newSecret(path)
	if err != nil {
		return nil, fmt.Errorf("make the superuser's password: %w", err)
	}
	cfg.Kafka.SASL = config.SASL{Mechanism: config.ScramSHA512, User: superuserName, PasswordFile: path}
	cfg.Registry.User, cfg.Registry.PasswordFile = superuserName, path
	cfg.Access.Manage = true
	return &embedded.User{Name: superuserName, Password: string(password)}, nil
}

// tellSettings writes the settings that other commands need for a secured embedded cluster, and gives the file's path.
func tellSettings(cfg *config.Config) (string, error) {
	k, r := cfg.Kafka, cfg.Registry
	text, err := yaml.Marshal(map[string]any{
		"kafka":    map[string]any{"brokers": k.Brokers, "sasl": map[string]any{"mechanism": k.SASL.Mechanism, "user": k.SASL.User, "password_file": k.SASL.PasswordFile}},
		"registry": map[string]any{"url": r.URL, "user": r.User, "password_file": r.PasswordFile},
		"embedded": map[string]any{"data_dir": filepath.Dir(k.SASL.PasswordFile), "secure": true},
	})
	if err != nil {
		return "", fmt.Errorf("write the settings: %w", err)
	}
	path := filepath.Join(cfg.Embedded.DataDir, settingsName)
	head := "# Written by civicbus up: the settings of its secured cluster, for the other commands.\n"
	if err := os.WriteFile(path, append([]byte(head), text...), 0o600); err != nil {
		return "", fmt.Errorf("write the settings: %w", err)
	}
	return path, nil
}
