package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// ServerConfig says where an API is served.
type ServerConfig struct {
	Listen         string         // host:port; port 0 takes a free one
	CertFile       string         // PEM; with KeyFile: TLS. Both are read again when they change
	KeyFile        string         //
	MaxConnections int            // at once; more wait to be accepted. 10,000
	Drain          time.Duration  // how long requests may go on once the gateway stops; 10 s
	Addr           func(net.Addr) // told where it listens; nil: nobody

}

// Bounds of a connection. A header is read within headerTimeout; one that asks nothing is closed after idleTimeout.
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 128 << 10 // CloudEvents in binary mode has up to 48 attributes of 1 KiB in its headers, and percent-encoding makes cursors long
	reloadEvery   = 2 * time.Second
)

// Serve serves until the context ends, then stops in order: no new connections, streams are ended, requests get time to
// finish.
func (a *API) Serve(ctx context.Context, cfg ServerConfig) error {
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 10_000
	}
	if cfg.Drain == 0 {
		cfg.Drain = 10 * time.Second
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for the gateway (gateway.listen): %w", err)
	}
	server := &http.Server{Handler: a.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug)}
	limited := &limitedListener{Listener: listener, slots: make(chan struct{}, cfg.MaxConnections), closed: make(chan struct{})}
	var serving net.Listener = limited
	if cfg.CertFile != "" {
		certificate, err := newCertificate(cfg.CertFile, cfg.KeyFile, a.log)
		if err != nil {
			_ = listener.Close()
			return err
		}
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: certificate.current}
		serving = tls.NewListener(limited, server.TLSConfig)
	}
	if cfg.Addr != nil {
		cfg.Addr(listener.Addr())
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.Background(), cfg.Drain)
		defer cancel()
		go func() { _ = a.Close(end) }()
		err := server.Shutdown(end)
		if err != nil {
			err = errors.Join(fmt.Errorf("requests were cut off after %s: %w", cfg.Drain, err), server.Close())
		}
		stopped <- errors.Join(err, a.Close(end))
	})
	if err := server.Serve(serving); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve the gateway: %w", err)
	}
	return <-stopped
}

// limitedListener accepts a bounded number of connections at once.
type limitedListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// certificate is a key pair that follows its files.
type certificate struct {
	cert, key string
	log       *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	looked time.Time
	stamps [2]stamp
}

// stamp tells one state of a file from another.
type stamp struct {
	at   time.Time
	size int64
}

func newCertificate(cert, key string, log *slog.Logger) (*certificate, error) {
	c := &certificate{cert: cert, key: key, log: log}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read the gateway's certificate (gateway.tls): %w", err)
	}
	c.pair, c.looked = &pair, time.Now()
	c.stamps, _ = c.now()
	return c, nil
}

func (c *certificate) now() (stamps [2]stamp, err error) {
	for i, file := range []string{c.cert, c.key} {
		info, err := os.Stat(file)
		if err != nil {
			return stamps, err
		}
		stamps[i] = stamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

// current is the certificate of a handshake. A pair that cannot be read, or whose halves do not fit (they are replaced one
// after the other), leaves the old one in use.
func (c *certificate) current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < reloadEvery {
		return c.pair, nil
	}
	c.looked = time.Now()
	stamps, err := c.now()
	if err != nil || stamps == c.stamps {
		return c.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		c.log.Warn("the gateway's certificate changed and cannot be read: the old one stays", "error", err)
		return c.pair, nil
	}
	c.pair, c.stamps = &pair, stamps
	return c.pair, nil
}
