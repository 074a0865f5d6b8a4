package admission

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"civicbus/codecs"
	"civicbus/internal/mutant"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Four megabytes that are meant to hurt are refused with a few faults, and take memory in proportion to themselves.
func TestAnEventOfFourMegabytes(t *testing.T) {
	const size = 3_900_000
	times := func(open, text, closing string) string { return open + strings.Repeat(text, size/len(text)) + closing }
	numbered := func(open, text, closing string) string {
		var b strings.Builder
		b.WriteString(open)
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, text, i)
		}
		return b.String() + closing
	}
	head := `{"specversion":"1.0","id":"1","source":"https://dvv.fi","type":"fi.dvv.person.birth",`
	for name, c := range map[string]struct{ text, reason string }{
		"members":              {numbered(head, `"x%d":1,`, `"data":{}}`), TooManyAttributes},
		"members of consent":   {numbered(head+`"consent":{`, `"x%d":1,`, `"a":1}}`), InvalidList},
		"listed organisations": {times(head+`"consent":{"authorizedSubscribers":["a"`, `,""`, `]}}`), InvalidList},
		"a long list":          {times(head+`"authorizedsubscribers":"`, `,a`, `"}`), InvalidList},
		"nested data":          {times(head+`"data":`, `[`, ``), NotACloudEvent},
		"deep data":            {head + `"data":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + "}", TooLarge},
		"a long id":            {times(`{"specversion":"1.0","id":"`, `x`, `","source":"https://dvv.fi","type":"fi.dvv.person.birth"}`), TooManyAttributes},
		"base64":               {times(head+`"data_base64":"`, `AAAA`, `"}`), TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			record := &kgo.Record{Topic: "inbox.dvv.fi", Value: []byte(c.text), Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte(structuredType)}}}
			var res Result
			began := time.Now()
			grown := mutant.Allocates(func() {
				in := FromRecord(record, "dvv.fi")
				if err := w.resolver.Resolve(t.Context(), w.door, in, w); err != nil {
					t.Fatal(err)
				}
				res = w.door.Admit(in, w, now)
			})
			t.Logf("%d bytes, %d allocated for each, %v: %+v", len(c.text), grown/uint64(len(c.text)), time.Since(began), res.Faults)
			if res.Status != Refused || res.Faults[0].Reason != c.reason || len(res.Faults) > 60 {
				t.Errorf("%s: %d faults, the first %+v", res.Status, len(res.Faults), append(res.Faults, codecs.Fault{})[0])
			}
			if grown > 1<<20+40*uint64(len(c.text)) {
				t.Errorf("%d bytes made it allocate %d", len(c.text), grown)
			}
		})
	}
	for _, name := range []string{"ce_x", "ce_x%d", "ce_X%d"} {
		record := &kgo.Record{Topic: "inbox.dvv.fi", Value: bytes.Repeat([]byte{0}, 100)}
		for i := range 200_000 {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: strings.Replace(name, "%d", strconv.Itoa(i), 1), Value: []byte("1")})
		}
		w := newWorld(t)
		var res Result
		grown := mutant.Allocates(func() { res = w.door.Admit(FromRecord(record, "dvv.fi"), w, now) })
		if res.Status != Refused || len(res.Faults) > codecs.MaxFaults+8 || grown > 1<<20 {
			t.Errorf("headers named %s: %s, %d faults, %d allocated", name, res.Status, len(res.Faults), grown)
		}
	}
}
