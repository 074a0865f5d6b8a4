package web

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// maxBodies bounds the memory that all bodies being read or used take together.
const maxBodies = 256 << 20

// Budget bounds the memory that all requests take together for one thing. Safe for concurrent use.
type Budget struct {
	Bytes    int64 // in all
	reserved atomic.Int64
}

// Reserve sets bytes aside until release is called; the error, which is Unavailable, when there are not so many left. A caller
// that alone needs more than there are gets all of them.
func (b *Budget) Reserve(bytes int64) (release func(), err error) {
	bytes = min(bytes, b.Bytes)
	if b.reserved.Add(bytes) > b.Bytes {
		b.reserved.Add(-bytes)
		return nil, Unavailable("too many large requests at once")
	}
	return func() { b.reserved.Add(-bytes) }, nil
}

// body reads a request's body whole, decompressed, within the limit and the time for it. Call release when it is not used any
// more.
func (a *API) body(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error) {
	tooLarge := Fail(http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body may have %d bytes after decompression", limit))
	if r.ContentLength > limit {
		return nil, nil, tooLarge
	}
	size := limit
	zipped := false
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		if r.ContentLength >= 0 {
			size = r.ContentLength
		}
	case "gzip":
		zipped = true
	default:
		return nil, nil, refuse(http.StatusUnsupportedMediaType, "unsupported_encoding", "the body may be compressed with gzip, or not at all", http.Header{"Accept-Encoding": {"gzip"}})
	}
	if release, err = a.bodies.Reserve(size); err != nil {
		return nil, nil, err
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(a.cfg.BodyTimeout)) // a transport without deadlines has none
	body, err = read(http.MaxBytesReader(w, r.Body, limit), zipped, limit)
	var tooMany *http.MaxBytesError
	var netErr net.Error
	switch {
	case err == nil:
		_ = control.SetReadDeadline(time.Time{}) // else it stays: the server would wait for the rest of the body
		return body, release, nil
	case errors.As(err, &tooMany), errors.Is(err, errTooLarge):
		err = tooLarge
	case errors.As(err, &netErr) && netErr.Timeout():
		w.Header().Set("Connection", "close")
		err = Fail(http.StatusRequestTimeout, "body_timeout", fmt.Sprintf("the body did not come within %s", a.cfg.BodyTimeout))
	default:
		err = Fail(http.StatusBadRequest, "malformed", "the body cannot be read")
	}
	release()
	return nil, nil, err
}

// Body is the body of a request of a Serve route: it has been read.
func Body(r *http.Request) ([]byte, error) { return io.ReadAll(r.Body) }

var errTooLarge = errors.New("too large")

func read(from io.Reader, zipped bool, limit int64) ([]byte, error) {
	if zipped {
		z, err := gzip.NewReader(from)
		if err != nil {
			return nil, err
		}
		from = z
	}
	body, err := io.ReadAll(io.LimitReader(from, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = errTooLarge
	}
	return body, err
}
