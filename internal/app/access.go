package app

import (
	"context"
	"time"

	"civicbus/codecs"
	"civicbus/internal/access"
)

// access keeps organisations' rights on Kafka as their rows have them, until the context ends.
func (e *edges) access(ctx context.Context) {
	n := e.node
	cl, err := n.conn.Client()
	if err != nil {
		n.log.Error("start to manage access to Kafka", "error", err)
		return
	}
	defer cl.Close()
	keeper, err := access.NewKeeper(access.KeeperConfig{Client: cl, Rows: accessRows{e}, Wake: e.moved, Own: n.conn.SASL.User, Limits: n.cfg.Access.Limits,
		Metrics: access.NewMetrics(n.cfg.Metrics), Logger: n.log})
	if err != nil {
		n.log.Error("start to manage access to Kafka", "error", err)
		return
	}
	keeper.Run(ctx)
}

// accessRows is access.Rows on the edges' tables.
type accessRows struct{ e *edges }

// Fresh is access.Rows.
func (r accessRows) Fresh() (time.Time, bool) { return r.e.tables.Fresh() }

// Organisations is access.Rows.
func (r accessRows) Organisations() []*codecs.Organisation {
	return r.e.tables.Snapshot().Organisations()
}

// Subscriptions is access.Rows.
func (r accessRows) Subscriptions() []*codecs.Subscription {
	return r.e.tables.Snapshot().Subscriptions()
}
