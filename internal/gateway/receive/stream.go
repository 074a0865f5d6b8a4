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
	// room waits until a delivery can be written, and says how many can.
	room(ctx context.Context) (int, error)
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

// errGone says that the connection has ended.
var errGone = errors.New("the reader has gone")

// errSlow ends the stream of a reader that does not read.
var errSlow = &feed.Ended{Code: codeSlow, Detail: "the reader did not read, or did not acknowledge, in time; it goes on where it was"}

// stream sends a subscription's deliveries from a position on, until something ends it.
func (s *server) stream(ctx context.Context, subscription string, at feed.Position, to sink) error {
	f := s.cfg.Feed
	reader := f.Reader(subscription)
	reader.Bytes = streamBytes
	defer reader.Close()
	quiet := time.Now() // since when nothing was written
	most := streamPage  // few for a connection that takes little, so that little is decided in vain
	for {
		room, err := to.room(ctx)
		if err != nil {
			return err
		}
		page, err := reader.Read(ctx, at, min(room, most), time.Until(quiet.Add(s.cfg.Heartbeat)))
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
		current := true
		for i := range page.Events {
			if current = f.Current(page.Confirmed); !current {
				break // decided too long ago: it is decided anew
			}
			if err := to.write(ctx, &page.Events[i]); err != nil {
				return err
			}
			at, quiet = page.Events[i].After, time.Now()
		}
		if current {
			at, most = page.Next, min(2*most, streamPage)
		} else {
			most = 1
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
	case ctx.Err() != nil, errors.Is(err, errGone):
		return nil //nolint:nilerr // nobody is there to be told
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
