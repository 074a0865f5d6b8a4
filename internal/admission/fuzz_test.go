package admission

import (
	"bytes"
	"errors"
	"testing"

	"civicbus/codecs"
	"civicbus/internal/mutant"

	"github.com/twmb/franz-go/pkg/kgo"
)

// admits: what a source sends is accepted with a record for each subject, or refused with its faults and a letter.
func admits(f *testing.F) func(testing.TB, *Input) bool {
	w := newWorld(f)
	return func(tb testing.TB, in *Input) bool {
		if err := w.resolver.Resolve(tb.Context(), w.door, in, w); err != nil && !errors.Is(err, codecs.ErrUnknownSchema) {
			tb.Fatal(err)
		}
		res := w.door.Admit(in, w, now)
		if res.Status == Accepted && len(res.Records) == 0 || res.Status != Accepted && (res.Letter == nil || len(res.Faults) == 0) {
			tb.Fatalf("%+v", res)
		}
		if len(res.Faults) > codecs.MaxFaults+8 {
			tb.Fatalf("%d faults", len(res.Faults))
		}
		return res.Status == Accepted
	}
}

// FuzzReadEvents: events in JSON: one, an array of them, one after the other.
func FuzzReadEvents(f *testing.F) {
	admit := admits(f)
	mutant.Fuzz(f, 1<<11, func(tb testing.TB, text []byte) bool {
		accepted := false
		for in, err := range ReadEvents(bytes.NewReader(text), "dvv.fi") {
			if err != nil {
				return accepted
			}
			accepted = admit(tb, in) || accepted
		}
		return accepted
	}, []byte(birthJSON), []byte("["+birthJSON+","+birthJSON+"]"), []byte(`{"data_base64":"AAAA","specversion":"1.0"}`), []byte(`{"data_base64":1}`))
}

// FuzzFromRecord: a record of an inbox, of any headers: names and values in turn, and then the record's value.
func FuzzFromRecord(f *testing.F) {
	admit := admits(f)
	structured := append([]byte("content-type\x1eapplication/cloudevents+json\x1d"), birthJSON...)
	binary := []byte("content-type\x1eapplication/json\x1ece_specversion\x1e1.0\x1ece_id\x1e1\x1ece_source\x1ehttps://dvv.fi\x1ece_type\x1efi.dvv.person.birth\x1d")
	ins, err := read(f, birthJSON)
	if err != nil {
		f.Fatal(err)
	}
	avro := append(bytes.Replace(bytes.Clone(binary), []byte("application/json"), []byte("application/avro"), 1), 0, 0, 0, 0, 1, 2)
	mutant.Fuzz(f, 1<<11, func(tb testing.TB, in []byte) bool {
		head, value, _ := bytes.Cut(in, []byte{0x1d})
		var headers []kgo.RecordHeader
		for i, part := range bytes.Split(head, []byte{0x1e}) {
			if i%2 == 0 {
				headers = append(headers, kgo.RecordHeader{Key: string(part)})
			} else {
				headers[len(headers)-1].Value = part
			}
		}
		return admit(tb, FromRecord(&kgo.Record{Topic: "inbox.dvv.fi", Value: bytes.Clone(value), Headers: headers}, "dvv.fi"))
	}, structured, append(bytes.Clone(binary), ins[0].JSON...), avro, bytes.Repeat([]byte("ce_type\x1ea.b\x1e"), 100))
}
