//go:build synctests

package e2e

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// chaosLink is one machine's way to the brokers and the registry, which can be cut; that to the registry alone too.
type chaosLink struct {
	net *kfake.VirtualNetwork

	mu           sync.Mutex
	cut          bool
	unregistered bool
	wires        map[*chaosWire]struct{}
}

type chaosWire struct {
	net.Conn
	link *chaosLink
}

var errLinkCut = errors.New("the network is cut")

func newLink(n *kfake.VirtualNetwork) *chaosLink {
	return &chaosLink{net: n, wires: map[*chaosWire]struct{}{}}
}

func (l *chaosLink) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut
}

func (l *chaosLink) setRegistry(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unregistered = cut
}

func (l *chaosLink) hasRegistry() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.cut && !l.unregistered
}

func (l *chaosLink) set(cut bool) {
	l.mu.Lock()
	l.cut = cut
	var broken []*chaosWire
	if cut {
		for w := range l.wires {
			broken = append(broken, w)
		}
	}
	l.mu.Unlock()
	for _, w := range broken {
		_ = w.Close() // that it broke off is the point
	}
}

func (l *chaosLink) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if l.isCut() {
		return nil, errLinkCut
	}
	c, err := l.net.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w := &chaosWire{c, l}
	l.mu.Lock()
	l.wires[w] = struct{}{}
	l.mu.Unlock()
	return w, nil
}

// Write takes half a millisecond, so that a cut falls into the middle of a request too.
func (w *chaosWire) Write(p []byte) (int, error) {
	time.Sleep(500 * time.Microsecond)
	if w.link.isCut() {
		return 0, errLinkCut
	}
	return w.Conn.Write(p)
}

func (w *chaosWire) Close() error {
	w.link.mu.Lock()
	delete(w.link.wires, w)
	w.link.mu.Unlock()
	return w.Conn.Close()
}

// chaosRegistry carries a node's requests to the registry, without a socket.
type chaosRegistry struct {
	link    *chaosLink
	handler http.Handler
}

func (r chaosRegistry) RoundTrip(req *http.Request) (*http.Response, error) {
	if !r.link.hasRegistry() {
		return nil, errLinkCut
	}
	if req.Body == nil {
		req.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	r.handler.ServeHTTP(rec, req)
	resp := rec.Result()
	resp.Request = req
	return resp, nil
}
