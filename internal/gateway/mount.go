package gateway

import (
	"civicbus/internal/gateway/publish"
)

// mount declares the routes of every part.
func (g *Gateway) mount() error {
	return publish.Mount(g.api, g.publisher)
}
