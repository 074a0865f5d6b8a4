package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate returns every fault of the configuration, joined; each names its key, its value and what would be right.
// It looks at the files that are named, and connects to nothing.
func (c *Config) Validate() error {
	var f faults
	c.Kafka.validate(&f)
	c.Registry.validate(&f)
	f.between("lease.age", c.Lease.Age, 50*time.Millisecond, 30*time.Second)
	f.between("engine.interval", c.Engine.Interval, time.Millisecond, MaxInterval)
	f.between("engine.transaction_timeout", c.Engine.TransactionTimeout, time.Second, time.Minute)
	f.address("http.listen", c.HTTP.Listen, 0)
	c.Gateway.validate(&f)
	c.Webhooks.validate(&f)
	f.file("keys.bus_key_file", c.Keys.BusKeyFile)
	f.file("keys.audit_key_file", c.Keys.AuditKeyFile)
	f.between("audit.head_interval", c.Audit.HeadInterval, 100*time.Millisecond, 24*time.Hour)
	c.Access.validate(&f)
	c.Embedded.validate(&f)
	f.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	f.oneOf("log.format", c.Log.Format, Text, JSON)
	return errors.Join(f...)
}

func (k Kafka) validate(f *faults) {
	if len(k.Brokers) == 0 {
		f.add("kafka.brokers", "", "must name at least one broker, host:port")
	}
	for _, b := range k.Brokers {
		f.address("kafka.brokers", b, 1)
	}
	if k.ClientID == "" {
		f.add("kafka.client_id", "", "must be a name")
	}
	if k.Partitions < 1 {
		f.add("kafka.partitions", strconv.Itoa(int(k.Partitions)), "must be 1 or more")
	}
	if k.Replication < 1 {
		f.add("kafka.replication", strconv.Itoa(int(k.Replication)), "must be 1 or more")
	}
	k.TLS.validate(f)
	k.SASL.validate(f)
}

func (t TLS) validate(f *faults) {
	for _, file := range []struct{ key, path string }{{"kafka.tls.ca", t.CA}, {"kafka.tls.cert", t.Cert}, {"kafka.tls.key", t.Key}} {
		if file.path != "" && !t.Enabled {
			f.add(file.key, file.path, "has no effect; set kafka.tls.enabled, or drop it")
			continue
		}
		f.file(file.key, file.path)
	}
	if (t.Cert == "") != (t.Key == "") {
		f.add("kafka.tls.cert", t.Cert, "and kafka.tls.key go together: set both, or neither")
	}
}

func (s SASL) validate(f *faults) {
	var needed, idle []struct{ key, value string }
	user := struct{ key, value string }{"kafka.sasl.user", s.User}
	password := struct{ key, value string }{"kafka.sasl.password_file", s.PasswordFile}
	token := struct{ key, value string }{"kafka.sasl.token_file", s.TokenFile}
	switch s.Mechanism {
	case "":
		idle = append(idle, user, password, token)
	case Plain, ScramSHA256, ScramSHA512:
		needed, idle = append(needed, user, password), append(idle, token)
	case OAuthBearer:
		needed, idle = append(needed, token), append(idle, user, password)
	default:
		f.oneOf("kafka.sasl.mechanism", s.Mechanism, Plain, ScramSHA256, ScramSHA512, OAuthBearer)
	}
	for _, n := range needed {
		if n.value == "" {
			f.add(n.key, "", "is needed by "+s.Mechanism)
		}
	}
	for _, i := range idle {
		if i.value != "" {
			f.add(i.key, i.value, fmt.Sprintf("has no effect with kafka.sasl.mechanism %q; change that, or drop it", s.Mechanism))
		}
	}
	f.file(password.key, password.value)
	f.file(token.key, token.value)
}

func (r Registry) validate(f *faults) {
	u, err := url.Parse(r.URL)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https":
		f.add("registry.url", withoutPassword(r.URL), "must be a URL with http or https and a host")
	case u.User != nil:
		f.add("registry.url", withoutPassword(r.URL), "must not hold a user; set registry.user and registry.password_file")
	case u.RawQuery != "" || u.Fragment != "":
		f.add("registry.url", r.URL, "must be a base URL, without ? or #")
	}
	if (r.User == "") != (r.PasswordFile == "") {
		f.add("registry.user", r.User, "and registry.password_file go together: set both, or neither")
	}
	f.file("registry.password_file", r.PasswordFile)
}

func (w Webhooks) validate(f *faults) {
	if w.Origin == "" || strings.ContainsAny(w.Origin, " /:@") {
		f.add("webhooks.origin", w.Origin, "must be a DNS name")
	}
	for _, n := range w.Networks {
		if _, err := netip.ParsePrefix(n); err != nil {
			f.add("webhooks.networks", n, "must be a network in CIDR form, such as 10.20.0.0/16")
		}
	}
	f.file("webhooks.ca", w.CA)
}

func (g Gateway) validate(f *faults) {
	f.address("gateway.listen", g.Listen, 0)
	if (g.TLS.Cert == "") != (g.TLS.Key == "") {
		f.add("gateway.tls.cert", g.TLS.Cert, "and gateway.tls.key go together: set both, or neither")
	}
	f.file("gateway.tls.cert", g.TLS.Cert)
	f.file("gateway.tls.key", g.TLS.Key)
	f.file("gateway.access_file", g.AccessFile)
	if u, err := url.Parse(g.PublicURL); g.PublicURL != "" && (err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(u.Path, "/") || u.Scheme != "http" && u.Scheme != "https") {
		f.add("gateway.public_url", withoutPassword(g.PublicURL), "must be a URL with http or https and a host, without a slash at its end")
	}
	if g.Audience == "" {
		f.add("gateway.audience", "", "must be what tokens are for, such as civicbus")
	}
	if g.RateLimit < 1 {
		f.add("gateway.rate_limit", strconv.Itoa(g.RateLimit), "must be 1 or more")
	}
	if g.MaxConnections < 1 {
		f.add("gateway.max_connections", strconv.Itoa(g.MaxConnections), "must be 1 or more")
	}
}

func (a Access) validate(f *faults) {
	for _, b := range a.Brokers {
		f.address("access.brokers", b, 1)
	}
	if u, err := url.Parse(a.RegistryURL); a.RegistryURL != "" && (err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https") {
		f.add("access.registry_url", withoutPassword(a.RegistryURL), "must be a URL with http or https and a host")
	}
	for _, q := range []struct {
		key   string
		value int
	}{{"access.read_bytes", a.ReadBytes}, {"access.write_bytes", a.WriteBytes}, {"access.request_percent", a.RequestPercent}} {
		if q.value < 0 {
			f.add(q.key, strconv.Itoa(q.value), "must be 0 or more")
		}
	}
}

func (e Embedded) validate(f *faults) {
	if e.DataDir == "" {
		f.add("embedded.data_dir", "", "must be a directory")
	}
	if a, err := netip.ParseAddr(e.Host); e.Host == "" || (err == nil && a.IsUnspecified()) {
		f.add("embedded.host", e.Host, "must be one address of this machine: clients are told to connect to it")
	}
	for _, p := range []struct {
		key  string
		port int
	}{{"embedded.kafka_port", e.KafkaPort}, {"embedded.registry_port", e.RegistryPort}} {
		if p.port < 0 || p.port > 65535 {
			f.add(p.key, strconv.Itoa(p.port), "must be a port from 1 to 65535, or 0 for a free one")
		}
	}
	if e.KafkaPort == e.RegistryPort && e.KafkaPort != 0 {
		f.add("embedded.registry_port", strconv.Itoa(e.RegistryPort), "must differ from embedded.kafka_port")
	}
}

// faults collects what is wrong.
type faults []error

func (f *faults) add(key, value, want string) {
	*f = append(*f, fmt.Errorf("%s: %q %s", key, value, want))
}

func (f *faults) between(key string, d, low, high time.Duration) {
	if d < low || d > high {
		*f = append(*f, fmt.Errorf("%s: %v must lie between %v and %v", key, d, low, high))
	}
}

func (f *faults) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		f.add(key, value, "must be one of "+strings.Join(allowed, ", "))
	}
}

// address checks a host:port; lowest is the lowest port, 0 where a free one may be asked for.
func (f *faults) address(key, value string, lowest int) {
	host, port, err := net.SplitHostPort(value)
	n, bad := strconv.Atoi(port)
	if err != nil || bad != nil || n < lowest || n > 65535 || (host == "" && lowest > 0) {
		f.add(key, value, fmt.Sprintf("must be host:port with a port from %d to 65535", lowest))
	}
}

// file checks that a named file can be opened; an empty name is none.
func (f *faults) file(key, path string) {
	if path == "" {
		return
	}
	file, err := os.Open(path)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		f.add(key, path, fmt.Sprintf("must be a file that can be read: %v", err))
	}
}

// withoutPassword hides what stands before the @ of a URL, also of one that cannot be parsed.
func withoutPassword(u string) string {
	if at := strings.LastIndexByte(u, '@'); at >= 0 {
		scheme, _, found := strings.Cut(u, "://")
		if !found || len(scheme) > at {
			return "..." + u[at:]
		}
		return scheme + "://..." + u[at:]
	}
	return u
}
