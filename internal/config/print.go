package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Redacted stands where Print keeps a value to itself.
const Redacted = "***"

// Print writes every setting as YAML that Load can read, each with what it means and, unless it is the default, where
// it came from. With redact the names of users are left out; secrets are never in a configuration.
func (c *Config) Print(w io.Writer, redact bool) error {
	var out bytes.Buffer
	var open []string // the sections that the last line stands in
	for _, s := range settings(c) {
		path := strings.Split(s.key, ".")
		sections, name := path[:len(path)-1], path[len(path)-1]
		for depth, section := range sections {
			if depth < len(open) && open[depth] == section {
				continue
			}
			open = open[:min(depth, len(open))]
			fmt.Fprintf(&out, "%s%s:\n", strings.Repeat("  ", depth), section)
			open = append(open, section)
		}
		open = open[:len(sections)]
		value := s.value.Interface()
		switch {
		case redact && s.redact && s.text() != "":
			value = Redacted
		case s.kind() == "duration":
			value = s.text()
		case s.key == "registry.url":
			value = withoutPassword(s.text())
		}
		text, err := inline(value)
		if err != nil {
			return fmt.Errorf("print %s: %w", s.key, err)
		}
		about := s.usage
		if origin, ok := c.origins[s.key]; ok {
			about += " [" + origin + "]"
		}
		fmt.Fprintf(&out, "%s%s: %s # %s\n", strings.Repeat("  ", len(sections)), name, text, about)
	}
	_, err := out.WriteTo(w)
	return err
}

// inline returns a value as YAML on one line.
func inline(value any) (string, error) {
	var node yaml.Node
	if err := node.Encode(value); err != nil {
		return "", err
	}
	node.Style |= yaml.FlowStyle
	text, err := yaml.Marshal(&node)
	return strings.TrimSpace(string(text)), err
}

// ReadSecret returns the content of a secret's file without the line end that editors leave at its end. An empty file
// is an error. The error names the file, never what is in it.
func ReadSecret(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	secret := bytes.TrimRight(raw, "\r\n")
	if len(secret) == 0 {
		return nil, fmt.Errorf("read secret: %s is empty", path)
	}
	return secret, nil
}
