package gatewaytest

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"civicbus/internal/gateway/web"
)

// tokens authenticates what Token and PersonToken make.
type tokens struct{ b *Bus }

// Token is an organisation's, for every scope, until a time.
func Token(organisation string, until time.Time) string {
	return "org:" + organisation + ":" + strconv.FormatInt(until.UnixMilli(), 10)
}

// PersonToken is the i-th person's.
func PersonToken(i int, until time.Time) string {
	return "person:" + strconv.Itoa(i) + ":" + strconv.FormatInt(until.UnixMilli(), 10)
}

func (t tokens) Authenticate(_ context.Context, token string) (*web.Identity, error) {
	parts := strings.Split(token, ":")
	if len(parts) != 3 {
		return nil, errors.New("unknown")
	}
	until, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return nil, errors.New("unknown")
	}
	id := &web.Identity{Client: parts[0] + " " + parts[1], Expires: time.UnixMilli(until), Scopes: web.Scopes(), Actor: "client:" + parts[0]}
	switch parts[0] {
	case "org":
		id.Organisation = parts[1]
		return id, nil
	case "person":
		i, err := strconv.Atoi(parts[1])
		id.Person = t.b.Subject(i)
		return id, err
	}
	return nil, errors.New("unknown")
}

// Serve serves routes until the test ends.
func (b *Bus) Serve(mount func(*web.API) error) (*web.API, *httptest.Server) {
	b.T.Helper()
	a, err := web.New(web.Config{Authenticator: tokens{b}, Logger: slog.New(slog.DiscardHandler), Limit: web.Limit{Requests: 1_000_000, Window: time.Minute}})
	b.Must(err)
	b.Must(mount(a))
	s := httptest.NewServer(a.Handler())
	b.T.Cleanup(func() {
		s.CloseClientConnections()
		end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		b.Must(a.Close(end))
		s.Close()
	})
	return a, s
}
