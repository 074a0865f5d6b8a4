package delivery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// forbidden are addresses of every range that no webhook may lead to.
var forbidden = []string{"127.0.0.1", "127.8.9.10", "10.0.0.1", "10.255.255.254", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.254",
	"169.254.169.254", "169.254.0.1", "0.0.0.0", "0.1.2.3", "100.64.0.1", "100.127.255.254", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.19.255.254", "198.51.100.7",
	"203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"}

var forbidden6 = []string{"::1", "::", "fc00::1", "fd12:3456:789a::1", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1", "100::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
	"64:ff9b:1::1", "2002:7f00:1::", "2001::1", "::ffff:0:127.0.0.1", "fd00:ec2::254"}

// spellings are ways to write an IPv4 address in a URL, some of which some parser takes for it.
func spellings(text string) (all []string) {
	a := netip.MustParseAddr(text).As4()
	n := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	wide := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r - '0' + '\uff10'
		}
		return r
	}, text)
	hosts := []string{text, text + ".", fmt.Sprint(n), fmt.Sprintf("0x%x", n), fmt.Sprintf("0X%08X", n), fmt.Sprintf("0%o", n), fmt.Sprintf("%d.%d", a[0], n&0xffffff),
		fmt.Sprintf("%d.%d.%d", a[0], a[1], n&0xffff), fmt.Sprintf("0x%x.0x%x.0x%x.0x%x", a[0], a[1], a[2], a[3]), fmt.Sprintf("0%o.0%o.0%o.0%o", a[0], a[1], a[2], a[3]),
		fmt.Sprintf("%03d.%03d.%03d.%03d", a[0], a[1], a[2], a[3]), fmt.Sprintf("0x%x.%d.0%o.%d", a[0], a[1], a[2], a[3]), wide, strings.ReplaceAll(text, ".", "\u3002"),
		"[::ffff:" + text + "]", fmt.Sprintf("[::ffff:%x:%x]", n>>16, n&0xffff), fmt.Sprintf("[0:0:0:0:0:FFFF:%X:%X]", n>>16, n&0xffff), "[::" + text + "]", "[64:ff9b::" + text + "]",
		fmt.Sprintf("[2002:%x:%x::1]", n>>16, n&0xffff), "[::ffff:0:" + text + "]", "[::ffff:" + text + "%25lo]",
		"user@" + text, "user:secret@" + text, "public.example@" + text, text + "#@public.example", strings.ReplaceAll(text, ".", "%2e"), text + "%00.public.example", text + "\\@public.example",
		"name-of-" + strings.ReplaceAll(text, ".", "-") + ".example"}
	for _, h := range hosts {
		for _, port := range []string{"", ":443", ":8443", ":80"} {
			all = append(all, "https://"+h+port+"/hook")
		}
	}
	return all
}

// liar resolves every name to an address that is public once in two times, and forbidden then.
func liar(t *testing.T, forbidden string) *net.Resolver {
	t.Helper()
	var asked atomic.Int64
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		in := make([]byte, 1<<10)
		for {
			n, from, err := conn.ReadFrom(in)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(in[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				address := netip.MustParseAddr(forbidden).As4()
				if asked.Add(1)%2 == 1 {
					address = [4]byte{192, 0, 2, 1} // whatever was looked at before, this is what is dialled
				}
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: &dnsmessage.AResource{A: address}}}
			}
			out, err := m.Pack()
			if err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

var errWouldConnect = errors.New("would connect")

// counting counts what a dialer would connect to, and keeps it from doing so.
func counting(d *net.Dialer, passed *atomic.Int64) {
	guard := d.Control
	d.Control = func(network, address string, c syscall.RawConn) error {
		if guard != nil {
			if err := guard(network, address, c); err != nil {
				return err
			}
		}
		passed.Add(1)
		return errWouldConnect
	}
}

func TestForbiddenAddressesAreNotReached(t *testing.T) {
	var sinks []string
	for _, a := range forbidden {
		sinks = append(sinks, spellings(a)...)
	}
	for _, a := range forbidden6 {
		for _, port := range []string{"", ":443", ":8443"} {
			sinks = append(sinks, "https://["+a+"]"+port+"/", "https://["+strings.ToUpper(a)+"]"+port+"/", "https://user@["+a+"]"+port+"/")
		}
	}
	sinks = append(sinks, "http://public.example/", "https://localhost/", "https://localhost.localdomain/", "https://metadata.google.internal/", "https:///hook", "https:10.0.0.1",
		"//10.0.0.1/", "ftp://10.0.0.1/", "gopher://127.0.0.1/", "file:///etc/passwd", "https://[::1", "https://127.0.0.1:99999/", "https://127.0.0.1:0/", "HTTPS://127.0.0.1/")
	if len(sinks) < 1000 {
		t.Fatalf("only %d spellings", len(sinks))
	}
	var passed atomic.Int64
	refused := 0
	for i, sink := range sinks {
		u, err := parseSink(sink, false)
		if err != nil {
			refused++
			continue
		}
		d := dialer(&Settings{})
		if i%64 == 0 {
			d.Resolver = liar(t, forbidden[i/64%len(forbidden)])
		} else {
			d.Resolver = nobody
		}
		counting(d, &passed)
		c := transport{dial: d.DialContext}
		if conn, err := c.connect(t.Context(), u, true); err == nil {
			_ = conn.Close()
			t.Errorf("%s: connected", sink)
		}
		if n := passed.Swap(0); n > 0 {
			t.Errorf("%s: %d connections", sink, n)
		}
	}
	t.Logf("%d spellings, %d of them no webhook's address, 0 connections", len(sinks), refused)
}

// nobody knows no name.
var nobody = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no resolver") }}

// Names that resolve to a forbidden address are refused however often they change.
func TestNamesThatRebindAreNotReached(t *testing.T) {
	for _, a := range forbidden {
		var passed atomic.Int64
		d := dialer(&Settings{})
		d.Resolver = liar(t, a)
		counting(d, &passed)
		u, err := parseSink("https://rebinds.example/hook", false)
		if err != nil {
			t.Fatal(err)
		}
		c := transport{dial: d.DialContext}
		for range 4 {
			_, err := c.connect(t.Context(), u, true)
			if !errors.Is(err, ErrAddress) || causeOf(err) != CauseAddress {
				t.Fatalf("%s: %v", a, err)
			}
		}
		if n := passed.Load(); n > 0 {
			t.Errorf("%s: %d connections", a, n)
		}
	}
}

func TestOtherAddressesAreReached(t *testing.T) {
	for _, c := range []struct {
		settings Settings
		sink     string
		want     bool
	}{
		{Settings{}, "https://93.184.216.34/hook", true},
		{Settings{}, "https://93.184.216.34:8443/hook", true},
		{Settings{}, "https://93.184.216.34:22/hook", false},
		{Settings{}, "https://[2a00:1450:4001:829::200e]/hook", true},
		{Settings{}, "https://10.1.2.3/hook", false},
		{Settings{Networks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, "https://10.1.2.3/hook", true},
		{Settings{Networks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, "https://10.2.2.3/hook", false},
		{Settings{Networks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, "https://93.184.216.34/hook", true},
		{Settings{Networks: []netip.Prefix{netip.MustParsePrefix("fd00:1::/32")}}, "https://[fd00:1::5]/hook", true},
		{Settings{Development: true}, "http://127.0.0.1:9/hook", true},
	} {
		u, err := parseSink(c.sink, c.settings.Development)
		if err != nil {
			t.Fatal(err)
		}
		var passed atomic.Int64
		d := dialer(&c.settings)
		counting(d, &passed)
		_, err = (&transport{dial: d.DialContext}).connect(t.Context(), u, true)
		if got := passed.Load() > 0; got != c.want {
			t.Errorf("%+v %s: reached %t, %v", c.settings, c.sink, got, err)
		}
	}
}
