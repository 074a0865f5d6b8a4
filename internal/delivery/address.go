package delivery

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// ErrAddress says that civicbus does not connect to where a webhook leads.
var ErrAddress = errors.New("the address may not be reached")

// Ports that a webhook may have.
var ports = []uint16{443, 8443}

const dialWithin = 5 * time.Second

// dialer connects to public addresses alone, and to the networks that the operator has named. The check is made on the address
// that is dialled, after its name was resolved: neither a spelling nor a name that resolves differently each time passes it. The
// ranges are those of IANA's special-purpose registries, kept by the ssrf package.
func dialer(s *Settings) *net.Dialer {
	d := &net.Dialer{Timeout: dialWithin, KeepAlive: 15 * time.Second}
	if s.Development {
		return d
	}
	var v4, v6 []netip.Prefix
	for _, n := range s.Networks {
		if n.Addr().Unmap().Is4() {
			v4 = append(v4, n)
		} else {
			v6 = append(v6, n)
		}
	}
	guard := ssrf.New(ssrf.WithPorts(ports...), ssrf.WithNetworks("tcp4", "tcp6"), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))
	d.Control = func(network, address string, c syscall.RawConn) error {
		if err := guard.Safe(network, address, c); err != nil {
			return ErrAddress
		}
		return nil
	}
	return d
}

// parseSink reads a webhook's address. Whatever an address says beside scheme, host, path and query is refused.
func parseSink(sink string, development bool) (*url.URL, error) {
	u, err := url.Parse(sink)
	switch {
	case err != nil, u.Hostname() == "", u.User != nil, u.Fragment != "", u.Opaque != "":
		return nil, ErrAddress
	case u.Scheme == "https", u.Scheme == "http" && development:
		return u, nil
	}
	return nil, ErrAddress
}
