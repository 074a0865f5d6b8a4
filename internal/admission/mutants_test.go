package admission

import (
	"bytes"
	"errors"
	"testing"

	"civicbus/codecs"
	"civicbus/internal/mutant"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestMutants: what a source sends, in JSON or as an inbox record of any headers, is accepted with a record for each subject, or
// refused with its faults and a letter.
func TestMutants(t *testing.T) {
	w := newWorld(t)
	admit := func(tb testing.TB, in *Input) bool {
		if err := w.resolver.Resolve(t.Context(), w.door, in, w); err != nil && !errors.Is(err, codecs.ErrUnknownSchema) {
			tb.Fatal(err)
		}
		res := w.door.Admit(in, w, now)
		if res.Status == Accepted && len(res.Records) == 0 || res.Status != Accepted && (res.Letter == nil || len(res.Faults) == 0) {
			tb.Fatalf("%+v", res)
		}
		return res.Status == Accepted
	}
	t.Run("json", func(t *testing.T) {
		seeds := [][]byte{[]byte(birthJSON), []byte("[" + birthJSON + "," + birthJSON + "]"), []byte(`{"data_base64":"AAAA","specversion":"1.0"}`)}
		mutant.Run(t, seeds, 1<<14, func(tb testing.TB, text []byte) bool {
			accepted := false
			for in, err := range ReadEvents(bytes.NewReader(text), "dvv.fi") {
				if err != nil {
					return accepted
				}
				accepted = admit(tb, in) || accepted
			}
			return accepted
		})
	})
	t.Run("inbox", func(t *testing.T) {
		structured := append([]byte("content-type\x1eapplication/cloudevents+json\x1d"), birthJSON...)
		binary := []byte("content-type\x1eapplication/json\x1ece_specversion\x1e1.0\x1ece_id\x1e1\x1ece_source\x1ehttps://dvv.fi\x1ece_type\x1efi.dvv.person.birth\x1d")
		ins, err := read(t, birthJSON)
		if err != nil {
			t.Fatal(err)
		}
		seeds := [][]byte{structured, append(binary, ins[0].JSON...)}
		mutant.Run(t, seeds, 1<<14, func(tb testing.TB, in []byte) bool {
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
		})
	})
}
