package delivery

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"civicbus/internal/mutant"
)

// script is a connection whose other side says what it was given.
type script struct {
	net.Conn
	in *bytes.Reader
}

func (s *script) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error) { return len(p), nil }
func (s *script) Close() error                { return nil }
func (s *script) SetDeadline(time.Time) error { return nil }

// FuzzAnswer reads what a receiver answers: whatever it is, the exchange ends, and reads no more than it may.
func FuzzAnswer(f *testing.F) {
	u, err := parseSink("https://receiver.example/hook", false)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	mutant.Fuzz(f, 64, func(tb testing.TB, in []byte) bool {
		c := &conn{Conn: &script{in: bytes.NewReader(in)}, origin: "https://receiver.example:443"}
		c.in = bufio.NewReaderSize(c, 4<<10)
		r, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, u.String(), strings.NewReader("{}"))
		if err != nil {
			tb.Fatal(err)
		}
		t := transport{idle: map[string][]*conn{}}
		a, err := t.exchange(tb.Context(), c, r, nil)
		if c.left < 0 {
			tb.Fatal("more was read than may be")
		}
		if err != nil {
			return false
		}
		if a.status < 100 || a.status > 999 {
			tb.Fatalf("status %d", a.status)
		}
		if d := retryAfter(a.header, now); d < 0 {
			tb.Fatalf("Retry-After %s", d)
		}
		return true
	}, []byte("HTTP/1.1 204 No Content\r\n\r\n"), []byte("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 120\r\nContent-Length: 2\r\n\r\n{}"),
		[]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
		[]byte("HTTP/1.0 302 Found\r\nLocation: https://127.0.0.1/\r\nRetry-After: Sun, 01 Mar 2026 13:00:00 GMT\r\n\r\nbody until the end"))
}

// What is held back at the last moment leaves nothing on the wire, and its connection is used again.
func TestWhatIsHeldBackDoesNotLeave(t *testing.T) {
	mine, theirs := net.Pipe()
	defer func() { _, _ = mine.Close(), theirs.Close() }()
	wrote := make(chan []byte, 1)
	go func() {
		b := make([]byte, 1<<10)
		n, _ := theirs.Read(b)
		wrote <- b[:n]
		_, _ = theirs.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	}()
	tr := transport{idle: map[string][]*conn{}}
	c := &conn{Conn: mine, origin: "o"}
	c.in = bufio.NewReader(c)
	ask := func(may bool) (answer, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://receiver.example/", strings.NewReader("the data"))
		if err != nil {
			t.Fatal(err)
		}
		return tr.exchange(t.Context(), c, r, func() bool { return may })
	}
	if _, err := ask(false); err == nil || len(tr.idle["o"]) != 1 {
		t.Fatalf("%v, %d connections are kept", err, len(tr.idle["o"]))
	}
	select {
	case b := <-wrote:
		t.Fatalf("LEAK: %q left", b)
	default:
	}
	tr.idle = map[string][]*conn{}
	if a, err := ask(true); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d %v", a.status, err)
	}
	if b := <-wrote; !bytes.Contains(b, []byte("the data")) {
		t.Errorf("%q left", b)
	}
}
