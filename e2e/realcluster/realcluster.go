// Package realcluster starts a real Apache Kafka and a real Schema Registry for tests, or finds those that were started
// before, and breaks their brokers. All of it is done by the script "cluster" beside this file, which says what it needs.
package realcluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Cluster is a running Kafka and its registry.
type Cluster struct {
	// Brokers are the bootstrap addresses, host:port each.
	Brokers []string
	// Registry is the base URL of the Confluent-compatible interface.
	Registry string

	dir string // empty: not started by the script, so its brokers cannot be broken
}

// FromEnv returns the cluster that CIVICBUS_TEST_BROKERS and CIVICBUS_TEST_REGISTRY name, as the script prints them;
// any Kafka with a Confluent-compatible registry will do. It returns nil when the first is not set.
func FromEnv() *Cluster {
	brokers := os.Getenv("CIVICBUS_TEST_BROKERS")
	if brokers == "" {
		return nil
	}
	return &Cluster{
		Brokers:  strings.Split(brokers, ","),
		Registry: os.Getenv("CIVICBUS_TEST_REGISTRY"),
		dir:      os.Getenv("CIVICBUS_TEST_CLUSTER"),
	}
}

// Start starts a cluster of 1 or 3 brokers with all its files below dir, which must be new or empty, and returns once
// every broker and the registry work. The first start on a machine fetches both, which takes minutes on a slow line.
func Start(ctx context.Context, nodes int, dir string) (*Cluster, error) {
	return start(ctx, dir, "--nodes", strconv.Itoa(nodes))
}

// StartSecured starts a cluster of one broker that asks every client who it is (SASL_PLAINTEXT with SCRAM-SHA-512) and has one
// superuser, with that name and password, whom nobody else has the rights of: brokers and controllers have listeners and a
// user of their own. The registry asks nobody.
func StartSecured(ctx context.Context, dir, superuser, password string) (*Cluster, error) {
	return start(ctx, dir, "--superuser", superuser+":"+password)
}

func start(ctx context.Context, dir string, options ...string) (*Cluster, error) {
	out, err := script(ctx, append(append([]string{"start"}, options...), dir)...)
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir}
	for line := range strings.Lines(out) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
		case "CIVICBUS_TEST_BROKERS":
			c.Brokers = strings.Split(value, ",")
		case "CIVICBUS_TEST_REGISTRY":
			c.Registry = value
		}
	}
	return c, nil
}

// Kill ends a broker (1, 2 or 3) as kill -9 does.
func (c *Cluster) Kill(ctx context.Context, node int) error { return c.do(ctx, "kill", node) }

// Revive starts a killed broker again, on its port and its data, and returns once it works.
func (c *Cluster) Revive(ctx context.Context, node int) error { return c.do(ctx, "revive", node) }

// Stop ends every process of a cluster that the script started. Its files stay.
func (c *Cluster) Stop(ctx context.Context) error { return c.do(ctx, "stop") }

func (c *Cluster) do(ctx context.Context, command string, nodes ...int) error {
	if c.dir == "" {
		return fmt.Errorf("%s: the cluster at %s was not started by the script", command, c.Brokers)
	}
	args := []string{command, c.dir}
	for _, n := range nodes {
		args = append(args, strconv.Itoa(n))
	}
	_, err := script(ctx, args...)
	return err
}

// script runs the script and returns its standard output; an error ends with what it said of itself.
func script(ctx context.Context, args ...string) (string, error) {
	_, here, _, _ := runtime.Caller(0)
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(here), "cluster"), args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("cluster %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

// Java is the Java that the script uses, and the class path of Kafka's own tools. A cluster must have been started before, which
// fetches them.
func Java(ctx context.Context) (java, jars string, err error) {
	out, err := script(ctx, "java")
	if err != nil {
		return "", "", err
	}
	_, here, _, _ := runtime.Caller(0)
	return strings.TrimSpace(out), filepath.Join(filepath.Dir(here), "target", "kafka", "*"), nil
}
