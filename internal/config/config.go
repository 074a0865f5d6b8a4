// Package config is every setting of civicbus in one struct, and where each comes from: a flag, else the environment,
// else the configuration file, else the default.
//
// Its rules:
//   - A setting has one key, as in the file (kafka.sasl.user); its environment variable (CIVICBUS_KAFKA_SASL_USER) and
//     its flag (--kafka-sasl-user) follow from the key.
//   - An unknown key is refused, with the nearest known one, wherever it stands. An empty environment variable counts as
//     absent.
//   - A secret is never a setting: a setting names the file that holds it.
//   - Durations are Go's (500ms, 5s). Every fault is told at once, each with its key, its value and what would be right.
package config

import (
	"time"
)

// Config is every setting, a struct for each component. Load and Defaults fill it; a Config put together by hand has
// only what was set, so begin with Defaults.
type Config struct {
	Kafka    Kafka    `koanf:"kafka"`
	Registry Registry `koanf:"registry"`
	Lease    Lease    `koanf:"lease"`
	Engine   Engine   `koanf:"engine"`
	HTTP     HTTP     `koanf:"http"`
	Gateway  Gateway  `koanf:"gateway"`
	Webhooks Webhooks `koanf:"webhooks"`
	Keys     Keys     `koanf:"keys"`
	Audit    Audit    `koanf:"audit"`
	Access   Access   `koanf:"access"`
	Embedded Embedded `koanf:"embedded"`
	Tracing  Tracing  `koanf:"tracing"`
	Log      Log      `koanf:"log"`

	origins map[string]string // where a key's value came from, by key; absent for a default
}

// Kafka is the cluster that civicbus works on. The defaults find the one that `civicbus up` starts.
type Kafka struct {
	// Brokers are the addresses, host:port, to find the cluster by. Default 127.0.0.1:9092.
	Brokers []string `koanf:"brokers" usage:"addresses (host:port) to find the Kafka cluster by"`
	// TLS encrypts every connection to the brokers. Default off.
	TLS TLS `koanf:"tls"`
	// SASL is how civicbus proves who it is. Default not at all.
	SASL SASL `koanf:"sasl"`
	// ClientID names civicbus in the brokers' logs, metrics and quotas. Default civicbus.
	ClientID string `koanf:"client_id" usage:"name of this client in the brokers' logs and quotas"`
	// Partitions is P: the partitions of every topic that is keyed by subject. It is fixed once the topics exist; a
	// different number is refused. Default 64, embedded 8.
	Partitions int32 `koanf:"partitions" usage:"partitions of every topic keyed by subject; fixed once the topics exist"`
	// Replication is the number of copies of each topic that civicbus creates. Default 3, embedded 1.
	Replication int16 `koanf:"replication" usage:"copies of each topic that civicbus creates"`
}

// TLS is the encryption of connections to the brokers. Files are PEM.
type TLS struct {
	// Enabled turns TLS on. Default false.
	Enabled bool `koanf:"enabled" usage:"encrypt connections to the brokers"`
	// CA is the file of the authorities to trust. Default: those of the system.
	CA string `koanf:"ca" usage:"file of the authorities to trust (PEM); empty: the system's"`
	// Cert and Key are the files of civicbus's own certificate and its key, for mutual TLS. Default none.
	Cert string `koanf:"cert" usage:"file of civicbus's own certificate (PEM), for mutual TLS"`
	Key  string `koanf:"key" usage:"file of the key of kafka.tls.cert (PEM)"`
}

// The SASL mechanisms that civicbus speaks.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	OAuthBearer = "OAUTHBEARER"
)

// SASL is how civicbus authenticates to the brokers.
type SASL struct {
	// Mechanism is PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER. Default empty: no authentication.
	Mechanism string `koanf:"mechanism" usage:"PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER; empty: none"`
	// User is the user's name, for PLAIN and SCRAM.
	User string `koanf:"user" usage:"user's name, for PLAIN and SCRAM" redact:"true"`
	// PasswordFile holds the user's password, for PLAIN and SCRAM.
	PasswordFile string `koanf:"password_file" usage:"file of the user's password, for PLAIN and SCRAM"`
	// TokenFile holds the access token, for OAUTHBEARER. It is read again for each connection, so that whoever renews
	// the token only has to replace the file.
	TokenFile string `koanf:"token_file" usage:"file of the access token, for OAUTHBEARER; read again for each connection"`
}

// Registry is the Schema Registry.
type Registry struct {
	// URL is the base of the Confluent-compatible interface. Default http://127.0.0.1:8081.
	URL string `koanf:"url" usage:"base URL of the Schema Registry (Confluent-compatible)"`
	// User is the user's name for HTTP basic authentication. Default none.
	User string `koanf:"user" usage:"user's name at the Schema Registry" redact:"true"`
	// PasswordFile holds the user's password.
	PasswordFile string `koanf:"password_file" usage:"file of the user's password at the Schema Registry"`
}

// Lease is how current every table must be while a decision rests on it.
type Lease struct {
	// Age is the time for which a table partition may be used after it was confirmed current. A withdrawal is
	// acknowledged this long after it was seen. It is one value for a cluster, fixed when the topics are created; a
	// process with another one refuses to start. Default 500ms.
	Age time.Duration `koanf:"age" usage:"how long a table may be used after it was confirmed current; one value for a cluster"`
}

// MaxInterval is the longest interval of a transaction: a table row is read by others once its transaction has ended, so
// a longer one would make every lease hold (measured: 20-40 ms keep tables current within 49 ms, p99).
const MaxInterval = 50 * time.Millisecond

// Engine is how the processor groups run.
type Engine struct {
	// Interval is the longest that a transaction collects records before it is ended. At most 50ms. Default 20ms.
	Interval time.Duration `koanf:"interval" usage:"longest time that a transaction collects records (at most 50ms)"`
	// TransactionTimeout is when Kafka aborts the transaction of a process that died; its readers wait until then.
	// Default 5s.
	TransactionTimeout time.Duration `koanf:"transaction_timeout" usage:"when Kafka aborts the transaction of a process that died"`
	// InstanceID names this process among those of its groups and stays the same over its restarts, so that a restart
	// moves no partition; no two processes at once may have the same. Default empty: a new member at each start.
	InstanceID string `koanf:"instance_id" usage:"lasting name of this process, so that a restart moves no partition; empty: a new member"`
}

// HTTP is the listener of /metrics, /livez and /readyz.
type HTTP struct {
	// Listen is its address, host:port; port 0 takes a free one. Default 127.0.0.1:9644.
	Listen string `koanf:"listen" usage:"address (host:port) of /metrics, /livez and /readyz"`
}

// Gateway is civicbus over HTTP, for sources, subscribers and people.
type Gateway struct {
	// Listen is its address, host:port; port 0 takes a free one. Default 127.0.0.1:8080.
	Listen string `koanf:"listen" usage:"address (host:port) of the gateway"`
	// TLS is the gateway's own certificate. Default none: then something before it must encrypt.
	TLS GatewayTLS `koanf:"tls"`
	// PublicURL is how clients reach the gateway, for the addresses that it gives them. Default empty: without a host.
	PublicURL string `koanf:"public_url" usage:"URL under which clients reach the gateway, such as https://bus.example"`
	// AccessFile says which issuers of tokens are believed and for whom their clients stand. It is read again when it
	// changes. Default none: only civicbus up runs a gateway then, for tokens of its development issuer.
	AccessFile string `koanf:"access_file" usage:"file of the issuers of tokens, and of whom their clients stand for (YAML)"`
	// Audience is what a token must be for. Default civicbus.
	Audience string `koanf:"audience" usage:"audience that tokens must have"`
	// Origins are the hosts whose web pages may open a WebSocket, beside the gateway's own; * stands for any part of a name.
	// Default none.
	Origins []string `koanf:"origins" usage:"hosts whose web pages may open a WebSocket"`
	// RateLimit is how many requests a minute one client may make of one instance. Default 6000.
	RateLimit int `koanf:"rate_limit" usage:"requests a minute that one client may make of one instance of the gateway"`
	// MaxConnections is how many connections an instance takes at once; further ones wait. Default 10000.
	MaxConnections int `koanf:"max_connections" usage:"connections at once of one instance of the gateway"`
}

// Webhooks is how deliveries go to subscribers' own HTTP servers.
type Webhooks struct {
	// Origin is the DNS name by which civicbus asks a receiver for its permission. Default civicbus.
	Origin string `koanf:"origin" usage:"DNS name by which civicbus asks a webhook for its permission"`
	// Networks may be reached although they are not public, such as one between agencies. Default none.
	Networks []string `koanf:"networks" usage:"networks (CIDR) that webhooks may be in although they are not public"`
	// CA is the file of the authorities that receivers' certificates are checked with (PEM). Default: the system's.
	CA string `koanf:"ca" usage:"file of the authorities that webhooks' certificates are checked with (PEM); empty: the system's"`
	// Development lets webhooks be anywhere, and on this machine without encryption. Default false, embedded true.
	Development bool `koanf:"development" usage:"webhooks may be at any address, and on this machine without TLS"`
}

// GatewayTLS is the gateway's certificate and its key. Both files are read again when they change.
type GatewayTLS struct {
	Cert string `koanf:"cert" usage:"file of the gateway's certificate (PEM); read again when it changes"`
	Key  string `koanf:"key" usage:"file of the key of gateway.tls.cert (PEM)"`
}

// Keys are the secrets of the bus itself.
type Keys struct {
	// BusKeyFile holds the key under which subjects become pseudonyms, at least 32 bytes. Losing it cuts every
	// subject off from its past. Default empty: the embedded cluster makes one in its data directory; any other cluster
	// needs one.
	BusKeyFile string `koanf:"bus_key_file" usage:"file of the key for pseudonyms (32 bytes or more)"`
	// AuditKeyFile holds the key under which the audit log is written and its heads are signed, at least 32 bytes. It must
	// not be where the brokers are: who has both can write the log anew. Default empty: on the embedded cluster it is derived
	// from the bus key; any other cluster needs one for parts audit and heads.
	AuditKeyFile string `koanf:"audit_key_file" usage:"file of the key for the audit log (32 bytes or more), kept away from the brokers"`
}

// Audit is how the audit log's heads are signed.
type Audit struct {
	// HeadInterval is the time between two signed heads of a chain that goes on. Default 1m.
	HeadInterval time.Duration `koanf:"head_interval" usage:"time between two signed heads of a chain of the audit log"`
	// HeadFile is a file that signed heads are appended to, beside their topic: kept away from the brokers, it shows what is cut
	// off there. Default none.
	HeadFile string `koanf:"head_file" usage:"file that signed heads of the audit log are appended to"`
}

// Access is what trusted organisations may do on Kafka by themselves: each has a user, rights on its own topics and quotas.
// What a quota says is for each broker by itself; 0 is none.
type Access struct {
	// Manage makes civicbus run keep organisations' rights and quotas as the trust registry and the subscriptions say, when it
	// runs all parts. Part access does it whatever this says, and so does civicbus up with embedded.secure. Default false.
	Manage bool `koanf:"manage" usage:"keep organisations' rights and quotas on Kafka as the trust registry says"`
	// Brokers are the addresses that organisations' clients are told to connect to. Default: those of kafka.brokers.
	Brokers []string `koanf:"brokers" usage:"addresses (host:port) that organisations connect to; empty: kafka.brokers"`
	// RegistryURL is the Schema Registry's address that they are told. Default: registry.url.
	RegistryURL string `koanf:"registry_url" usage:"URL of the Schema Registry that organisations are told; empty: registry.url"`
	// ReadBytes is how many bytes a second an organisation may fetch from one broker. Default 10485760.
	ReadBytes int `koanf:"read_bytes" usage:"bytes a second that an organisation may fetch from one broker; 0: any"`
	// WriteBytes is how many bytes a second an organisation may produce to one broker. Default 10485760.
	WriteBytes int `koanf:"write_bytes" usage:"bytes a second that an organisation may produce to one broker; 0: any"`
	// RequestPercent is how much of one broker's time an organisation's requests may take; 100 is one thread. Default 100.
	RequestPercent int `koanf:"request_percent" usage:"percent of one thread of a broker that an organisation may take; 0: any"`
}

// Embedded is the cluster that `civicbus up` runs in its own process.
type Embedded struct {
	// DataDir holds topics, schemas and keys. Default civicbus-data, in the working directory.
	DataDir string `koanf:"data_dir" usage:"directory of the embedded cluster's topics, schemas and keys"`
	// Host is the address that broker and registry listen on, one of this machine. Default 127.0.0.1.
	Host string `koanf:"host" usage:"address that the embedded broker and registry listen on"`
	// KafkaPort is the broker's port; 0 takes a free one. Default 9092.
	KafkaPort int `koanf:"kafka_port" usage:"port of the embedded broker; 0: a free one"`
	// RegistryPort is the registry's port; 0 takes a free one. Default 8081.
	RegistryPort int `koanf:"registry_port" usage:"port of the embedded registry; 0: a free one"`
	// Secure makes every client of the broker authenticate; civicbus itself may do everything, others what they were given.
	// Default false: whoever reaches the broker may do everything.
	Secure bool `koanf:"secure" usage:"every client of the embedded broker authenticates, and has the rights that it was given"`
}

// Tracing is what civicbus tells of single events to an OpenTelemetry collector.
type Tracing struct {
	// Enabled makes spans and sends them by OTLP over HTTP. Where they go and which are sampled is set by OpenTelemetry's own
	// environment variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER). Default false.
	Enabled bool `koanf:"enabled" usage:"send traces by OTLP over HTTP, as OpenTelemetry's own environment variables say"`
}

// The formats of log lines.
const (
	Text = "text"
	JSON = "json"
)

// Log is what civicbus writes to standard error.
type Log struct {
	// Level is the least severe that is written: debug, info, warn or error. Default info.
	Level string `koanf:"level" usage:"least severe log line: debug, info, warn or error"`
	// Format is text or json. Default text.
	Format string `koanf:"format" usage:"log lines as text or json"`
}

// Defaults returns every setting at its default; embedded is for a cluster of one broker in this process.
func Defaults(embedded bool) *Config {
	c := &Config{
		Kafka:    Kafka{Brokers: []string{"127.0.0.1:9092"}, ClientID: "civicbus", Partitions: 64, Replication: 3},
		Registry: Registry{URL: "http://127.0.0.1:8081"},
		Lease:    Lease{Age: 500 * time.Millisecond},
		Engine:   Engine{Interval: 20 * time.Millisecond, TransactionTimeout: 5 * time.Second},
		Audit:    Audit{HeadInterval: time.Minute},
		Access:   Access{ReadBytes: 10 << 20, WriteBytes: 10 << 20, RequestPercent: 100},
		HTTP:     HTTP{Listen: "127.0.0.1:9644"},
		Gateway:  Gateway{Listen: "127.0.0.1:8080", Audience: "civicbus", RateLimit: 6000, MaxConnections: 10_000},
		Webhooks: Webhooks{Origin: "civicbus"},
		Embedded: Embedded{DataDir: "civicbus-data", Host: "127.0.0.1", KafkaPort: 9092, RegistryPort: 8081},
		Log:      Log{Level: "info", Format: Text},
	}
	if embedded {
		c.Kafka.Partitions, c.Kafka.Replication = 8, 1
		c.Webhooks.Development = true
	}
	return c
}
