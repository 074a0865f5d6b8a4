package gateway

import (
	"civicbus/internal/gateway/feed"
	"civicbus/internal/gateway/people"
	"civicbus/internal/gateway/receive"
)

// mountReaders declares the ways in which subscribers receive, and what people see and decide.
func (g *Gateway) mountReaders() error {
	cfg := &g.cfg
	f, err := feed.New(feed.Config{Connection: cfg.Connection, Registry: cfg.Registry, Records: cfg.Records, Keys: cfg.Keys, Secret: cfg.BusKey,
		Partitions: cfg.Partitions, Tables: cfg.Tables, Age: cfg.LeaseAge, DataRef: receive.DataRef(cfg.PublicURL), Now: cfg.Now, Logger: cfg.Logger})
	if err != nil {
		return err
	}
	g.closers = append(g.closers, f.Close)
	if err := receive.Mount(g.api, receive.Config{Feed: f, Tables: cfg.Tables, Origins: cfg.Origins, Metrics: cfg.Metrics, Logger: cfg.Logger}); err != nil {
		return err
	}
	closed, err := people.Mount(g.api, people.Config{Connection: cfg.Connection, Registry: cfg.Registry, Records: cfg.Records, Keys: cfg.Keys, AuditKey: cfg.AuditKey,
		Partitions: cfg.Partitions, Tables: cfg.Tables, Commands: cfg.Commands, Journeys: people.Journeys{Row: g.journey, Publish: g.publisher.Publish}, PublicURL: cfg.PublicURL, Now: cfg.Now, Logger: cfg.Logger})
	if err != nil {
		return err
	}
	g.closers = append(g.closers, closed)
	return nil
}
