//go:build synctests

package kafka

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// nic is one machine's way to the brokers: it takes its time, can be cut, and can swallow what it is given. Time passes only
// here (and in slow callbacks), so a fault falls into the middle of a request as often as between two.
type nic struct {
	net *kfake.VirtualNetwork

	mu    sync.Mutex
	made  int // connections so far
	rng   *rand.Rand
	wires map[*wire]struct{}
	state nicState
	lie   bool // the next end of a transaction is carried out and answered with an error
}

type nicState int

const (
	up   nicState = iota
	cut           // connections break, new ones are refused
	hole          // connections stay, and nothing arrives
	slow          // every other connection takes seconds to bring what arrives
)

func newNIC(net *kfake.VirtualNetwork, seed uint64) *nic {
	return &nic{net: net, rng: rand.New(rand.NewPCG(seed, 7)), wires: map[*wire]struct{}{}}
}

var errCut = errors.New("the network is cut")

func (n *nic) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	for {
		switch n.now() {
		case cut:
			return nil, errCut
		case hole:
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Second):
				continue
			}
		}
		c, err := n.net.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		w := &wire{Conn: c, nic: n, shut: make(chan struct{})}
		n.mu.Lock()
		n.made++
		w.slow = n.made%2 == 0
		n.wires[w] = struct{}{}
		n.mu.Unlock()
		return w, nil
	}
}

func (n *nic) now() nicState {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

func (n *nic) set(state nicState) {
	n.mu.Lock()
	n.state = state
	var broken []*wire
	if state == cut {
		for w := range n.wires {
			broken = append(broken, w)
		}
	}
	n.mu.Unlock()
	for _, w := range broken {
		_ = w.Close() // what it broke off is the point
	}
}

// latency is 50 us to 1 ms, and now and then 40 ms.
func (n *nic) latency() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rng.IntN(400) == 0 {
		return 40 * time.Millisecond
	}
	return 50*time.Microsecond + time.Duration(n.rng.Int64N(int64(950*time.Microsecond)))
}

type wire struct {
	net.Conn
	nic  *nic
	once sync.Once
	shut chan struct{}
	slow bool                    // of those that a slow network is slow for
	lied atomic.Pointer[[4]byte] // correlation id of the request that will be answered with an error
}

// endTxnKey is the API key of EndTxn: bytes 4 and 5 of a request, after its size; bytes 8 to 11 are its correlation id, with
// which the answer begins (after its size).
const endTxnKey = 26

func (n *nic) lieOnce() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lie = true
}

// Write loses what it is given in a hole: the broker never sees the request.
func (w *wire) Write(p []byte) (int, error) {
	time.Sleep(w.nic.latency())
	switch w.nic.now() {
	case cut:
		return 0, errCut
	case hole:
		return len(p), nil
	}
	if len(p) > 12 && p[4] == 0 && p[5] == endTxnKey {
		w.nic.mu.Lock()
		if w.nic.lie {
			w.nic.lie = false
			id := [4]byte(p[8:12])
			w.lied.Store(&id)
		}
		w.nic.mu.Unlock()
	}
	return w.Conn.Write(p)
}

// Read may lose an answer to a request that the broker has carried out.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		time.Sleep(w.nic.latency())
	}
	if id := w.lied.Load(); id != nil {
		if at := bytes.Index(p[:n], id[:]); at >= 0 && n >= at+11 { // the id, no tags, the throttle time, the error
			w.lied.Store(nil)
			p[at+9], p[at+10] = 0xff, 0xff // UNKNOWN_SERVER_ERROR
		}
	}
	if w.slow && w.nic.now() == slow {
		time.Sleep(1500 * time.Millisecond)
	}
	for w.nic.now() == hole {
		select {
		case <-w.shut:
			return 0, io.EOF
		case <-time.After(100 * time.Millisecond):
		}
	}
	if w.nic.now() == cut {
		return 0, errCut
	}
	return n, err
}

func (w *wire) Close() error {
	var err error
	w.once.Do(func() {
		close(w.shut)
		w.nic.mu.Lock()
		delete(w.nic.wires, w)
		w.nic.mu.Unlock()
		err = w.Conn.Close()
	})
	return err
}
