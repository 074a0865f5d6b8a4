package e2e

import (
	"encoding/json"

	"civicbus/codecs"
	"civicbus/topology"

	"github.com/twmb/franz-go/pkg/kgo"
)

// fromSource writes an event onto its source's inbox as the source's own Kafka client does: CloudEvents in binary mode, the
// data in the registry's wire format, no key. It goes to the given partition of the inbox.
func (b *bus) fromSource(organisation string, partition int32, id, eventType string, value []byte) {
	b.t.Helper()
	cl, err := b.cfg.Connection.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	b.must(err)
	defer cl.Close()
	b.must(cl.ProduceSync(b.t.Context(), &kgo.Record{Topic: topology.InboxTopicName(organisation), Partition: partition, Value: value, Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(id)}, {Key: "ce_source", Value: []byte(registerSite)},
		{Key: "ce_type", Value: []byte(eventType)}, {Key: "content-type", Value: []byte("application/avro")}}}).FirstErr())
}

// avro is data under a schema, in the registry's wire format.
func (b *bus) avro(s *codecs.Schema, data map[string]any) []byte {
	b.t.Helper()
	text, err := json.Marshal(data)
	b.must(err)
	body, faults := s.FromJSON(text)
	if len(faults) > 0 {
		b.t.Fatal(faults)
	}
	return append(codecs.AppendWire(nil, s.ID()), body...)
}

// nextVersion registers the schema with one more optional field.
func (b *bus) nextVersion(registrySubject string, old *codecs.Schema, field string) *codecs.Schema {
	b.t.Helper()
	var s map[string]any
	b.must(json.Unmarshal([]byte(old.JSON()), &s))
	s["fields"] = append(s["fields"].([]any), map[string]any{"name": field, "type": []string{"null", "string"}, "default": nil,
		"civicbus.owner": "person", "civicbus.scopes": []string{"contact-address"}})
	text, err := json.Marshal(s)
	b.must(err)
	next, err := b.registry.Register(b.t.Context(), registrySubject, string(text))
	b.must(err)
	return next
}
