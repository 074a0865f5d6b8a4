package access

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Client is what an organisation needs to connect.
type Client struct {
	Organisation string   `json:"organisation"`
	Brokers      []string `json:"brokers"`
	TLS          bool     `json:"tls"`
	Registry     string   `json:"registry"`
	Mechanism    string   `json:"mechanism"`
	User         string   `json:"user"`
	Password     string   `json:"password"`
	Topic        string   `json:"topic,omitempty"`       // that it reads; empty: none
	GroupPrefix  string   `json:"groupPrefix,omitempty"` // what its consumer groups' names begin with
	Inbox        string   `json:"inbox,omitempty"`       // that it writes; empty: none
}

// NewClient describes how an organisation with those rights connects.
func NewClient(w Wanted, password string) Client {
	c := Client{Organisation: w.Organisation, Mechanism: Mechanism, User: w.Organisation, Password: password}
	for _, r := range w.Rights {
		switch {
		case r.Name == GroupPrefix(w.Organisation):
			c.GroupPrefix = r.Name
		case r.reads():
			c.Topic = r.Name
		case r.writes():
			c.Inbox = r.Name
		}
	}
	return c
}

// Formats are the forms of a client's configuration: for librdkafka and kcat, for Java, for franz-go, and for programs.
func Formats() []string { return []string{"librdkafka", "java", "go", "json"} }

// Text writes the configuration in one of Formats.
func (c Client) Text(format string) (string, error) {
	switch format {
	case "librdkafka":
		return c.librdkafka(), nil
	case "java":
		return c.java(), nil
	case "go":
		return c.franz(), nil
	case "json":
		text, err := json.MarshalIndent(c, "", "  ") //nolint:gosec // telling the password, once, is what it is for
		return string(text) + "\n", err
	}
	return "", fmt.Errorf("client configuration as %q: want one of %s", format, strings.Join(Formats(), ", "))
}

func (c Client) protocol() string {
	if c.TLS {
		return "SASL_SSL"
	}
	return "SASL_PLAINTEXT"
}

// about says what the user is for; each line begins with mark.
func (c Client) about(mark string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, mark+" "+format+"\n", args...) }
	line("Kafka user of %s. Its password is shown this once.", c.Organisation)
	if c.Topic != "" {
		line("It reads %s, in consumer groups whose names begin with %s.", c.Topic, c.GroupPrefix)
	}
	if c.Inbox != "" {
		line("It writes to %s.", c.Inbox)
	}
	line("Schema Registry: %s", c.Registry)
	return b.String()
}

func (c Client) librdkafka() string {
	var b strings.Builder
	b.WriteString(c.about("#"))
	fmt.Fprintf(&b, "bootstrap.servers=%s\nsecurity.protocol=%s\nsasl.mechanism=%s\nsasl.username=%s\nsasl.password=%s\n",
		strings.Join(c.Brokers, ","), c.protocol(), c.Mechanism, c.User, c.Password)
	b.WriteString(c.reading())
	if c.Inbox != "" {
		b.WriteString("enable.idempotence=true\npartitioner=murmur2_random\n")
	}
	return b.String()
}

// reading are the settings of a consumer that librdkafka and Java share.
func (c Client) reading() string {
	if c.Topic == "" {
		return ""
	}
	return fmt.Sprintf("group.id=%sreader\nisolation.level=read_committed\nauto.offset.reset=earliest\n", c.GroupPrefix)
}

func (c Client) java() string {
	var b strings.Builder
	b.WriteString(c.about("#"))
	fmt.Fprintf(&b, "bootstrap.servers=%s\nsecurity.protocol=%s\nsasl.mechanism=%s\n", strings.Join(c.Brokers, ","), c.protocol(), c.Mechanism)
	fmt.Fprintf(&b, "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"%s\" password=\"%s\";\n", c.User, c.Password)
	b.WriteString(c.reading())
	return b.String()
}

func (c Client) franz() string {
	var b strings.Builder
	b.WriteString(c.about("//"))
	fmt.Fprintf(&b, "client, err := kgo.NewClient(\n\tkgo.SeedBrokers(%s),\n\tkgo.SASL(scram.Auth{User: %q, Pass: %q}.AsSha512Mechanism()),\n", quoted(c.Brokers), c.User, c.Password)
	if c.TLS {
		b.WriteString("\tkgo.DialTLS(),\n")
	}
	if c.Topic != "" {
		fmt.Fprintf(&b, "\tkgo.ConsumeTopics(%q),\n\tkgo.ConsumerGroup(%q),\n\tkgo.FetchIsolationLevel(kgo.ReadCommitted()),\n\tkgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),\n", c.Topic, c.GroupPrefix+"reader")
	}
	if c.Inbox != "" {
		fmt.Fprintf(&b, "\tkgo.DefaultProduceTopic(%q),\n", c.Inbox)
	}
	b.WriteString(")\n")
	return b.String()
}

func quoted(all []string) string {
	q := make([]string, len(all))
	for i, s := range all {
		q[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(q, ", ")
}
