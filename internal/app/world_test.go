package app

import (
	"context"
	"log/slog"
	"testing"

	"civicbus/codecs"
)

// silent discards what is logged.
var silent = slog.New(slog.DiscardHandler)

// until gives a context that ends with the test, or before.
func until(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return ctx, cancel
}

// nowhere is a registry that is out of reach: nothing listens on its port.
func nowhere(t *testing.T) *codecs.Registry {
	t.Helper()
	r, err := codecs.NewRegistry(codecs.RegistryConfig{URL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wire is a value under a schema id.
func wire(id int32) []byte { return append(codecs.AppendWire(nil, id), 0) }
