package receive

import (
	"context"
	"errors"
	"time"

	"civicbus/internal/gateway/feed"
	"civicbus/internal/gateway/web"
)

// sink is where a stream's deliveries go. Its errors end the stream.
type sink interface {
	// room waits until one more delivery can be written.
	room(ctx context.Context) error
	// write sends a delivery; it returns when the connection has taken it.
	write(ctx context.Context, e *feed.Event) error
	// idle is called when nothing came for a heartbeat.
	idle(ctx context.Context) error
}

// Bounds of what a stream holds.
const (
	streamPage  = 32
	streamBytes = 128 << 10
	holdPause   = 100 * time.Millisecond
	endWithin   = time.Second // how long a connection may take what is being written when its stream ends
)

// errSlow ends the stream of a reader that does not read.
var errSlow = &feed.Ended{Code: codeSlow, Detail: "the reader did not read, or did not acknowledge, in time; it goes on where it was"}

// stream sends a subscription's deliveries from a position on, until something ends it.
func (s *server) stream(ctx context.Context, subscription string, at feed.Position, to sink) error {
	f := s.cfg.Feed
	reader := f.Reader(subscription)
	reader.Bytes = streamBytes
	defer reader.Close()
	quiet := time.Now() // since when nothing was written
	for {
		page, err := reader.Read(ctx, at, streamPage, time.Until(quiet.Add(s.cfg.Heartbeat)))
		if held(err) { // nothing is decided, so nothing is sent; the stream stays
			select {
			case <-time.After(holdPause):
			case <-ctx.Done():
				return ctx.Err()
			}
			page = feed.Page{Next: at}
		} else if err != nil {
			return err
		}
		done := true
		for i := range page.Events {
			e := &page.Events[i]
			if err := to.room(ctx); err != nil {
				return err
			}
			if done = f.Current(page.Confirmed); !done {
				break // decided too long ago: it is decided anew
			}
			if err := to.write(ctx, e); err != nil {
				return err
			}
			at, quiet = e.After, time.Now()
		}
		if done {
			at = page.Next
		}
		if time.Since(quiet) >= s.cfg.Heartbeat {
			if err := to.idle(ctx); err != nil {
				return err
			}
			quiet = time.Now()
		}
	}
}

// held says whether an error passes by itself.
func held(err error) bool {
	var e *feed.Ended
	return errors.As(err, &e) && (e.Code == feed.NotCurrent || e.Code == feed.Unavailable)
}

// end is the code and the text that a stream ends with; the reader is gone when there is none.
func end(ctx context.Context, err error) *feed.Ended {
	var e *feed.Ended
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, web.ErrTokenExpired):
		return &feed.Ended{Code: codeExpired, Detail: "the token has expired"}
	case errors.Is(cause, web.ErrStopping):
		return &feed.Ended{Code: codeStopping, Detail: "the gateway stops"}
	case errors.As(err, &e):
		return e
	case ctx.Err() != nil:
		return nil
	}
	return &feed.Ended{Code: codeInternal, Detail: "an error of the gateway's own"}
}

// ended counts a stream out.
func (s *server) ended(way string, e *feed.Ended, err error) {
	code := "closed"
	if e != nil {
		code = e.Code
	}
	s.ends.WithLabelValues(way, code).Inc()
	if code == codeInternal {
		s.cfg.Logger.Error("a stream could not go on", "way", way, "error", err)
	}
}
