package e2e

import (
	"net/http"
	"testing"

	"civicbus/e2e/realcluster"
)

// TestRegistryDown takes the registry away, by silence and by errors. Events whose schemas are known go on; those of a
// schema that no node has seen wait in their inbox's partition, and are decided when the registry is back.
func TestRegistryDown(t *testing.T) {
	if realcluster.FromEnv() != nil {
		t.Skip("only the embedded registry can be taken away")
	}
	b := prepare(t)
	b.run("a")
	b.smallWorld()
	v1, err := b.registry.Latest(t.Context(), moveType)
	b.must(err)
	who := person(1)
	b.fromSource(register, 0, "warm", moveType, b.avro(v1, moveData(who, "1")))
	b.decision("warm", who)
	known := v1
	for i, outage := range []struct {
		name       string
		begin, end func()
	}{
		{"silent", func() { b.must(b.cluster.Registry().Stop()) }, func() { b.must(b.cluster.Registry().Start(t.Context())) }},
		{"failing", func() { b.cluster.Registry().Fail(http.StatusServiceUnavailable) }, func() { b.cluster.Registry().Fail(0) }},
	} {
		b.sub(outage.name, func() {
			next := b.nextVersion(moveType, known, []string{"reason", "remark"}[i])
			outage.begin()
			b.fromSource(register, 1, outage.name+"-new", moveType, b.avro(next, moveData(who, "2")))
			b.fromSource(register, 0, outage.name+"-known", moveType, b.avro(known, moveData(who, "3")))
			b.want(b.decision(outage.name+"-known", who), agencySub, "permit rule")
			if _, ok := b.decided(outage.name+"-new", who); ok {
				b.t.Error("an event was decided under a schema that nobody could know")
			}
			outage.end()
			b.want(b.decision(outage.name+"-new", who), agencySub, "permit rule")
			known = next
		})
	}
}
