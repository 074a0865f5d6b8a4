package e2e

import (
	"encoding/json"
	"strings"

	"civicbus/codecs"

	"github.com/twmb/franz-go/pkg/kgo"
)

func header(headers []kgo.RecordHeader, name string) string {
	for _, h := range headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func eventNames(b *bus, event []byte) (source, id string) {
	b.t.Helper()
	var e struct{ Source, ID string }
	b.must(json.Unmarshal(event, &e))
	return e.Source, e.ID
}

// deliveries are all deliveries on all subscribers' topics now.
func (b *bus) deliveries() []*kgo.Record {
	b.t.Helper()
	topics, err := b.admin.ListTopics(b.t.Context())
	b.must(err)
	var all []*kgo.Record
	for _, name := range topics.Names() {
		if strings.HasPrefix(name, "subscriber.") {
			all = append(all, b.read(name)...)
		}
	}
	return all
}

// delivery finds a delivery by its id.
func (b *bus) delivery(id string) (*kgo.Record, bool) {
	b.t.Helper()
	for _, r := range b.deliveries() {
		if header(r.Headers, codecs.HeaderID) == id {
			return r, true
		}
	}
	return nil, false
}
