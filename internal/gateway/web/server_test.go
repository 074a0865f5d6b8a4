package web

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writePair writes a certificate for 127.0.0.1 under a serial number, and its key.
func writePair(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "gateway"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A certificate that is replaced is served to the next connection; one that cannot be read is not.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, 1)
	c, err := newCertificate(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		c.looked = time.Time{} // as after two seconds
		pair, err := c.current(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.Int64()
	}
	if n := serial(); n != 1 {
		t.Fatal(n)
	}
	if err := os.WriteFile(cert, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := serial(); n != 1 {
		t.Fatalf("a certificate that cannot be read: %d", n)
	}
	writePair(t, cert, key, 2)
	if n := serial(); n != 2 {
		t.Fatalf("the new one: %d", n)
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	if n := serial(); n != 2 {
		t.Fatalf("none at all: %d", n)
	}
}

// The gateway stops in order: it takes no more connections, ends streams, and lets a request finish.
func TestServeStopsInOrder(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, 1)
	a, err := New(Config{Authenticator: callers, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	begun, finish := make(chan struct{}), make(chan struct{})
	Serve(a, Route{ID: "slow", Method: "GET", Path: "/slow", Tag: "x"}, func(w http.ResponseWriter, r *http.Request) error {
		close(begun)
		<-finish
		return JSON(w, http.StatusOK, map[string]bool{"cancelled": r.Context().Err() != nil})
	})
	Serve(a, Route{ID: "stream", Method: "GET", Path: "/stream", Tag: "x", Stream: true}, func(w http.ResponseWriter, r *http.Request) error {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		_, err := io.WriteString(w, context.Cause(r.Context()).Error())
		return err
	})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	listening, served := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		served <- a.Serve(ctx, ServerConfig{Listen: "127.0.0.1:0", CertFile: cert, KeyFile: key, Addr: func(addr net.Addr) { listening <- addr }})
	}()
	address := (<-listening).String()
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	stream, err := client.Get("https://" + address + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Body.Close() }()
	if stream.Header.Get("Strict-Transport-Security") == "" {
		t.Error("no HSTS over TLS")
	}
	answers := make(chan string, 1)
	go func() {
		res, err := client.Get("https://" + address + "/slow")
		if err != nil {
			answers <- err.Error()
			return
		}
		defer func() { _ = res.Body.Close() }()
		text, _ := io.ReadAll(res.Body)
		answers <- string(text)
	}()
	<-begun
	stop()
	if text, err := io.ReadAll(stream.Body); string(text) != ErrStopping.Error() {
		t.Errorf("the stream: %q %v", text, err)
	}
	for c, err := net.Dial("tcp", address); err == nil; c, err = net.Dial("tcp", address) { // until the listener is closed
		_ = c.Close()
	}
	close(finish)
	if text := <-answers; text != "{\"cancelled\": false}\n" {
		t.Errorf("the request: %s", text)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// Connections above the bound wait until one is closed; none is refused.
func TestConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &limitedListener{Listener: inner, slots: make(chan struct{}, 1), closed: make(chan struct{})}
	accepted := make(chan net.Conn, 2)
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	for range 2 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	first := <-accepted
	if len(accepted) != 0 || len(l.slots) != 1 {
		t.Fatal("the second is taken beside the first")
	}
	_ = first.Close()
	_ = first.Close() // a second time frees nothing
	second := <-accepted
	if len(l.slots) != 1 {
		t.Errorf("%d slots in use", len(l.slots))
	}
	_ = l.Close()
	_ = second.Close()
	if err := <-ended; err == nil {
		t.Error("no end")
	}
}
