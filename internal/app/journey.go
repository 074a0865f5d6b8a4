package app

import (
	"civicbus/internal/kafka"
	"civicbus/internal/tables"
	"civicbus/processors/journey"
	"civicbus/topology"

	"github.com/lovoo/goka"
)

// timers is what a group that has timers adds to its engine and to its graph: whom it tells of changed rows, which keys are
// due, and the edge that their callback is on. A group without any is told of the rows of its views alone.
func (g *group) timers(v *tables.Rows) (changed func(table, key string, row []byte), due func(int32, int) []string, edges []goka.Edge) {
	if g.elapsed == nil {
		return v.Changed, nil, nil
	}
	n := g.node
	t := journey.NewTimers(n.records.Journey, n.cfg.Now, n.cfg.Shape.Partitions)
	own := topology.TableTopic(g.def.Name)
	return func(table, key string, row []byte) {
		v.Changed(table, key, row) // it waits for the row's schema
		if table == own {
			t.Changed(key, row)
		}
	}, t.Due, []goka.Edge{kafka.Timer(g.elapsed)}
}

// ownEvent is admission.Door's Belongs for the events that civicbus itself makes: their schemas are its own.
func (n *Node) ownEvent(registrySubject string, id int32) bool {
	r := n.records
	switch registrySubject {
	case r.JourneyUpdated.RegistrySubject():
		return id == r.JourneyUpdated.ID()
	case r.JourneyConfirmed.RegistrySubject():
		return id == r.JourneyConfirmed.ID()
	}
	return false
}
