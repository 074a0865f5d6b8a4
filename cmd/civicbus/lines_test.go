package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines collects what a command that goes on running prints. Safe for concurrent use.
type lines struct {
	mu    sync.Mutex
	all   bytes.Buffer
	added chan struct{} // has room for one
}

func newLines() *lines { return &lines{added: make(chan struct{}, 1)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.added <- struct{}{}:
	default:
	}
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// await waits until a text was printed; false when the command ended first, whose code is then put back, or after a minute.
func (l *lines) await(t *testing.T, text string, ended chan int) bool {
	t.Helper()
	limit := time.After(time.Minute)
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.added:
		case code := <-ended:
			ended <- code
			return strings.Contains(l.String(), text)
		case <-limit:
			return false
		}
	}
	return true
}
